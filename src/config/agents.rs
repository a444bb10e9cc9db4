//! Validates the rows of `agents` and resolves the kind of each.
//! Takes the configuration and the rules files it names; returns kinds with their rules, and problems. An unusable
//! rules file is not a configuration error: `check` and the daemon's start report it.

use super::{
    decode::{Context, Setting, text},
    node::Node,
    schema::{Agent, Config},
};
use crate::{
    model::{ids::AgentName, spelling::nearest},
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
        (true, false) | (false, true) => return None,
    };
    Some(("run", run))
}
