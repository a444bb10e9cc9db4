//! Validates the rows of `agents` and resolves the kind of each.
//! Takes the configuration and the rules files it names; returns kinds with their rules, and problems. An unusable
//! rules file is not a configuration error: `check` and the daemon's start report it.

use std::path::Path;

use super::{
    decode::{Context, Setting, text},
    node::Node,
    schema::{Agent, Config},
};
use crate::{
    model::{by_words::is_usable, ids::AgentName, rights::Tasks, spelling::nearest},
    rules::Kind,
};

impl Setting for Kind {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        text(node, "the name of a kind", context).map(Self::new)
    }
    fn show<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

/// Reads the rules file of each row that has one.
pub(super) fn read_rules(config: &mut Config) {
    for agent in config.agents.values_mut() {
        let Some(file) = &agent.rules else { continue };
        agent.kind = match std::fs::read_to_string(file) {
            Ok(text) => agent.kind.with_rules(file, &text),
            Err(error) => agent.kind.without_rules(format!("{} can't be read: {error}", file.display())),
        };
    }
}

pub(super) fn meaning(config: &Config, wrong: &mut impl FnMut(&str, String)) {
    for (name, agent) in &config.agents {
        if let Some((key, message)) = problem(name, agent) {
            wrong(&format!("agents.{name}.{key}"), message);
        }
    }
    let rights = config.rights();
    for (n, row) in config.agent_by_words.iter().enumerate() {
        let at = format!("agent_by_words[{n}]");
        if rights.agents.get(&row.agent) == Some(&Tasks::None) {
            let message = format!(
                "no task may name the agent `{}`, so words can't choose it; give it `tasks: person` or `tasks: anyone`",
                row.agent
            );
            wrong(&format!("{at}.agent"), message);
        }
        if row.words.is_empty() {
            wrong(&format!("{at}.words"), "there are no words, so this row chooses nothing".to_owned());
        }
        for (m, word) in row.words.iter().enumerate().filter(|(_, word)| !is_usable(word)) {
            wrong(&format!("{at}.words[{m}]"), format!("{word:?} has no letter or digit, so no text has it as a word"));
        }
    }
}

/// Bytes of an `instructions_file`. Chosen: Linux takes 128 KiB as one word of a command line (execve(2), `MAX_ARG_STRLEN`), and an
/// agent reads all of it with every task.
const INSTRUCTIONS_MAX: u64 = 32 * 1024;

/// What an agent is told beside every task.
///
/// # Errors
/// Why it can't be told.
pub fn read_instructions(file: &Path) -> Result<String, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{shown} can't be read: {error}"))?;
    if text.len() as u64 > INSTRUCTIONS_MAX {
        return Err(format!("{shown} has {} bytes; at most {INSTRUCTIONS_MAX} are taken", text.len()));
    }
    if text.trim().is_empty() || text.contains('\0') {
        return Err(format!("{shown} is empty, or is no text"));
    }
    Ok(text)
}

fn problem(name: &AgentName, agent: &Agent) -> Option<(&'static str, String)> {
    let kind = agent.kind.name();
    if AgentName::parse(kind).is_err() {
        return Some(("kind", format!("{kind:?} can't name a kind; use small letters, digits, - and _")));
    }
    if !agent.kind.is_known() {
        let known: Vec<Kind> = Kind::built_in().collect();
        let hint = match nearest(kind, known.iter().map(Kind::name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", known.iter().map(Kind::name).collect::<Vec<_>>().join(", ")),
        };
        let own = "a kind of your own needs `rules: FILE`, which says what it is (doc/AGENTS.md)";
        return Some(("kind", format!("no kind `{kind}` is built in, and {own}; {hint}")));
    }
    let run = match (agent.kind.is_command(), agent.run.is_empty()) {
        (true, true) => format!("the agent `{name}` is a command and needs `run: [PROGRAM, ARGUMENT …]`"),
        (true, false) if agent.program.is_some() || !agent.args.is_empty() => {
            format!("the agent `{name}` is a command: program and arguments stand in `run`")
        }
        (false, false) => format!("`run` is for agents of kind command; `{name}` has `program` and `args`"),
        (true, false) | (false, true) => return untaken(name, agent),
    };
    Some(("run", run))
}

/// Instructions for a CLI that takes none.
fn untaken(name: &AgentName, agent: &Agent) -> Option<(&'static str, String)> {
    let takes = agent.instructions_file.is_none() || !agent.kind.rules().launch.instructions.is_empty();
    let kind = agent.kind.name();
    let message = format!(
        "an agent of kind `{kind}` takes no instructions of its own, so `{name}` can't have any; put them into the task's text, \
         or give the kind `launch.instructions` in a rules file (doc/AGENTS.md)"
    );
    (!takes).then_some(("instructions_file", message))
}
