//! Rules: what is known of each agent CLI, as data from built-in files and the configuration's.
//! Turns YAML into a `Kind` with its `Rules`, reports mistakes in a user's file, and interprets screens and records by
//! the rules. Pure: reads no file and starts nothing. Only the rules files know a CLI by name.

mod built_in;
pub mod condition;
mod file;
pub mod format;
mod kind;
pub mod limits;
pub mod records;
pub mod screen;
pub mod version;

pub use built_in::merge;
pub use format::Rules;
pub use kind::Kind;
