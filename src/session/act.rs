//! Carries out one step of one session.
//! Takes a step of `decide`; acts through the ports and proposes each effect to the owner. After an error everything
//! done so far stays, and the next decision continues from there.

use std::{path::PathBuf, sync::Arc};

use super::deliver::{NotFree, free};
use crate::{
    live::Hands,
    model::{
        agent::{AgentError, LaunchPlan, LaunchRequest, LaunchTask},
        command::{Action, Refused, RefusedKind},
        event::{Event, Kind, Note, Reason},
        ids::{ProjectName, TaskKey},
        pane::{Background, Key, Launch, PaneId, TerminalError},
        queue::{Sidecar, Workdir},
        session::{Activity, Incarnation, Role, Session, SessionEvent, SessionPhase, Then},
        task::{Delivery, Ending, Run, Stop, TaskEvent},
        task_file::{Reading, clean, read},
    },
    session::step::{Program, Step},
};

/// One session's job.
pub(super) struct Job {
    pub(super) hands: Hands,
    pub(super) session: Arc<Session>,
}

impl Job {
    pub(super) fn new(hands: Hands, session: Arc<Session>) -> Self {
        Self { hands, session }
    }

    pub(super) async fn carry_out(&self, step: Step) -> Result<(), String> {
        match step {
            Step::Nothing | Step::Wait(_) => Ok(()),
            Step::Open(program) => self.open(&program, None).await,
            Step::OpenWith(program, run) => self.open(&program, Some(&run)).await,
            Step::Resume => match self.session.phase.incarnation() {
                Some(_) if !self.holds_its_agent().await? => Ok(()),
                // One save for the note and the end that it asks for.
                Some(incarnation) => {
                    let resume = SessionEvent::Resume { of: incarnation.id.clone(), not_before: None };
                    let resume = Event::Session(self.session.name.clone(), resume);
                    let why = "its conversation goes on in a fresh program";
                    self.end_after(vec![resume], why, false, Then::Start).await
                }
                None => Ok(()),
            },
            Step::Reopen(resume) => self.reopen(&resume).await,
            Step::Continue(run) => self.go_on(&run).await,
            Step::OpenDedicated => self.open_dedicated().await,
            Step::End { why, retire } => self.end(&why, if retire { Then::Retire } else { Then::Start }).await,
            Step::GiveUpStart { why } => self.end_after(Vec::new(), &why, true, Then::Start).await,
            Step::Deliver(run) => self.deliver(&run).await,
            Step::Confirm(run) => self.confirm(&run).await,
            Step::GiveBack { run, why } => self.give_back(&run, &why).await,
            Step::Finish { run, ending } => self.finish(&run, ending).await,
            Step::Free => self.tell(SessionEvent::Freed).await,
            Step::Clear(then) => self.clear(then).await,
        }
    }

    pub(super) async fn tell(&self, event: SessionEvent) -> Result<(), String> {
        self.propose(vec![Event::Session(self.session.name.clone(), event)]).await
    }

    pub(super) async fn propose(&self, events: Vec<Event>) -> Result<(), String> {
        self.hands.live.propose(events).await.map_err(|refusal| refusal.to_string())
    }

    pub(super) fn task_event(&self, event: TaskEvent) -> Option<Event> {
        self.session.task.as_ref().map(|assignment| Event::Task(assignment.task.clone(), event))
    }

    pub(super) fn pane(&self) -> Option<PaneId> {
        self.session.phase.incarnation().map(|incarnation| incarnation.pane.clone())
    }

    async fn open(&self, program: &Program, run: Option<&Run>) -> Result<(), String> {
        let name = &self.session.name;
        self.end_stray().await?;
        if let Some(why) = self.outside(&program.workdir).await {
            let assigned =
                self.session.task.as_ref().and_then(|at| self.hands.live.snapshot().tasks.get(&at.task).cloned());
            return match run.or(assigned.as_ref().and_then(|task| task.phase.run())) {
                Some(run) => self.give_back(run, &why).await,
                None => self.tell(SessionEvent::OpenFailed(why)).await,
            };
        }
        let task = match run {
            Some(run) => {
                let background = self.hands.background();
                let task = LaunchTask { run: run.id.clone(), text: self.prompt(run).await?, background };
                // From here on the program may have the task.
                let begun = self.task_event(TaskEvent::TypingBegun { run: run.id.clone() });
                self.propose(begun.into_iter().collect()).await?;
                Some(task)
            }
            None => None,
        };
        let request = LaunchRequest {
            session: name.clone(),
            incarnation: (self.hands.new_id)(),
            token: (self.hands.new_id)(),
            agent: program.agent.clone(),
            account: program.account.clone(),
            workdir: program.workdir.clone(),
            project: self.project_of(&program.workdir).map(|(_, path, _)| path),
            resume: None,
            prompt: None,
            own_args: true,
            task,
        };
        let opened = match self.launch(&request).await {
            Ok(plan) => self.hands.terminal.open(&plan.launch).await.map(|pane| (plan, pane)),
            Err(error) => Err(TerminalError::Refused { what: name.to_string(), message: error.to_string() }),
        };
        match opened {
            Ok((plan, pane)) => {
                let incarnation = Incarnation {
                    id: request.incarnation,
                    token: request.token,
                    session: name.clone(),
                    agent: program.agent.clone(),
                    account: program.account.clone(),
                    workdir: program.workdir.clone(),
                    conversation: plan.conversation,
                    pane: pane.id,
                    pid: pane.pid,
                    started: self.hands.clock.now(),
                };
                let (of, pane) = (incarnation.id.clone(), incarnation.pane.clone());
                let mut events = vec![Event::Session(name.clone(), SessionEvent::Opened(incarnation))];
                if let Some(run) = run {
                    events.push(Event::Session(name.clone(), SessionEvent::Ready { of }));
                    events.extend(self.task_event(TaskEvent::Taken { run: run.id.clone() }));
                }
                let told = self.propose(events).await;
                if told.is_err() {
                    // A program unknown to the owner would keep running under whatever account it has.
                    let grace = self.hands.config.borrow().lifecycle.stop_grace;
                    let _ = self.hands.terminal.terminate(&pane, grace, self.background()).await;
                }
                told
            }
            Err(error) => {
                let why = error.to_string();
                let mut events = vec![Event::Session(name.clone(), SessionEvent::OpenFailed(why.clone()))];
                if let Some(run) = run
                    && !matches!(error, TerminalError::Down { .. })
                {
                    // It was refused, so nothing of the task can have happened. Without an answer that isn't known, and
                    // the run is left begun: `decide` fails it rather than have it run twice.
                    events.extend(self.unclaim(run, &why).await?);
                    self.propose(events).await?;
                    return Ok(());
                }
                self.propose(events).await
            }
        }
    }

    /// Why a working directory of a project is none any more: a link in its place may lead anywhere.
    async fn outside(&self, workdir: &std::path::Path) -> Option<String> {
        let (project, _, below) = self.project_of(workdir)?;
        let below = Some(below).filter(|below| !below.is_empty())?;
        match self.hands.queue.workdir(&project, &below).await {
            Ok(Workdir::Inside) | Err(_) => None,
            Ok(Workdir::Outside) => Some(format!("{} leads out of the project by a link now", workdir.display())),
            Ok(Workdir::Missing) => Some(format!("{} is gone", workdir.display())),
        }
    }

    /// The project that a working directory belongs to, the project's directory, and the rest of the path.
    pub(super) fn project_of(&self, workdir: &std::path::Path) -> Option<(ProjectName, PathBuf, String)> {
        let snapshot = self.hands.live.snapshot();
        snapshot.projects.iter().find_map(|project| {
            let below = workdir.strip_prefix(&project.path).ok()?.to_str()?.to_owned();
            Some((project.name.clone(), project.path.clone(), below))
        })
    }

    /// Prepares a launch; `health` reports a problem with the program's version while it lasts.
    pub(super) async fn launch(&self, request: &LaunchRequest) -> Result<LaunchPlan, AgentError> {
        let mut plan = self.hands.agents.launch(request).await?;
        let nice = self.hands.config.borrow().pool.autonomous.nice;
        if self.session.role == Role::Pool && nice > 0 {
            plan.launch.argv.splice(0..0, ["nice".to_owned(), "-n".to_owned(), nice.to_string()]);
        }
        let (topic, problem) = (format!("version of {}", request.agent), plan.complaint.clone());
        if self.hands.live.snapshot().health.get(&topic) != problem.as_ref() {
            self.hands.live.report(vec![Event::Health { topic, problem }]).await;
        }
        Ok(plan)
    }

    /// Stops what a dead program left, and a program that was started in this pool session but never reported: the
    /// answer to the start was lost, or it could not be saved. Only in a pane with our mark.
    pub(super) async fn end_stray(&self) -> Result<(), String> {
        if self.session.role == Role::Dedicated {
            return Ok(());
        }
        if let Some(incarnation) = self.session.phase.incarnation() {
            let SessionPhase::Dead { .. } = &self.session.phase else { return Ok(()) };
            return self.end_left(incarnation).await;
        }
        let panes = self.hands.terminal.panes().await.map_err(|e| e.to_string())?;
        let stray = panes
            .iter()
            .find(|pane| pane.session == self.session.name && pane.exit.is_none() && pane.incarnation.is_some());
        let Some(stray) = stray else { return Ok(()) };
        let grace = self.hands.config.borrow().lifecycle.stop_grace;
        self.hands.terminal.terminate(&stray.id, grace, Background::Ends).await.map_err(|e| e.to_string())
    }

    async fn open_dedicated(&self) -> Result<(), String> {
        let name = &self.session.name;
        let row = {
            let config = self.hands.config.borrow();
            config.pool.dedicated.iter().find(|row| row.name == *name).cloned()
        };
        let Some(row) = row else { return Ok(()) };
        let panes = self.hands.terminal.panes().await.map_err(|e| e.to_string())?;
        let present = panes.into_iter().find(|pane| pane.session == *name);
        let mut token = String::new();
        let (pane, agent, account, conversation) = match (present, &row.agent) {
            // The operator's own: looked at, never changed.
            (Some(pane), agent) => (pane, agent.clone(), None, None),
            (None, None) => {
                let launch = self.shell((self.hands.new_id)(), row.workdir.clone());
                (self.opened(self.hands.terminal.open(&launch).await).await?, None, None, None)
            }
            (None, Some(agent)) => {
                let account = self.hands.live.snapshot().under(agent).name().cloned();
                token = (self.hands.new_id)();
                let request = LaunchRequest {
                    session: name.clone(),
                    incarnation: (self.hands.new_id)(),
                    token: token.clone(),
                    agent: agent.clone(),
                    account: account.clone(),
                    workdir: row.workdir.clone(),
                    project: None,
                    resume: None,
                    prompt: None,
                    own_args: true,
                    task: None,
                };
                let mut plan = match self.launch(&request).await {
                    Ok(plan) => plan,
                    Err(error) => return self.tell(SessionEvent::OpenFailed(error.to_string())).await,
                };
                plan.launch.keep_dead = false;
                let pane = self.opened(self.hands.terminal.open(&plan.launch).await).await?;
                (pane, Some(agent.clone()), account, plan.conversation)
            }
        };
        let default = self.hands.config.borrow().pool.autonomous.agent.clone();
        let incarnation = Incarnation {
            id: pane.incarnation.unwrap_or_default(),
            token,
            session: name.clone(),
            agent: agent.unwrap_or(default),
            account,
            workdir: row.workdir,
            conversation,
            pane: pane.id,
            pid: pane.pid,
            started: self.hands.clock.now(),
        };
        self.tell(SessionEvent::Opened(incarnation)).await
    }

    /// A person's shell.
    pub(super) fn shell(&self, incarnation: String, workdir: PathBuf) -> Launch {
        let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
        Launch {
            session: self.session.name.clone(),
            incarnation,
            argv: vec![shell, "-l".to_owned()],
            env: Vec::new(),
            workdir,
            keep_dead: false,
        }
    }

    pub(super) async fn opened(
        &self,
        result: Result<crate::model::pane::Pane, TerminalError>,
    ) -> Result<crate::model::pane::Pane, String> {
        match result {
            Ok(pane) => Ok(pane),
            Err(error) => {
                self.tell(SessionEvent::OpenFailed(error.to_string())).await?;
                Err(error.to_string())
            }
        }
    }

    /// Whether the agent to be stopped still runs in a person's session: the person may have quit it a moment ago, and
    /// what runs there now is theirs. Then that is reported instead.
    async fn holds_its_agent(&self) -> Result<bool, String> {
        let Some(incarnation) = self.session.phase.incarnation().filter(|_| self.session.role == Role::Dedicated)
        else {
            return Ok(true);
        };
        let panes = self.hands.terminal.panes().await.map_err(|error| error.to_string())?;
        let pane = panes.iter().find(|pane| pane.id == incarnation.pane && pane.exit.is_none());
        // We started it ourselves with no shell around it: it is what the pane holds.
        let Some(pane) = pane.filter(|pane| pane.pid != incarnation.pid || self.session.spent) else { return Ok(true) };
        let of = incarnation.id.clone();
        let topic = format!("session {}", self.session.name);
        match self.hands.agents.find(&incarnation.agent, pane.pid).await {
            Some(found) if found.pid != incarnation.pid => {
                let (pid, account, conversation) = (found.pid, found.account, found.conversation);
                self.tell(SessionEvent::Found { of, pid, account, conversation }).await?;
                Ok(false)
            }
            Some(found) if !found.others.is_empty() => {
                let problem = format!(
                    "its agent does not move to the active account while other programs run beside it ({}): they would be \
                     ended with it; it moves when they are gone",
                    found.others.join(", ")
                );
                self.propose(vec![Event::Health { topic, problem: Some(problem.clone()) }]).await?;
                Err(problem)
            }
            Some(_) => {
                self.propose(vec![Event::Health { topic, problem: None }]).await?;
                Ok(true)
            }
            None => {
                self.propose(vec![Event::Health { topic, problem: None }]).await?;
                self.tell(SessionEvent::Found { of, pid: pane.pid, account: None, conversation: None }).await?;
                Ok(false)
            }
        }
    }

    /// Stops the program with its whole process tree. The owner refuses `Ending` for a dedicated session that isn't to
    /// resume its conversation.
    pub(super) async fn end(&self, why: &str, then: Then) -> Result<(), String> {
        if !matches!(self.session.phase, SessionPhase::Ending(_)) && !self.holds_its_agent().await? {
            return Ok(());
        }
        self.end_after(Vec::new(), why, false, then).await
    }

    /// The same where its agent is known to be there; `events` are saved together with the end's begin.
    async fn end_after(&self, mut events: Vec<Event>, why: &str, failed: bool, then: Then) -> Result<(), String> {
        let name = &self.session.name;
        if matches!(self.session.phase, SessionPhase::Starting(_)) {
            let text = format!("ended while starting: {why}");
            events.push(Event::Note(Note::new(Kind::Problem, Reason::StartFailed, &*self.session, text)));
        }
        tracing::info!(session = %name, why, "ending the agent");
        events.push(Event::Session(name.clone(), SessionEvent::Ending { why: why.to_owned(), failed }));
        self.propose(events).await?;
        if let Some(pane) = self.pane() {
            let grace = self.hands.config.borrow().lifecycle.stop_grace;
            if self.session.role == Role::Dedicated {
                // Its pane would go with its program, and whoever looks at it with it.
                self.hands.terminal.keep(&pane).await.map_err(|e| e.to_string())?;
            }
            self.hands.terminal.terminate(&pane, grace, self.background()).await.map_err(|e| e.to_string())?;
        }
        self.clear(then).await
    }

    /// Ends what a program left that is gone from its pane; then the session is free.
    async fn clear(&self, then: Then) -> Result<(), String> {
        let name = &self.session.name;
        if let Some(incarnation) = self.session.phase.incarnation().filter(|_| self.session.role == Role::Pool) {
            self.end_left(incarnation).await?;
        }
        if then == Then::Retire {
            self.hands.terminal.close(name).await.map_err(|e| e.to_string())?;
        }
        self.tell(SessionEvent::Ended { then }).await
    }

    async fn end_left(&self, incarnation: &Incarnation) -> Result<(), String> {
        let grace = self.hands.config.borrow().lifecycle.stop_grace;
        let ended = self.hands.terminal.end_left(incarnation, grace, self.background()).await;
        ended.map_err(|e| e.to_string())
    }

    /// What a finished task has left running may stay, if the configuration says so. Of an unfinished one everything ends: it is
    /// cancelled, out of time, or begins again. In a person's session the program is below a shell of his.
    fn background(&self) -> Background {
        match (self.session.role, &self.session.task) {
            (Role::Pool, None) => self.hands.background(),
            (Role::Pool, Some(_)) | (Role::Dedicated, _) => Background::Ends,
        }
    }

    /// Removes the marker, then informs the owner, so the next claim starts from a free name.
    async fn unclaim(&self, run: &Run, why: &str) -> Result<Vec<Event>, String> {
        if run.delivery != Delivery::NotBegun {
            self.end_stray().await?;
        }
        let Some(assignment) = &self.session.task else { return Ok(Vec::new()) };
        self.remove_marker(&assignment.task).await?;
        Ok(vec![
            Event::Task(assignment.task.clone(), TaskEvent::Unclaimed { run: run.id.clone(), why: why.to_owned() }),
            Event::Session(self.session.name.clone(), SessionEvent::Freed),
        ])
    }

    async fn remove_marker(&self, task: &TaskKey) -> Result<(), String> {
        let removed = self.hands.queue.unmark(&task.project, &task.id, &[Sidecar::Working]).await;
        removed.map_err(|error| format!("the claim marker of {task} can't be removed: {error}"))
    }

    pub(super) async fn give_back(&self, run: &Run, why: &str) -> Result<(), String> {
        if run.stop == Stop::No {
            // Saved before anything of it is removed: nothing may bring the run back to life half way.
            let again = self.task_event(TaskEvent::TryAgain { run: run.id.clone(), why: why.to_owned() });
            self.propose(again.into_iter().collect()).await?;
        }
        let events = self.unclaim(run, why).await?;
        self.propose(events).await
    }

    async fn finish(&self, run: &Run, ending: Ending) -> Result<(), String> {
        if run.delivery != Delivery::NotBegun {
            self.end_stray().await?;
        }
        let tokens = match self.session.phase.incarnation() {
            Some(incarnation) => self.hands.agents.tokens(incarnation).await,
            None => None,
        };
        let resume_id = self.session.phase.incarnation().and_then(|i| i.conversation.clone());
        let ending = Ending { tokens, resume_id, ..ending };
        let event = self.task_event(TaskEvent::Ended { run: run.id.clone(), ending, told: None });
        let told = self.propose(event.into_iter().collect()).await;
        // Its own end came a moment sooner: then that is filed.
        if self.is_at_work(run) { told } else { Ok(()) }
    }

    /// The text that the agent gets, cleaned of everything that drives a terminal.
    pub(super) async fn prompt(&self, run: &Run) -> Result<String, String> {
        let text = self.hands.live.snapshot().texts.get(&run.id).cloned();
        let text = text.ok_or_else(|| format!("the text of run {} is not there any more", run.id))?;
        let Reading::Ready { prompt, .. } = read(text.as_bytes()) else {
            return Err(format!("the text of run {} is no task any more", run.id));
        };
        let (text, dropped) = clean(&prompt);
        if dropped > 0
            && let Some(assignment) = &self.session.task
        {
            let text =
                format!("control characters were taken out of its text before it was given to the agent: {dropped}");
            let note = Note::new(Kind::Problem, Reason::Cleaned, &assignment.task, text);
            self.propose(vec![Event::Note(note)]).await?;
        }
        Ok(text)
    }

    /// A verb of a person's.
    pub(super) async fn request(&self, id: u64, action: &Action) -> Result<(), String> {
        let result = match action {
            Action::Interrupt(_) => self.keys(&self.hands.agents.interrupt_keys(self.agent().as_ref())).await,
            Action::Keys(_, keys) => self.keys(keys).await,
            Action::Input(_, text) => self.input(text).await,
            Action::Exit(_) | Action::Restart(_) if self.session.role == Role::Dedicated => {
                Err(Refused::new(RefusedKind::NotPermitted, "a dedicated session's agent is never ended from here"))
            }
            // An agent stopped by its account resumes its conversation.
            Action::Restart(_) if self.session.task.is_some() && self.session.verdict.activity == Activity::Limited => {
                let told = self.carry_out(Step::Resume).await;
                told.map_err(|error| Refused::new(RefusedKind::Failed, error))
            }
            Action::Exit(_) | Action::Restart(_) => match &self.session.phase {
                SessionPhase::Starting(_) | SessionPhase::Up(_) => {
                    let verb = if matches!(action, Action::Exit(_)) { "exit" } else { "restart" };
                    let why = format!("its agent was ended by `{verb}` in sessions/{}/control", self.session.name);
                    let ended = self.end(&why, Then::Start).await;
                    ended.map_err(|error| Refused::new(RefusedKind::Failed, error))
                }
                SessionPhase::Down | SessionPhase::Ending(_) | SessionPhase::Dead { .. } => Ok(()),
            },
            Action::Retry(..) | Action::RetryAnywhere(..) | Action::Swap | Action::Clean(_) | Action::Reload => {
                return Ok(());
            }
        };
        let result = result.map(|()| "ok".to_owned());
        self.propose(vec![Event::RequestDone { id, result }]).await
    }

    fn agent(&self) -> Option<crate::model::ids::AgentName> {
        self.session.phase.incarnation().map(|incarnation| incarnation.agent.clone())
    }

    async fn keys(&self, keys: &[String]) -> Result<(), Refused> {
        let keys: Vec<Key> = keys.iter().cloned().map(Key).collect();
        let pane = self.pane().ok_or_else(|| Refused::new(RefusedKind::Unavailable, "no agent runs there"))?;
        self.hands.terminal.keys(&pane, &keys).await.map_err(|error| refused(&error))
    }

    pub(super) async fn input(&self, text: &str) -> Result<(), Refused> {
        let (text, _) = clean(text.trim_end_matches('\n'));
        let pane = self.pane().ok_or_else(|| Refused::new(RefusedKind::Unavailable, "no agent runs there"))?;
        let agent = self.agent();
        let busy = |why: String| Err(Refused::new(RefusedKind::Busy, why));
        let ghost = match self.look(&pane, agent.as_ref()).await.map_or(Err(NotFree::NoBox), free) {
            Ok(free) => free.ghost,
            Err(NotFree::Dialog(asks)) => return busy(format!("it waits at a dialog ({asks}); answer with keys")),
            Err(NotFree::Draft(text)) => {
                return busy(format!(
                    "its input box holds a text already (\"{text}\"); send or clear it with keys first"
                ));
            }
            Err(NotFree::NoBox) => return busy("it shows no input box now; use keys".to_owned()),
        };
        if text.is_empty() {
            return Ok(());
        }
        self.hands.terminal.paste(&pane, &text).await.map_err(|error| refused(&error))?;
        self.arrived(&pane, agent.as_ref(), &text, ghost.as_deref())
            .await
            .map_err(|why| Refused::new(RefusedKind::Failed, why))?;
        self.hands.terminal.keys(&pane, &[Key("Enter".to_owned())]).await.map_err(|error| refused(&error))
    }
}

fn refused(error: &TerminalError) -> Refused {
    let kind = match error {
        TerminalError::Gone { .. } | TerminalError::Dead { .. } => RefusedKind::Unavailable,
        TerminalError::Refused { .. } | TerminalError::Text { .. } => RefusedKind::Invalid,
        TerminalError::Down { .. } => RefusedKind::Failed,
    };
    Refused::new(kind, error.to_string())
}
