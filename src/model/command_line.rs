//! Formats a process's command line for results, `events` and `leftovers`.
//! Takes the kernel's bytes; returns the program and the start of its arguments, sanitized, with named secrets masked.

use super::text::clean;

/// Most characters shown. Chosen: one line of a plain terminal.
const SHOWN: usize = 80;
/// In place of a secret.
const HIDDEN: &str = "…";
/// What names a secret.
const SECRETS: [&str; 11] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "authorization",
    "api-key",
    "api_key",
    "apikey",
    "access-key",
];

/// The words of `/proc/PID/cmdline`.
#[must_use]
pub fn told(line: &[u8]) -> String {
    let text = clean(&String::from_utf8_lossy(line).replace('\0', " "));
    let mut words = Vec::new();
    let mut hides = false;
    for word in text.split_whitespace() {
        words.push(if std::mem::take(&mut hides) { HIDDEN.to_owned() } else { without_secret(word) });
        hides = announces(word);
    }
    let text = words.join(" ");
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|secret| name.contains(secret))
}

/// `--token x`, `X-Api-Key: x`, `Bearer x`.
fn announces(word: &str) -> bool {
    let bare = word.trim_matches(['"', '\'']);
    bare.eq_ignore_ascii_case("bearer")
        || ((bare.starts_with('-') || bare.ends_with(':')) && !bare.contains('=') && is_secret(bare))
}

/// `TOKEN=x`, `--token=x`, `https://name:word@host`.
fn without_secret(word: &str) -> String {
    if let Some((name, _)) = word.split_once('=').filter(|(name, _)| is_secret(name)) {
        return format!("{name}={HIDDEN}");
    }
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((user, host)) = rest.split_once('@')
        && user.contains(':')
    {
        return format!("{scheme}://{HIDDEN}@{host}");
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_by_its_program_and_the_start_of_its_arguments() {
        assert_eq!(told(b"npm\0run\0dev\0"), "npm run dev");
        assert_eq!(told(b"sh\0-c\0a\nb\x1b]0;x\x07c\0"), "sh -c a bc");
        let long = told(format!("x\0{}", "é".repeat(200)).as_bytes());
        assert!(long.chars().count() == 80 && long.ends_with("é…"), "{long}");
    }

    #[test]
    fn what_is_named_a_secret_is_left_out() {
        for (line, shown) in [
            ("srv\0--token\0abc\0--port\080", "srv --token … --port 80"),
            ("srv\0--api-key=abc", "srv --api-key=…"),
            ("env\0GITHUB_TOKEN=abc\0srv", "env GITHUB_TOKEN=… srv"),
            ("sh\0-c\0DB_PASSWORD=abc ./run", "sh -c DB_PASSWORD=… ./run"),
            ("curl\0-H\0Authorization: Bearer abc", "curl -H Authorization: … …"),
            ("git\0clone\0https://me:abc@host/x", "git clone https://…@host/x"),
            ("tail\0-f\0token.log", "tail -f token.log"),
        ] {
            assert_eq!(told(line.as_bytes()), shown);
        }
    }
}
