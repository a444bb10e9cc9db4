//! The fake agents: `claude` reports everything by status file and hooks; `typed` too, but takes no prompt at its
//! start and names its conversation only then; `mute` has only its screen; `sh` gets its task at the start.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{FakeWorld, program::Kind};
use claude_failover::{
    model::{
        agent::{AgentError, Cursor, Found, LaunchPlan, LaunchRequest, PromptBy},
        evidence::{Look, Meaning, Screen, Signal, Source, Tokens, WaitingFor},
        ids::AgentName,
        pane::Launch,
        session::Incarnation,
    },
    ports::Agents,
};

pub(super) fn kind(agent: &AgentName) -> Kind {
    match agent.as_str() {
        "mute" => Kind::Mute,
        "sh" => Kind::Command,
        _ => Kind::Telling,
    }
}

#[async_trait]
impl Agents for FakeWorld {
    fn prompt_by(&self, agent: &AgentName) -> PromptBy {
        match kind(agent) {
            Kind::Command => PromptBy::Stdin,
            Kind::Telling | Kind::Mute | Kind::Shell => PromptBy::Paste,
        }
    }

    fn tells_prompts(&self, agent: &AgentName) -> bool {
        kind(agent) == Kind::Telling
    }

    fn tells_turns(&self, agent: &AgentName) -> bool {
        // A command's end is the end of its process.
        matches!(kind(agent), Kind::Telling | Kind::Command)
    }

    fn resumes(&self, agent: &AgentName) -> bool {
        kind(agent) == Kind::Telling
    }

    fn resumes_with_prompt(&self, agent: &AgentName) -> bool {
        kind(agent) == Kind::Telling && agent.as_str() != "typed"
    }

    async fn find(&self, _: &AgentName, pid: u32) -> Option<Found> {
        self.see(|inner| inner.found(pid)).await
    }

    fn interrupt_keys(&self, _: Option<&AgentName>) -> Vec<String> {
        vec!["Escape".to_owned()]
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchPlan, AgentError> {
        let chosen = self.resumes_with_prompt(&request.agent);
        let plan = LaunchPlan {
            launch: Launch {
                session: request.session.clone(),
                incarnation: request.incarnation.clone(),
                argv: vec!["fake-agent".to_owned(), request.agent.to_string()],
                env: Vec::new(),
                workdir: request.workdir.clone(),
                keep_dead: true,
            },
            conversation: request
                .resume
                .clone()
                .or_else(|| chosen.then(|| format!("conversation-{}", request.incarnation))),
            complaint: None,
        };
        self.effect(
            || format!("settings of {} for {}", request.incarnation, request.session),
            |inner| {
                inner.launches.insert(request.incarnation.clone(), request.clone());
                Ok(plan)
            },
        )
        .await
    }

    async fn signals(&self, incarnation: &Incarnation, cursor: &mut Cursor) -> Vec<Signal> {
        let from = usize::try_from(cursor.hooks).unwrap_or(usize::MAX);
        let signals = self
            .see(|inner| {
                let pane = inner.panes.get(&incarnation.session).map(|pane| pane.pid);
                let pid = pane.filter(|pid| inner.programs.get(pid).is_some_and(|p| p.is(incarnation.pid)));
                let program = inner.programs.get(&pid.unwrap_or(incarnation.pid));
                let program = program.filter(|p| p.incarnation == incarnation.id);
                program.map(|p| p.signals.get(from..).unwrap_or_default().to_vec()).unwrap_or_default()
            })
            .await;
        cursor.hooks += signals.len() as u64;
        signals
    }

    fn look(&self, agent: &AgentName, screen: &Screen, now: Timestamp) -> Look {
        let (shown, input) = screen.plain.split_once("\n> ").unwrap_or((&screen.plain, ""));
        let (state, limit) = shown.split_once('\n').unwrap_or((shown, ""));
        let signal = |meaning| Signal {
            at: now,
            source: Source::Screen,
            rule: state.to_owned(),
            text: state.to_owned(),
            meaning,
        };
        let meaning = match state {
            "ready" => Some(Meaning::Idle),
            "busy" => Some(Meaning::Busy),
            "permission" => Some(Meaning::Waiting { what: WaitingFor::Permission }),
            _ => None,
        };
        let limit = super::talk::read_banner(limit)
            .map(|failure| signal(Meaning::TurnFailed { failure, message: limit.to_owned() }));
        let ready = state == "ready" && kind(agent) != Kind::Command;
        let pasted = input == "[Pasted text]";
        Look {
            ready,
            input: ready.then(|| input.to_owned()),
            ghost: None,
            pasted,
            shells: 0,
            server_error: false,
            signals: limit.into_iter().chain(meaning.map(signal)).collect(),
        }
    }

    async fn tokens(&self, _: &Incarnation) -> Option<Tokens> {
        None
    }

    async fn changed(&self) {
        self.evidence.notified().await;
    }
}
