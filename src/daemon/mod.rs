//! The root: everything put together.

mod backend;
pub mod run;
pub mod services;
pub mod setup;
