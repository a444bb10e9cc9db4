//! Renders `sessions/<name>/`.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::{
    model::{
        account as model_account,
        command::{SESSION_VERBS, Verb},
        session::{Activity, Gone, Role, Session, SessionPhase},
        snapshot::Under,
    },
    render::{Picture, account, clean, clean_colour, words},
};

#[must_use]
pub fn state(_: &Picture, session: &Session) -> String {
    words::line(session.word())
}

#[must_use]
pub fn why(picture: &Picture, session: &Session) -> String {
    let mut out = format!("{} {}\n", session.word(), words::since(picture, session.stated.since));
    if session.role == Role::Dedicated {
        out.push_str("dedicated to a person: never dispatched to, never ended\n");
    }
    let phase = words::phase_of(picture, &session.phase);
    let _ = writeln!(out, "{phase}");
    let mut evidence = session.verdict.evidence.iter();
    if let Some(first) = evidence.next() {
        let _ = writeln!(out, "{}: {}", words::kebab(&session.verdict.activity), words::signal(picture, first));
    }
    if let Some(asked) = &session.verdict.asked {
        let _ = writeln!(out, "it asks: {}", words::one_line(asked));
    }
    if let Activity::Waiting(what) = session.verdict.activity {
        let _ = writeln!(out, "{}", words::answer(what, &session.name));
    }
    for signal in evidence {
        let _ = writeln!(out, "overruled: {}", words::signal(picture, signal));
    }
    if let Some(line) = going_on(picture, session) {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "last change at the agent: {} ago", words::age(picture, session.verdict.last_change));
    if session.drained {
        out.push_str("drained: takes no new task; `echo undrain > control` lets it take tasks again\n");
    }
    if let (SessionPhase::Down, Some(gone)) = (&session.phase, &session.gone) {
        let _ = match gone {
            Gone::Lost { .. } => writeln!(out, "the pane of its last agent was closed, or tmux ended"),
            Gone::Ended { why, .. } => writeln!(out, "its last agent was ended: {why}"),
        };
    }
    if session.verdict.draft && session.role == Role::Pool {
        out.push_str(
            "somebody's text stands in its input box: tasks go to other sessions first, and wait for the box here\n",
        );
    }
    if session.talked {
        out.push_str(
            "somebody spoke with its agent: the next task gets a fresh conversation, and not while people look at it\n",
        );
    }
    // One that is up has reached its prompt: what failed before is no news of it.
    if session.failures > 0 && !matches!(session.phase, SessionPhase::Up(_)) {
        let _ = writeln!(out, "starts in a row that failed: {}", session.failures);
        if matches!(session.phase, SessionPhase::Down | SessionPhase::Dead { .. }) {
            let (first, max) = picture.snapshot.restarts;
            let at = session.start_after(first, max);
            let when = if at > picture.now { words::at(picture, at) } else { "with the next task".to_owned() };
            let _ = writeln!(out, "tried again {when}; `echo restart > control` tries at once");
        }
        // What a shell or an agent says when it can't start is on the screen and nowhere else.
        if let Some(line) = session.screen.plain.lines().rev().find(|line| !line.trim().is_empty()) {
            let _ = writeln!(out, "the last line of its screen: {}", line.trim());
        }
    }
    if session.attached > 0 {
        let _ = writeln!(out, "people looking at it: {}", session.attached);
    }
    clean(&out)
}

/// Whether its conversation is being resumed in a new program, or waits for an account; one line.
#[must_use]
pub fn going_on(picture: &Picture, session: &Session) -> Option<String> {
    let now = picture.now;
    if let Some(resume) = &session.resume {
        let conversation = match &resume.conversation {
            Some(id) => format!("to go on with conversation {}", clean(id).replace('\n', " ")),
            None => "but its conversation is not known, so it can't go on".to_owned(),
        };
        let pause = (resume.not_before > now)
            .then(|| format!(", not before {}", words::second(picture.shown(resume.not_before))));
        let blocked = match picture.snapshot.under(&resume.agent) {
            Under::Blocked(account) => {
                account::out_of_use(picture, account).map(|out| format!("; account {} {out}", account.name))
            }
            Under::Account(_) | Under::NoAccount => None,
        };
        return Some(format!(
            "its agent is replaced {}, {conversation}{}{}",
            words::since(picture, resume.since),
            pause.unwrap_or_default(),
            blocked.unwrap_or_default()
        ));
    }
    let incarnation = session.phase.incarnation().filter(|_| session.verdict.activity == Activity::Limited)?;
    let person = session.role == Role::Dedicated;
    Some(match picture.snapshot.under(&incarnation.agent) {
        Under::Blocked(account) => {
            let out = account::out_of_use(picture, account).unwrap_or_default();
            format!("parked: account {} {out}, and no other has taken its place", account.name)
        }
        Under::Account(account) if incarnation.account.as_ref() != Some(&account.name) => {
            format!("it moves to account {}", account.name)
        }
        Under::Account(account) if person => {
            format!("account {} can be used again; it goes on when its person says so", account.name)
        }
        Under::Account(account) => format!("account {} can be used again; it goes on", account.name),
        Under::NoAccount => match parked_until(picture, session) {
            Some(until) => {
                format!("parked: its agent has no account to swap; its limit ends {}", words::at(picture, until))
            }
            None => "parked: its agent has no account to swap, and time alone does not help".to_owned(),
        },
    })
}

/// Until when a limit keeps it from going on.
#[must_use]
pub fn parked_until(picture: &Picture, session: &Session) -> Option<Timestamp> {
    let incarnation = session.phase.incarnation().filter(|_| session.verdict.activity == Activity::Limited)?;
    if let Some(account) = incarnation.account.as_ref().and_then(|name| picture.snapshot.account(name)) {
        return account.until();
    }
    model_account::limit_passes(&session.verdict)
}

#[must_use]
pub fn agent(_: &Picture, session: &Session) -> String {
    session.phase.incarnation().map_or_else(String::new, |inc| words::line(inc.agent.as_str()))
}

#[must_use]
pub fn account(_: &Picture, session: &Session) -> String {
    let account = session.phase.incarnation().and_then(|inc| inc.account.as_ref());
    account.map_or_else(String::new, |account| words::line(account.as_str()))
}

#[must_use]
pub fn resume_id(_: &Picture, session: &Session) -> String {
    let known = session.phase.incarnation().and_then(|inc| inc.conversation.as_ref());
    // Between two programs, the conversation that the next one resumes.
    let id = known.or_else(|| session.resume.as_ref()?.conversation.as_ref());
    id.map_or_else(String::new, |id| words::line(id))
}

#[must_use]
pub fn pid(_: &Picture, session: &Session) -> String {
    match &session.phase {
        SessionPhase::Starting(inc) | SessionPhase::Up(inc) | SessionPhase::Ending(inc) => format!("{}\n", inc.pid),
        SessionPhase::Down | SessionPhase::Dead { .. } => String::new(),
    }
}

#[must_use]
pub fn pane(_: &Picture, session: &Session) -> String {
    clean(&session.screen.plain)
}

#[must_use]
pub fn pane_ansi(_: &Picture, session: &Session) -> String {
    clean_colour(&session.screen.colour)
}

#[must_use]
pub fn scrollback(_: &Picture, session: &Session) -> String {
    clean(&session.screen.history)
}

/// What reading `control`, `input` and `keys` of a session gives.
#[must_use]
pub fn control(picture: &Picture, session: &Session, file: &str) -> String {
    const INPUT: &[Verb] =
        &[Verb { name: "TEXT", args: "", help: "delivered to the agent as one message when the file is closed" }];
    const KEYS: &[Verb] = &[Verb { name: "KEY…", args: "", help: "tmux key names: Enter Escape C-c Up y" }];
    let verbs = match file {
        "input" => INPUT,
        "keys" => KEYS,
        _ => SESSION_VERBS,
    };
    let path = format!("sessions/{}/{file}", session.name);
    words::control(verbs, picture.snapshot.outcomes.iter().filter(|outcome| outcome.file == path))
}
