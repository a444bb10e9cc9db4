//! Signs hook log lines: a valid seal proves that the writer had the incarnation's token.
//! Takes a JSON object as text and the token; adds one key, or checks it. Pure. The token itself is in no line:
//! reading a log doesn't let anybody forge another line of it.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

const KEY: &str = ",\"seal\":\"";
const END: &str = "\"}";
/// Hex digits of a SHA-256.
const LENGTH: usize = 64;

/// Adds the seal as the last key of the object.
#[must_use]
pub fn seal(object: &str, token: &str) -> String {
    let open = object.strip_suffix('}').unwrap_or(object);
    format!("{open}{KEY}{}{END}", digest(open.as_bytes(), token))
}

/// Whether the line ends with the seal of this token.
#[must_use]
pub fn is_sealed(line: &[u8], token: &str) -> bool {
    let told =
        line.strip_suffix(END.as_bytes()).and_then(|line| line.split_at_checked(line.len().checked_sub(LENGTH)?));
    let Some((open, told)) = told else { return false };
    open.strip_suffix(KEY.as_bytes()).is_some_and(|open| digest(open, token).as_bytes() == told)
}

/// Twice, so that a seal can't be extended to a longer text.
fn digest(open: &[u8], token: &str) -> String {
    let once = |bytes: &[u8]| Sha256::new().chain_update(token).chain_update(bytes).finalize();
    once(&once(open)).iter().fold(String::with_capacity(LENGTH), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_sealed_by_its_own_token_alone() {
        let line = seal(r#"{"event":"Stop","data":{"a":1}}"#, "t1");
        assert!(line.starts_with(r#"{"event":"Stop","data":{"a":1},"seal":""#) && line.ends_with("\"}"));
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        assert!(is_sealed(line.as_bytes(), "t1"));
        for (line, token) in [
            (line.clone(), "t2"),
            (line.replace("Stop", "Stpo"), "t1"),
            (r#"{"event":"Stop","data":{"a":1}}"#.to_owned(), "t1"),
            (seal(r#"{"event":"Stop"}"#, ""), "t1"),
            (String::new(), "t1"),
            ("\"}".to_owned(), "t1"),
        ] {
            assert!(!is_sealed(line.as_bytes(), token), "{line}");
        }
    }
}
