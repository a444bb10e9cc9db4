//! Rights: which task may name which agent, who may use which verb, and how many tasks agents may create.
//! Takes the configuration, the writer and the request; returns nothing, or why not. Pure.
//!
//! The rule: nobody gains a right by writing a file. A person may do here what they may do in their own terminal; an
//! agent may do what its own session could; a writer who can't be identified counts as an agent wherever a right would
//! be gained.

use std::collections::BTreeMap;

use crate::model::{
    by_words::{self, ByWords, Found},
    ids::{AgentName, TaskId},
    task::{Hold, Origin, TaskSpec},
    writer::By,
};

/// Whose tasks may name an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tasks {
    /// Nobody's: it is for sessions that people have.
    None,
    /// A person's.
    Person,
    /// Also an agent's, and one of which it isn't known who wrote it.
    Anyone,
}

impl Tasks {
    pub const ALL: [Self; 3] = [Self::None, Self::Person, Self::Anyone];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Person => "person",
            Self::Anyone => "anyone",
        }
    }
}

/// What the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Agents that the configuration has.
    pub agents: BTreeMap<AgentName, Tasks>,
    /// The pool's, which does what names no agent.
    pub pool: Option<AgentName>,
    /// Whose words choose the agent of a task that names none.
    pub words: Vec<ByWords>,
    /// Tasks of tasks of tasks.
    pub max_depth: u32,
    /// Tasks that one task and what came from it may submit in an hour.
    pub subtasks_per_hour: u32,
}

impl Rights {
    /// The agent that the words of a task choose, where it names none itself.
    #[must_use]
    pub fn by_words(&self, id: &TaskId, spec: &TaskSpec, prompt: &str) -> Option<Found> {
        if spec.agent.is_some() { None } else { by_words::choose(&self.words, id, prompt) }
    }

    /// Why a task that this writer wrote may not name this agent.
    #[must_use]
    pub fn against(&self, agent: Option<&AgentName>, by: By) -> Option<Hold> {
        let agent = agent.or(self.pool.as_ref())?;
        // One that there isn't is refused for that.
        match (self.agents.get(agent)?, by) {
            (Tasks::Anyone, _) | (Tasks::Person, By::Person) => None,
            (Tasks::None, _) => Some(Hold::Closed(agent.clone())),
            (Tasks::Person, By::Agent | By::Unknown) => Some(Hold::NotPermitted(agent.clone(), by)),
        }
    }

    /// Why a task that came from another may not run yet; `lately` were submitted from the same root in the last hour.
    #[must_use]
    pub fn brake(&self, origin: &Origin, lately: usize) -> Option<Hold> {
        if origin.depth == 0 {
            return None;
        }
        if origin.depth > self.max_depth {
            let why = format!("it is {} tasks deep (dispatcher.max_depth: {})", origin.depth, self.max_depth);
            return Some(Hold::Braked(why));
        }
        (lately >= self.subtasks_per_hour as usize).then(|| {
            let root = origin.root.as_ref().map_or_else(|| "agents".to_owned(), |root| format!("task {root}"));
            Hold::Braked(format!(
                "{root} and what came of it have submitted {} tasks within an hour (dispatcher.subtasks_per_hour)",
                self.subtasks_per_hour
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ids::TaskKey, permits::descends};

    fn agent(name: &str) -> AgentName {
        AgentName::parse(name).expect("a name")
    }

    #[test]
    fn who_may_name_an_agent() {
        let rows = [("open", Tasks::Anyone), ("sh", Tasks::Person), ("shut", Tasks::None)];
        let rights = Rights {
            agents: rows.map(|(name, tasks)| (agent(name), tasks)).into(),
            pool: Some(agent("open")),
            ..Rights::default()
        };
        let may = |name: Option<&str>, by| rights.against(name.map(agent).as_ref(), by).is_none();
        for by in [By::Agent, By::Unknown, By::Person] {
            assert!(may(None, by) && may(Some("open"), by), "{by:?}");
            assert!(!may(Some("shut"), by), "{by:?}");
            assert_eq!(may(Some("sh"), by), by == By::Person, "{by:?}");
        }
        let strict = Rights { pool: Some(agent("sh")), ..rights };
        assert!(strict.against(None, By::Unknown).is_some(), "the pool's own row can be stricter");
    }

    #[test]
    fn tasks_of_tasks_are_braked_by_depth_and_by_rate() {
        let rights = Rights { max_depth: 2, subtasks_per_hour: 3, ..Rights::default() };
        let key = |text: &str| TaskKey::parse(text).expect("a key");
        let one = descends(Some((&key("web:a"), &Origin::default())));
        let two = descends(Some((&key("web:b"), &one)));
        let three = descends(Some((&key("web:c"), &two)));
        assert_eq!((one.depth, two.depth, three.depth), (1, 2, 3));
        assert_eq!(three.root, Some(key("web:a")));
        assert_eq!(rights.brake(&Origin::default(), 1000), None, "a person's are not counted");
        assert_eq!(rights.brake(&two, 2), None);
        assert!(rights.brake(&two, 3).is_some());
        assert!(rights.brake(&three, 0).is_some());
        assert!(rights.brake(&descends(None), 3).is_some(), "of a session without a task");
    }
}
