//! The supervisor's state over HTTP, for monitoring: read only, loopback unless a token is configured.
//! Answers anybody who reaches the address from the last snapshot. Owns the listening socket and its own thread, so a
//! flood of requests delays nothing else. Never changes anything, waits only for its client, and omits text that
//! quotes a task, a screen or an error.

mod backend;
mod delegated;
mod guard;
mod routes;
mod server;
mod watchdog;

pub use backend::{Backend, Options};
pub use routes::{ROUTES, Route};
pub use server::{MOST_CONNECTIONS, Server};
