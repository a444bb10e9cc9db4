//! Test setup: a daemon whose built-in agents run under accounts.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::world::{Setup, World, program};

/// A limit whose time does not come while a test runs.
pub const FAR: &str = "4000000000";

/// Which of the built-in agent's rules are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Demo,
    /// It counts as Claude Code, for which the operator has a link.
    Claude,
}

/// A running world with these accounts, the first one active.
pub fn stage(agents: u32, accounts: &[&str], more: &str) -> World {
    let mut world = prepare(agents, accounts, more, Speaks::Demo);
    world.run();
    world
}

/// The same with the operator's link, `link`.
pub fn linked_stage(agents: u32, accounts: &[&str], more: &str) -> World {
    let mut world = prepare(agents, accounts, more, Speaks::Claude);
    world.run();
    world
}

/// Everything but the daemon; the homes are made as a person makes them.
fn prepare(agents: u32, accounts: &[&str], more: &str, speaks: Speaks) -> World {
    let mut setup = Setup::agents(agents);
    let mut world = World::prepare(&setup);
    if speaks == Speaks::Claude {
        setup.agent = "claude".into();
        let exe = program().display().to_string();
        setup.more_agents = format!(
            ", claude: {{kind: claude, program: {exe}, args: [demo-agent], env: {{DEMO_AGENT_HOME: '{{home}}'}}}}"
        );
    }
    let row = |name: &&str| {
        let home = world.path(name);
        fs::create_dir(&home).expect("made");
        format!("{{name: {name}, home: {}, agent: {}}}", home.display(), setup.agent)
    };
    let rows: Vec<String> = accounts.iter().map(row).collect();
    setup.more = format!(
        "accounts: [{}]\nclaude_link: {}\nshared: {{root: {}}}\n{more}",
        rows.join(", "),
        world.path("link").display(),
        world.path("shared").display(),
    );
    world.configure(&setup);
    let config = world.path("config.yaml").display().to_string();
    world.ok(&format!("STATE_DIRECTORY=$PWD/state {} check --fix --config {config}", program().display()));
    world
}

/// Has requests under an account refused, as its home's file `limit` says.
pub fn limit(world: &World, account: &str, text: &str) {
    let path = world.path(account).join("limit");
    fs::write(path.with_extension("new"), text).expect("written");
    // In one piece: an agent may read it now.
    fs::rename(path.with_extension("new"), path).expect("renamed");
}

pub fn lift(world: &World, account: &str) {
    fs::remove_file(world.path(account).join("limit")).expect("removed");
}

/// An epoch second.
pub fn seconds_ahead(seconds: u64) -> String {
    let at = SystemTime::now() + Duration::from_secs(seconds);
    at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs().to_string()
}

pub fn account(world: &World, account: &str, file: &str) -> String {
    world.word(&format!("accounts/{account}/{file}"))
}

pub fn session(world: &World, n: usize, file: &str) -> String {
    world.word(&format!("sessions/pool-{n}/{file}"))
}

/// How many panes the pool has.
pub fn panes(world: &World) -> usize {
    let names = world.tmux(&["list-panes", "-a", "-F", "#{session_name}"]);
    names.lines().filter(|name| name.starts_with("pool-")).count()
}

/// Waits until the agent has said this word of a slow answer.
#[track_caller]
pub fn until_said(world: &World, n: usize, word: &str) {
    world.until(&format!("pool-{n} to say {word}"), || session(world, n, "pane").contains(word));
}

/// Swaps that were begun.
pub fn swaps(world: &World) -> usize {
    world.events().lines().filter(|line| line.contains("\"swap\"") && line.contains(" begun: ")).count()
}

/// What a result's last block says of a key.
pub fn fact(result: &str, key: &str) -> Vec<String> {
    let footer = result.rsplit("```yaml\n").next().unwrap_or_default();
    let mut lines = footer.lines().skip_while(|line| !line.starts_with(&format!("{key}:")));
    let first = lines.next().unwrap_or_default().split_once(": ").map(|(_, value)| value.to_owned());
    let items = lines.map_while(|line| line.trim_start().strip_prefix("- ")).map(str::to_owned);
    first.into_iter().chain(items).collect()
}

/// The records of a conversation, which all accounts share.
pub fn records(world: &World, conversation: &str) -> Vec<Value> {
    let found: Vec<PathBuf> = fs::read_dir(world.path("shared"))
        .expect("shared")
        .flatten()
        .filter_map(|dir| fs::read_dir(dir.path()).ok())
        .flat_map(Iterator::flatten)
        .map(|project| project.path().join(format!("{conversation}.jsonl")))
        .filter(|path| path.is_file())
        .collect();
    assert_eq!(found.len(), 1, "one transcript of {conversation}: {found:?}");
    let text = fs::read_to_string(&found[0]).expect("readable");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The answer of the task `name`, which was `demo: slow=<words / 4>` and nothing else that matters: it ended well at the first
/// attempt, in one conversation, under these accounts one after the other, and no word was said twice or left out.
#[track_caller]
pub fn went_on(world: &World, name: &str, words: usize, accounts: &[&str]) -> String {
    let result = world.result(&format!("done/{name}.md"));
    assert_eq!(fact(&result, "accounts"), accounts, "{result}\n{}", world.events());
    assert_eq!(fact(&result, "attempts"), ["1"], "{result}");
    let conversation = fact(&result, "resume_id").pop().expect("a conversation");
    let records = records(world, &conversation);
    let said: Vec<&str> = records
        .iter()
        .filter(|record| record["type"] == "assistant" && record["message"]["stop_reason"].is_null())
        .flat_map(|record| record["message"]["content"][0]["text"].as_str().unwrap_or_default().split_whitespace())
        .collect();
    let wanted: Vec<String> = (0..words).map(|n| format!("word{n}")).collect();
    assert_eq!(said, wanted, "{result}");
    let answers = records.iter().filter(|record| record["message"]["stop_reason"] == "end_turn").count();
    assert_eq!(answers, 1, "answered once");
    conversation
}
