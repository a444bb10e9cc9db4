//! The supervisor's state over HTTP, for monitors: read only, loopback unless there is a token.
//! In: requests of anybody who reaches the address. Out: answers made from the last snapshot. Owns the listening socket and a
//! thread of its own, so that a flood of requests holds up nobody else. Never changes anything, waits for nothing but its
//! client, and tells nothing that quotes a task, a screen or an error.

mod backend;
mod delegated;
mod guard;
mod routes;
mod server;
mod watchdog;

pub use backend::{Backend, Options};
pub use routes::{ROUTES, Route};
pub use server::{MOST_CONNECTIONS, Server};
