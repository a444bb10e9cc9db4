//! Detects homes that share one login: a swap between them gains nothing, and the first token renewal may log both
//! out.
//! Takes the homes' login files; returns sentences. Reads secrets, keeps only their hashes and never shows one.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::home::Home;
use crate::rules::Kind;

/// What to say of each pair of homes with one login.
pub(super) fn shared(homes: &[Home]) -> Vec<String> {
    let marks: Vec<BTreeSet<[u8; 32]>> = homes.iter().map(marks).collect();
    let pairs = (0..homes.len()).flat_map(|a| (a + 1..homes.len()).map(move |b| (a, b)));
    let kind = |n: usize| homes[n].kind.as_ref().map(Kind::name);
    let same = pairs.filter(|(a, b)| kind(*a) == kind(*b) && !marks[*a].is_disjoint(&marks[*b]));
    let say = |(a, b): (usize, usize)| {
        format!(
            "the accounts {} and {} hold one login: a swap between them gains nothing, and when one renews it the other may lose \
             it; log in to another account in {}",
            homes[a].account,
            homes[b].account,
            homes[b].path.display()
        )
    };
    same.map(say).collect()
}

/// Hashes of what names the login: the account with its organisation, the token that renews it, a key.
fn marks(home: &Home) -> BTreeSet<[u8; 32]> {
    let marks = home.rules().into_iter().flat_map(|rules| &rules.login.marks);
    let words = marks.filter_map(|mark| {
        let state = json(&home.file(&mark.file));
        let words = mark.at.iter().map(|at| state.pointer(at).and_then(Value::as_str).unwrap_or_default());
        let words: Vec<&str> = words.collect();
        let named = words.first().is_some_and(|first| !first.is_empty());
        named.then(|| Sha256::digest(format!("{}\0{}", mark.at.join("\0"), words.join("\0"))).into())
    });
    words.collect()
}

/// What can't be read says nothing.
fn json(file: &Path) -> Value {
    fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::ids::AccountName;

    fn home(dir: &Path, name: &str, kind: &str, files: &[(&str, Value)]) -> Home {
        let path = dir.join(name);
        fs::create_dir_all(&path).expect("a home");
        for (file, value) in files {
            fs::write(path.join(file), value.to_string()).expect("written");
        }
        Home {
            account: AccountName::parse(name).expect("a name"),
            key: String::new(),
            kind: Some(Kind::new(kind)),
            path,
            links: Vec::new(),
            has_stand_in: true,
            linked: false,
        }
    }

    #[test]
    fn one_login_in_two_homes_is_told_without_its_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        let token = |token: &str| (".credentials.json", json!({"claudeAiOauth": {"refreshToken": token}}));
        let account = |id: &str, org: &str| {
            (".claude.json", json!({"oauthAccount": {"accountUuid": id, "organizationUuid": org}}))
        };
        let codex = |token: &str| ("auth.json", json!({"OPENAI_API_KEY": null, "tokens": {"refresh_token": token}}));
        let at = |name: &str, kind, files: &[(&str, Value)]| home(dir.path(), name, kind, files);
        let homes = [
            at("a", "claude", &[token("secret-1"), account("u1", "o1")]),
            at("copy", "claude", &[token("secret-1")]),
            at("again", "claude", &[token("secret-2"), account("u1", "o1")]),
            at("team", "claude", &[token("secret-3"), account("u1", "o2")]),
            at("empty", "claude", &[]),
            at("empty2", "claude", &[token(""), account("", "")]),
            at("c1", "codex", &[codex("secret-1")]),
            at("c2", "codex", &[codex("secret-1")]),
        ];
        let said = shared(&homes);
        let pairs: Vec<&str> = said.iter().filter_map(|text| text.split(" hold one login").next()).collect();
        assert_eq!(pairs, ["the accounts a and copy", "the accounts a and again", "the accounts c1 and c2"]);
        assert!(said.iter().all(|text| !text.contains("secret") && !text.contains("u1")), "{said:?}");
    }
}
