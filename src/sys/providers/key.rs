//! Reads providers' API keys.
//! Takes a row that names a variable or a file; returns the key, read again at each use because a file may be renewed.
//! Its errors name the place, never the value.

use std::io::Read;

use reqwest::{
    RequestBuilder,
    header::{HeaderName, HeaderValue},
};

use crate::{
    config::{ProviderKind, Secret},
    model::provider::{ProviderError, ProviderStanding},
    sys::providers::row::Row,
};

/// Where a job server's key is when its row names no place (INTERFACE of `ccl-delegate`).
pub const SECUTOOLS_KEYS: [&str; 2] = ["CCL_SECUTOOLS_API_KEY", "SECUTOOLS_API_KEY"];

/// A longer file is no key file. Chosen: above any key, JSON Web Tokens included.
const LONGEST: u64 = 16 * 1024;

/// The row's key; `None` where it names no place for one.
pub fn read(row: &Row) -> Result<Option<Secret>, ProviderError> {
    let provider = &row.provider;
    if let Some(name) = &provider.key_env {
        return match variable(name) {
            Some(key) => Ok(Some(key)),
            None => Err(broken(format!("there is no key: the environment variable {name} is not set"))),
        };
    }
    if let Some(path) = &provider.key_file {
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        let key = Secret::kept_elsewhere(text.trim());
        return match read {
            Ok(_) if key.expose().is_empty() => Err(broken(format!("the key file {} is empty", path.display()))),
            Ok(_) => Ok(Some(key)),
            Err(error) => Err(broken(format!("the key file {} can't be read: {error}", path.display()))),
        };
    }
    match provider.kind {
        ProviderKind::Secutools => Ok(SECUTOOLS_KEYS.into_iter().find_map(variable)),
        ProviderKind::Openai | ProviderKind::Anthropic | ProviderKind::Gemini => Ok(None),
    }
}

fn variable(name: &str) -> Option<Secret> {
    let text = std::env::var(name).ok()?;
    (!text.trim().is_empty()).then(|| Secret::kept_elsewhere(text.trim()))
}

/// Puts the key into a header that nothing prints.
pub fn put(
    request: RequestBuilder,
    name: HeaderName,
    before: &str,
    key: Option<&Secret>,
) -> Result<RequestBuilder, ProviderError> {
    let Some(key) = key else { return Ok(request) };
    let Ok(mut value) = HeaderValue::from_str(&format!("{before}{}", key.expose())) else {
        return Err(broken("the key holds characters that can't stand in a header".to_owned()));
    };
    value.set_sensitive(true);
    Ok(request.header(name, value))
}

fn broken(why: String) -> ProviderError {
    ProviderError::Out(ProviderStanding::Broken { why })
}
