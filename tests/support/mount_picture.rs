//! A hand-made picture with one of everything, full of text that would steer a terminal.

use std::{collections::VecDeque, path::Path, sync::Arc};

use claude_failover::{
    model::{
        account::{Account, Standing},
        command::{RefusedKind, Writer},
        event::{Counts, Kind, LogLine},
        evidence::{Meaning, Signal, Source, WaitingFor},
        ids::{AccountName, AgentName, ProjectName, RunId, SessionName, TaskKey},
        limit::Usage,
        session::{Activity, Assignment, Incarnation, Role, Screens, Session, SessionPhase, Verdict},
        snapshot::{Outcome, Project, Snapshot},
        task::{
            Delivery, Ending, Finished, Hold, Origin, Phase, Problem, Run, Status, Stop, Task, TaskSpec, TextFacts,
        },
    },
    ports::PaneId,
};
use jiff::Timestamp;

/// Every control character, and what terminals obey.
pub fn hostile() -> String {
    let controls: String = (1..0x20_u32).chain(0x7f..0xa0).filter_map(char::from_u32).collect();
    format!("h\u{1b}]0;EVIL\u{7}o\u{1b}]52;c;cm0=\u{7}s\u{1b}[6n\u{1b}[2Jtile {controls}")
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("a time")
}

pub fn project(name: &str) -> ProjectName {
    ProjectName::parse(name).expect("a project name")
}

pub fn session_name(name: &str) -> SessionName {
    SessionName::parse(name).expect("a session name")
}

pub fn key(text: &str) -> TaskKey {
    TaskKey::parse(text).expect("a task key")
}

fn facts() -> TextFacts {
    TextFacts { sha256: "ab".repeat(32), identity: "cd".repeat(32), bytes: 9, modified: at(0) }
}

pub fn run(session: &str) -> Run {
    Run {
        id: RunId("run-1".to_owned()),
        session: session_name(session),
        agent: AgentName::parse("claude").expect("an agent name"),
        accounts: AccountName::parse("compte1").into_iter().collect(),
        workdir: "/tmp".into(),
        attempt: 1,
        attempts_allowed: 2,
        timeout: None,
        claimed: at(5),
        typed: None,
        delivery: Delivery::Taken { at: at(6) },
        stop: Stop::No,
        pauses: 0,
        text: facts(),
    }
}

pub fn ending(status: Status) -> Ending {
    Ending {
        status,
        message: Some("all good".to_owned()),
        error: Some(hostile()),
        screen: None,
        tokens: None,
        resume_id: None,
        at: at(9),
    }
}

pub fn task(key: &TaskKey, phase: Phase) -> Arc<Task> {
    Arc::new(Task {
        key: key.clone(),
        text: Some(facts()),
        spec: Arc::new(TaskSpec { unknown: vec!["colour".to_owned()], ..TaskSpec::default() }),
        priority: 3,
        phase,
        since: at(7),
        attempts: 1,
        origin: Origin { writer: Some(Writer { uid: 1, pid: 2, program: hostile() }), parent: None },
        note: Some(hostile()),
    })
}

fn incarnation(session: &str) -> Incarnation {
    Incarnation {
        id: "i".to_owned(),
        session: session_name(session),
        agent: AgentName::parse("claude").expect("an agent name"),
        account: AccountName::parse("compte1").ok(),
        workdir: "/tmp".into(),
        conversation: Some(hostile()),
        pane: PaneId("%1".to_owned()),
        pid: 4242,
        started: at(1),
    }
}

pub fn session(name: &str, role: Role, phase: SessionPhase) -> Session {
    Session {
        phase,
        verdict: Verdict {
            activity: Activity::Waiting(WaitingFor::Permission),
            since: at(4),
            evidence: vec![Signal {
                at: at(4),
                source: Source::Screen,
                rule: "permission-box".to_owned(),
                text: hostile(),
                meaning: Meaning::Waiting { what: WaitingFor::Permission },
            }],
            last_change: at(4),
        },
        screen: Arc::new(Screens {
            title: hostile(),
            plain: format!("plain {}\n", hostile()),
            colour: format!("\u{1b}[31mred\u{1b}[0m {}\n", hostile()),
            history: format!("old\nplain {}\n", hostile()),
            read: Some(at(8)),
        }),
        ..Session::new(session_name(name), role, at(3))
    }
}

/// Two projects, `web` and `api`, whose `.agent-queue`s are below `dir`.
pub fn picture(dir: &Path) -> Snapshot {
    let counts = Counts { drafts: 1, done: 2, failed: 3 };
    let projects = ["web", "api"].map(|name| Project { name: project(name), path: dir.join(name), counts });
    let problem = Problem { line: 2, column: 3, message: hostile() };
    let finished = |status| Phase::Finished(Finished { run: Some(run("ccl-auto-11")), ending: ending(status) });
    let tasks = [
        ("web:held", Phase::Held(Hold::OutsideClaim(hostile()))),
        ("web:fix", Phase::Working(run("ccl-auto-11"))),
        ("web:bad", Phase::Rejected(problem)),
        ("web:old", finished(Status::Done)),
        ("web:sad", finished(Status::Failed)),
        ("api:fix", Phase::Queued),
        ("api:only", Phase::Queued),
    ]
    .map(|(name, phase)| (key(name), task(&key(name), phase)));
    let mut working = session("ccl-auto-11", Role::Pool, SessionPhase::Up(incarnation("ccl-auto-11")));
    working.task = Some(Assignment { task: key("web:fix"), run: RunId("run-1".to_owned()) });
    let sessions = [
        working,
        // One whose agent could not be started, and a name of the pool that nothing was started under yet.
        Session { failures: 1, ..session("ccl-auto-12", Role::Pool, SessionPhase::Down) },
        session("ccl-auto-13", Role::Pool, SessionPhase::Down),
        session("ccl-1-web", Role::Dedicated, SessionPhase::Up(incarnation("ccl-1-web"))),
    ];
    let account = |name: &str, active| Account {
        name: AccountName::parse(name).expect("an account name"),
        agent: AgentName::parse("claude").expect("an agent name"),
        agents: vec![AgentName::parse("claude").expect("an agent name")],
        home: dir.join(name),
        active,
        active_since: at(0),
        standing: Standing::Usable,
        believed_from: at(0),
        usage: Usage::default(),
    };
    let line = LogLine {
        seq: 1,
        time: at(5),
        kind: Kind::Task,
        object: "task web:fix".to_owned(),
        text: hostile(),
        writer: None,
    };
    let outcome = Outcome {
        seq: 1,
        at: at(5),
        writer: Some(Writer { uid: 1, pid: 2, program: hostile() }),
        file: "sessions/ccl-auto-11/control".to_owned(),
        text: hostile(),
        result: Err((RefusedKind::Busy, hostile())),
    };
    Snapshot {
        swaps: std::sync::Arc::default(),
        pool_agent: Some(AgentName::parse("claude").expect("an agent name")),
        supervisor: "test".into(),
        seq: 1,
        at: at(10),
        since: at(0),
        paused: false,
        rescan: 0,
        projects: Arc::new(projects.into()),
        accounts: Arc::new(vec![account("compte1", true), account("compte2", false)]),
        tasks: tasks.into_iter().collect(),
        sessions: sessions.into_iter().map(|session| (session.name.clone(), Arc::new(session))).collect(),
        requests: imbl::OrdMap::new(),
        health: [("tmux".to_owned(), hostile())].into_iter().collect(),
        outcomes: Arc::new(VecDeque::from([outcome])),
        recent: [Arc::new(line)].into_iter().collect(),
        finished: [1, 1, 0],
    }
}
