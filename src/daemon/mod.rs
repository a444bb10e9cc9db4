//! Composition root: builds the daemon from its parts.

mod backend;
pub mod demo;
pub mod fatal;
mod leftovers;
pub mod main;
pub mod run;
pub mod services;
pub mod setup;
pub mod state;
mod test_notices;

pub use test_notices::test_notices;
