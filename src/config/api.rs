//! Validates `api`.
//! Returns problems, each with its key. Without a listening address nothing is wrong.

use super::{Api, FromEnv, FromFile, secret_of, values::one_secret};

/// Shortest token. Chosen: 16 hex digits are 64 random bits, out of reach of guessing over HTTP.
const TOKEN_MIN: usize = 16;

pub(super) fn meaning(api: &Api, wrong: &mut impl FnMut(&str, String)) {
    let Some(listen) = api.listen else { return };
    let (env, file): (Option<&FromEnv>, Option<&FromFile>) = (api.token_env.as_ref(), api.token_file.as_ref());
    one_secret("api", "token", (env, file), false, wrong);
    let key = if env.is_some() { "api.token_env" } else { "api.token_file" };
    match secret_of(env, file) {
        Err(why) => wrong(key, why.to_owned()),
        Ok(Some(token)) => {
            let token = token.expose();
            if token.len() < TOKEN_MIN || !token.chars().all(|c| c.is_ascii_graphic()) {
                let what = format!(
                    "a token has {TOKEN_MIN} or more printable ASCII characters without blanks; `openssl rand -hex 32` makes one"
                );
                wrong(key, what);
            }
        }
        Ok(None) if !listen.ip().to_canonical().is_loopback() => {
            let what = format!(
                "{} is no loopback address: others can reach it, so `token_env` or `token_file` is needed too",
                listen.ip()
            );
            wrong("api.listen", what);
        }
        Ok(None) => {}
    }
}
