//! Resumes a conversation: starts a new program in the pane where the last one ended, and proposes that to the owner.
//! Sends a prompt only to a session with a task, never to a person's session.

use super::act::Job;
use crate::model::{
    agent::{AgentError, Cursor, LaunchRequest, PASSED_ON},
    ids::AccountName,
    pane::{Launch, Pane, TerminalError},
    session::{Incarnation, Resume, Role, SessionEvent},
    snapshot::Under,
    task::{Run, TaskEvent},
};

/// A script that runs the words given to it, then leaves the person at a shell, as he was before: what only the agent was to
/// have is gone from it.
fn then_shell(env: &[(String, String)]) -> String {
    let names = env.iter().map(|(name, _)| name.as_str());
    let own = names.filter(|name| !PASSED_ON.contains(name) && !name.starts_with("LC_"));
    // Anything else can't be a shell's variable, and must not be its words.
    let is_name = |name: &&str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let unset: String = own.filter(is_name).map(|name| format!("unset {name}; ")).collect();
    format!(r#""$@"; {unset}exec "${{SHELL:-/bin/sh}}" -l"#)
}

impl Job {
    pub(super) async fn reopen(&self, resume: &Resume) -> Result<(), String> {
        if let Some(pane) = self.living().await? {
            let ours = pane.incarnation.is_some();
            let conversation = resume.conversation.clone().filter(|_| ours);
            let id = (pane.incarnation.clone().unwrap_or_default(), String::new());
            return self.is_open(resume, id, None, conversation, pane).await;
        }
        let account = match self.hands.live.snapshot().under(&resume.agent) {
            // It was usable a moment ago: the next step is decided again.
            Under::Blocked(_) if self.session.role == Role::Pool && resume.conversation.is_some() => return Ok(()),
            under => under.name().cloned(),
        };
        self.end_stray().await?;
        let request = self.resumed(resume, account.clone());
        let launch = match self.launch(&request).await {
            Ok(plan) => self.for_its_role(resume, plan.launch),
            // A person gets his shell whatever is wrong with his agent.
            Err(_) if self.session.role == Role::Dedicated && resume.conversation.is_none() => {
                self.shell(request.incarnation.clone(), resume.workdir.clone())
            }
            Err(AgentError { message, .. }) => return self.tell(SessionEvent::OpenFailed(message)).await,
        };
        let pane = match self.hands.terminal.open(&launch).await {
            Ok(pane) => pane,
            // Whether it was started is not known; if it was, it is ended before the next start.
            Err(error @ TerminalError::Down { .. }) => return Err(error.to_string()),
            Err(error) => return self.tell(SessionEvent::OpenFailed(error.to_string())).await,
        };
        // A shell runs under no account.
        let account = account.filter(|_| self.session.role == Role::Pool || resume.conversation.is_some());
        let id = (request.incarnation, request.token);
        self.is_open(resume, id, account, resume.conversation.clone(), pane).await
    }

    /// A program alive in a person's session where none is known: started by a daemon that died before it could report
    /// it, or by the person. It is never stopped; its processes show what it is.
    async fn living(&self) -> Result<Option<Pane>, String> {
        if self.session.role == Role::Pool {
            return Ok(None);
        }
        let panes = self.hands.terminal.panes().await.map_err(|error| error.to_string())?;
        Ok(panes.into_iter().find(|pane| pane.session == self.session.name && pane.exit.is_none()))
    }

    async fn is_open(
        &self,
        resume: &Resume,
        (id, token): (String, String),
        account: Option<AccountName>,
        conversation: Option<String>,
        pane: Pane,
    ) -> Result<(), String> {
        let incarnation = Incarnation {
            id,
            token,
            session: self.session.name.clone(),
            agent: resume.agent.clone(),
            account,
            workdir: resume.workdir.clone(),
            conversation,
            pane: pane.id,
            pid: pane.pid,
            started: self.hands.clock.now(),
        };
        self.tell(SessionEvent::Opened(incarnation)).await
    }

    fn resumed(&self, resume: &Resume, account: Option<AccountName>) -> LaunchRequest {
        let takes = self.hands.agents.resumes_with_prompt(&resume.agent);
        let text = self.hands.config.borrow().switcher.resume_text.clone();
        let prompt =
            (takes && self.session.task.is_some()).then(|| self.hands.agents.as_prompt(&resume.agent, text, None));
        // A person's session is where he has put it.
        let is_pool = self.session.role == Role::Pool;
        let project = is_pool.then(|| self.project_of(&resume.workdir)).flatten().map(|(_, path, _)| path);
        LaunchRequest {
            project,
            session: self.session.name.clone(),
            incarnation: (self.hands.new_id)(),
            token: (self.hands.new_id)(),
            agent: resume.agent.clone(),
            account,
            workdir: resume.workdir.clone(),
            resume: resume.conversation.clone(),
            prompt,
            own_args: self.session.role == Role::Pool || self.starts_agent(),
            task: None,
        }
    }

    /// Whether the configuration says that this person's session starts an agent; else he started it himself, as he liked it.
    fn starts_agent(&self) -> bool {
        let config = self.hands.config.borrow();
        config.pool.dedicated.iter().any(|row| row.name == self.session.name && row.agent.is_some())
    }

    /// A person's session leaves him at a shell when the agent ends; a pool session keeps its dead pane.
    fn for_its_role(&self, resume: &Resume, launch: Launch) -> Launch {
        if self.session.role == Role::Pool {
            return launch;
        }
        if resume.conversation.is_none() {
            return self.shell(launch.incarnation, launch.workdir);
        }
        let mut argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), then_shell(&launch.env), "sh".to_owned()];
        argv.extend(launch.argv);
        Launch { argv, keep_dead: false, ..launch }
    }

    /// Types the resume text into an agent that did not take it as an argument.
    pub(super) async fn go_on(&self, run: &Run) -> Result<(), String> {
        let Some(incarnation) = self.session.phase.incarnation() else { return Ok(()) };
        let since = |at| Run { typed: Some(at), ..run.clone() };
        if !self.was_taken(incarnation, &since(incarnation.started), &mut Cursor::default()).await {
            let text = self.hands.config.borrow().switcher.resume_text.clone();
            let text = self.hands.agents.as_prompt(&run.agent, text, None);
            let now = self.hands.clock.now();
            let told = match self.put_into_box(incarnation, &text).await {
                Ok(()) => self.sent(incarnation, &since(now), &text).await,
                Err(why) => Err(why),
            };
            if let Err(why) = told {
                let why = format!("its agent could not be told to go on: {why}");
                let again = self.task_event(TaskEvent::TryAgain { run: run.id.clone(), why });
                return self.propose(again.into_iter().collect()).await;
            }
        }
        self.tell(SessionEvent::Resumed { of: incarnation.id.clone() }).await
    }
}
