//! Dedicated sessions: the agent that a person starts there moves with the account; nothing else is touched.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::world::{Setup, World, program};

/// A world with two accounts of the demo agent, and dedicated sessions with a shell each. `~/.demo-agent` leads to the first.
fn two_accounts(sessions: &[&str]) -> World {
    let mut setup = Setup::agents(1);
    let mut world = World::prepare(&setup);
    let at = |name: &str| world.path(name).display().to_string();
    let rows: Vec<String> = sessions.iter().map(|name| format!("{{name: {name}, workdir: {}}}", at("web"))).collect();
    setup.more = format!(
        "  dedicated: [{rows}]\n\
         accounts: [{{name: one, agent: demo, home: {one}}}, {{name: two, agent: demo, home: {two}}}]\n\
         shared: {{root: {home}}}\n\
         lifecycle: {{restart_first: 100ms}}",
        rows = rows.join(", "),
        one = at("one"),
        two = at("two"),
        home = at("home"),
    );
    setup.env = vec![("HOME".into(), at("home")), ("SHELL".into(), "/bin/sh".into())];
    world.configure(&setup);
    for entry in ["session-env", "file-history", "projects"] {
        let shared = world.path(&format!("home/.demo-{entry}-shared"));
        fs::create_dir(&shared).expect("made");
        for home in ["one", "two"] {
            fs::create_dir_all(world.path(home)).expect("made");
            symlink(&shared, world.path(home).join(entry)).expect("linked");
        }
    }
    symlink(world.path("one"), world.path("home/.demo-agent")).expect("linked");
    world.run();
    for name in sessions {
        world.until("the sessions", || !of_pane(&world, name, "#{pane_pid}").is_empty());
    }
    world
}

fn of_pane(world: &World, session: &str, format: &str) -> String {
    world.tmux(&["display-message", "-p", "-t", &format!("={session}:"), format]).trim_end().to_owned()
}

/// What a person types.
fn types(world: &World, session: &str, text: &str) {
    world.tmux(&["send-keys", "-t", &format!("={session}:"), "-l", text]);
    world.tmux(&["send-keys", "-t", &format!("={session}:"), "Enter"]);
}

fn of(world: &World, session: &str, file: &str) -> String {
    world.word(&format!("sessions/{session}/{file}"))
}

/// Starts the agent in the session's shell, as a person does, and waits until the supervisor knows of it.
fn starts_agent(world: &World, session: &str) -> String {
    types(world, session, &format!("{} demo-agent", program().display()));
    world.until("the agent to be found", || {
        of(world, session, "account") == "one" && !of(world, session, "resume-id").is_empty()
    });
    of(world, session, "resume-id")
}

fn says(world: &World, session: &str, id: &str, text: &str) {
    world.until("an empty input box", || {
        world.read(&format!("sessions/{session}/pane")).is_ok_and(|pane| pane.contains('❯'))
    });
    types(world, session, text);
    world.until("its record", || records(world, id).contains(text));
}

fn transcript(world: &World, id: &str) -> Option<PathBuf> {
    let projects = fs::read_dir(world.path("two/projects")).ok()?;
    projects.flatten().map(|dir| dir.path().join(format!("{id}.jsonl"))).find(|path| path.exists())
}

fn records(world: &World, id: &str) -> String {
    transcript(world, id).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

/// How often somebody said something in the conversation.
fn prompts(world: &World, id: &str) -> usize {
    records(world, id).matches("\"type\":\"user\"").count()
}

fn file_of(pid: &str, name: &str) -> Vec<String> {
    let bytes = fs::read(Path::new("/proc").join(pid).join(name)).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// A client that looks at a session until it is dropped.
struct Client(Child);

impl Client {
    fn attach(world: &World, session: &str) -> Self {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(world.path("tmux.sock")).args(["-C", "attach", "-t", &format!("={session}")]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("tmux");
        let client = Self(child);
        world.until("the client", || client.looks_at(world, session));
        client
    }

    fn looks_at(&self, world: &World, session: &str) -> bool {
        let line = format!("{} {session}", self.0.id());
        world.tmux(&["list-clients", "-F", "#{client_pid} #{client_session}"]).lines().any(|client| client == line)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn goes_on_under(world: &World, session: &str, id: &str, account: &str) {
    world.until(&format!("{session} to go on under {account}"), || {
        of(world, session, "account") == account
            && of(world, session, "resume-id") == id
            && of(world, session, "pid") != of_pane(world, session, "#{pane_pid}")
    });
    let pid = of(world, session, "pid");
    let home = format!("DEMO_AGENT_HOME={}", world.path(account).display());
    assert!(file_of(&pid, "environ").contains(&home), "{:?}", file_of(&pid, "environ"));
    assert!(file_of(&pid, "cmdline").windows(2).any(|words| words == ["--resume", id]));
}

#[test]
fn a_person_s_agent_goes_on_in_its_conversation_under_the_other_account() {
    let world = two_accounts(&["mine"]);
    let id = starts_agent(&world, "mine");
    says(&world, "mine", &id, "hello there");
    let client = Client::attach(&world, "mine");
    let window = of_pane(&world, "mine", "#{window_id}");

    world.ok("echo swap > $MNT/control");
    goes_on_under(&world, "mine", &id, "two");
    assert!(client.looks_at(&world, "mine"));
    assert_eq!(of_pane(&world, "mine", "#{window_id}"), window);
    assert_eq!(prompts(&world, &id), 1, "nothing is said in a person's name");
    assert!(world.word("accounts/two/sessions").contains("mine"));

    // He ends the agent and has his shell; a shell has no account, so no swap moves it.
    says(&world, "mine", &id, "and more");
    types(&world, "mine", "/exit");
    world.until("the shell", || of(&world, "mine", "account").is_empty());
    let shell = of_pane(&world, "mine", "#{pane_pid}");
    world.ok("echo swap one > $MNT/control");
    world.until("the swap", || world.events().contains("from two to one done"));
    assert_eq!(of_pane(&world, "mine", "#{pane_pid}"), shell);

    // With the shell goes the session, as ever; the supervisor makes a new one.
    types(&world, "mine", "exit");
    world.until("a new session", || {
        let now = of_pane(&world, "mine", "#{window_id}");
        !now.is_empty() && now != window
    });
}

#[test]
fn a_shell_and_a_stranger_s_program_stay_and_an_unknown_conversation_ends_in_a_shell() {
    let world = two_accounts(&["shell", "other", "unknown", "front"]);
    let shell = of_pane(&world, "shell", "#{pane_pid}");
    types(&world, "other", "exec sleep 1000");
    // A person has stopped his agent and has another program before it.
    types(&world, "front", "exec bash --norc");
    world.until("bash", || of_pane(&world, "front", "#{pane_current_command}") == "bash");
    starts_agent(&world, "front");
    let stopped = of(&world, "front", "pid");
    world.ok(&format!("kill -STOP {stopped}"));
    world.until("bash", || of_pane(&world, "front", "#{pane_current_command}") == "bash");
    types(&world, "front", "sleep 1001");
    world.until("the agent to be gone", || of(&world, "front", "account").is_empty());
    let agent = program().display().to_string();
    // Nothing can tell its conversation: there is no place for its status file.
    world.ok("mv one/sessions one/earlier && touch one/sessions");
    types(&world, "unknown", &format!("{agent} demo-agent"));
    world.until("the agent to be found", || of(&world, "unknown", "account") == "one");
    let runs = |session: &str| of_pane(&world, session, "#{pane_pid} #{pane_current_command}");
    world.until("the programs", || runs("other").ends_with(" sleep") && runs("front").ends_with(" sleep"));
    let (other, front) = (runs("other"), runs("front"));
    let client = Client::attach(&world, "unknown");

    world.ok("echo swap > $MNT/control");
    world.until("the swap", || world.events().contains("from one to two done"));
    world.until("an event", || world.events().contains("has no agent any more: its conversation is not known"));
    assert!(client.looks_at(&world, "unknown"));
    world.until("a shell", || runs("unknown").ends_with(" sh"));
    let environ = file_of(&of_pane(&world, "unknown", "#{pane_pid}"), "environ");
    assert!(
        !environ.iter().any(|entry| entry.starts_with("DEMO_AGENT_HOME=")),
        "a shell runs under no account: {environ:?}"
    );
    assert_eq!(of(&world, "unknown", "account"), "");
    assert_eq!(of_pane(&world, "shell", "#{pane_pid}"), shell);
    assert_eq!((runs("other"), runs("front")), (other, front));
    assert!(file_of(&stopped, "cmdline").contains(&"demo-agent".to_owned()), "the stopped agent is still there");
}

#[test]
fn a_limit_that_a_person_s_agent_meets_moves_it() {
    let world = two_accounts(&["mine"]);
    let id = starts_agent(&world, "mine");
    says(&world, "mine", &id, "hello there");
    says(&world, "mine", &id, "demo: limit");
    goes_on_under(&world, "mine", &id, "two");
    assert_eq!(world.word("accounts/one/state"), "limited");
    // What the conversation holds of the limit is the first account's.
    assert_eq!(world.word("accounts/two/state"), "active");
    assert_eq!(prompts(&world, &id), 2, "nothing is said in a person's name");
}

#[test]
fn what_a_person_starts_under_another_account_after_a_swap_is_his_choice() {
    let world = two_accounts(&["mine"]);
    let agent = program().display().to_string();
    let two = world.path("two").display().to_string();
    types(&world, "mine", &format!("DEMO_AGENT_HOME={two} {agent} demo-agent"));
    world.until("the agent to be found", || {
        of(&world, "mine", "account") == "two" && !of(&world, "mine", "resume-id").is_empty()
    });
    let (id, pid) = (of(&world, "mine", "resume-id"), of(&world, "mine", "pid"));
    says(&world, "mine", &id, "hello there");
    assert_eq!(of(&world, "mine", "pid"), pid);
    // The account that is active already, then another one.
    world.ok("echo swap two > $MNT/control");
    world.until("the swap", || world.events().contains("from one to two done"));
    assert_eq!(of(&world, "mine", "pid"), pid);
    world.ok("echo swap one > $MNT/control");
    goes_on_under(&world, "mine", &id, "one");
}

#[test]
fn an_agent_that_was_started_and_never_told_of_is_taken_over() {
    let mut world = two_accounts(&["mine"]);
    let id = starts_agent(&world, "mine");
    says(&world, "mine", &id, "hello there");
    world.ok("echo swap > $MNT/control");
    goes_on_under(&world, "mine", &id, "two");
    world.until("the end of the swap", || world.events().contains("from one to two done"));
    let pid = of(&world, "mine", "pid");
    world.kill_daemon();
    // As a daemon leaves it that is killed between starting the agent and saying so.
    let mut state = world.state();
    let session = &mut state["sessions"]["mine"];
    let up = session["phase"]["up"].clone();
    session["phase"] = json!("down");
    session["resume"] = json!({
        "from": "the-one-before", "conversation": id, "agent": up["agent"], "workdir": up["workdir"],
        "since": up["started"], "not_before": up["started"],
    });
    world.save_state(&state);
    world.run();
    goes_on_under(&world, "mine", &id, "two");
    assert_eq!(of(&world, "mine", "pid"), pid);
    assert!(!world.events().contains("could not be started"), "{}", world.events());
}

#[test]
fn a_person_whose_agent_can_not_be_started_again_has_a_shell() {
    let mut world = two_accounts(&["mine"]);
    // In a home of its own the supervisor would answer the agent's first questions, and this file it can't read.
    let config = fs::read_to_string(world.path("config.yaml")).expect("a configuration");
    let home = format!("home: {}", world.path("two").display());
    fs::write(world.path("config.yaml"), config.replace(&home, &format!("{home}, owned: true"))).expect("written");
    fs::write(world.path("two/.claude.json"), "{").expect("written");
    world.kill_daemon();
    world.run();
    let id = starts_agent(&world, "mine");
    says(&world, "mine", &id, "hello there");
    let client = Client::attach(&world, "mine");
    world.ok("echo swap > $MNT/control");
    world
        .until("an event", || world.events().contains(&format!("conversation {id} was not resumed (5 failed starts)")));
    assert!(client.looks_at(&world, "mine"));
    world.until("a shell", || of_pane(&world, "mine", "#{pane_dead} #{pane_current_command}") == "0 sh");
    assert_eq!(of(&world, "mine", "account"), "");
}

#[test]
fn kill_9_in_the_middle_of_a_move_is_gone_on_with() {
    let mut world = two_accounts(&["mine"]);
    let mut random = fastrand::Rng::with_seed(11);
    let id = starts_agent(&world, "mine");
    says(&world, "mine", &id, "hello there");
    let client = Client::attach(&world, "mine");
    let mut cut_short = 0;
    for round in 0..6 {
        let to = if round % 2 == 0 { "two" } else { "one" };
        world.ok(&format!("(echo swap {to} > $MNT/control) & true"));
        std::thread::sleep(std::time::Duration::from_millis(random.u64(5..350)));
        world.kill_daemon();
        let moving =
            world.state()["swaps"]["current"]["to"] == to && !world.events().contains(&format!("to {to} done"));
        cut_short += usize::from(moving);
        world.run();
        if world.word("accounts/active") != to {
            // It was killed before the verb was taken; or the swap is under way and this is refused.
            world.sh(&format!("echo swap {to} > $MNT/control"));
        }
        goes_on_under(&world, "mine", &id, to);
        assert!(client.looks_at(&world, "mine"), "round {round}");
    }
    assert!(cut_short > 0, "no move was cut short");
    assert_eq!(prompts(&world, &id), 1);
}
