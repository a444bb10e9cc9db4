//! What is known of each agent CLI, as data: the built-in rules files and those of the configuration.
//! In: YAML. Out: a `Kind` with its `Rules`, what a person's file gets wrong, and what screens and records mean by those rules.
//! Pure: reads no file and starts nothing. Nothing but the rules files knows a CLI by its name.

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
