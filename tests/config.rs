//! The configuration file as users see it: the example, the defaults, and error messages.

use std::{collections::BTreeSet, ffi::OsString, path::Path};

use claude_failover::{
    config::{self, Config, Loaded, Problems, Shared, Socket},
    model::notice::Channel,
};
use serde_json::Value;

const EXAMPLE: &str = include_str!("../config.example.yaml");

fn env(name: &str) -> Option<OsString> {
    match name {
        "HOME" => Some("/home/ada".into()),
        "MY_TOKEN" => Some("hunter2".into()),
        "LONG_TOKEN" => Some("correct-horse-battery".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Loaded, Problems> {
    config::parse(text, Path::new("/etc/cf/config.yaml"), &env)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{problems}")).config
}

/// All problems of a text, `line:column: message`.
fn problems(text: &str) -> Vec<String> {
    let problems = parse(text).expect_err("wrong");
    problems.list.iter().map(|p| format!("{}:{}: {}", p.place.line, p.place.column, p.message)).collect()
}

#[track_caller]
fn refused(text: &str, wanted: &[&str]) {
    let found = problems(text);
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted) || found.contains(wanted), "found {found:?}, wanted {wanted:?}");
    }
}

#[test]
fn the_example_is_the_defaults() {
    // Two begin at the home directory, which only the reader of a file knows.
    let shared = Shared { root: "/home/ada".into(), ..Shared::default() };
    let defaults = Config { claude_link: Some("/home/ada/.claude".into()), shared, ..Config::default() };
    assert_eq!(good(EXAMPLE), defaults);
    assert_eq!(good(""), defaults);
    assert_eq!(good("# nothing\npool:\nagents:\n"), defaults);
}

/// Uncommented, the rows of the example are right too.
#[test]
fn the_example_s_commented_rows_load() {
    let text = uncommented();
    let config = good(&text);
    assert_eq!(config.projects[0].path, Path::new("/home/ada/src/web"));
    assert_eq!(config.accounts[0].home, Path::new("/home/ada/.claude-compte1"));
    assert_eq!(config.pool.dedicated[0].name.as_str(), "ccl-1-web");
    assert_eq!(config.agents.values().filter(|a| a.kind.is_command()).count(), 1);
}

fn uncommented() -> String {
    let mut out = String::new();
    for line in EXAMPLE.lines() {
        let body = line.trim_start();
        let row = body.strip_prefix("# - ").or(body.strip_prefix("#   ")).or(body.strip_prefix("# sh:").map(|_| "sh:"));
        match row {
            Some(_) => {
                let indent = &line[..line.len() - body.len()];
                // Rows of the map `agents` stand two columns deeper than those of lists.
                let deeper = if body.starts_with("# sh:")
                    || body.contains("kind: command")
                    || body.contains("run: [bash]")
                    || body.contains("tasks: person")
                {
                    "  "
                } else {
                    ""
                };
                out.push_str(&format!("{indent}{deeper}{}\n", &body[2..]));
            }
            None => out.push_str(&format!(
                "{}\n",
                line.replace("projects: []", "projects:")
                    .replace("agent_by_words: []", "agent_by_words:")
                    .replace("accounts: []", "accounts:")
                    .replace("dedicated: []", "dedicated:")
                    .replace("providers: {}", "providers:")
            )),
        }
    }
    out
}

fn keys(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.insert(format!("{path}.{key}"));
                keys(value, &format!("{path}.{key}"), out);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}[]"), out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every key that the program would show stands in the example, written out.
#[test]
fn every_key_stands_in_the_example() {
    let text = uncommented();
    let full = good(&text);
    let mut wanted = BTreeSet::new();
    keys(&serde_json::to_value(&full).expect("json"), "", &mut wanted);
    let loaded = parse(&text).expect("good");
    let missing: Vec<_> = wanted
        .iter()
        .filter(|key| {
            let path = key.trim_start_matches('.').replace("[]", "[0]");
            // `sh` shows how short a row may be.
            !path.starts_with("agents.sh.") && !loaded.places.stands(&path)
        })
        .collect();
    assert!(missing.is_empty(), "not in config.example.yaml: {missing:?}");
    assert!(wanted.contains(".accounts[].owned") && wanted.len() > 50, "the test lost its keys: {wanted:?}");
}

/// What the mount shows can be loaded again and means the same.
#[test]
fn what_is_shown_reads_back() {
    let config =
        good(&format!("{}\ntmux: {{socket: ../run/s, size: 80x24}}\n", "mount: {path: ~/m, control_group: ops}"));
    let shown = serde_yaml::to_string(&config).expect("yaml");
    assert_eq!(good(&shown), config, "{shown}");
    assert_eq!(config.tmux.socket, Socket::Path("/etc/run/s".into()));
}

#[test]
fn sockets_have_four_forms() {
    for (text, socket) in [
        ("null", Socket::Private),
        ("~", Socket::Private),
        ("default", Socket::Default),
        ("mine", Socket::Name("mine".into())),
        ("/run/t.sock", Socket::Path("/run/t.sock".into())),
    ] {
        assert_eq!(good(&format!("tmux: {{socket: {text}}}")).tmux.socket, socket, "{text}");
    }
    refused("tmux: {socket: 'a b'}", &["1:16: \"a b\" is no name for a tmux socket"]);
}

#[test]
fn secrets_are_masked_and_may_live_elsewhere() {
    let dir = tempfile::tempdir().expect("tmp");
    let file = dir.path().join("key");
    std::fs::write(&file, "sesame\n").expect("write");
    let text = format!(
        "accounts:\n  - name: a\n    home: /a\n    env: {{PLAIN: x, API_KEY: k1, OTHER: {{from_env: MY_TOKEN}}, F: {{from_file: {}}}}}\n",
        file.display()
    );
    let config = good(&text);
    let env = &config.accounts[0].env;
    let found: Vec<_> = env.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect();
    assert_eq!(found, ["API_KEY=k1", "F=sesame", "OTHER=hunter2", "PLAIN=x"]);
    assert_eq!(env.written_out().collect::<Vec<_>>(), ["API_KEY"]);
    let shown = serde_yaml::to_string(&config).expect("yaml");
    for secret in ["k1", "hunter2", "sesame"] {
        assert!(!shown.contains(secret) && !format!("{config:?}").contains(secret), "{shown}");
    }
    refused(
        "accounts: [{name: a, home: /a, env: {X: {from_env: NOPE}, Y: {from_file: /nope/x}, Z: {form_env: A}}}]",
        &["variable NOPE isn't set", "can't read /nope/x", "did you mean `from_env`?"],
    );
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    refused(
        "dispatcher:\n  setle: 1s\n  max-queued: 3\nmuont: {}\nbanana: 1\n",
        &[
            "2:3: unknown key `setle`; did you mean `settle`?",
            "3:3: unknown key `max-queued`; did you mean `max_queued`?",
            "4:1: unknown key `muont`; did you mean `mount`?",
            "5:1: unknown key `banana`; known here: projects, accounts",
        ],
    );
}

#[test]
fn every_problem_is_said_at_once_with_its_line() {
    let text = "projects:\n  - name: a b\n    path: ~bob/x\n  - path: /x\ndispatcher:\n  settle: soon\n  max_task_bytes: 1 mib\nmount: {durable: perhaps}\nwatcher: [1]\n";
    refused(
        text,
        &[
            "2:11: project name \"a b\" may only hold",
            "3:11: the path \"~bob/x\" names another user's home",
            "the key `name` is missing",
            "6:11: expected a time such as",
            "7:19: expected a size such as",
            "8:18: expected true or false, found \"perhaps\"",
            "9:10: expected a mapping of keys",
        ],
    );
    let shown = parse(text).expect_err("wrong").to_string();
    assert!(
        shown.contains("/etc/cf/config.yaml:6:11: expected a time such as 500ms, 30s, 5m or 2h, found \"soon\"\n 6 |   settle: soon\n   |           ^"),
        "{shown}"
    );
}

#[test]
fn broken_yaml_shows_its_line() {
    let shown = parse("projects:\n  - name: a\n   path: /x\n").expect_err("not yaml").to_string();
    assert!(shown.contains("config.yaml:3:") && shown.contains(" 3 |    path: /x"), "{shown}");
    refused("mount: {}\nmount: {}\n", &["duplicate"]);
    refused("a: 1\n---\nb: 2\n", &["multiple"]);
}

/// What can't be read hides no other mistake and makes none.
#[test]
fn mistakes_of_every_kind_are_told_at_once() {
    let text = "projects: [{name: a}, {name: a, path: /x}, {name: a, path: /y}]\npool:\n  autonomous: {min: 9, max: many, agent: own}\nagents:\n  own: {kind: own}\n  sh: {kind: command, run: 3}\napi: {listen: 0.0.0.0:1}\nlifecycle: {reconcile: 0s}\n";
    refused(
        text,
        &[
            "1:12: the key `path` is missing",
            "1:45: name \"a\" stands already at 1:24",
            "3:29: expected a whole number, found \"many\"",
            "5:9: no kind `own` is built in",
            "6:28: expected a list",
            "7:7: 0.0.0.0 is no loopback address",
            "8:13: must be more than zero",
        ],
    );
    assert_eq!(parse(text).expect_err("wrong").list.len(), 7);
}

#[test]
fn values_must_fit_together() {
    refused(
        "projects: [{name: a, path: /x}, {name: a, path: /x}]\n",
        &["1:34: name \"a\" stands already at 1:13", "path \"/x\" stands already"],
    );
    refused("accounts: [{name: a, home: /x}, {name: a, home: /y}]\n", &["name \"a\" stands already at 1:13"]);
    refused("pool: {autonomous: {min: 5, max: 3}}\n", &["1:21: `min` (5) is more than `max` (3)"]);
    refused("pool: {autonomous: {max: 5000}}\n", &["1000 sessions are the most"]);
    refused("pool: {autonomous: {prefix: 'a.b'}}\n", &["1:21: `prefix` can't begin"]);
    refused("pool: {autonomous: {agent: cladue}}\n", &["1:21: no agent is called `cladue`; did you mean `claude`?"]);
    refused(
        "pool:\n  dedicated: [{name: ccl-auto-12, workdir: /x}, {name: ccl-auto-99, workdir: /x}]\n",
        &["2:16: the dedicated session `ccl-auto-12` has a name of the autonomous ones"],
    );
    refused("agents: {sh: {kind: command}}\n", &["needs `run:"]);
    refused("agents: {claude: {kind: claude, run: [x]}}\n", &["`run` is for agents of kind command"]);
    refused(
        "agents: {x: {kind: cladue}}\n",
        &[
            "no kind `cladue` is built in, and a kind of your own needs `rules: FILE`, which says what it is (doc/AGENTS.md); did you mean `claude`?",
        ],
    );
    refused("api: {listen: '0.0.0.0:7878'}\n", &["1:7: 0.0.0.0 is no loopback address"]);
    refused("api: {listen: localhost}\n", &["1:15: expected an address and a port"]);
    refused("api: {listen: '127.0.0.1:0'}\n", &["expected an address and a port"]);
    refused("api: {token_env: MY_TOKEN}\n", &["1:7: a token has 16 or more"]);
    refused("api: {token_env: NOPE}\n", &["1:7: the environment variable NOPE isn't set"]);
    refused("api: {token_file: /nope/x}\n", &["1:7: can't read /nope/x"]);
    refused("api: {token_file: /nope/x, token_env: LONG_TOKEN}\n", &["`token_env` is given too"]);
    refused("lifecycle: {reconcile: 0s}\n", &["must be more than zero"]);
}

#[test]
fn notifications_say_what_is_wrong_with_them() {
    let config = good(
        "notifications:\n  events: [limit, all-out]\n  telegram: {chat_id: 1, token_env: MY_TOKEN}\n  resend: {from: a, to: [b], key_env: NOPE}\n  webhook: {url: 'http://n8n.lan:5678/x', template: '{\"t\": {{ title }}}'}\n",
    );
    let notices = &config.notifications;
    assert_eq!(notices.channels().len(), 3);
    // Only the daemon and `check` need it: `status` in a shell without the variable goes on.
    let fault = notices.fault(Channel::Resend).expect("no key");
    assert_eq!(fault, "notifications.resend: the environment variable NOPE isn't set here");
    assert_eq!((notices.fault(Channel::Telegram), notices.fault(Channel::Webhook)), (None, None));
    refused("notifications: {events: [limits]}\n", &["1:26: expected one of limit, swap, "]);
    refused("notifications: {per_hour: 0}\n", &["more than zero"]);
    refused("notifications: {telegram: {chat_id: 1}}\n", &["`token_env` (an environment variable) or `token_file`"]);
    refused(
        "notifications: {telegram: {chat_id: 1, token_env: A, token_file: /a, url: 'http://example.com'}}\n",
        &["`token_env` is given too", "begins with https://"],
    );
    refused(
        "notifications: {resend: {from: a, to: [], key_env: A, url: 'https://u:p@example.com'}}\n",
        &["nobody stands here", "the address holds a secret"],
    );
    refused("notifications: {webhook: {}}\n", &["`url`, `url_env` or `url_file` is missing"]);
    refused(
        "notifications: {webhook: {url: 'ftp://x/y', template: '{{ title'}}\n",
        &["must begin with https://", "can't be read"],
    );
    refused("notifications: {webhook: {url: 'http://x/y', key_env: MY_TOKEN}}\n", &["a key would go unencrypted"]);
}

#[test]
fn a_token_opens_other_addresses_and_is_not_shown() {
    let config = good("api: {listen: '192.0.2.1:80', token_env: LONG_TOKEN}\n");
    assert_eq!(config.api.token().map(config::Secret::expose), Some("correct-horse-battery"));
    let shown = serde_yaml::to_string(&config).expect("yaml");
    assert!(shown.contains("LONG_TOKEN") && !shown.contains("correct-horse"), "{shown}");
    assert!(!format!("{config:?}").contains("correct-horse"));
    assert_eq!(good(&shown), config);
    // Where nobody listens, no token is needed.
    assert_eq!(good("api: {listen: null, token_env: NOPE}\n").api.listen, None);
}

#[test]
fn an_account_serves_agents_of_its_kind() {
    let config = good(
        "agents: {fast: {kind: claude}, sh: {kind: command, run: [bash]}}\naccounts:\n  - {name: a, home: /a}\n  - {name: b, home: /b, agent: codex}\n",
    );
    let accounts = |agent: &str| -> Vec<String> {
        let name = agent.to_owned().try_into().expect("name");
        config.accounts_of(&name).map(|account| account.name.to_string()).collect()
    };
    assert_eq!(accounts("fast"), ["a"]);
    assert_eq!(accounts("claude"), ["a"]);
    assert_eq!(accounts("codex"), ["b"]);
    assert!(accounts("sh").is_empty());
}

fn targets(text: &str) -> Vec<String> {
    let config = good(text);
    let links = config.accounts.iter().flat_map(|account| config.shared_links(account));
    links.map(|link| format!("{} -> {}", link.path.display(), link.target.display())).collect()
}

#[test]
fn accounts_that_stand_in_for_each_other_share() {
    let two = "accounts: [{name: a, home: /a}, {name: b, home: /b}, {name: c, home: /c, agent: codex}]\n";
    let wanted = ["session-env", "file-history", "projects"];
    let wanted: Vec<String> = ["a", "b"]
        .iter()
        .flat_map(|home| wanted.map(|entry| format!("/{home}/{entry} -> /home/ada/.claude-{entry}-shared")))
        .collect();
    assert_eq!(targets(two), wanted);
    // As the earlier daemon wrote it.
    let as_before = "claude_link: ~/.claude\nshared: {root: \"~\", entries: [session-env, file-history, projects], pattern: \".claude-{entry}-shared\"}\n";
    assert_eq!(targets(&format!("{as_before}{two}")), wanted);
    let codex = "accounts: [{name: a, home: /a, agent: codex}, {name: b, home: /b, agent: codex}]\n";
    assert_eq!(
        targets(codex),
        ["/a/sessions -> /home/ada/.codex-sessions-shared", "/b/sessions -> /home/ada/.codex-sessions-shared"]
    );
    // A command's accounts have nothing in common, nor does an account alone.
    assert!(targets("accounts: [{name: a, home: /a}]\n").is_empty());
    let config = good(&format!("claude_link: null\n{two}"));
    assert_eq!(config.claude_link, None);
    assert!(config.operators_link().is_none());
    assert!(good(codex).operators_link().is_none(), "the link is for Claude Code alone");
}

#[test]
fn what_is_shared_must_make_sense() {
    refused("shared: {pattern: x}\n", &["1:10: \"x\" must hold {entry}"]);
    refused("shared: {pattern: 'a/{entry}'}\n", &["without /"]);
    refused("shared: {pattern: '{entry}-{user}'}\n", &["{agent} and {entry}, nothing else"]);
    refused(
        "shared: {entries: [a/b, projects, projects, ..]}\n",
        &["1:20: \"a/b\" is no name", "1:35: \"projects\" stands twice", "1:45: \"..\" is no name"],
    );
    let two = "accounts: [{name: a, home: /a}, {name: b, home: /b}]\n";
    refused(&format!("{two}shared: {{root: /a, pattern: '{{entry}}'}}\n"), &["would be a link to itself"]);
    let kinds = "accounts: [{name: a, home: /a}, {name: b, home: /b}, {name: c, home: /c, agent: codex}, {name: d, home: /d, agent: codex}]\n";
    refused(
        &format!("{kinds}shared: {{entries: [projects], codex_entries: [projects], pattern: '{{entry}}'}}\n"),
        &["put {agent} into `pattern`"],
    );
    let nobody = |_: &str| None;
    let problems = config::parse(two, Path::new("/etc/cf/config.yaml"), &nobody).expect_err("no home").to_string();
    assert!(problems.contains("\"~\" needs $HOME"), "{problems}");
    let alone = "accounts: [{name: a, home: /a}]\n";
    let config = config::parse(alone, Path::new("/etc/cf/config.yaml"), &nobody).expect("nothing is shared").config;
    assert_eq!(config.claude_link, None);
}

#[test]
fn a_missing_file_says_what_to_do() {
    let error = config::load(Path::new("/nope/config.yaml"), &env).expect_err("missing").to_string();
    assert!(error.contains("/nope/config.yaml") && error.contains("--config"), "{error}");
}

proptest::proptest! {
    /// Whatever is in the file: an answer, with places that lie in the file and can be shown.
    #[test]
    fn no_text_breaks_the_reader(
        cut in 0..EXAMPLE.len(),
        put in "[ -~\n\té日\u{1f600}\0]{0,12}|[\\[\\]{}:,&*!|>'\"%@` \n-]{0,8}",
        len in 0usize..40,
    ) {
        let at = |n: usize| (0..=n.min(EXAMPLE.len())).rev().find(|n| EXAMPLE.is_char_boundary(*n)).unwrap_or(0);
        let text = format!("{}{put}{}", &EXAMPLE[..at(cut)], &EXAMPLE[at(cut + len).max(at(cut))..]);
        if let Err(problems) = parse(&text) {
            proptest::prop_assert!(!problems.list.is_empty());
            for problem in &problems.list {
                proptest::prop_assert!(problem.place.line >= 1 && problem.place.line <= text.lines().count() + 1, "{:?}", problem);
                proptest::prop_assert!(!problem.message.is_empty());
            }
            proptest::prop_assert!(!problems.to_string().is_empty());
        }
    }
}

#[test]
fn words_and_instructions_that_can_do_nothing_are_refused() {
    refused(
        "agents:\n  claude: {kind: claude}\n  shut: {kind: command, run: [cat]}\n  one: {kind: command, run: [cat], tasks: anyone, \
         instructions_file: x.md}\n  two: {kind: gemini, instructions_file: x.md}\nagent_by_words:\n- {words: [a], agent: shut}\n\
         - {words: [], agent: one}\n- {words: [b, '--'], agent: one}\n- {words: [c], agent: nobody}\n",
        &[
            "4:51: an agent of kind `command` takes no instructions of its own, so `one` can't have any",
            "5:23: an agent of kind `gemini` takes no instructions",
            "no task may name the agent `shut`, so words can't choose it",
            "there are no words",
            "\"--\" has no letter or digit",
            "no agent is called `nobody`",
        ],
    );
    let config = good(
        "agents: {claude: {kind: claude, instructions_file: ~/me.md}}\nagent_by_words: [{words: [a, b c], agent: claude}]\n",
    );
    assert_eq!(
        config.agents.values().next().expect("one").instructions_file.as_deref(),
        Some(Path::new("/home/ada/me.md"))
    );
}
