//! The root: everything put together.

mod backend;
pub mod demo;
mod leftovers;
pub mod main;
pub mod run;
pub mod services;
pub mod setup;
mod test_notices;

pub use test_notices::test_notices;
