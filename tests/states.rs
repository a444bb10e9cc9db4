//! Checks `doc/STATES.md` against the state machines. `UPDATE_DOCS=1 cargo test --test states` regenerates it.

use std::{fmt::Write as _, sync::Arc};

use claude_failover::model::{
    account::{self, Account, AccountEvent, Limited, Standing},
    evidence::{Failure, Meaning, Signal, Source},
    identity::TextFacts,
    ids::{AccountName, AgentName, ProviderName, RunId, SessionName, TaskKey},
    limit::{Limit, LimitKind, Usage},
    pane::{Exit, PaneId},
    provider::{Job, JobStop, Wish},
    session::{self, Assignment, Incarnation, Role, Session, SessionEvent, SessionPhase, Verdict},
    swap::{self, Cause, Partial, Swap, SwapEvent, SwapStep, Swaps},
    task::{
        self, After, Delivery, Ending, Filing, Finished, Hold, Known, Phase, Problem, Run, Status, Stop, TaskEvent,
        TaskSpec, Work,
    },
    writer::By,
};
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
        instead: None,
        text: text("1"),
    }
}

fn job(stop: JobStop) -> Job {
    Job {
        run: RunId("r".into()),
        provider: ProviderName::parse("p").expect("name"),
        id: None,
        claimed: now(),
        attempt: 1,
        stop,
        text: text("1"),
        output: None,
        instead: None,
    }
}

fn ending() -> Ending {
    Ending::new(Status::Done, now())
}

fn agent() -> AgentName {
    AgentName::parse("sh").expect("a name")
}

fn phases() -> Vec<(&'static str, Phase)> {
    vec![
        ("held", Phase::Held(Hold::Settling)),
        ("held by verb", Phase::Held(Hold::ByVerb)),
        ("held, changed while working", Phase::Held(Hold::ChangedWhileWorking)),
        ("held, claimed outside", Phase::Held(Hold::OutsideClaim("x".into()))),
        ("held, doubtful", Phase::Held(Hold::Tracked("t.md".into()))),
        ("held, not permitted", Phase::Held(Hold::NotPermitted(agent(), By::Unknown))),
        ("held, closed", Phase::Held(Hold::Closed(agent()))),
        ("queued", Phase::Queued),
        ("rejected", Phase::Rejected(Problem { line: 1, column: 1, message: "m".into() })),
        ("working, nothing typed", Phase::Working(run(Delivery::NotBegun))),
        ("working, typing", Phase::Working(run(Delivery::Begun))),
        ("working, taken", Phase::Working(run(Delivery::Taken { at: now() }))),
        ("delegated", Phase::Delegated(job(JobStop::No))),
        ("delegated, to be cancelled", Phase::Delegated(job(JobStop::Cancelled))),
        ("filing", Phase::Filing(Filing { work: Some(Work::Run(run(Delivery::Begun))), ending: ending() })),
        ("finished", Phase::Finished(Finished { work: None, ending: ending() })),
    ]
}

fn events() -> Vec<(&'static str, TaskEvent)> {
    let run_id = RunId("r".into());
    vec![
        ("seen", TaskEvent::Seen { text: text("2"), spec: Arc::new(TaskSpec::default()) }),
        ("not ready", TaskEvent::NotReady(Hold::Writing)),
        (
            "doubtful",
            TaskEvent::Doubtful {
                text: text("2"),
                spec: Arc::new(TaskSpec::default()),
                why: Hold::Tracked("t.md".into()),
            },
        ),
        ("rejected", TaskEvent::Rejected(Problem { line: 2, column: 1, message: "n".into() })),
        ("vanished", TaskEvent::Vanished { by_verb: false }),
        ("removed by verb", TaskEvent::Vanished { by_verb: true }),
        ("outside claim", TaskEvent::OutsideClaim("x".into())),
        ("claimed", TaskEvent::Claimed(run(Delivery::NotBegun))),
        ("unclaimed", TaskEvent::Unclaimed { run: run_id.clone(), why: "w".into() }),
        ("typing begun", TaskEvent::TypingBegun { run: run_id.clone() }),
        ("taken", TaskEvent::Taken { run: run_id.clone() }),
        ("try again", TaskEvent::TryAgain { run: run_id.clone(), why: "w".into() }),
        ("waits", TaskEvent::Waits { run: run_id.clone(), why: "w".into() }),
        ("paused", TaskEvent::Paused { run: run_id.clone(), why: "w".into() }),
        ("delegated", TaskEvent::Delegated(job(JobStop::No))),
        ("submitted", TaskEvent::Submitted { run: run_id.clone(), job: "j".into() }),
        ("output", TaskEvent::Output { run: run_id.clone(), text: "o".into() }),
        ("refused by its provider", TaskEvent::RefusedBy { run: run_id.clone(), why: "w".into() }),
        ("ended", TaskEvent::Ended { run: run_id, ending: ending(), told: None }),
        ("filed", TaskEvent::Filed { kept: None }),
        ("filed, newer text kept", TaskEvent::Filed { kept: Some(text("2")) }),
        ("cancel", TaskEvent::Cancel),
        ("hold", TaskEvent::Hold),
        ("release", TaskEvent::Release),
        ("priority", TaskEvent::Priority(1)),
        ("wished to a provider", TaskEvent::Wish(Wish::Provider(None))),
        ("wished here", TaskEvent::Wish(Wish::Here)),
    ]
}

fn told(phase: &Phase) -> String {
    match phase {
        Phase::Held(hold) => match hold {
            Hold::ByVerb => "held by verb".into(),
            Hold::ChangedWhileWorking => "held, changed".into(),
            Hold::OutsideClaim(_) => "held, claimed outside".into(),
            Hold::Tracked(_) => "held, doubtful".into(),
            Hold::NotPermitted(..) => "held, not permitted".into(),
            Hold::Closed(_) => "held, closed".into(),
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
        Phase::Delegated(job) => match (job.stop, &job.id, &job.output) {
            (JobStop::Cancelled, _, _) => "to be cancelled".into(),
            (JobStop::Recalled, _, _) => "to be taken back".into(),
            (JobStop::No, _, Some(_)) => "delegated, with output".into(),
            (JobStop::No, Some(_), None) => "delegated, taken".into(),
            (JobStop::No, None, None) => "delegated".into(),
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
    // What nothing stands against, and then what differs where a person holds it: so for every other reason.
    for (name, event) in events() {
        let cells = |against: Option<&Hold>| {
            let cell = |phase| match task::step(phase, Known { text: Some(&text("1")), against }, &event, now()) {
                Ok(After::Same) => "·".to_owned(),
                Ok(After::Gone) => "gone".to_owned(),
                Ok(After::Now(next)) => told(&next),
                Err(_) => "–".to_owned(),
            };
            phases.iter().map(|(_, phase)| cell(phase)).collect::<Vec<_>>()
        };
        let (free, against) = (cells(None), cells(Some(&Hold::ByVerb)));
        let _ = write!(out, "\n| **{name}** | {} |", free.join(" | "));
        if free != against {
            let _ = write!(out, "\n| **{name}**, held by verb | {} |", against.join(" | "));
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
        token: String::new(),
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
        ("died", SessionEvent::Died { of: of(), exit: Exit::Unknown, began: true }),
        ("ending", SessionEvent::Ending { why: "w".into(), failed: false }),
        ("ended", SessionEvent::Ended { then: session::Then::Start }),
        ("lost", SessionEvent::Lost { of: of() }),
        ("assigned", SessionEvent::Assigned(assignment)),
        ("freed", SessionEvent::Freed),
        ("talked", SessionEvent::Talked { of: of() }),
        ("drain", SessionEvent::Drain(true)),
        ("forgiven", SessionEvent::Forgiven),
        ("resume", SessionEvent::Resume { of: of(), not_before: None }),
        ("resumed", SessionEvent::Resumed { of: of() }),
        ("found", SessionEvent::Found { of: of(), pid: 2, account: None, conversation: None }),
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

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// Something a screen or a record says of a limit, at second `at`.
fn signal(at: i64, limit: Limit) -> Signal {
    let meaning = Meaning::TurnFailed { failure: Failure::Limit(limit), message: "m".into() };
    Signal { at: second(at), source: Source::Hook, rule: "r".into(), text: "t".into(), meaning }
}

fn limited(at: i64, limit: Limit) -> AccountEvent {
    let session = SessionName::parse("s").expect("name");
    AccountEvent::Limited { session, signal: signal(at, limit), limit }
}

/// Accounts at second 1000, in each standing.
fn standings() -> Vec<(&'static str, Standing)> {
    let session = SessionName::parse("s").expect("name");
    let at_limit = |kind, resets_at: Option<i64>| {
        let limit = Limit { kind, resets_at: resets_at.map(second) };
        let until = account::until(&limit, second(100));
        Standing::Limited(Limited {
            limit,
            until,
            since: second(100),
            session: session.clone(),
            signal: signal(100, limit),
        })
    };
    let five_hour = Limit { kind: LimitKind::FiveHour, resets_at: None };
    vec![
        ("usable", Standing::Usable),
        ("suspect", Standing::Suspect { session: session.clone(), signal: signal(100, five_hour) }),
        ("limited, end told", at_limit(LimitKind::FiveHour, Some(5000))),
        ("limited, end guessed", at_limit(LimitKind::FiveHour, None)),
        ("limited, end passed", at_limit(LimitKind::FiveHour, Some(900))),
        ("limited, no end", at_limit(LimitKind::Credit, None)),
        ("broken", Standing::Broken { why: "w".into(), since: second(100), signal: None }),
    ]
}

fn accounts() -> String {
    let (session, other) = (SessionName::parse("s").expect("name"), SessionName::parse("o").expect("name"));
    let limit = |kind, resets_at: Option<i64>| Limit { kind, resets_at: resets_at.map(second) };
    let told = limit(LimitKind::Weekly, Some(9000));
    let untold = limit(LimitKind::Weekly, None);
    let broken = |why: &str| AccountEvent::Broken { why: why.into(), signal: None };
    let events = [
        ("used", AccountEvent::Used(Usage::default())),
        ("suspected", AccountEvent::Suspected { session: session.clone(), signal: signal(200, untold) }),
        ("recovered", AccountEvent::Recovered { session }),
        ("recovered elsewhere", AccountEvent::Recovered { session: other }),
        ("limited, end told", limited(200, told)),
        ("limited, no word of its end", limited(200, untold)),
        ("limited, time does not help", limited(200, limit(LimitKind::Spend, None))),
        ("limited, from before it is believed", limited(10, told)),
        ("broken", broken("other")),
        ("broken, the same", broken("w")),
        ("reset", AccountEvent::Reset),
        ("vouched", AccountEvent::Vouched { why: "w".into() }),
    ];
    let columns = standings();
    let mut out = String::from("| event | ");
    out.push_str(&columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "));
    let _ = write!(out, " |\n|---|{}", "---|".repeat(columns.len()));
    for (name, event) in events {
        let _ = write!(out, "\n| **{name}** |");
        for (_, standing) in &columns {
            let account = Account {
                name: AccountName::parse("a").expect("name"),
                agent: AgentName::parse("a").expect("name"),
                agents: Vec::new(),
                home: "/".into(),
                active: true,
                active_since: now(),
                standing: standing.clone(),
                believed_from: second(50),
                usage: Usage::default(),
            };
            let cell = match account::step(&account, &event, second(1000)) {
                None => "·",
                Some(Standing::Usable) => "usable",
                Some(Standing::Suspect { .. }) => "suspect",
                Some(Standing::Limited(limited)) => match (limited.until, limited.limit.resets_at) {
                    (None, _) => "limited, no end",
                    (Some(_), Some(_)) => "limited, end told",
                    (Some(_), None) => "limited, end guessed",
                },
                Some(Standing::Broken { .. }) => "broken",
            };
            let _ = write!(out, " {cell} |");
        }
    }
    out
}

fn swaps() -> String {
    let name = |name: &str| AccountName::parse(name).expect("name");
    let at = |step| {
        let (from, to) = (name("a"), name("b"));
        let cause = Cause::Out { why: "w".into() };
        let current = Some(Swap { number: 1, from, to, cause, begun: now(), cooldown_from: None, step, since: now() });
        Swaps { number: 1, current, ..Swaps::default() }
    };
    let partial = Some(Partial { swap: 1, why: "w".into(), since: now() });
    let why = || "w".to_owned();
    let columns = [
        ("none", Swaps::default()),
        ("half done", Swaps { partial, ..Swaps::default() }),
        ("flip", at(SwapStep::Flip)),
        ("ensure", at(SwapStep::Ensure)),
        ("move", at(SwapStep::Move)),
        ("roll back", at(SwapStep::RollBack { why: why() })),
    ];
    let begin = |to| SwapEvent::Begin { to: name(to), cause: Cause::Out { why: why() } };
    let events = [
        ("begin", begin("b")),
        ("begin, to the active one", begin("a")),
        ("flipped", SwapEvent::Flipped),
        ("ensured", SwapEvent::Ensured),
        ("moved", SwapEvent::Moved { left: Vec::new() }),
        ("failed", SwapEvent::Failed { why: why() }),
        ("rolled back", SwapEvent::RolledBack),
        ("roll-back failed", SwapEvent::RollBackFailed { why: why() }),
        ("clear-partial", SwapEvent::ClearPartial),
    ];
    let mut out = String::from("| event | ");
    out.push_str(&columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "));
    let _ = write!(out, " |\n|---|{}", "---|".repeat(columns.len()));
    for (event_name, event) in events {
        let _ = write!(out, "\n| **{event_name}** |");
        for (_, swaps) in &columns {
            let cell = match swap::step(swaps, &name("a"), &event, now()) {
                Err(_) => "–",
                Ok(next) => match (&next.current, &next.last, &next.partial) {
                    (Some(swap), _, _) => swap.step.word(),
                    (None, _, Some(_)) => "half done",
                    (None, Some(last), None) if last.error.is_some() => "none, failed",
                    (None, Some(_), None) => "none, done",
                    (None, None, None) => "none",
                },
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
         Generated by `tests/states.rs` from the code. `·`: no change; `–`: refused (the proposer sees why).\n\n\
         ## A task\n\n\
         State words in `tasks/<id>/state`: `queued held working delegated done failed rejected cancelled`. *Filing* shows as `working`\n\
         until the result is on disk. *Held* is a hold that ends by itself, *doubtful* one that a person ends (git tracks the\n\
         file, its run is filed, a script claims it in place). Reasons to hold a task stay with its name until they are released: a person's\n\
         `hold`, a text that changed during the work, a doubt, a missing right. A row *held by verb* shows the differences while a\n\
         person holds it; every other reason behaves alike, with its own state.\n\n{}\n\n\
         *Nothing typed*, *typing* and *taken* tell a restarted daemon what may have happened: a claim with nothing typed goes\n\
         back to the queue, an accepted one continues with its agent, and one whose agent is lost\n\
         is retried, as after an agent's crash.\n\
         *To be cancelled / given up / tried again* stop the agent first and then the run.\n\n\
         ## A session\n\n\
         State words in `sessions/<name>/state`: `starting idle working waiting stalled limited dead dedicated`. An agent that is *up* is\n\
         `idle`, `working`, `waiting`, `stalled` or `limited` by the watcher's verdict; `why` shows the evidence.\n\n{}\n\n\
         *Resume* records that its conversation is to be resumed in a new program; the usual phases follow: ending, down,\n\
         starting, up. Then *resumed* clears the record. Nothing else stops the agent of a dedicated session. *Found* is what runs in one.\n\n\
         ## An account\n\n\
         State words in `accounts/<name>/state`: `active available limited suspect broken`. *Active* and *available* are usable.\n\n{}\n\n\
         Evidence from before the last *reset* or *vouched* is ignored: a resumed conversation redraws its old banner.\n\
         A reset time that was not reported is estimated; one that had passed when it was reported is ignored.\n\n\
         ## A swap\n\n\
         The steps of a swap; each is saved before it is carried out. The new account is active from *ensured* on.\n\n{}\n\n\
         A *half done* (partial) swap, whose rollback failed, blocks every other until `clear-partial`.\n",
        tasks(),
        sessions(),
        accounts(),
        swaps()
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
