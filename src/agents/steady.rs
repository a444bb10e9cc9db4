//! Converts the wall-clock timestamps in agents' files and screens to steady time (`model::steady`).
//! Events of one source stay in the order of its file, whatever the wall clock did in between, and whatever is new in
//! a look gets a time after the previous look.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    model::{
        agent::{AgentError, Cursor, Found, HookLog, LaunchPlan, LaunchRequest, PromptBy},
        evidence::{Failure, Look, Meaning, Screen, Signal, Tokens},
        ids::{AgentName, SessionName},
        session::Incarnation,
        steady::Timeline,
    },
    ports::{Agents, Clock},
};

pub struct SteadyAgents {
    pub agents: Arc<dyn Agents>,
    pub clock: Arc<dyn Clock>,
}

/// Future times in a signal.
fn told(meaning: &mut Meaning, timeline: &Timeline, now: Timestamp) {
    match meaning {
        Meaning::TurnFailed { failure: Failure::Limit(limit), .. } => {
            limit.resets_at = limit.resets_at.map(|at| timeline.steady(at));
        }
        Meaning::Used { usage } => {
            for window in usage.0.values_mut() {
                window.resets_at = window.resets_at.map(|at| timeline.steady(at));
                window.at = timeline.heard(window.at, now, now);
            }
        }
        Meaning::TurnFailed { .. }
        | Meaning::Started { .. }
        | Meaning::Idle
        | Meaning::Busy
        | Meaning::PromptTaken { .. }
        | Meaning::Waiting { .. }
        | Meaning::TurnEnded { .. }
        | Meaning::Interrupted
        | Meaning::Exited { .. } => {}
    }
}

#[async_trait]
impl Agents for SteadyAgents {
    async fn signals(&self, incarnation: &Incarnation, cursor: &mut Cursor) -> Vec<Signal> {
        let begun = self.clock.now();
        let before = cursor.read.replace(begun).map_or(incarnation.started, |read| read.max(incarnation.started));
        let mut signals = self.agents.signals(incarnation, cursor).await;
        let (timeline, now) = (self.clock.timeline(), self.clock.now());
        for signal in &mut signals {
            let after = cursor.heard.entry(signal.source).or_insert(before);
            signal.at = timeline.heard(signal.at, before.max(*after), now);
            *after = signal.at.max(*after);
            told(&mut signal.meaning, &timeline, now);
        }
        signals
    }

    fn look(&self, agent: &AgentName, screen: &Screen, now: Timestamp) -> Look {
        let timeline = self.clock.timeline();
        let mut look = self.agents.look(agent, screen, self.clock.wall());
        for signal in &mut look.signals {
            signal.at = now;
            told(&mut signal.meaning, &timeline, now);
        }
        look
    }

    fn prompt_by(&self, agent: &AgentName) -> PromptBy {
        self.agents.prompt_by(agent)
    }

    fn tells_prompts(&self, agent: &AgentName) -> bool {
        self.agents.tells_prompts(agent)
    }

    fn tells_turns(&self, agent: &AgentName) -> bool {
        self.agents.tells_turns(agent)
    }

    fn records_turns(&self, agent: &AgentName) -> bool {
        self.agents.records_turns(agent)
    }

    fn as_prompt(&self, agent: &AgentName, text: String, ghost: Option<&str>) -> String {
        self.agents.as_prompt(agent, text, ghost)
    }

    fn resumes(&self, agent: &AgentName) -> bool {
        self.agents.resumes(agent)
    }

    fn resumes_with_prompt(&self, agent: &AgentName) -> bool {
        self.agents.resumes_with_prompt(agent)
    }

    async fn find(&self, agent: &AgentName, pid: u32) -> Option<Found> {
        self.agents.find(agent, pid).await
    }

    fn interrupt_keys(&self, agent: Option<&AgentName>) -> Vec<String> {
        self.agents.interrupt_keys(agent)
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchPlan, AgentError> {
        self.agents.launch(request).await
    }

    async fn tokens(&self, incarnation: &Incarnation) -> Option<Tokens> {
        self.agents.tokens(incarnation).await
    }

    async fn hook_logs(&self) -> Vec<HookLog> {
        self.agents.hook_logs().await
    }

    async fn clear_hook_log(&self, session: &SessionName, to: Option<u64>) -> std::io::Result<()> {
        self.agents.clear_hook_log(session, to).await
    }

    async fn changed(&self) {
        self.agents.changed().await;
    }
}
