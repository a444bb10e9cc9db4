//! `doc/STATES.md` is what the state machines really do. `UPDATE_DOCS=1 cargo test --test states` writes it anew.

use std::{fmt::Write as _, sync::Arc};

use claude_failover::model::{
    ids::{AgentName, RunId, SessionName, TaskKey},
    session::{self, Assignment, Incarnation, Role, Session, SessionEvent, SessionPhase, Verdict},
    task::{
        self, After, Delivery, Ending, Filing, Finished, Hold, Phase, Problem, Run, Status, Stop, TaskEvent, TaskSpec,
        TextFacts,
    },
};
use claude_failover::ports::{Exit, PaneId};
use jiff::Timestamp;

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn text(sha256: &str) -> TextFacts {
    TextFacts { sha256: sha256.into(), identity: sha256.into(), bytes: 1, modified: now() }
}

fn run(delivery: Delivery) -> Run {
    Run {
        id: RunId("r".into()),
        session: SessionName::parse("s").expect("name"),
        agent: AgentName::parse("a").expect("name"),
        accounts: Vec::new(),
        workdir: "/".into(),
        attempt: 1,
        attempts_allowed: 2,
        timeout: None,
        claimed: now(),
        typed: None,
        delivery,
        stop: Stop::No,
        pauses: 0,
        text: text("1"),
    }
}

fn ending() -> Ending {
    Ending { status: Status::Done, message: None, error: None, screen: None, tokens: None, resume_id: None, at: now() }
}

fn phases() -> Vec<(&'static str, Phase)> {
    vec![
        ("held", Phase::Held(Hold::Settling)),
        ("held by verb", Phase::Held(Hold::ByVerb)),
        ("held, changed while working", Phase::Held(Hold::ChangedWhileWorking)),
        ("queued", Phase::Queued),
        ("rejected", Phase::Rejected(Problem { line: 1, column: 1, message: "m".into() })),
        ("working, nothing typed", Phase::Working(run(Delivery::NotBegun))),
        ("working, typing", Phase::Working(run(Delivery::Begun))),
        ("working, taken", Phase::Working(run(Delivery::Taken { at: now() }))),
        ("filing", Phase::Filing(Filing { run: Some(run(Delivery::Begun)), ending: ending() })),
        ("finished", Phase::Finished(Finished { run: None, ending: ending() })),
    ]
}

fn events() -> Vec<(&'static str, TaskEvent)> {
    let run_id = RunId("r".into());
    vec![
        ("seen", TaskEvent::Seen { text: text("2"), spec: Arc::new(TaskSpec::default()) }),
        ("not ready", TaskEvent::NotReady(Hold::Writing)),
        ("rejected", TaskEvent::Rejected(Problem { line: 2, column: 1, message: "n".into() })),
        ("vanished", TaskEvent::Vanished { by_verb: false }),
        ("removed by verb", TaskEvent::Vanished { by_verb: true }),
        ("outside claim", TaskEvent::OutsideClaim("x".into())),
        ("claimed", TaskEvent::Claimed(run(Delivery::NotBegun))),
        ("unclaimed", TaskEvent::Unclaimed { run: run_id.clone(), why: "w".into() }),
        ("typing begun", TaskEvent::TypingBegun { run: run_id.clone() }),
        ("taken", TaskEvent::Taken { run: run_id.clone() }),
        ("try again", TaskEvent::TryAgain { run: run_id.clone(), why: "w".into() }),
        ("paused", TaskEvent::Paused { run: run_id.clone(), why: "w".into() }),
        ("ended", TaskEvent::Ended { run: run_id, ending: ending() }),
        ("filed", TaskEvent::Filed { kept: None }),
        ("filed, newer text kept", TaskEvent::Filed { kept: Some(text("2")) }),
        ("cancel", TaskEvent::Cancel),
        ("hold", TaskEvent::Hold),
        ("release", TaskEvent::Release),
        ("priority", TaskEvent::Priority(1)),
    ]
}

fn told(phase: &Phase) -> String {
    match phase {
        Phase::Held(hold) => match hold {
            Hold::ByVerb => "held by verb".into(),
            Hold::ChangedWhileWorking => "held, changed".into(),
            Hold::OutsideClaim(_) => "held, claimed outside".into(),
            _ => "held".into(),
        },
        Phase::Working(run) => match (run.stop, &run.delivery) {
            (Stop::Cancelled, _) => "to be cancelled".into(),
            (Stop::Yielded, _) => "to be given up".into(),
            (Stop::Again, _) => "to be tried again".into(),
            (Stop::No, Delivery::NotBegun) => "working".into(),
            (Stop::No, Delivery::Begun) => "working, typing".into(),
            (Stop::No, Delivery::Taken { .. }) => "working, taken".into(),
        },
        Phase::Filing(_) => "filing".into(),
        Phase::Queued | Phase::Rejected(_) | Phase::Finished(_) => match phase {
            Phase::Finished(_) => "finished".into(),
            other => other.word().into(),
        },
    }
}

fn tasks() -> String {
    let phases = phases();
    let mut out = String::from("| event | ");
    out.push_str(&phases.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "));
    out.push_str(" |\n|---|");
    out.push_str(&"---|".repeat(phases.len()));
    for (name, event) in events() {
        let _ = write!(out, "\n| **{name}** |");
        for (_, phase) in &phases {
            let cell = match task::step(phase, Some(&text("1")), &event, now()) {
                Ok(After::Same) => "·".to_owned(),
                Ok(After::Gone) => "gone".to_owned(),
                Ok(After::Now(next)) => told(&next),
                Err(_) => "–".to_owned(),
            };
            let _ = write!(out, " {cell} |");
        }
    }
    out
}

fn incarnation() -> Incarnation {
    Incarnation {
        id: "i".into(),
        session: SessionName::parse("s").expect("name"),
        agent: AgentName::parse("a").expect("name"),
        account: None,
        workdir: "/".into(),
        conversation: None,
        pane: PaneId("%1".into()),
        pid: 1,
        started: now(),
    }
}

fn sessions() -> String {
    let phases = [
        ("down", SessionPhase::Down),
        ("starting", SessionPhase::Starting(incarnation())),
        ("up", SessionPhase::Up(incarnation())),
        ("ending", SessionPhase::Ending(incarnation())),
        ("dead", SessionPhase::Dead { incarnation: incarnation(), exit: Exit::Unknown, at: now() }),
    ];
    let of = || "i".to_owned();
    let assignment = Assignment { task: TaskKey::parse("p:t").expect("a key"), run: RunId("r".into()) };
    let events = [
        ("opened", SessionEvent::Opened(incarnation())),
        ("open failed", SessionEvent::OpenFailed("w".into())),
        ("ready", SessionEvent::Ready { of: of() }),
        ("died", SessionEvent::Died { of: of(), exit: Exit::Unknown }),
        ("ending", SessionEvent::Ending),
        ("ended", SessionEvent::Ended { retired: false }),
        ("lost", SessionEvent::Lost { of: of() }),
        ("assigned", SessionEvent::Assigned(assignment)),
        ("freed", SessionEvent::Freed),
        ("drain", SessionEvent::Drain(true)),
        ("forgiven", SessionEvent::Forgiven),
    ];
    let mut out = String::from(
        "| event | down | starting | up, idle | ending | dead | dedicated, up |\n|---|---|---|---|---|---|---|",
    );
    for (name, event) in events {
        let _ = write!(out, "\n| **{name}** |");
        let roles = phases.iter().map(|(_, phase)| (Role::Pool, phase)).chain([(Role::Dedicated, &phases[2].1)]);
        for (role, phase) in roles {
            let mut session = Session::new(SessionName::parse("s").expect("name"), role, now());
            session.phase = phase.clone();
            session.verdict = Verdict { activity: session::Activity::Idle, ..Verdict::unknown(now()) };
            let cell = match session::step(&session, &event, now()) {
                Ok(None) => "·",
                Ok(Some(next)) => match next {
                    SessionPhase::Down => "down",
                    SessionPhase::Starting(_) => "starting",
                    SessionPhase::Up(_) => "up",
                    SessionPhase::Ending(_) => "ending",
                    SessionPhase::Dead { .. } => "dead",
                },
                Err(_) => "–",
            };
            let _ = write!(out, " {cell} |");
        }
    }
    out
}

#[test]
fn the_document_is_what_the_machines_do() {
    let wanted = format!(
        "# States\n\n\
         Written by `tests/states.rs` from the code. `·` nothing changes, `–` refused (the proposer sees why).\n\n\
         ## A task\n\n\
         The words in `tasks/<id>/state`: `queued held working done failed rejected cancelled`. *Filing* shows as `working` until the\n\
         result is on disk.\n\n{}\n\n\
         *Nothing typed*, *typing* and *taken* tell a restarted daemon what may have happened: a claim of which nothing was typed goes\n\
         back to the queue, one that was taken goes on with its agent, and one whose agent is lost fails rather than run again on doubt.\n\
         *To be cancelled / given up / tried again* end the agent first and then the run.\n\n\
         ## A session\n\n\
         The words in `sessions/<name>/state`: `starting idle working waiting stalled limited dead dedicated`. An agent that is *up* is\n\
         `idle`, `working`, `waiting`, `stalled` or `limited` by the watcher's verdict; `why` tells on what evidence.\n\n{}\n",
        tasks(),
        sessions()
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/doc/STATES.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).expect("written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "doc/STATES.md is not what the code does; UPDATE_DOCS=1 cargo test --test states writes it"
    );
}
