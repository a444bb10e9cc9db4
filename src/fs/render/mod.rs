//! Every virtual file's text, made from one picture: pure functions, a file for each kind of object.

pub mod account;
pub mod metrics;
pub mod project;
pub mod readme;
pub mod root;
pub mod session;
pub mod status;
pub mod status_json;
pub mod swap;
pub mod task;
mod words;
