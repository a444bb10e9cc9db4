//! Starting the program that goes on with a conversation, in the pane where the last one ended.
//! In: what is to be resumed. Out: the program in the pane, told to the owner. Gives a prompt only to a session with a task:
//! nothing is ever said in a person's session.

use super::act::Job;
use crate::{
    model::{
        ids::AccountName,
        session::{Incarnation, Resume, Role, SessionEvent},
        task::Run,
    },
    ports::{AgentError, Cursor, Launch, LaunchRequest, Pane, TerminalError},
};

/// Runs the words given to it, then leaves the person at a shell, as he was before.
const THEN_SHELL: &str = r#""$@"; exec "${SHELL:-/bin/sh}" -l"#;
/// Without a conversation there is nothing to run first.
const ONLY_SHELL: &str = r#"exec "${SHELL:-/bin/sh}" -l"#;

impl Job {
    pub(super) async fn reopen(&self, resume: &Resume) -> Result<(), String> {
        if let Some(pane) = self.living().await? {
            let ours = pane.incarnation.is_some();
            let conversation = resume.conversation.clone().filter(|_| ours);
            let id = pane.incarnation.clone().unwrap_or_default();
            return self.is_open(resume, id, None, conversation, pane).await;
        }
        let account = self.tools.live.snapshot().under(&resume.agent).usable().cloned();
        self.end_stray().await?;
        let request = self.resumed(resume, account.clone());
        let launch = match self.tools.agents.launch(&request).await {
            Ok(plan) => self.for_its_role(resume, plan.launch),
            // A person gets his shell whatever is wrong with his agent.
            Err(_) if self.session.role == Role::Dedicated && resume.conversation.is_none() => {
                self.shell(request.incarnation.clone(), resume.workdir.clone())
            }
            Err(AgentError { message, .. }) => return self.tell(SessionEvent::OpenFailed(message)).await,
        };
        let pane = match self.tools.terminal.open(&launch).await {
            Ok(pane) => pane,
            // Whether it was started is not known; if it was, it is ended before the next start.
            Err(error @ TerminalError::Down { .. }) => return Err(error.to_string()),
            Err(error) => return self.tell(SessionEvent::OpenFailed(error.to_string())).await,
        };
        // A shell runs under no account.
        let account = account.filter(|_| self.session.role == Role::Pool || resume.conversation.is_some());
        self.is_open(resume, request.incarnation, account, resume.conversation.clone(), pane).await
    }

    /// What lives in a person's session though nothing is known to run there: started by a daemon that ended before it could say
    /// so, or by himself. It is never ended; what it is tells a look at its processes.
    async fn living(&self) -> Result<Option<Pane>, String> {
        if self.session.role == Role::Pool {
            return Ok(None);
        }
        let panes = self.tools.terminal.panes().await.map_err(|error| error.to_string())?;
        Ok(panes.into_iter().find(|pane| pane.session == self.session.name && pane.exit.is_none()))
    }

    async fn is_open(
        &self,
        resume: &Resume,
        id: String,
        account: Option<AccountName>,
        conversation: Option<String>,
        pane: Pane,
    ) -> Result<(), String> {
        let incarnation = Incarnation {
            id,
            session: self.session.name.clone(),
            agent: resume.agent.clone(),
            account,
            workdir: resume.workdir.clone(),
            conversation,
            pane: pane.id,
            pid: pane.pid,
            started: self.tools.clock.now(),
        };
        self.tell(SessionEvent::Opened(incarnation)).await
    }

    fn resumed(&self, resume: &Resume, account: Option<AccountName>) -> LaunchRequest {
        let takes = self.tools.agents.resumes_with_prompt(&resume.agent);
        let text = self.tools.config.borrow().switcher.resume_text.clone();
        let prompt = (takes && self.session.task.is_some()).then(|| self.tools.agents.as_prompt(&resume.agent, text));
        LaunchRequest {
            session: self.session.name.clone(),
            incarnation: (self.tools.new_id)(),
            agent: resume.agent.clone(),
            account,
            workdir: resume.workdir.clone(),
            resume: resume.conversation.clone(),
            prompt,
            task: None,
        }
    }

    /// A person's session leaves him at a shell when the agent ends; a pool session keeps its dead pane.
    fn for_its_role(&self, resume: &Resume, launch: Launch) -> Launch {
        if self.session.role == Role::Pool {
            return launch;
        }
        let script = if resume.conversation.is_some() { THEN_SHELL } else { ONLY_SHELL };
        let mut argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned(), "sh".to_owned()];
        argv.extend(launch.argv);
        Launch { argv, keep_dead: false, ..launch }
    }

    /// Types the words to go on into an agent that did not take them at its start.
    pub(super) async fn go_on(&self, run: &Run) -> Result<(), String> {
        let Some(incarnation) = self.session.phase.incarnation() else { return Ok(()) };
        let since = |at| Run { typed: Some(at), ..run.clone() };
        if !self.was_taken(incarnation, &since(incarnation.started), &mut Cursor::default()).await {
            let text = self.tools.config.borrow().switcher.resume_text.clone();
            let text = self.tools.agents.as_prompt(&run.agent, text);
            let now = self.tools.clock.now();
            self.put_into_box(incarnation, &text).await?;
            self.sent(incarnation, &since(now), &text).await?;
        }
        self.tell(SessionEvent::Resumed { of: incarnation.id.clone() }).await
    }
}
