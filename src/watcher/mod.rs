//! The watcher: reads panes and evidence, classifies every agent, and detects when a run is over.
//! Takes the terminal, the agents' evidence and hints; proposes verdicts, screens, exits and ends of runs. Owns its
//! read positions. Never types, starts or stops anything.

pub mod classify;
mod dedicated;
mod history;
pub mod over;
#[cfg(test)]
mod properties;
mod shown;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{broadcast::error::RecvError, watch};

use self::{
    classify::{Settings, classify},
    history::History,
    over::{Facts, Over, over, was_taken},
    shown::{APART, ScreenLimit},
};
use crate::{
    live::Hands,
    model::{
        account::{Account, AccountEvent, Standing},
        agent::{Cursor, PromptBy},
        event::{Event, Kind, Note, Reason},
        evidence::{Look, Meaning, Screen, Source, UNKNOWN_DIALOG},
        ids::SessionName,
        pane::{Capture, Pane, PaneId},
        session::{Activity, Incarnation, Role, Screens, Session, SessionEvent, SessionPhase, Verdict},
        snapshot::Snapshot,
        steady::Timeline,
        task::{Delivery, Ending, Phase, Run, Status, TaskEvent},
    },
};

/// A background command of which only the screen shows the number.
const UNNAMED: &str = "a command in the background";
/// Every pane is polled this often without hints. Chosen: 50 panes cost 0.1 to 0.3 % of a core (measured).
const TICK: Duration = Duration::from_secs(1);
/// Hints within this time cause one look. Chosen: a program's output arrives in bursts.
const GATHER: Duration = Duration::from_millis(5);
/// How often screens are read with colours, which cost the tmux server 4 to 5 times as much as text (measured on
/// 3.3a). Chosen: five ticks.
const COLOUR_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// How often the moving screen of an idle agent is read. Chosen: every second tick.
const AT_REST_EVERY: SignedDuration = SignedDuration::from_millis(1900);
/// How often a working agent's files are polled without hints. Chosen: inotify loses events only on overflow.
const FILES_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// The same for an idle agent. Chosen: nothing waits for it.
const FILES_EVERY_IDLE: SignedDuration = SignedDuration::from_secs(30);
/// How often the scrollback is read. Chosen: 2000 lines cost 5 ms a pane (measured on 3.3a).
const HISTORY_EVERY: SignedDuration = SignedDuration::from_secs(15);

pub struct Watcher {
    hands: Hands,
    watched: HashMap<SessionName, Watched>,
    /// Said once that the terminal does not answer.
    down: bool,
    /// Some agent's files may have changed since the last look.
    files_hinted: bool,
    /// At the last look a limit was suspected, or only a screen could have shown one.
    by_screen: bool,
    /// The timeline by which everything read so far was stamped.
    timeline: Arc<Timeline>,
}

/// What is remembered of one session's incarnation.
#[derive(Debug, Default)]
struct Watched {
    incarnation: String,
    cursor: Cursor,
    history: History,
    pane_change: Option<u64>,
    /// What the screen said when it last changed.
    look: Look,
    screen_changed: bool,
    files_read: Timestamp,
    /// No agent was found at the last look into a person's session.
    missing: bool,
    last_change: Timestamp,
    told_silent: bool,
    screens: Arc<Screens>,
    plain_read: Timestamp,
    colour_read: Timestamp,
    history_read: Timestamp,
    /// Changed since it was last read.
    plain_stale: bool,
    colour_stale: bool,
    history_stale: bool,
}

impl Watcher {
    #[must_use]
    pub fn new(hands: Hands) -> Self {
        Self {
            hands,
            watched: HashMap::new(),
            down: false,
            files_hinted: true,
            by_screen: false,
            timeline: Arc::default(),
        }
    }

    /// Works until the owner stops.
    pub async fn run(mut self) {
        let mut hints = self.hands.terminal.hints();
        let mut snapshots = self.hands.live.watch();
        loop {
            self.look().await;
            tokio::select! {
                biased;
                () = tokio::time::sleep(self.pause()) => {}
                () = self.hands.agents.changed() => {
                    self.files_hinted = true;
                    tokio::time::sleep(GATHER).await;
                }
                hint = hints.recv() => match hint {
                    Ok(_) | Err(RecvError::Lagged(_)) => tokio::time::sleep(GATHER).await,
                    Err(RecvError::Closed) => tokio::time::sleep(TICK).await,
                },
                () = moved(&mut snapshots) => {}
            }
            if snapshots.has_changed().is_err() {
                return;
            }
        }
    }

    /// Until the next look: shorter while only the screen of an agent at work can tell of a limit, which has to be read twice.
    fn pause(&self) -> Duration {
        if self.by_screen { APART } else { TICK }
    }

    /// One look at everything.
    pub async fn look(&mut self) {
        let timeline = self.hands.clock.timeline();
        if self.timeline != timeline {
            // What was told of times to come is read again, by the clock as it goes now.
            self.watched.clear();
            self.timeline = timeline;
        }
        let snapshot = self.hands.live.snapshot();
        let panes = match self.hands.terminal.glance().await {
            Ok(panes) => panes,
            Err(error) => {
                if !self.down {
                    let text =
                        format!("tmux does not answer: {error}; sessions are looked at again as soon as it does");
                    self.hands.live.report(vec![Event::Health { topic: "tmux".to_owned(), problem: Some(text) }]).await;
                }
                self.down = true;
                return;
            }
        };
        let mut events = Vec::new();
        if std::mem::take(&mut self.down) {
            events.push(Event::Health { topic: "tmux".to_owned(), problem: None });
        }
        let by_session: HashMap<&SessionName, &Pane> = panes.iter().map(|pane| (&pane.session, pane)).collect();
        let mut present = Vec::new();
        for (name, session) in &snapshot.sessions {
            match (session.phase.incarnation(), by_session.get(name)) {
                (Some(incarnation), Some(pane)) if is_of(session, incarnation, pane) => {
                    present.push((session.clone(), *pane));
                }
                (Some(incarnation), _)
                    if !matches!(session.phase, SessionPhase::Dead { .. } | SessionPhase::Ending(_)) =>
                {
                    if session.role == Role::Pool {
                        events.extend(self.last_words(&snapshot, session, incarnation).await);
                    }
                    events.push(Event::Session(name.clone(), SessionEvent::Lost { of: incarnation.id.clone() }));
                    self.watched.remove(name);
                }
                (Some(_) | None, _) => {}
            }
        }
        self.capture(&present).await;
        self.by_screen = false;
        let files_hinted = std::mem::take(&mut self.files_hinted);
        for (session, pane) in present {
            events.extend(self.session(&snapshot, &session, pane, files_hinted).await);
        }
        events.extend(snapshot.accounts.iter().filter_map(|account| self.recovered(&snapshot, account)));
        self.hands.live.report(events).await;
    }

    /// A suspicion whose screen shows something else, or is gone.
    fn recovered(&self, snapshot: &Snapshot, account: &Account) -> Option<Event> {
        let Standing::Suspect { session, .. } = &account.standing else { return None };
        let incarnation = snapshot.sessions.get(session).and_then(|session| session.phase.incarnation());
        let watched = incarnation
            .filter(|i| i.account.as_ref() == Some(&account.name))
            .and_then(|incarnation| self.watched.get(session).filter(|watched| watched.incarnation == incarnation.id));
        let confirm = self.hands.config.borrow().quota.confirm;
        let stands = watched.is_some_and(|watched| watched.history.screen_limit(confirm).is_some());
        let recovered = AccountEvent::Recovered { session: session.clone() };
        (!stands).then(|| Event::Account(account.name.clone(), recovered))
    }

    /// Reads the screens that may have changed, all in one go.
    async fn capture(&mut self, present: &[(Arc<Session>, &Pane)]) {
        let now = self.hands.clock.now();
        let mut plain: Vec<(SessionName, PaneId)> = Vec::new();
        let mut colour = Vec::new();
        let mut history = Vec::new();
        for (session, pane) in present {
            let Some(incarnation) = session.phase.incarnation() else { continue };
            let watched = self.watched.entry(session.name.clone()).or_default();
            if watched.incarnation != incarnation.id {
                *watched = Watched { incarnation: incarnation.id.clone(), last_change: now, ..Watched::default() };
            }
            let too_soon = at_rest(session) && now.duration_since(watched.plain_read) < AT_REST_EVERY;
            if watched.pane_change != Some(pane.change) && !too_soon {
                watched.plain_read = now;
                watched.pane_change = Some(pane.change);
                watched.plain_stale = true;
                watched.colour_stale = true;
                watched.history_stale = true;
            }
            if watched.plain_stale {
                plain.push((session.name.clone(), pane.id.clone()));
            }
            if watched.colour_stale && now.duration_since(watched.colour_read) >= COLOUR_EVERY {
                (watched.colour_stale, watched.colour_read) = (false, now);
                colour.push((session.name.clone(), pane.id.clone()));
            }
            if watched.history_stale && now.duration_since(watched.history_read) >= HISTORY_EVERY {
                (watched.history_stale, watched.history_read) = (false, now);
                history.push((session.name.clone(), pane.id.clone()));
            }
        }
        for (which, how) in [(plain, Capture::Plain), (colour, Capture::Colour), (history, Capture::History)] {
            let ids: Vec<PaneId> = which.iter().map(|(_, id)| id.clone()).collect();
            if ids.is_empty() {
                continue;
            }
            let texts = self.hands.terminal.capture(&ids, how).await;
            let Ok(texts) = texts else {
                // Not read, so not known: the next look tries again.
                for (name, _) in which {
                    if let Some(watched) = self.watched.get_mut(&name) {
                        watched.pane_change = None;
                    }
                }
                continue;
            };
            for ((name, _), text) in which.into_iter().zip(texts) {
                if let (Ok(text), Some(watched)) = (text, self.watched.get_mut(&name)) {
                    let screens = Arc::make_mut(&mut watched.screens);
                    screens.read = Some(now);
                    match how {
                        Capture::Plain => {
                            watched.plain_stale = false;
                            screens.plain = text;
                            watched.screen_changed = true;
                        }
                        Capture::Colour => screens.colour = text,
                        Capture::History => screens.history = text,
                    }
                }
            }
        }
    }

    async fn session(
        &mut self,
        snapshot: &Snapshot,
        session: &Arc<Session>,
        pane: &Pane,
        files_hinted: bool,
    ) -> Vec<Event> {
        let now = self.hands.clock.now();
        let name = &session.name;
        let Some(incarnation) = session.phase.incarnation() else { return Vec::new() };
        let (settings, silent_after) = {
            let config = self.hands.config.borrow();
            let settings = Settings {
                stalled_after: config.watcher.idle_timeout,
                background_for: config.watcher.background_for,
                confirm: config.quota.confirm,
            };
            (settings, config.watcher.silent_after)
        };
        let of = incarnation.id.clone();
        let agents = self.hands.agents.clone();
        let Some(watched) = self.watched.get_mut(name) else { return Vec::new() };
        let mut events = Vec::new();
        let mut ended = None;

        if watched.screens.title != pane.title {
            Arc::make_mut(&mut watched.screens).title.clone_from(&pane.title);
            watched.screen_changed = true;
        }
        if !Arc::ptr_eq(&watched.screens, &session.screen) && *watched.screens != *session.screen {
            events.push(Event::Session(name.clone(), SessionEvent::Screen(watched.screens.clone())));
            // A title that blinks is no sign of life.
            if watched.screens.plain != session.screen.plain {
                watched.last_change = now;
            }
        }
        if session.attached != pane.attached {
            events.push(Event::Session(name.clone(), SessionEvent::Attached(pane.attached)));
        }

        let moved = watched.screen_changed || pane.exit.is_some();
        let files_every = if at_rest(session) { FILES_EVERY_IDLE } else { FILES_EVERY };
        if files_hinted || moved || now.duration_since(watched.files_read) >= files_every {
            watched.files_read = now;
            if session.role == Role::Dedicated && matches!(session.phase, SessionPhase::Up(_)) {
                let found = agents.find(&incarnation.agent, pane.pid).await;
                // An agent that is just starting, or a list of processes that changed while it was read.
                let missing = std::mem::replace(&mut watched.missing, found.is_none());
                let news = dedicated::news(session, incarnation, pane.pid, found);
                if let Some(news) = news.filter(|_| missing || !watched.missing) {
                    // Everything is read again of what runs there now; the hooks were its predecessor's.
                    let cursor = Cursor { hooks: watched.cursor.hooks, ..Cursor::default() };
                    (watched.cursor, watched.history, watched.files_read) =
                        (cursor, History::default(), Timestamp::default());
                    events.push(Event::Session(name.clone(), news));
                    return events;
                }
            }
            for signal in agents.signals(incarnation, &mut watched.cursor).await {
                if session.role == Role::Dedicated && signal.source == Source::Hook && signal.at < incarnation.started {
                    continue;
                }
                if let (Meaning::Used { usage }, Some(account)) = (&signal.meaning, &incarnation.account) {
                    events.push(Event::Account(account.clone(), AccountEvent::Used(usage.clone())));
                }
                watched.history.absorb(&signal);
                watched.last_change = now;
            }
        }
        if std::mem::take(&mut watched.screen_changed) {
            let screen = Screen { title: watched.screens.title.clone(), plain: watched.screens.plain.clone() };
            watched.look = agents.look(&incarnation.agent, &screen, now);
            // What a person's shell shows is no dialog of an agent's.
            if watched.missing {
                watched.look.signals.retain(|signal| signal.rule != UNKNOWN_DIALOG);
            }
        }
        let look = watched.look.clone();
        watched.history.see(&look, now);
        if run_of(snapshot, session)
            .is_some_and(|run| matches!(run.delivery, Delivery::Taken { at } if at >= incarnation.started))
        {
            watched.history.had_prompt();
        }
        // A screen that moved since it was read says nothing of now.
        if watched.pane_change == Some(pane.change) && !watched.plain_stale {
            watched.history.read_limit(&look, now);
        }
        events.extend(suspicion(snapshot, session, incarnation, watched.history.screen_limit(settings.confirm)));

        let verdict = Verdict {
            draft: look.draft().is_some(),
            ..classify(&watched.history, session.task.is_some(), look.ready, watched.last_change, settings, now)
        };
        let untold = !agents.tells_turns(&incarnation.agent) && verdict.activity == Activity::Working;
        let suspected = matches!(watched.history.screen_limit(settings.confirm), Some(ScreenLimit::Suspected(_)));
        self.by_screen |= untold || suspected;
        let conversation = watched.history.conversation.clone();
        // Compared with what the owner shows, not with what was sent: a report may have been dropped.
        let named = conversation.is_some() && conversation != incarnation.conversation;
        if named || differs(&session.verdict, &verdict) {
            events.push(Event::Session(
                name.clone(),
                SessionEvent::Observed { of: of.clone(), verdict: verdict.clone(), conversation },
            ));
        }
        let prompt_by = agents.prompt_by(&incarnation.agent);
        let up = is_up(&verdict, &look, prompt_by, watched.history.has_taken());
        if matches!(session.phase, SessionPhase::Starting(_)) && up {
            events.push(Event::Session(name.clone(), SessionEvent::Ready { of: of.clone() }));
        }
        let goes_on = session.resume.as_ref().is_some_and(|resume| resume.from != incarnation.id);
        if goes_on && up && watched.history.has_begun(agents.tells_prompts(&incarnation.agent)) {
            events.push(Event::Session(name.clone(), SessionEvent::Resumed { of: of.clone() }));
        }
        let begun = watched.history.has_begun(agents.tells_prompts(&incarnation.agent));
        let unasked = session.role == Role::Pool && session.task.is_none() && session.is_fresh();
        if unasked && begun && matches!(session.phase, SessionPhase::Up(_)) {
            events.push(Event::Session(name.clone(), SessionEvent::Talked { of: of.clone() }));
        }
        let quiet = now.duration_since(watched.last_change);
        let silent = SignedDuration::try_from(silent_after).unwrap_or(SignedDuration::MAX);
        if verdict.activity == Activity::Working && quiet >= silent {
            if !std::mem::replace(&mut watched.told_silent, true) {
                let text = format!("has shown nothing new for {} s (watcher.silent_after)", quiet.as_secs());
                events.push(Event::Note(Note::new(Kind::Silent, Reason::Silent, &**session, text)));
            }
        } else {
            watched.told_silent = false;
        }
        if session.role == Role::Dedicated {
            return events;
        }

        if let Some(run) = run_of(snapshot, session) {
            // A program that ended right after its turn must not look as if it had died in the middle of it.
            let taken = (pane.exit.is_some() && was_taken(&watched.history, run, now)).then(|| {
                let taken = TaskEvent::Taken { run: run.id.clone() };
                events.extend(session.task.as_ref().map(|a| Event::Task(a.task.clone(), taken)));
                Run { delivery: Delivery::Taken { at: now }, ..run.clone() }
            });
            let run = taken.as_ref().unwrap_or(run);
            let recorded = !agents.records_turns(&incarnation.agent) || watched.history.recorded(now);
            let mut history = watched.history.clone();
            if !agents.tells_prompts(&incarnation.agent) {
                history.assume_busy();
            }
            // An agent that is at its prompt because it was just resumed has not ended a turn.
            let facts = Facts {
                tells: agents.tells_turns(&incarnation.agent),
                gone: pane.exit.is_some(),
                background_for: settings.background_for,
            };
            // One that could not be started is a failed start when its death is seen, which must not come behind its end.
            let unstarted = prompt_by == PromptBy::Stdin && !watched.history.has_taken() && pane.exit.is_none();
            let over = over(&history, run, facts, now).filter(|_| !goes_on && !unstarted);
            if let Some(over) = over.filter(|_| recorded) {
                let told = watched.history.ended_at().unwrap_or(now);
                ended = Some((run.clone(), over, told, watched.screens.plain.clone()));
            }
        }
        let began = watched.history.has_taken();
        if let Some((run, over, told, screen)) = ended {
            events.extend(self.ended(session, incarnation, &run, over, told, screen).await);
        }
        if let Some(exit) = pane.exit
            && !matches!(session.phase, SessionPhase::Dead { .. } | SessionPhase::Ending(_))
        {
            events.push(Event::Session(name.clone(), SessionEvent::Died { of, exit, began }));
        }
        events
    }

    /// Reports of an agent on its task before it disappeared from its pane.
    async fn last_words(&mut self, snapshot: &Snapshot, session: &Session, incarnation: &Incarnation) -> Vec<Event> {
        let Some(run) = run_of(snapshot, session) else { return Vec::new() };
        let mut watched = self.watched.remove(&session.name).filter(|watched| watched.incarnation == incarnation.id);
        let Watched { cursor, history, .. } = watched.get_or_insert_default();
        for signal in self.hands.agents.signals(incarnation, cursor).await {
            history.absorb(&signal);
        }
        let now = self.hands.clock.now();
        let background_for = self.hands.config.borrow().watcher.background_for;
        let facts = Facts { tells: true, gone: true, background_for };
        let Some(over) = over(history, run, facts, now) else { return Vec::new() };
        let (told, screen) = (history.ended_at().unwrap_or(now), session.screen.plain.clone());
        self.ended(session, incarnation, run, over, told, screen).await
    }

    async fn ended(
        &self,
        session: &Session,
        incarnation: &Incarnation,
        run: &Run,
        over: Over,
        told: Timestamp,
        screen: String,
    ) -> Vec<Event> {
        let Some(assignment) = &session.task else { return Vec::new() };
        let now = self.hands.clock.now();
        let (mut ended_with_agent, mut left_running) = (Vec::new(), Vec::new());
        let leaves = self.hands.config.borrow().watcher.leave_background;
        let (status, message, error, screen) = match over {
            Over::Done { message, left } => {
                for command in left {
                    // Of what has no name its agent holds the terminal (Codex), so it ends with that.
                    if command.is_empty() {
                        ended_with_agent.push(UNNAMED.to_owned());
                    } else if leaves {
                        left_running.push(command);
                    } else {
                        ended_with_agent.push(command);
                    }
                }
                let screen = message.is_none().then_some(screen);
                (Status::Done, message, None, screen)
            }
            Over::Server { error } if session.resume.is_some() || self.pauses(session, incarnation, run) => {
                return self.paused(session, incarnation, run, &error, now);
            }
            Over::Server { error } => {
                let again = TaskEvent::TryAgain { run: run.id.clone(), why: error };
                return vec![Event::Task(assignment.task.clone(), again)];
            }
            // A command's first line says how it ended; the rest is its output.
            Over::Failed { error } if self.hands.agents.prompt_by(&incarnation.agent) == PromptBy::Stdin => {
                let (how, output) = error.split_once('\n').unwrap_or((&error, ""));
                let output = Some(output).filter(|output| !output.trim().is_empty()).map(str::to_owned);
                let screen = output.is_none().then_some(screen);
                (Status::Failed, output, Some(how.to_owned()), screen)
            }
            Over::Failed { error } => (Status::Failed, None, Some(error), Some(screen)),
        };
        let ending = Ending {
            status,
            message,
            error,
            screen,
            tokens: self.hands.agents.tokens(incarnation).await,
            cost_usd: None,
            resume_id: incarnation.conversation.clone(),
            ended_with_agent,
            left_running,
            at: told,
        };
        vec![Event::Task(assignment.task.clone(), TaskEvent::Ended { run: run.id.clone(), ending, told: Some(told) })]
    }
}

impl Watcher {
    /// Whether an attempt is retried after a server error, after a pause, in the same conversation.
    fn pauses(&self, session: &Session, incarnation: &Incarnation, run: &Run) -> bool {
        let known = incarnation.conversation.is_some() && self.hands.agents.resumes(&incarnation.agent);
        known && session.role == Role::Pool && run.pauses < self.hands.config.borrow().watcher.server_retries
    }

    fn paused(
        &self,
        session: &Session,
        incarnation: &Incarnation,
        run: &Run,
        error: &str,
        now: Timestamp,
    ) -> Vec<Event> {
        let Some(assignment) = session.task.as_ref().filter(|_| session.resume.is_none()) else { return Vec::new() };
        let first = self.hands.config.borrow().watcher.server_pause;
        let pause = first.saturating_mul(1 << run.pauses.min(16));
        let at = now.saturating_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX));
        let why = format!("the provider's server failed: {error}; goes on after {} s", pause.as_secs());
        let resume = SessionEvent::Resume { of: incarnation.id.clone(), not_before: Some(at.unwrap_or(now)) };
        vec![
            Event::Session(session.name.clone(), resume),
            Event::Task(assignment.task.clone(), TaskEvent::Paused { run: run.id.clone(), why }),
        ]
    }
}

/// A limit shown only by a screen and not reported yet. A confirmed one is reported with the verdict.
fn suspicion(
    snapshot: &Snapshot,
    session: &Session,
    incarnation: &Incarnation,
    shown: Option<ScreenLimit<'_>>,
) -> Option<Event> {
    let account = snapshot.account(incarnation.account.as_ref()?)?;
    let signal = match shown {
        Some(ScreenLimit::Suspected(signal)) if signal.at > account.believed_from => signal.clone(),
        Some(ScreenLimit::Suspected(_) | ScreenLimit::Believed(_)) | None => return None,
    };
    let suspected = AccountEvent::Suspected { session: session.name.clone(), signal };
    (account.standing == Standing::Usable).then(|| Event::Account(account.name.clone(), suspected))
}

/// Wakes on a new snapshot in which a session changed; the watcher's own reports don't count.
async fn moved(snapshots: &mut watch::Receiver<Arc<Snapshot>>) {
    let phases = |snapshot: &Snapshot| -> Vec<(String, u8)> {
        let sessions = snapshot.sessions.values();
        sessions
            .map(|session| {
                let id = session.phase.incarnation().map(|i| i.id.clone()).unwrap_or_default();
                let taken = run_of(snapshot, session).is_some_and(|run| matches!(run.delivery, Delivery::Taken { .. }));
                (id, u8::from(taken))
            })
            .collect()
    };
    let before = phases(&snapshots.borrow_and_update());
    while snapshots.changed().await.is_ok() {
        if phases(&snapshots.borrow_and_update()) != before {
            return;
        }
    }
}

/// Whether an agent is past its start: at its prompt, or at the one that it was started with. A program that starts with its
/// task and could not be started ends its turn without having had one: its death is still to be seen, as a failed start.
fn is_up(verdict: &Verdict, look: &Look, prompt_by: PromptBy, taken: bool) -> bool {
    if prompt_by == PromptBy::Stdin && !taken {
        return false;
    }
    match verdict.activity {
        Activity::Idle => look.ready,
        Activity::Working | Activity::Limited => true,
        Activity::Unknown | Activity::Waiting(_) | Activity::Stalled => false,
    }
}

/// Nobody waits for what this agent does next: the pool's, idle, without a task, no viewer.
fn at_rest(session: &Session) -> bool {
    session.role == Role::Pool
        && session.task.is_none()
        && session.attached == 0
        && session.verdict.activity == Activity::Idle
}

/// Whether a pane still holds this program. One in which somebody started another (`respawn-pane`) keeps our mark.
fn is_of(session: &Session, incarnation: &Incarnation, pane: &Pane) -> bool {
    let ours = || pane.incarnation.as_deref() == Some(incarnation.id.as_str());
    let same = || pane.exit.is_some() || pane.pid == incarnation.pid;
    pane.id == incarnation.pane && (session.role == Role::Dedicated || (ours() && same()))
}

fn run_of<'a>(snapshot: &'a Snapshot, session: &Session) -> Option<&'a Run> {
    let assignment = session.task.as_ref()?;
    match &snapshot.tasks.get(&assignment.task)?.phase {
        Phase::Working(run) if run.id == assignment.run => Some(run),
        Phase::Working(_)
        | Phase::Held(_)
        | Phase::Queued
        | Phase::Rejected(_)
        | Phase::Delegated(_)
        | Phase::Filing(_)
        | Phase::Finished(_) => None,
    }
}

/// Whether two verdicts say something different to a reader.
fn differs(told: &Verdict, new: &Verdict) -> bool {
    let key = |verdict: &Verdict| -> Vec<(Source, String, Meaning)> {
        verdict.evidence.iter().map(|s| (s.source, s.rule.clone(), s.meaning.clone())).collect()
    };
    told.activity != new.activity
        || told.asked != new.asked
        || told.draft != new.draft
        || key(told) != key(new)
        || new.last_change.duration_since(told.last_change) >= COLOUR_EVERY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_could_not_be_started_with_its_task_never_comes_up() {
        let verdict = |activity| Verdict { activity, ..Verdict::unknown(Timestamp::UNIX_EPOCH) };
        let look = Look { ready: true, ..Look::default() };
        for activity in [Activity::Idle, Activity::Working, Activity::Limited] {
            assert!(!is_up(&verdict(activity), &look, PromptBy::Stdin, false));
            assert!(is_up(&verdict(activity), &look, PromptBy::Stdin, true));
            assert!(is_up(&verdict(activity), &look, PromptBy::Paste, false));
        }
    }
}
