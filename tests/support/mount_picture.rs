//! A hand-made snapshot with one of everything, full of text that would steer a terminal.

use std::{collections::VecDeque, path::Path, sync::Arc};

use claude_failover::model::{
    account::{Account, Limited, Standing},
    agent::Leftover,
    command::{RefusedKind, Writer},
    event::{About, Counts, Kind, LogLine, Reason},
    evidence::{Failure, Meaning, Signal, Source, WaitingFor},
    identity::TextFacts,
    ids::{AccountName, AgentName, ProjectName, ProviderName, RunId, SessionName, TaskKey},
    limit::{Limit, LimitKind, Usage, Window},
    pane::PaneId,
    provider::{Counters, Delegation, Job, JobStop, Provider, ProviderStanding},
    session::{Activity, Assignment, Incarnation, Resume, Role, Screens, Session, SessionPhase, Verdict},
    snapshot::{Outcome, Project, Snapshot},
    swap::{Cause, Partial, Swap, SwapStep, Swapped, Swaps},
    task::{Delivery, Ending, Finished, Hold, Origin, Phase, Problem, Run, Status, Stop, Task, TaskSpec, Work},
    writer::By,
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
        instead: None,
        text: facts(),
    }
}

pub fn ending(status: Status) -> Ending {
    Ending {
        message: Some("all good".to_owned()),
        error: Some(hostile()),
        screen: None,
        tokens: None,
        cost_usd: Some(0.5),
        ..Ending::new(status, at(9))
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
        origin: Origin {
            writer: Some(Writer { uid: 1, pid: 2, program: hostile(), by: By::Unknown, session: None }),
            ..Origin::default()
        },
        wish: None,
        refused_by: Vec::new(),
        note: Some(hostile()),
        doubt: None,
        also: Vec::new(),
    })
}

fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).expect("a provider's name")
}

pub fn job(name: &str) -> Job {
    Job {
        run: RunId("run-2".to_owned()),
        provider: provider(name),
        id: Some(hostile()),
        claimed: at(5),
        attempt: 1,
        stop: JobStop::No,
        text: facts(),
        output: Some(hostile().into()),
        instead: Some(hostile()),
    }
}

fn delegation() -> Delegation {
    let out = ProviderStanding::Exhausted { why: hostile(), until: None };
    let row = |name: &str, standing| Provider {
        name: provider(name),
        kind: "openai",
        serves: vec![name.to_owned()],
        fallback: Vec::new(),
        max_jobs: 8,
        standing,
        since: at(3),
        counters: Counters { completed: 2, failed: 1, cost_usd: 0.25 },
    };
    let auto = [vec!["gemini".to_owned()], Vec::new(), vec!["local".to_owned()]];
    Delegation { providers: vec![row("gemini", ProviderStanding::Usable), row("gpu", out)], auto }
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
        token: String::new(),
        started: at(1),
    }
}

pub fn session(name: &str, role: Role, phase: SessionPhase) -> Session {
    Session {
        phase,
        verdict: Verdict {
            draft: false,
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
            asked: Some(hostile()),
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

pub fn limit() -> Limit {
    Limit { kind: LimitKind::FiveHour, resets_at: Some(at(7200)) }
}

/// What a hook of `failure` says.
pub fn stopped(failure: Failure) -> Signal {
    Signal {
        at: at(4),
        source: Source::Hook,
        rule: "stop-failure".to_owned(),
        text: hostile(),
        meaning: Meaning::TurnFailed { failure, message: hostile() },
    }
}

pub fn account_name(name: &str) -> AccountName {
    AccountName::parse(name).expect("an account name")
}

/// One account in each standing; the active one is at its limit.
fn accounts(dir: &Path) -> Vec<Account> {
    let (session, signal) = (session_name("ccl-auto-11"), stopped(Failure::Limit(limit())));
    let limited = Limited {
        limit: limit(),
        until: Some(at(7202)),
        since: at(4),
        session: session.clone(),
        signal: signal.clone(),
    };
    let broken = Standing::Broken { why: hostile(), since: at(4), signal: Some(stopped(Failure::Login)) };
    let standings = [
        ("compte1", Standing::Limited(limited)),
        ("compte2", Standing::Usable),
        ("compte3", broken),
        ("compte4", Standing::Suspect { session, signal }),
    ];
    let account = |(name, standing): (&str, Standing)| Account {
        name: account_name(name),
        agent: AgentName::parse("claude").expect("an agent name"),
        agents: vec![AgentName::parse("claude").expect("an agent name")],
        home: dir.join(name),
        active: name == "compte1",
        active_since: at(0),
        standing,
        believed_from: at(0),
        usage: Usage::default(),
    };
    let mut accounts: Vec<Account> = standings.map(account).into();
    let window = |used_percent, resets_at| Window { used_percent, resets_at: Some(at(resets_at)), at: at(6) };
    accounts[1].usage.0.insert(LimitKind::FiveHour, window(83, 7200));
    accounts[1].usage.0.insert(LimitKind::Weekly, window(100, 8));
    accounts
}

/// A swap under way, one that failed before it, and one left half done: more than there can be at once.
fn swaps() -> Swaps {
    let (from, to) = (account_name("compte1"), account_name("compte2"));
    let cause = Cause::Out { why: hostile() };
    Swaps {
        number: 3,
        failed: 1,
        current: Some(Swap {
            number: 3,
            from: from.clone(),
            to: to.clone(),
            cause: cause.clone(),
            begun: at(5),
            cooldown_from: None,
            step: SwapStep::Move,
            since: at(6),
        }),
        last: Some(Swapped {
            number: 2,
            from,
            to,
            cause,
            begun: at(1),
            cooldown_from: None,
            ended: at(2),
            error: Some(hostile()),
        }),
        cooldown_from: None,
        partial: Some(Partial { swap: 2, why: hostile(), since: at(2) }),
    }
}

/// Two projects, `web` and `api`, whose `.agent-queue`s are below `dir`.
pub fn picture(dir: &Path) -> Snapshot {
    let counts = Counts { drafts: 1, done: 2, failed: 3 };
    let projects = ["web", "api"].map(|name| Project { name: project(name), path: dir.join(name), counts });
    let problem = Problem { line: 2, column: 3, message: hostile() };
    let finished =
        |status| Phase::Finished(Finished { work: Some(Work::Run(run("ccl-auto-11"))), ending: ending(status) });
    let tasks = [
        ("web:held", Phase::Held(Hold::OutsideClaim(hostile()))),
        ("web:fix", Phase::Working(run("ccl-auto-11"))),
        ("web:bad", Phase::Rejected(problem)),
        ("web:sent", Phase::Delegated(job("gemini"))),
        ("web:old", finished(Status::Done)),
        ("web:sad", finished(Status::Failed)),
        ("api:fix", Phase::Queued),
        ("api:only", Phase::Queued),
    ]
    .map(|(name, phase)| (key(name), task(&key(name), phase)));
    let mut working = session("ccl-auto-11", Role::Pool, SessionPhase::Up(incarnation("ccl-auto-11")));
    working.task = Some(Assignment { task: key("web:fix"), run: RunId("run-1".to_owned()) });
    working.resume = Some(Resume {
        from: "i".to_owned(),
        conversation: Some(hostile()),
        agent: AgentName::parse("claude").expect("an agent name"),
        workdir: "/tmp".into(),
        since: at(6),
        not_before: at(6),
    });
    let mut dedicated = session("ccl-1-web", Role::Dedicated, SessionPhase::Up(incarnation("ccl-1-web")));
    dedicated.verdict.activity = Activity::Limited;
    dedicated.verdict.evidence = vec![stopped(Failure::Limit(limit()))];
    let sessions = [
        working,
        dedicated,
        // One whose agent could not be started, and a name of the pool that nothing was started under yet.
        Session { failures: 1, ..session("ccl-auto-12", Role::Pool, SessionPhase::Down) },
        session("ccl-auto-13", Role::Pool, SessionPhase::Down),
    ];
    let line = LogLine {
        seq: 1,
        time: at(5),
        kind: Kind::Task,
        reason: Reason::Held,
        about: About::words("task web:fix"),
        text: hostile(),
        writer: None,
    };
    let outcome = Outcome {
        seq: 1,
        at: at(5),
        writer: Some(Writer { uid: 1, pid: 2, program: hostile(), by: By::Unknown, session: None }),
        file: "sessions/ccl-auto-11/control".to_owned(),
        text: hostile(),
        result: Err((RefusedKind::Busy, hostile())),
    };
    let left = Leftover {
        pid: 4711,
        start: 1,
        since: at(3),
        session: session_name("ccl-auto-11"),
        token: "a secret".to_owned(),
        command: hostile(),
    };
    let unknown =
        Leftover { pid: 4712, token: "another".to_owned(), command: "npm run dev".to_owned(), ..left.clone() };
    Snapshot {
        leftovers: Some(Arc::new(vec![left, unknown])),
        starts: [("a secret".to_owned(), key("web:old"))].into_iter().collect(),
        pool_agent: AgentName::parse("claude").ok(),
        rights: Arc::default(),
        swaps: Arc::new(swaps()),
        delegation: Arc::new(delegation()),
        supervisor: "test".into(),
        seq: 1,
        at: at(10),
        since: at(0),
        paused: false,
        rescan: 0,
        projects: Arc::new(projects.into()),
        accounts: Arc::new(accounts(dir)),
        tasks: tasks.into_iter().collect(),
        ignored: imbl::OrdMap::new(),
        sessions: sessions.into_iter().map(|session| (session.name.clone(), Arc::new(session))).collect(),
        requests: imbl::OrdMap::new(),
        health: [("tmux".to_owned(), hostile())].into_iter().collect(),
        notices: imbl::OrdMap::new(),
        outcomes: Arc::new(VecDeque::from([outcome])),
        recent: [Arc::new(line)].into_iter().collect(),
        finished: [1, 1, 0],
        ..Snapshot::empty(at(0))
    }
}
