//! Things of the model with nothing particular about them, for unit tests to change what matters to each.

use jiff::Timestamp;

use super::{
    identity::TextFacts,
    ids::{AgentName, RunId, SessionName},
    pane::PaneId,
    session::Incarnation,
    task::{Delivery, Run, Stop},
};

const AT: Timestamp = Timestamp::UNIX_EPOCH;

pub(crate) fn text() -> TextFacts {
    TextFacts { sha256: String::new(), identity: String::new(), bytes: 1, modified: AT }
}

/// An agent in that session.
pub(crate) fn incarnation(session: &SessionName) -> Incarnation {
    Incarnation {
        id: "i".to_owned(),
        session: session.clone(),
        agent: AgentName::parse("a").expect("a name"),
        account: None,
        workdir: "/".into(),
        conversation: None,
        pane: PaneId("%1".to_owned()),
        pid: 1,
        started: AT,
        token: String::new(),
    }
}

/// The only attempt of a task, not begun.
pub(crate) fn run() -> Run {
    Run {
        id: RunId("r".to_owned()),
        session: SessionName::parse("s").expect("a name"),
        agent: AgentName::parse("a").expect("a name"),
        accounts: Vec::new(),
        workdir: "/".into(),
        attempt: 1,
        attempts_allowed: 1,
        timeout: None,
        claimed: AT,
        typed: None,
        delivery: Delivery::NotBegun,
        stop: Stop::No,
        pauses: 0,
        text: text(),
        instead: None,
    }
}
