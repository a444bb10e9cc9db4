//! The configuration: types, defaults, parsing, validation.
//! Takes a YAML file and the environment; returns a `Config` or every problem with its line. Reads that file and the
//! secret files it names; starts, creates and changes nothing.

mod agents;
mod api;
mod decode;
pub mod error;
mod homes;
pub mod load;
pub(crate) mod node;
mod notifications;
pub mod paths;
mod providers;
pub mod queue;
mod rows;
mod schema;
mod units;
mod values;

pub use agents::read_instructions;
pub use error::{LoadError, Place, Problem, Problems};
pub use homes::SharedLink;
pub use load::{Loaded, Places, load, parse, survey};
pub use notifications::{Notifications, Resend, Telegram, Template, Webhook};
pub use providers::{Auto, Delegation, Price, Provider, ProviderKind};
pub use schema::{
    Account, Agent, AgentByWords, Api, Autonomous, Config, Control, Dedicated, Dispatcher, Janitor, Lifecycle, Mount,
    Pool, Project, Quota, Shared, Switcher, Tmux, UnknownKeys, Watcher,
};
pub use units::{Bytes, Env, FromEnv, FromFile, MASK, Secret, Size, Socket, looks_secret, secret_of};
