//! The session service: starts, feeds, recycles and stops the pool's agents, and keeps the operator's sessions
//! running.
//! Takes the snapshot; starts programs in panes, types prompts, proposes session events. Runs one job per session at a
//! time. Stops nothing in a dedicated session except an agent that is resumed under another account; never touches a
//! session that isn't configured, and never decides what an agent is doing (`watcher`).

mod act;
pub mod decide;
mod deliver;
mod reopen;
pub mod resume;
pub mod step;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::task::JoinSet;

use self::{
    act::Job,
    decide::{Wanted, decide},
};
use crate::{
    config::Config,
    live::Hands,
    model::{
        agent::PromptBy,
        ids::{AgentName, SessionName},
        pane::Background,
        session::{Role, Session},
        snapshot::Snapshot,
    },
    session::step::{Program, Settings, Step},
};

/// Pause of a session after a failed step. Chosen: as `lifecycle.restart_first`.
const RETRY_STEP: Duration = Duration::from_secs(1);

pub struct Sessions {
    hands: Hands,
    jobs: JoinSet<(SessionName, Result<(), String>)>,
    busy: BTreeSet<SessionName>,
    retry_at: BTreeMap<SessionName, tokio::time::Instant>,
    /// Where a session worked last: the likeliest place of its next task.
    workdirs: BTreeMap<SessionName, PathBuf>,
}

impl Sessions {
    #[must_use]
    pub fn new(hands: Hands) -> Self {
        Self {
            hands,
            jobs: JoinSet::new(),
            busy: BTreeSet::new(),
            retry_at: BTreeMap::new(),
            workdirs: BTreeMap::new(),
        }
    }

    /// Ends programs in pool sessions that the owner knows nothing of: a daemon ended between starting one and saying so.
    /// Only panes that carry our mark and a name of the pool.
    pub async fn clear_strays(&self) {
        let Ok(panes) = self.hands.terminal.panes().await else { return };
        let snapshot = self.hands.live.snapshot();
        for pane in panes {
            let Some(session) = snapshot.sessions.get(&pane.session) else { continue };
            let Some(mark) = &pane.incarnation else { continue };
            let known = session.phase.incarnation().is_some_and(|incarnation| incarnation.id == *mark);
            if session.role == Role::Pool && !known {
                tracing::info!(session = %pane.session, "ending a program that was started and never told of");
                let grace = self.hands.config.borrow().lifecycle.stop_grace;
                if let Err(error) = self.hands.terminal.terminate(&pane.id, grace, Background::Ends).await {
                    tracing::warn!(session = %pane.session, %error, "could not be ended");
                }
            }
        }
    }

    /// Works until the owner stops; jobs under way are dropped then, and found again by the next daemon.
    pub async fn run(mut self) {
        let mut snapshots = self.hands.live.watch();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let wake = self.start_jobs(&snapshot);
            // Time may jump (suspend, clock set), so `reconcile` bounds the sleep; an hour stands for never.
            let sleep = wake.unwrap_or(Duration::from_secs(3600)).min(self.hands.config.borrow().lifecycle.reconcile);
            tokio::select! {
                biased;
                changed = snapshots.changed() => if changed.is_err() { return },
                Some(ended) = self.jobs.join_next(), if !self.jobs.is_empty() => self.job_ended(ended),
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    fn job_ended(&mut self, ended: Result<(SessionName, Result<(), String>), tokio::task::JoinError>) {
        match ended {
            Ok((name, result)) => {
                self.busy.remove(&name);
                if let Err(error) = result {
                    tracing::warn!(session = %name, %error, "a step failed; tried again");
                    self.retry_at.insert(name, tokio::time::Instant::now() + RETRY_STEP);
                }
            }
            Err(error) => tracing::error!(%error, "a session job was lost"),
        }
    }

    /// Starts what can be started now; answers how long to sleep at most.
    fn start_jobs(&mut self, snapshot: &Arc<Snapshot>) -> Option<Duration> {
        let now = self.hands.clock.now();
        let mut wake: Option<Duration> = None;
        let mut sooner = |after: Duration| wake = Some(wake.map_or(after, |known: Duration| known.min(after)));
        self.retry_at.retain(|_, at| *at > tokio::time::Instant::now());
        for (name, session) in &snapshot.sessions {
            if self.busy.contains(name) {
                continue;
            }
            if let Some(at) = self.retry_at.get(name) {
                sooner(at.duration_since(tokio::time::Instant::now()));
                continue;
            }
            let step = self.step(snapshot, session, now);
            // What has to end ends before anything more is typed into it.
            let ends = matches!(step, Step::End { .. });
            let request = snapshot.requests.iter().find(|(_, action)| action.session() == Some(name));
            if let Some((id, action)) = request.filter(|_| !ends) {
                let job = Job::new(self.hands.clone(), session.clone());
                let (id, action) = (*id, action.clone());
                self.spawn(name, async move { job.request(id, &action).await });
                continue;
            }
            match step {
                Step::Nothing => {}
                Step::Wait(at) => sooner(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)),
                step => {
                    if let Some(incarnation) = session.phase.incarnation() {
                        self.workdirs.insert(name.clone(), incarnation.workdir.clone());
                    }
                    let job = Job::new(self.hands.clone(), session.clone());
                    self.spawn(name, async move { job.carry_out(step).await });
                }
            }
        }
        wake
    }

    fn spawn(&mut self, name: &SessionName, job: impl Future<Output = Result<(), String>> + Send + 'static) {
        self.busy.insert(name.clone());
        let name = name.clone();
        self.jobs.spawn(async move { (name, job.await) });
    }

    fn step(&self, snapshot: &Snapshot, session: &Session, now: Timestamp) -> Step {
        let config = self.hands.config.borrow();
        let task = session.task.as_ref().and_then(|a| snapshot.tasks.get(&a.task));
        let wanted = self.wanted(&config, snapshot, session);
        let prompt_by = |agent: &_| self.hands.agents.prompt_by(agent);
        let under = |agent: &AgentName| snapshot.under(agent);
        let settings = Settings { lifecycle: &config.lifecycle, switcher: &config.switcher };
        decide(session, task.map(AsRef::as_ref), &wanted, under, prompt_by, &settings, now)
    }

    /// What a session is for while it has no task.
    fn wanted(&self, config: &Config, snapshot: &Snapshot, session: &Session) -> Wanted {
        if session.role == Role::Dedicated {
            return Wanted::Dedicated;
        }
        let pool = &config.pool.autonomous;
        let kept = pool.names().take(pool.min as usize).any(|name| name == session.name);
        if !kept || session.drained {
            return Wanted::Nothing;
        }
        if self.hands.agents.prompt_by(&pool.agent) == PromptBy::Stdin {
            return Wanted::Rest;
        }
        let Some(first) = snapshot.projects.first() else { return Wanted::Nothing };
        let known = session.phase.incarnation().map(|i| i.workdir.clone());
        let workdir = known.or_else(|| self.workdirs.get(&session.name).cloned()).unwrap_or_else(|| first.path.clone());
        let account = snapshot.under(&pool.agent).name().cloned();
        Wanted::Warm(Program { agent: pool.agent.clone(), account, workdir })
    }
}
