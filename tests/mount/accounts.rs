//! Accounts and swaps: what is shown, and swapping by writing a name.

use std::{path::Path, sync::Arc};

use claude_failover::{
    model::{
        account::Standing,
        evidence::Failure,
        limit::{Limit, LimitKind},
        session::{Activity, Session},
        snapshot::Snapshot,
        swap::Swaps,
    },
    render::{Picture, account, metrics, root, session, status, status_json, swap, task},
};
use serde_json::json;

use crate::{
    picture::{account_name, at, key, limit, picture, session_name, stopped},
    world::World,
};

fn snapshot() -> Snapshot {
    picture(Path::new("/srv"))
}

/// The pool's session is stopped by `failure`; nothing else moves it.
fn parked(snapshot: &mut Snapshot, failure: Failure) {
    let session = snapshot.sessions.get_mut(&session_name("ccl-auto-11")).expect("the session");
    let session: &mut Session = Arc::make_mut(session);
    session.resume = None;
    session.verdict.activity = Activity::Limited;
    session.verdict.evidence = vec![stopped(failure)];
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(text.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()), "{text:?}");
}

#[test]
fn a_name_written_to_active_swaps_however_a_shell_writes_it() {
    let world = World::new();
    assert_eq!(world.ok("stat -c %a accounts/active"), "644\n");
    for script in [
        "echo compte2 > accounts/active",
        "echo compte2 >> accounts/active",
        "printf compte2 > accounts/active",
        "printf 'compte2\\n' | dd of=accounts/active seek=99 oflag=seek_bytes conv=notrunc 2>/dev/null",
        "echo compte2 | tee accounts/active > /dev/null",
        "printf '\\n compte2 \\n\\n' > accounts/active",
    ] {
        world.ok("echo compte1 > accounts/active && [ \"$(cat accounts/active)\" = compte1 ]");
        let before = world.calls().matches("verb Swap(Some(AccountName(\"compte2\")))").count();
        world.ok(script);
        let after = world.calls().matches("verb Swap(Some(AccountName(\"compte2\")))").count();
        assert_eq!(after, before + 1, "{script}: {}", world.calls());
    }
    assert_eq!(world.ok("cat accounts/active accounts/compte2/state"), "compte2\nactive\n");
    world.ok(": > accounts/active && truncate -s 0 accounts/active && [ \"$(cat accounts/active)\" = compte2 ]");
}

#[test]
fn a_swap_that_can_t_be_is_refused_where_the_writer_stands() {
    let world = World::new();
    world.fails("echo nobody > accounts/active", "No such file or directory");
    world.fails("echo two words > accounts/active", "Invalid argument");
    world.fails("printf '\\377' > accounts/active", "Invalid argument");
    world.fails("echo compte3 > accounts/active", "Structure needs cleaning");
    world.fails("echo swap compte3 > control", "Structure needs cleaning");
    world.fails("echo swap > control", "Resource temporarily unavailable");
    world.fails("rm accounts/active", "Operation not permitted");
    world.ok("echo swap compte2 > control && echo clear-partial > control");
    assert_eq!(world.ok("cat accounts/active"), "compte1\n");
    let control = world.ok("cat control");
    has(&control, &["# swap [ACCOUNT] ", "# clear-partial ", ": EUCLEAN: a swap is half done", ": EAGAIN: no other"]);
    assert_eq!(world.calls().matches("verb ").count(), 2, "{}", world.calls());
}

#[test]
fn an_account_s_files_tell_its_standing_and_until_when() {
    let world = World::new();
    let read = |path: &str| std::fs::read_to_string(world.mnt().join(path)).expect(path);
    let states = [1, 2, 3, 4].map(|n| read(&format!("accounts/compte{n}/state")));
    assert_eq!(states, ["limited\n", "available\n", "broken\n", "suspect\n"]);
    assert_eq!(read("accounts/compte1/resets-at"), format!("{}\n", at(7202)));
    assert_eq!(read("accounts/compte2/resets-at"), "");
    let limits: serde_json::Value = serde_json::from_str(&read("accounts/compte1/limits.json")).expect("JSON");
    let limit = json!({"kind": "five-hour", "resets_at": at(7200), "until": at(7202), "since": at(4)});
    assert_eq!(limits, json!({"windows": {}, "limit": limit}));
    let limits: serde_json::Value = serde_json::from_str(&read("accounts/compte2/limits.json")).expect("JSON");
    let window = |used: u8, resets| json!({"used_percent": used, "resets_at": at(resets), "at": at(6)});
    assert_eq!(limits, json!({"windows": {"five-hour": window(83, 7200), "weekly": window(100, 8)}, "limit": null}));
}

#[test]
fn why_names_evidence_and_what_a_person_must_do() {
    let mut snapshot = snapshot();
    let why = |snapshot: &Snapshot, name: &str| {
        let picture = Picture { snapshot, now: at(70) };
        account::why(&picture, snapshot.account(&account_name(name)).expect("the account"))
    };
    let until = format!("tried again at {} (in 118m)", at(7202));
    let parts =
        ["the active account for claude, since ", "5-hour limit since ", "told in session ccl-auto-11: turn failed"];
    has(
        &why(&snapshot, "compte1"),
        &[&parts[..], &["from a hook, rule stop-failure, matched \"hostile", &until]].concat(),
    );
    has(
        &why(&snapshot, "compte2"),
        &["not the active account", "it can be used", "5-hour limit: 83 % used, told 64s ago; resets at"],
    );
    has(&why(&snapshot, "compte2"), &["weekly limit: 100 % used, told 64s ago; reset since, so it counts as empty"]);
    has(
        &why(&snapshot, "compte3"),
        &["hostile", "a person has to log in or mend its home", "`echo compte3 > accounts/active`"],
    );
    has(&why(&snapshot, "compte4"), &["the screen of session ccl-auto-11 shows a limit, not confirmed yet"]);
    let Standing::Limited(limited) = &mut Arc::make_mut(&mut snapshot.accounts)[0].standing else { panic!("limited") };
    (limited.limit, limited.until) = (Limit { kind: LimitKind::Credit, resets_at: None }, None);
    has(
        &why(&snapshot, "compte1"),
        &["credit used up since", "time alone does not lift it", "`echo compte1 > accounts/active`"],
    );
}

#[test]
fn status_tells_of_swaps_parked_sessions_and_the_next_reset() {
    let mut snapshot = snapshot();
    parked(&mut snapshot, Failure::Limit(limit()));
    let view = Picture { snapshot: &snapshot, now: at(70) };
    let text = status::status(&view);
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:?}");
    // Sentences go on in the next line.
    let text = text.replace("\n    ", " ");
    has(
        &text,
        &[
            "swap 2 is half done and could not be undone: hostile",
            "swap 3 from compte1 to compte2 under way for 65s: move for 64s, sessions on their way: 0; hostile",
            "last swap 2 from compte1 to compte2, 68s ago in 1s: failed: hostile",
            &format!("stopped by a limit: ccl-auto-11 (task fix, at {} (in 118m))", at(7202)),
            &format!("next reset: compte1 at {}", at(7202)),
            "USED",
            "83%",
        ],
    );
    let row = text.lines().find(|line| line.trim_start().starts_with("compte1 ")).expect("its row");
    has(row, &["limited", "-", &at(7202).to_string()]);
    let value = status_json::value(&view);
    assert_eq!(value["swap"]["under_way"]["step"], "move");
    assert_eq!(value["swap"]["under_way"]["cause"], "out");
    assert_eq!((&value["swap"]["last"]["number"], &value["swap"]["partial"]["number"]), (&json!(2), &json!(2)));
    assert_eq!((&value["accounts"][0]["until"], &value["accounts"][1]["used"]), (&json!(at(7202)), &json!(83)));
    assert!(!status_json::status_json(&view).chars().any(|c| c != '\n' && c.is_control()));
    // Nothing to say is nothing said.
    snapshot.swaps = Arc::new(Swaps::default());
    snapshot.sessions = imbl::OrdMap::new();
    Arc::make_mut(&mut snapshot.accounts).truncate(0);
    let view = Picture { snapshot: &snapshot, now: at(70) };
    assert_eq!(swap::value(&view), json!({"under_way": null, "last": null, "partial": null, "lines": []}));
}

#[test]
fn metrics_count_accounts_windows_and_swaps() {
    let mut snapshot = snapshot();
    parked(&mut snapshot, Failure::Login);
    let text = metrics::metrics(&Picture { snapshot: &snapshot, now: at(70) });
    has(
        &text,
        &[
            "claude_failover_account_state{account=\"compte1\",state=\"limited\"} 1\n",
            "claude_failover_account_state{account=\"compte1\",state=\"active\"} 0\n",
            "claude_failover_account_used_percent{account=\"compte2\",window=\"five-hour\"} 83\n",
            "claude_failover_account_used_percent{account=\"compte2\",window=\"weekly\"} 0\n",
            "claude_failover_sessions_limited 2\n",
            "claude_failover_swaps_total{result=\"done\"} 1\n",
            "claude_failover_swaps_total{result=\"failed\"} 1\n",
        ],
    );
    for account in snapshot.accounts.iter() {
        let line =
            format!("claude_failover_account_state{{account=\"{}\",state=\"{}\"}} 1\n", account.name, account.word());
        assert!(text.contains(&line), "{line} is missing");
    }
}

/// `why` of a task and of its session, a minute later.
fn whys(snapshot: &Snapshot, name: &str) -> (String, String) {
    let picture = Picture { snapshot, now: at(70) };
    let session = &snapshot.sessions[&session_name("ccl-auto-11")];
    (task::why(&picture, &snapshot.tasks[&key(name)]), session::why(&picture, session))
}

#[test]
fn tasks_and_sessions_say_which_account_they_wait_for() {
    let mut snapshot = snapshot();
    let until = format!("account compte1 is limited (5-hour limit) and tried again at {}", at(7202));
    let (queued, resumed) = whys(&snapshot, "api:only");
    has(
        &queued,
        &["ready; waits for an account of agent claude: compte1 is limited (5-hour limit) and tried again at"],
    );
    has(&resumed, &["its agent is replaced since", "to go on with conversation hostile", &until]);
    parked(&mut snapshot, Failure::Limit(limit()));
    let (working, stopped) = whys(&snapshot, "web:fix");
    has(&stopped, &[&format!("parked: {until}")]);
    has(&working, &[&format!("parked: {until}")]);

    // Another account has taken its place.
    for account in Arc::make_mut(&mut snapshot.accounts) {
        account.active = account.name.as_str() == "compte2";
    }
    has(&whys(&snapshot, "api:only").0, &["ready; waits for a free session\n"]);
    has(&whys(&snapshot, "web:fix").0, &["it moves to account compte2\n"]);

    // An agent without accounts only pauses.
    Arc::make_mut(&mut snapshot.accounts).clear();
    let ends = format!("at {} (in 118m)", at(7202));
    let mut session = (*snapshot.sessions[&session_name("ccl-auto-11")]).clone();
    if let claude_failover::model::session::SessionPhase::Up(incarnation) = &mut session.phase {
        incarnation.account = None;
    }
    snapshot.sessions.insert(session.name.clone(), Arc::new(session));
    let (queued, stopped) = whys(&snapshot, "api:only");
    has(&queued, &[&format!("agent claude is stopped by a limit in session ccl-auto-11 until its limit ends {ends}")]);
    has(&stopped, &[&format!("parked: its agent has no account to swap; its limit ends {ends}")]);
}

#[test]
fn a_conversation_is_named_also_between_two_programs_and_for_people_s_sessions() {
    let mut snapshot = snapshot();
    let name = session_name("ccl-auto-11");
    let session = Arc::make_mut(snapshot.sessions.get_mut(&name).expect("the session"));
    session.phase = claude_failover::model::session::SessionPhase::Down;
    let view = Picture { snapshot: &snapshot, now: at(70) };
    for name in [name, session_name("ccl-1-web")] {
        has(&session::resume_id(&view, &snapshot.sessions[&name]), &["hostile"]);
    }
    has(&root::health(&view), &["degraded\n"]);
}
