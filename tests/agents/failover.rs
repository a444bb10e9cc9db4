//! Failover between two accounts of a real CLI: limits, lost logins, error storms, and what happens to the work.

use std::{fs, time::Duration};

use crate::{
    mock_llm::{Claim, Mode},
    stage::{ACCOUNTS, Cli, Play, SESSION, Stage},
};

const ONE: &str = ACCOUNTS[0].1;
const TWO: &str = ACCOUNTS[1].1;

impl Stage {
    /// Requests that an account made for the conversation itself.
    fn requests_of(&self, key: &str) -> usize {
        self.main_requests().iter().filter(|request| request.key == key).count()
    }

    fn swaps(&self) -> usize {
        self.world.events().matches("begun: ").count()
    }

    fn active(&self) -> String {
        self.world.word("accounts/active")
    }

    /// The one conversation of all requests of these keys (Claude Code names it in a header).
    fn conversations(&self) -> Vec<String> {
        let header = |r: &crate::mock_llm::Request| r.headers.get("x-claude-code-session-id").cloned();
        let mut ids: Vec<String> = self.main_requests().iter().filter_map(header).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Under the second account, in the conversation that the first one began.
    #[track_caller]
    fn went_on(&self, task: &str, text: &str) {
        let result = self.done(task);
        assert!(
            result.contains("accounts:\n  - one\n  - two\n") || result.contains("accounts:\n- one\n- two\n"),
            "{result}"
        );
        assert_eq!(self.fact(&result, "attempts"), "1", "{result}");
        let requests = self.main_requests();
        let second = requests.iter().find(|request| request.key == TWO).unwrap_or_else(|| panic!("{}", self.told()));
        assert!(second.body.to_string().contains(text), "the history is not there\n{}", self.told());
        assert_eq!(self.active(), "two");
        assert_eq!(self.swaps(), 1, "{}", self.told());
    }
}

/// The tool runs under the first account, its limit comes with the tool's result, the end under the second.
pub fn a_limit_in_the_middle(cli: Cli, claim: Claim) {
    let Some(stage) = Stage::set(Play::failover(cli)) else { return };
    let go = stage.world.path("go");
    stage.world.submit("a", &format!("RUN: while ! test -e {}; do sleep 0.1; done; echo ran >> side\n", go.display()));
    stage.until("the tool to run", |s| s.requests_of(ONE) == 1);
    stage.mock.set_for(ONE, Mode::Limit(claim));
    fs::write(go, "").expect("written");
    stage.went_on("a", "RUN: while");
    assert_eq!(fs::read_to_string(stage.world.path("web/side")).expect("the side effect"), "ran\n", "it ran once");
    if cli == Cli::Claude {
        // Older versions send no such header.
        assert!(stage.conversations().len() <= 1, "{:?}", stage.conversations());
    }
    assert_eq!(stage.world.word("accounts/one/state"), "limited");
    assert!(!stage.world.word("accounts/one/resets-at").is_empty(), "{}", stage.told());
    let why = stage.world.word("accounts/one/why");
    assert!(why.contains("limit"), "{why}");
}

#[test]
fn claude_moves_on_at_its_five_hour_limit() {
    a_limit_in_the_middle(Cli::Claude, Claim::FiveHour);
}

/// Claude Code asks with a menu what to do; nobody answers it.
#[test]
fn claude_moves_on_at_its_weekly_limit() {
    a_limit_in_the_middle(Cli::Claude, Claim::SevenDay);
}

#[test]
fn codex_moves_on_at_its_limit() {
    a_limit_in_the_middle(Cli::Codex, Claim::FiveHour);
}

/// The provider is overloaded for a while: the task goes on under the same account when it is over.
#[test]
fn claude_stays_through_a_storm() {
    a_storm(Cli::Claude);
}

#[test]
fn codex_stays_through_a_storm() {
    a_storm(Cli::Codex);
}

pub fn a_storm(cli: Cli) {
    let more = "watcher: {server_pause: 500ms, server_retries: 20}";
    let env = &[("CLAUDE_CODE_MAX_RETRIES", "1")];
    let Some(stage) = Stage::set(Play { env, more, ..Play::failover(cli) }) else { return };
    stage.mock.set(Mode::Overloaded);
    stage.world.submit("a", "please say hello\n");
    match cli {
        Cli::Claude | Cli::Codex => {
            stage.until("a pause", |s| s.world.word("tasks/a/why").contains("goes on"));
            stage.until("another failure", |s| s.world.events().matches("stopping the agent").count() >= 2);
        }
        // They try again themselves, for minutes.
        Cli::Gemini | Cli::Opencode | Cli::Qwen => stage.until("a few failures", |s| s.mock.requests().len() >= 3),
    }
    stage.mock.set(Mode::Ok);
    let result = stage.done("a");
    assert_eq!(stage.fact(&result, "attempts"), "1", "{result}");
    assert_eq!((stage.swaps(), stage.active().as_str()), (0, "one"), "{}", stage.told());
    assert_eq!(stage.requests_of(TWO), 0);
    assert_eq!(stage.world.word("accounts/one/state"), "active");
}

/// The first account's login is lost: its work goes on under the second, and a person is told.
pub fn a_lost_login(cli: Cli) -> Option<Stage> {
    // Older versions of Claude Code try a refused login ten times.
    let stage = Stage::set(Play { env: &[("CLAUDE_CODE_MAX_RETRIES", "1")], ..Play::failover(cli) })?;
    stage.mock.set_for(ONE, if cli == Cli::Claude { Mode::ExpiredToken } else { Mode::BadKey });
    stage.world.submit("a", "please say hello\n");
    stage.went_on("a", "please say hello");
    assert_eq!(stage.world.word("accounts/one/state"), "broken");
    assert!(stage.world.word("health").contains("login"), "{}", stage.told());
    Some(stage)
}

/// Codex tells of a failed request by its transcript alone: no hook runs.
#[test]
fn codex_moves_on_when_its_login_is_lost() {
    a_lost_login(Cli::Codex);
}

#[test]
fn claude_moves_on_when_its_login_is_lost() {
    let Some(stage) = a_lost_login(Cli::Claude) else { return };
    // Somebody logs in again.
    let credentials = stage.world.path("account-one/.credentials.json");
    fs::write(&credentials, fs::read(&credentials).expect("readable")).expect("written");
    stage.until("the account to be back", |s| s.world.word("accounts/one/state") == "available");
}

/// Both accounts are out: the session stands with its task until the first reset, and goes on by itself.
#[test]
fn claude_waits_for_the_first_reset() {
    let Some(mut stage) = Stage::set(Play::failover(Cli::Claude)) else { return };
    // Long enough for the second one to reach its limit before the first one's is over, on a loaded machine, too.
    stage.mock.set_reset_in(Duration::from_secs(60));
    stage.mock.set(Mode::Limit(Claim::FiveHour));
    stage.world.submit("a", "please say hello\n");
    stage.until("both to be out", |s| {
        ["one", "two"].iter().all(|name| s.world.word(&format!("accounts/{name}/state")) == "limited")
    });
    stage.until("the session to stand", |s| s.word("state") == "limited");
    assert_eq!(stage.world.word("tasks/a/state"), "working");
    assert!(stage.world.word("health").contains("none can be used"), "{}", stage.told());
    stage.world.submit("b", "another\n");
    stage.mock.set(Mode::Ok);
    stage.world.kill_daemon();
    stage.world.run();
    let result = stage.done("a");
    assert_eq!(stage.fact(&result, "attempts"), "1", "{result}");
    stage.done("b");
}

/// A person's session: what was said before is still known after a swap, and nothing is said in his name.
#[test]
fn claude_in_a_dedicated_session_keeps_its_conversation() {
    let play = Play::failover(Cli::Claude);
    let more = "";
    let Some(stage) = Stage::set_with_dedicated(Play { more, ..play }, "mine") else { return };
    let file = |name: &str| format!("sessions/mine/{name}");
    stage.until("the prompt", |s| s.world.word(&file("pane")).contains('❯'));
    let say = |text: &str| fs::write(stage.world.mount(&file("input")), text).expect("said");
    say("remember the word ocarina");
    stage.until("the answer", |s| s.requests_of(ONE) == 1 && s.world.word(&file("pane")).contains("MOCK-REPLY"));
    let conversation = stage.world.word(&file("resume-id"));
    stage.world.ok("echo two > $MNT/accounts/active");
    stage.until("the session to move", |s| s.world.word(&file("account")) == "two");
    stage.until("the swap's end", |s| s.world.events().contains("done in"));
    assert_eq!(stage.world.word(&file("resume-id")), conversation);
    assert_eq!(stage.requests_of(TWO), 0, "nothing is said in a person's session");
    stage.until("the prompt again", |s| s.world.word(&file("pane")).contains('❯'));
    let pane = stage.world.word(&file("pane"));
    assert!(pane.contains("ocarina"), "{pane}");
    std::thread::sleep(Duration::from_millis(500));
    say("which word?");
    stage.until("the answer under the second", |s| s.requests_of(TWO) == 1);
    let requests = stage.main_requests();
    let last = requests.last().expect("a request");
    assert!(last.body.to_string().contains("ocarina"), "{}", stage.told());
}

/// Ten agents stop at once; all go on.
#[test]
fn ten_claudes_move_at_once() {
    let Some(stage) = Stage::set(Play { sessions: 10, ..Play::failover(Cli::Claude) }) else { return };
    let go = stage.world.path("go");
    for n in 0..10 {
        // One that is moved in the middle of it has left its line all the same, and only one.
        let text = format!("RUN: echo {n} >> side{n}; while ! test -e {}; do sleep 0.2; done\n", go.display());
        stage.world.submit(&format!("t{n}"), &text);
    }
    // The request says that the tool is asked for; only its line says that it runs. An agent that is moved between the two has not begun it.
    let begun = |s: &Stage| (0..10).all(|n| s.world.path(&format!("web/side{n}")).exists());
    stage.until("ten tools to run", begun);
    assert_eq!(stage.requests_of(ONE), 10, "{}", stage.told());
    stage.mock.set_for(ONE, Mode::Limit(Claim::FiveHour));
    fs::write(go, "").expect("written");
    for n in 0..10 {
        let result = stage.done(&format!("t{n}"));
        assert_eq!(stage.fact(&result, "attempts"), "1", "{result}");
        assert_eq!(fs::read_to_string(stage.world.path(&format!("web/side{n}"))).expect("made"), format!("{n}\n"));
    }
    assert_eq!(stage.swaps(), 1, "{}", stage.told());
    assert_eq!(stage.conversations().len(), 10);
}

/// The daemon is killed while the agent goes on under the other account.
#[test]
fn claude_moves_on_though_the_daemon_is_killed() {
    let Some(mut stage) = Stage::set(Play::failover(Cli::Claude)) else { return };
    stage.mock.set_for(ONE, Mode::Limit(Claim::FiveHour));
    stage.world.submit("a", "please say hello\n");
    stage.until("the swap", |s| s.world.events().contains("sessions move"));
    stage.world.kill_daemon();
    stage.world.run();
    stage.went_on("a", "please say hello");
    let living = stage.world.tmux(&["list-panes", "-a", "-F", "#{session_name}"]);
    assert_eq!(living.lines().filter(|name| *name == SESSION).count(), 1);
}
