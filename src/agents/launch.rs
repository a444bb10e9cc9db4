//! Prepares an agent's launch: fills the rules' templates, writes our settings file and an empty hook log.
//! Turns a `LaunchRequest` and what `AgentBook` knows of agent and account into a `LaunchPlan`. Owns `<state>/hooks/`
//! and `<state>/launch/`; never writes into a home that isn't marked as ours and never passes on environment variables
//! that aren't on the list.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    agents::{
        home::{self, AccountHome},
        options::{Agent, AgentBookOptions},
        version::Known,
    },
    config::read_instructions,
    linux::dirs::{Outlives, private_dir, write_private},
    model::{
        agent::{INCARNATION, LaunchPlan, LaunchRequest, PASSED_ON},
        ids::SessionName,
        pane::{Background, Launch},
    },
    rules::{
        format::{ConversationBy, HookInstall, HookRules},
        version::{Age, Version},
    },
};

/// Seconds of a hook in Codex when its entry names none; part of the hash that Codex keeps for a trusted hook.
const CODEX_EVENT_FILE: &str = "/<session-flags>/config.toml";

/// Where a session's hook log is.
#[must_use]
pub fn hook_log(state_dir: &Path, session: &SessionName) -> PathBuf {
    state_dir.join("hooks").join(format!("{session}.jsonl"))
}

/// Length of a UUID (RFC 9562). Agents name their conversations by UUIDs; Claude Code would take anything else for a
/// search word.
pub(super) const CONVERSATION_LENGTH: usize = 36;

pub(super) fn is_conversation(id: &str) -> bool {
    id.len() == CONVERSATION_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

pub(super) fn plan(
    options: &AgentBookOptions,
    agent: &Agent,
    request: &LaunchRequest,
    account: Option<&AccountHome>,
    known: &Known,
) -> io::Result<LaunchPlan> {
    let rules = agent.rules();
    if let Some(id) = request.resume.as_ref().filter(|id| !is_conversation(id)) {
        let why =
            format!("{id:?} can't be resumed: a conversation's id is {CONVERSATION_LENGTH} hex digits and dashes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let log = hook_log(&options.state_dir, &request.session);
    fresh_log(&log)?;
    let conversation = match (&request.resume, rules.launch.conversation) {
        (Some(id), _) => Some(id.clone()),
        (None, ConversationBy::Chosen) => Some(uuid::Uuid::new_v4().to_string()),
        (None, ConversationBy::Found | ConversationBy::None) => None,
    };
    let launch_dir = options.state_dir.join("launch");
    let settings = launch_dir.join(format!("{}.json", request.session));
    let task = launch_dir.join(format!("{}.task", request.session));
    let hook = [
        options.exe.as_os_str().to_string_lossy().into_owned(),
        "hook".to_owned(),
        "--log".to_owned(),
        log.to_string_lossy().into_owned(),
        "--session".to_owned(),
        request.session.to_string(),
    ];
    let project = request.project.as_deref().unwrap_or(&request.workdir).to_string_lossy().into_owned();
    let below = request.workdir.strip_prefix(&project).ok().filter(|below| !below.as_os_str().is_empty());
    let below = below.unwrap_or(Path::new(".")).to_string_lossy().into_owned();
    let mut places: BTreeMap<&str, String> = BTreeMap::from([
        ("project", project.clone()),
        ("below", below.clone()),
        ("exe", options.exe.to_string_lossy().into_owned()),
        ("mount", options.mount.to_string_lossy().into_owned()),
        ("session", request.session.to_string()),
        ("conversation", conversation.clone().unwrap_or_default()),
        ("prompt", request.prompt.clone().unwrap_or_default()),
        ("settings", settings.to_string_lossy().into_owned()),
        ("hook_log", log.to_string_lossy().into_owned()),
        ("task", task.to_string_lossy().into_owned()),
        ("background", request.task.as_ref().map_or(Background::Ends, |task| task.background).word().to_owned()),
        ("workdir", request.workdir.to_string_lossy().into_owned()),
        ("home", agent.home(options, account).to_string_lossy().into_owned()),
    ]);
    let instructions = agent.config.instructions_file.as_deref().map(instructions).transpose()?;
    places.extend(instructions.into_iter().flatten());
    let env = environment(options, agent, request, account, &places);
    let program: Vec<String> = match &agent.config.program {
        Some(program) => vec![program.clone()],
        None => rules.launch.program.iter().map(|t| fill(t, &places)).collect(),
    };
    let asked = rules.versions.as_ref().zip(program.first());
    let judged = asked.and_then(|(versions, program)| Some((versions, versions.read(&known.of(program, &env)?)?)));
    let version = judged.map(|(_, version)| version);
    let complaint =
        judged.zip(program.first()).and_then(|((versions, version), program)| versions.complaint(program, version));
    if let (Some(why), Some((versions, version))) = (&complaint, judged)
        && versions.age(version) == Age::TooOld
    {
        return Err(io::Error::new(io::ErrorKind::Unsupported, why.clone()));
    }
    let mut hook_flags = Vec::new();
    match rules.hooks.install {
        HookInstall::None => {}
        HookInstall::SettingsFile => {
            let own = rules.hooks.status_line.as_ref().map(|template| PathBuf::from(fill(template, &places)));
            let line = own.map(|own| status_line(&own, &hook));
            let text = serde_json::to_vec_pretty(&settings_file(&rules.hooks, version, &hook, line))?;
            write_private(&settings, &text, Outlives::Nothing)?;
        }
        HookInstall::CodexFlags => hook_flags = codex_flags(&rules.hooks, version, &hook),
    }
    if let Some(given) = &request.task {
        write_private(&task, given.text.as_bytes(), Outlives::Nothing)?;
    }
    let answers = rules.home.as_ref().and_then(|home| home.answers);
    if let Some((account, answers)) = account.filter(|a| a.owned).zip(answers) {
        // The account's own key is the one that the agent asks about.
        let env = agent.config.env.exposed().into_iter().chain(account.env.clone()).collect();
        let beside = is_default_home(options, agent, account).then(|| account.home.parent()).flatten();
        home::prepare(answers, &account.home, beside, &request.workdir, &env)?;
    }

    let mut argv = program;
    let templates = if request.resume.is_some() { &rules.launch.resume } else { &rules.launch.args };
    let templates: Vec<&str> = templates.iter().filter_map(|word| word.of(version)).collect();
    // A sub-command (`codex resume`) must come before the operator's options.
    let (first, rest) = match templates.split_first() {
        Some((first, rest)) if !first.starts_with(['-', '{']) => (Some(first), rest),
        Some(_) | None => (None, templates.as_slice()),
    };
    argv.extend(first.map(|word| (*word).to_owned()));
    let own: &[String] = if request.own_args { &agent.config.args } else { &[] };
    argv.extend(own.iter().map(|t| fill(t, &places)));
    if agent.config.instructions_file.is_some() {
        argv.extend(rules.launch.instructions.iter().map(|t| fill(t, &places)));
    }
    let prompted = request.prompt.is_some() && request.resume.is_some();
    let prompt: &[String] = if prompted { &rules.launch.resume_prompt } else { &[] };
    for template in rest.iter().copied().chain(prompt.iter().map(String::as_str)) {
        match template {
            "{hook_flags}" => argv.extend(hook_flags.iter().cloned()),
            "{run}" => argv.extend(agent.config.run.iter().cloned()),
            other => argv.push(fill(other, &places)),
        }
    }
    // Between a look at the directory and the start somebody may put a link in its place.
    let enters_itself = rules.launch.program.iter().any(|word| word.contains("{below}"));
    if request.project.is_some() && !enters_itself {
        let exe = options.exe.to_string_lossy();
        let enters = [&*exe, "command-agent", "--becomes", "--project", &project, "--workdir", &below, "--"];
        argv.splice(..0, enters.map(str::to_owned));
    }
    let launch = Launch {
        session: request.session.clone(),
        incarnation: request.incarnation.clone(),
        argv,
        env,
        workdir: request.workdir.clone(),
        // The services decide which sessions outlive their program.
        keep_dead: true,
    };
    Ok(LaunchPlan { launch, conversation, complaint })
}

/// Places for what an agent is told beside every task.
fn instructions(file: &Path) -> io::Result<[(&'static str, String); 2]> {
    let text = read_instructions(file).map_err(|why| io::Error::other(format!("instructions_file: {why}")))?;
    Ok([("instructions_file", file.to_string_lossy().into_owned()), ("instructions_toml", toml_text(&text))])
}

fn environment(
    options: &AgentBookOptions,
    agent: &Agent,
    request: &LaunchRequest,
    account: Option<&AccountHome>,
    places: &BTreeMap<&str, String>,
) -> Vec<(String, String)> {
    let basics = options.base_env.iter().filter(|(k, _)| PASSED_ON.contains(&k.as_str()) || k.starts_with("LC_"));
    let mut env: BTreeMap<String, String> = basics.map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, template) in agent.rules().launch.env.clone().into_iter().chain(agent.config.env.exposed()) {
        env.insert(key, fill(&template, places));
    }
    env.extend(account.iter().flat_map(|account| account.env.clone()));
    // Last, so that no agent's `env:` can send a session to another account's home.
    if let (Some(rule), Some(account)) = (&agent.rules().home, account) {
        if is_default_home(options, agent, account) {
            env.remove(&rule.env);
            env.extend(options.base_env.get("HOME").map(|home| ("HOME".to_owned(), home.clone())));
        } else {
            env.insert(rule.env.clone(), account.home.to_string_lossy().into_owned());
        }
    }
    let mount = options.mount.to_string_lossy();
    env.insert("CLAUDE_FAILOVER_MOUNT".to_owned(), mount.to_string());
    env.insert("CLAUDE_FAILOVER_SESSION".to_owned(), request.session.to_string());
    env.insert(INCARNATION.to_owned(), request.token.clone());
    env.insert("CLAUDE_FAILOVER_TASK".to_owned(), format!("{mount}/sessions/{}/task", request.session));
    env.into_iter().collect()
}

/// Whether the account's home is the one that the agent uses unasked. Naming it would not be the same: Claude Code keeps
/// `.claude.json` beside `~/.claude`, but inside any directory that `CLAUDE_CONFIG_DIR` names (measured on 2.1.329), so a
/// person's own answers and settings would be missing.
fn is_default_home(options: &AgentBookOptions, agent: &Agent, account: &AccountHome) -> bool {
    let Some((rule, home)) = agent.rules().home.as_ref().zip(options.base_env.get("HOME")) else { return false };
    account.home == Path::new(home).join(&rule.default)
}

/// Replaces `{name}` placeholders in one pass; substituted text is not scanned again.
pub(super) fn fill(template: &str, places: &BTreeMap<&str, String>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}').and_then(|(name, tail)| places.get(name).map(|value| (value, tail))) {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn settings_file(hooks: &HookRules, version: Option<Version>, command: &[String], status_line: Option<Value>) -> Value {
    let entry = json!([{"hooks": [{"type": "command", "command": shell_words(command), "timeout": hooks.timeout}]}]);
    let events = hooks.events.iter().filter_map(|event| event.of(version));
    let events: Map<String, Value> = events.map(|event| (event.to_owned(), entry.clone())).collect();
    let mut settings: Map<String, Value> = hooks.settings.clone().into_iter().collect();
    settings.insert("hooks".to_owned(), Value::Object(events));
    settings.extend(status_line.map(|line| ("statusLine".to_owned(), line)));
    Value::Object(settings)
}

/// Our status line in the place of the one in a person's own settings, whose other keys (`padding`) stay.
fn status_line(own: &Path, hook: &[String]) -> Value {
    let theirs: Value = fs::read(own).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let mut line = theirs.get("statusLine").and_then(Value::as_object).cloned().unwrap_or_default();
    let ours = ["--status-line".to_owned(), own.to_string_lossy().into_owned()];
    line.insert("type".to_owned(), json!("command"));
    line.insert("command".to_owned(), json!(shell_words(&[hook, &ours].concat())));
    Value::Object(line)
}

/// Hooks as `-c` overrides. Codex runs a hook only when its hash is trusted; trust for hooks of the command line is taken
/// from the command line, too (measured on 0.169.0), so that no file changes and nobody else's hooks become trusted.
fn codex_flags(hooks: &HookRules, version: Option<Version>, command: &[String]) -> Vec<String> {
    let command = shell_words(command);
    let mut flags = Vec::new();
    let mut trust = Vec::new();
    for event in hooks.events.iter().filter_map(|event| event.of(version)) {
        let handler = format!("{{type=\"command\",command={},timeout={}}}", toml_text(&command), hooks.timeout);
        flags.extend(["-c".to_owned(), format!("hooks.{event}=[{{hooks=[{handler}]}}]")]);
        let name = snake(event);
        // Codex hashes compact JSON with sorted keys (measured on 0.169.0).
        let body = json!({"type": "command", "async": false, "command": command, "timeout": hooks.timeout});
        let hash = Sha256::digest(sorted(&json!({"event_name": name, "hooks": [body]})));
        let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        trust.push(format!("\"{CODEX_EVENT_FILE}:{name}:0:0\"={{trusted_hash=\"sha256:{hex}\"}}"));
    }
    flags.extend(["-c".to_owned(), format!("hooks.state={{{}}}", trust.join(","))]);
    flags
}

fn snake(event: &str) -> String {
    let mut out = String::new();
    for c in event.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Compact JSON with sorted keys.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<&String, &Value> = map.iter().collect();
            let parts: Vec<String> =
                map.iter().map(|(k, v)| format!("{}:{}", Value::String((*k).clone()), sorted(v))).collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(sorted).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A TOML basic string: JSON's escapes are a subset of TOML's (toml.io v1.0.0, "String").
fn toml_text(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// One command line for `sh -c`.
fn shell_words(words: &[String]) -> String {
    let quoted = words.iter().map(|w| {
        let plain = !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        if plain { w.clone() } else { format!("'{}'", w.replace('\'', "'\\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A new, empty log; the one before is kept as `.1`.
fn fresh_log(log: &Path) -> io::Result<()> {
    if let Some(dir) = log.parent() {
        private_dir(dir)?;
    }
    let mut old = log.as_os_str().to_owned();
    old.push(".1");
    match fs::rename(log, &old) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(log)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::version::Word;

    #[test]
    fn the_hash_is_the_one_codex_wrote() {
        // Written by Codex 0.169.0 into its config.toml when a person trusted this hook in its dialog.
        let stop = Word { word: "Stop".to_owned(), since: None };
        let hooks = HookRules { timeout: 600, events: vec![stop], ..HookRules::default() };
        let flags = codex_flags(&hooks, None, &["/tmp/ag/hook.sh".to_owned(), "Stop".to_owned()]);
        let want = "sha256:59d6ecdc262ed576b20ac425c2287d797412909ad866b1952749544b53dd7483";
        assert!(flags.last().expect("flags").contains(want), "{flags:?}");
    }

    #[test]
    fn a_conversation_s_id_can_be_no_option_and_no_search_word() {
        assert!(is_conversation("0199f3b1-1111-7000-8000-00000000abcd"));
        for id in ["", "yesterday", "--dangerously-skip-permissions", "0199f3b1-1111-7000-8000-00000000abcd\n"] {
            assert!(!is_conversation(id), "{id}");
        }
        assert!(!is_conversation(&"/".repeat(CONVERSATION_LENGTH)));
    }

    #[test]
    fn places_are_filled_once() {
        let places = BTreeMap::from([("a", "{b}".to_owned()), ("b", "no".to_owned())]);
        assert_eq!(fill("x{a}{c}{", &places), "x{b}{c}{");
    }

    #[test]
    fn odd_words_are_quoted_for_the_shell() {
        assert_eq!(shell_words(&["/a b/c".into(), "it's".into(), "ok".into()]), "'/a b/c' 'it'\\''s' ok");
    }
}
