//! Renders `accounts/`.

use std::fmt::Write as _;

use serde_json::json;

use crate::{
    model::{
        account::{Account, Limited, Standing},
        session::Session,
    },
    render::{Picture, clean, words},
};

/// One name a line: each kind of agent has an active account.
#[must_use]
pub fn active(picture: &Picture) -> String {
    picture.snapshot.accounts.iter().filter(|account| account.active).map(|a| format!("{}\n", a.name)).collect()
}

#[must_use]
pub fn state(_: &Picture, account: &Account) -> String {
    words::line(account.word())
}

#[must_use]
pub fn why(picture: &Picture, account: &Account) -> String {
    let agents: Vec<&str> = account.agents.iter().map(|agent| agent.as_str()).collect();
    let mut out = format!(
        "{} for {}, {}; its home is {}\n",
        if account.active { "the active account" } else { "not the active account" },
        agents.join(", "),
        words::since(picture, account.active_since),
        account.home.to_string_lossy().replace('\n', " ")
    );
    let again = format!("`echo {} > accounts/active` uses it again", account.name);
    match &account.standing {
        Standing::Usable => out.push_str("it can be used\n"),
        Standing::Suspect { session, signal } => {
            let told = words::signal(picture, signal);
            let _ = writeln!(out, "the screen of session {session} shows a limit, not confirmed yet: {told}");
        }
        Standing::Limited(limited) => {
            let Limited { limit, since, session, signal, until } = limited;
            let _ = writeln!(out, "{} {}", limit.kind.word(), words::since(picture, *since));
            let _ = writeln!(out, "told in session {session}: {}", words::signal(picture, signal));
            let _ = match (until, limit.resets_at) {
                (Some(until), Some(_)) => writeln!(out, "tried again {}", words::at(picture, *until)),
                (Some(until), None) => {
                    writeln!(
                        out,
                        "tried again {}; its message tells no end that can be read",
                        words::at(picture, *until)
                    )
                }
                (None, _) => writeln!(out, "time alone does not lift it: once a person has, {again}"),
            };
        }
        Standing::Broken { why, since, signal } => {
            let _ = writeln!(out, "{} {}", why.replace('\n', " "), words::since(picture, *since));
            if let Some(signal) = signal {
                let _ = writeln!(out, "{}", words::signal(picture, signal));
            }
            let _ = writeln!(out, "a person has to log in or mend its home: then {again}");
        }
    }
    if account.usage.0.is_empty() {
        out.push_str("nobody has told how much of it is used\n");
    }
    for (kind, window) in &account.usage.0 {
        let reset = match window.resets_at {
            Some(reset) if reset <= picture.now => "; reset since, so it counts as empty".to_owned(),
            Some(reset) => format!("; resets {}", words::at(picture, reset)),
            None => String::new(),
        };
        let (used, told) = (window.used_percent, words::age(picture, window.at));
        let _ = writeln!(out, "{}: {used} % used, told {told} ago{reset}", kind.word());
    }
    clean(&out)
}

/// Whether and until when it can't be used; one line without its name. `None` when it can.
#[must_use]
pub fn out_of_use(picture: &Picture, account: &Account) -> Option<String> {
    match &account.standing {
        Standing::Usable => None,
        Standing::Suspect { .. } => Some("shows a limit that is not confirmed yet".to_owned()),
        Standing::Limited(Limited { limit, until: Some(until), .. }) => {
            Some(format!("is limited ({}) and tried again {}", limit.kind.word(), words::at(picture, *until)))
        }
        Standing::Limited(Limited { limit, until: None, .. }) => {
            Some(format!("is limited ({}) until a person lifts it", limit.kind.word()))
        }
        Standing::Broken { why, .. } => Some(format!("can't be used until a person acts: {}", why.replace('\n', " "))),
    }
}

#[must_use]
pub fn limits(picture: &Picture, account: &Account) -> String {
    let limit = match &account.standing {
        Standing::Limited(Limited { limit, until, since, .. }) => {
            json!({
                "kind": limit.kind,
                "resets_at": limit.resets_at.map(|at| picture.shown(at)),
                "until": until.map(|at| picture.shown(at)),
                "since": picture.shown(*since),
            })
        }
        Standing::Usable | Standing::Suspect { .. } | Standing::Broken { .. } => serde_json::Value::Null,
    };
    let mut windows = account.usage.clone();
    for window in windows.0.values_mut() {
        window.resets_at = window.resets_at.map(|at| picture.shown(at));
        window.at = picture.shown(window.at);
    }
    format!("{:#}\n", json!({"windows": windows, "limit": limit}))
}

#[must_use]
pub fn resets_at(picture: &Picture, account: &Account) -> String {
    account.until().map_or_else(String::new, |until| format!("{}\n", words::second(picture.shown(until))))
}

#[must_use]
pub fn sessions(picture: &Picture, account: &Account) -> String {
    let under = |session: &&std::sync::Arc<Session>| {
        session.phase.incarnation().is_some_and(|inc| inc.account.as_ref() == Some(&account.name))
    };
    picture.snapshot.sessions.values().filter(under).map(|session| format!("{}\n", session.name)).collect()
}
