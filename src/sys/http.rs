//! The shared HTTP client for providers and notification receivers.
//! Owns no connection to anybody in particular. Never follows a redirect, which could carry a key to another host, and
//! always uses TLS for an `https` address.

use std::{sync::OnceLock, time::Duration};

use reqwest::{Client, redirect::Policy};

/// A host that doesn't accept a connection within this time is down. Chosen: three SYN retries of Linux fall into it
/// (1, 3, 7 s; tcp(7)).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The shared client: TLS by rustls with the machine's own roots, proxies by `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`.
/// Each request sets its own time limit.
///
/// # Errors
/// When the machine's certificates can't be read.
pub fn client() -> Result<Client, reqwest::Error> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client.clone());
    }
    // Refused only when another thread was first with the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    let client =
        Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT).user_agent(agent).build()?;
    Ok(CLIENT.get_or_init(|| client).clone())
}
