//! The root: everything put together.

pub mod services;
