//! Starts and observes agent CLIs: launch plans, and signals from their files and screens.
//! Takes rules files (built in, overridden by the configuration), launch requests, incarnations and screens; returns
//! launch plans, signals and looks. Owns the hook logs and launch files in the state directory. Never types, starts or
//! stops anything, and never decides what a signal leads to.

mod changed;
pub mod home;
mod hooks;
mod launch;
mod options;
mod running;
mod status;
mod steady;
mod transcript;
pub mod version;

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use jiff::{Timestamp, tz::TimeZone};

use self::{changed::Changes, options::Agent};
pub use self::{home::AccountHome, launch::hook_log, options::AgentBookOptions, steady::SteadyAgents};
use crate::{
    model::{
        agent::{AgentError, Cursor, Found, HookLog, LaunchPlan, LaunchRequest, PromptBy},
        evidence::{Look, Screen, Signal, Tokens},
        ids::{AgentName, SessionName},
        letters::same,
        session::Incarnation,
    },
    ports::Agents,
    rules::{format::PromptWay, records::RecordMeaning, screen},
};

/// Every agent of the configuration with its rules.
pub struct AgentBook {
    options: Arc<AgentBookOptions>,
    agents: BTreeMap<AgentName, Arc<Agent>>,
    changes: Changes,
    read_to: Arc<hooks::ReadTo>,
    versions: Arc<version::Known>,
    /// The incarnation for which foreign lines in its log were last reported.
    refused: Mutex<BTreeMap<SessionName, String>>,
}

impl AgentBook {
    #[must_use]
    pub fn new(options: AgentBookOptions) -> Self {
        let mut agents = BTreeMap::new();
        for (name, config) in &options.agents {
            let zone = config.env.get("TZ").or_else(|| options.base_env.get("TZ").map(String::as_str));
            let zone = zone.and_then(|name| TimeZone::get(name).ok()).unwrap_or_else(TimeZone::system);
            agents.insert(name.clone(), Arc::new(Agent { config: config.clone(), zone }));
        }
        Self {
            options: Arc::new(options),
            agents,
            changes: Changes::new(),
            read_to: Arc::default(),
            versions: Arc::default(),
            refused: Mutex::default(),
        }
    }

    fn agent(&self, name: &AgentName) -> Option<&Arc<Agent>> {
        self.agents.get(name)
    }

    /// Whether a hook or transcript record of the agent's has such a meaning.
    fn tells(&self, agent: &AgentName, meaning: impl Fn(&RecordMeaning) -> bool) -> bool {
        let Some(agent) = self.agent(agent) else { return false };
        let transcript = agent.rules().transcript.iter().flat_map(|transcript| &transcript.rules);
        agent.rules().hooks.rules.iter().chain(transcript).any(|rule| meaning(&rule.mean))
    }

    /// Once for each incarnation: its log is read more than once.
    fn tell_refused(&self, incarnation: &Incarnation, refused: usize) {
        let mut told = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused > 0
            && told.insert(incarnation.session.clone(), incarnation.id.clone()).as_ref() != Some(&incarnation.id)
        {
            tracing::warn!(
                session = %incarnation.session,
                "lines in its hook log were not written by the agent that runs there now: they are ignored"
            );
        }
    }

    fn facts(&self, incarnation: &Incarnation) -> Option<Facts> {
        let agent = Arc::clone(self.agent(&incarnation.agent)?);
        let account = incarnation.account.as_ref().and_then(|a| self.options.homes.get(a));
        let home = agent.home(&self.options, account);
        let log = hook_log(&self.options.state_dir, &incarnation.session);
        Some(Facts { agent, home, log, incarnation: incarnation.clone() })
    }
}

/// What reading an incarnation's files needs; owned, so that it can go to a blocking thread.
struct Facts {
    agent: Arc<Agent>,
    home: PathBuf,
    log: PathBuf,
    incarnation: Incarnation,
}

impl Facts {
    /// Fills a path; `None` when it needs a conversation that isn't known.
    fn path(&self, template: &str, conversation: Option<&str>) -> Option<String> {
        let conversation = match (conversation, &self.incarnation.conversation) {
            (Some(id), _) => Some(id),
            (None, known) => known.as_deref(),
        };
        if template.contains("{conversation") && conversation.is_none() {
            return None;
        }
        // Gemini CLI puts the first part of a conversation's id into its transcript's name.
        let start = conversation.and_then(|id| id.split('-').next()).unwrap_or_default().to_owned();
        let places = BTreeMap::from([
            ("conversation_start", start),
            ("home", self.home.to_string_lossy().into_owned()),
            ("pid", self.incarnation.pid.to_string()),
            ("conversation", conversation.unwrap_or_default().to_owned()),
        ]);
        Some(launch::fill(template, &places))
    }

    fn transcript(&self, told: Option<PathBuf>) -> Option<PathBuf> {
        let rules = self.agent.rules().transcript.as_ref()?;
        let by_process = || transcript::open_file(rules.open_file.as_ref()?, self.incarnation.pid);
        let by_name = || rules.paths.iter().filter_map(|t| self.path(t, None)).find_map(|p| transcript::find(&p));
        told.filter(|p| p.is_file()).or_else(by_process).or_else(by_name)
    }

    /// The signals, and how many lines of the hook log were not this incarnation's.
    fn signals(&self, cursor: &mut Cursor) -> (Vec<Signal>, usize) {
        let rules = self.agent.rules();
        let limits = self.agent.limits();
        let token = &self.incarnation.token;
        let hooks::Told { mut signals, transcript: told, refused } =
            hooks::read(&rules.hooks, limits, &self.log, token, &mut cursor.hooks);
        if let Some(rules) = &rules.transcript {
            let path = self.transcript(told.or_else(|| cursor.transcript_path.clone()));
            if path != cursor.transcript_path {
                cursor.transcript = 0;
                cursor.transcript_path = path;
            }
            if let Some(path) = &cursor.transcript_path {
                signals.extend(transcript::read(rules, limits, path, self.incarnation.started, &mut cursor.transcript));
            }
        }
        if let Some(rules) = &rules.status
            && let Some(path) = self.path(&rules.path, None)
        {
            signals.extend(status::read(rules, limits, Path::new(&path), self.incarnation.pid, &mut cursor.status));
        }
        signals.sort_by_key(|s| s.at);
        (signals, refused)
    }

    fn tokens(&self) -> Option<Tokens> {
        let rules = self.agent.rules().transcript.as_ref()?.tokens.as_ref()?;
        let told =
            hooks::read(&self.agent.rules().hooks, self.agent.limits(), &self.log, &self.incarnation.token, &mut 0);
        let path = self.transcript(told.transcript)?;
        let conversation = path.file_stem().map(|s| s.to_string_lossy().into_owned());
        let beside = rules.beside.as_deref().and_then(|t| self.path(t, conversation.as_deref()));
        transcript::tokens(rules, &path, beside.as_deref())
    }
}

#[async_trait]
impl Agents for AgentBook {
    fn prompt_by(&self, agent: &AgentName) -> PromptBy {
        match self.agent(agent).map(|a| a.rules().prompt_by) {
            Some(PromptWay::Stdin) => PromptBy::Stdin,
            Some(PromptWay::Paste) | None => PromptBy::Paste,
        }
    }

    fn tells_prompts(&self, agent: &AgentName) -> bool {
        self.tells(agent, |meaning| matches!(meaning, RecordMeaning::PromptTaken { .. }))
    }

    fn tells_turns(&self, agent: &AgentName) -> bool {
        self.tells(agent, |meaning| matches!(meaning, RecordMeaning::TurnEnded { .. }))
    }

    fn records_turns(&self, agent: &AgentName) -> bool {
        let transcript = self.agent(agent).and_then(|agent| agent.rules().transcript.as_ref());
        transcript.is_some_and(|t| t.rules.iter().any(|rule| matches!(rule.mean, RecordMeaning::TurnEnded { .. })))
    }

    fn as_prompt(&self, agent: &AgentName, text: String, ghost: Option<&str>) -> String {
        let Some(commands) = self.agent(agent).and_then(|agent| agent.rules().commands.as_ref()) else { return text };
        let stands_there = ghost.is_some_and(|ghost| same(ghost, &text));
        let before = if stands_there || commands.like.0.is_match(&text) { commands.before.as_str() } else { "" };
        let ends = commands.ends.as_ref().is_some_and(|ends| ends.0.is_match(&text));
        let after = if ends { commands.after.as_str() } else { "" };
        format!("{before}{text}{after}")
    }

    fn resumes(&self, agent: &AgentName) -> bool {
        self.agent(agent).is_some_and(|agent| !agent.rules().launch.resume.is_empty())
    }

    fn resumes_with_prompt(&self, agent: &AgentName) -> bool {
        self.agent(agent).is_some_and(|agent| !agent.rules().launch.resume_prompt.is_empty())
    }

    async fn find(&self, agent: &AgentName, pid: u32) -> Option<Found> {
        let (options, agent) = (Arc::clone(&self.options), Arc::clone(self.agent(agent)?));
        blocking(move || running::find(&options, &agent, pid)).await.flatten()
    }

    fn interrupt_keys(&self, agent: Option<&AgentName>) -> Vec<String> {
        let known = agent.and_then(|agent| self.agent(agent)).map(|agent| agent.rules().interrupt.clone());
        known.filter(|keys| !keys.is_empty()).unwrap_or_else(|| vec!["C-c".to_owned()])
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchPlan, AgentError> {
        let error = |message: String| AgentError { agent: request.agent.to_string(), message };
        let agent =
            self.agent(&request.agent).ok_or_else(|| error("the configuration has no such agent".to_owned()))?;
        let account = match &request.account {
            None => None,
            Some(name) => Some(
                self.options.homes.get(name).ok_or_else(|| error(format!("the account {name} has no home")))?.clone(),
            ),
        };
        let (options, agent, request) = (Arc::clone(&self.options), Arc::clone(agent), request.clone());
        let versions = Arc::clone(&self.versions);
        let plan = blocking(move || launch::plan(&options, &agent, &request, account.as_ref(), &versions)).await;
        self.changes.watch(&self.options.state_dir.join("hooks"));
        match plan {
            Some(plan) => plan.map_err(|e| error(format!("its start can't be prepared: {e}"))),
            None => Err(error("its start can't be prepared: the work was cut short".to_owned())),
        }
    }

    async fn signals(&self, incarnation: &Incarnation, cursor: &mut Cursor) -> Vec<Signal> {
        let Some(facts) = self.facts(incarnation) else { return Vec::new() };
        self.changes.watch(&self.options.state_dir.join("hooks"));
        if let Some(path) = facts.agent.rules().status.as_ref().and_then(|s| facts.path(&s.path, None))
            && let Some(dir) = Path::new(&path).parent()
        {
            self.changes.watch(dir);
        }
        let mut at = cursor.clone();
        let read_to = Arc::clone(&self.read_to);
        let read = blocking(move || {
            // Readers that continue from here have read everything before.
            if let Ok(log) = std::fs::metadata(&facts.log)
                && log.len() >= at.hooks
            {
                let mut read_to = read_to.lock().unwrap_or_else(PoisonError::into_inner);
                read_to.insert(facts.incarnation.session.clone(), (log.ino(), at.hooks));
            }
            let signals = facts.signals(&mut at);
            (signals, at)
        });
        match read.await {
            Some(((signals, refused), at)) => {
                self.tell_refused(incarnation, refused);
                // Some failures run no hook: then the transcript is the first to know.
                if let Some(dir) = at.transcript_path.as_deref().and_then(Path::parent) {
                    self.changes.watch(dir);
                }
                *cursor = at;
                signals
            }
            None => Vec::new(),
        }
    }

    fn look(&self, agent: &AgentName, screen: &Screen, now: Timestamp) -> Look {
        self.agent(agent).map_or_else(Look::default, |a| screen::look(&a.rules().screen, a.limits(), screen, now))
    }

    async fn tokens(&self, incarnation: &Incarnation) -> Option<Tokens> {
        let facts = self.facts(incarnation)?;
        blocking(move || facts.tokens()).await.flatten()
    }

    async fn hook_logs(&self) -> Vec<HookLog> {
        let (options, read_to) = (Arc::clone(&self.options), Arc::clone(&self.read_to));
        blocking(move || hooks::logs(&options.state_dir.join("hooks"), &read_to)).await.unwrap_or_default()
    }

    async fn clear_hook_log(&self, session: &SessionName, to: Option<u64>) -> io::Result<()> {
        let log = hook_log(&self.options.state_dir, session);
        let clear = move || match to {
            Some(to) => hooks::clear(&log, to),
            None => hooks::remove(&log),
        };
        blocking(clear).await.unwrap_or_else(|| Err(io::Error::other("the work was cut short")))
    }

    async fn changed(&self) {
        self.changes.changed().await;
    }
}

/// Runs file work off the async threads; `None` when the runtime is going down or the work panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| tracing::error!(error = %e, "reading an agent's files failed"))
        .ok()
}
