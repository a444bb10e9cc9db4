//! The delegate service: submits tasks to providers and follows their jobs.
//! Takes tasks that the dispatcher claimed for a provider, and the provider's answers. Submits, writes the job's id
//! into the marker, proposes the task's end, cancels jobs. The queue service files results. Each attempt is sent once:
//! its run is the idempotency key, and what may have been sent to a provider without idempotency keys is not sent
//! again.

mod adopt;
mod decide;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
};

use self::decide::Next;
use crate::{
    live::Hands,
    model::{
        event::Event,
        ids::{RunId, TaskKey},
        marker::DelegatedMarker,
        provider::{Job, JobStop, Order, ProviderEvent, ProviderStanding},
        queue::{Over, Sidecar},
        snapshot::Snapshot,
        task::{Task, TaskEvent},
        task_file::{Reading, read},
    },
};

/// Pause before a retry when the owner or the disk refused. Chosen: as `queue::RETRY_FILING`.
const AGAIN: Duration = Duration::from_secs(2);

/// Shortest time between two shown pieces of one answer. Chosen: reads as live, and each is a new snapshot.
const SHOW_EVERY: Duration = Duration::from_secs(1);

pub struct Delegate {
    hands: Hands,
    /// Jobs that an earlier daemon began.
    left: BTreeSet<RunId>,
    followed: HashMap<RunId, Arc<Notify>>,
    followers: JoinSet<()>,
    runs: HashMap<Id, RunId>,
    adopted: adopt::Seen,
}

impl Delegate {
    #[must_use]
    pub fn new(hands: Hands) -> Self {
        let left = jobs(&hands.live.snapshot()).map(|(_, job)| job.run.clone()).collect();
        Self {
            hands,
            left,
            followed: HashMap::new(),
            followers: JoinSet::new(),
            runs: HashMap::new(),
            adopted: adopt::Seen::default(),
        }
    }

    /// Works until the owner stops.
    pub async fn run(mut self) {
        let mut snapshots = self.hands.live.watch();
        let mut adoption = tokio::time::Instant::now();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            self.follow(&snapshot);
            let delegates = snapshot.delegation.is_on();
            tokio::select! {
                biased;
                changed = snapshots.changed() => if changed.is_err() { return },
                Some(ended) = self.followers.join_next_with_id() => {
                    let id = match &ended {
                        Ok((id, ())) => *id,
                        Err(error) => error.id(),
                    };
                    if let Some(run) = self.runs.remove(&id) {
                        self.followed.remove(&run);
                    }
                }
                () = tokio::time::sleep_until(adoption), if delegates => {
                    adoption = tokio::time::Instant::now() + self.hands.config.borrow().lifecycle.reconcile;
                    self.adopted.look(&self.hands).await;
                }
            }
        }
    }

    /// Gives every task at a provider a follower, and tells those to stop that should.
    fn follow(&mut self, snapshot: &Snapshot) {
        for (key, job) in jobs(snapshot) {
            if let Some(told) = self.followed.get(&job.run) {
                if job.stop != JobStop::No {
                    told.notify_one();
                }
                continue;
            }
            let told = Arc::new(Notify::new());
            let follower = Follower {
                hands: self.hands.clone(),
                key: key.clone(),
                run: job.run.clone(),
                left: self.left.contains(&job.run),
                told: told.clone(),
            };
            let handle = self.followers.spawn(follower.run());
            self.runs.insert(handle.id(), job.run.clone());
            self.followed.insert(job.run.clone(), told);
        }
    }
}

fn jobs(snapshot: &Snapshot) -> impl Iterator<Item = (&TaskKey, &Job)> {
    let on = snapshot.delegation.is_on();
    let tasks = snapshot.tasks.delegated().filter(move |_| on);
    tasks.filter_map(|task| Some((&task.key, task.phase.delegated()?)))
}

/// Follows one job from its claim to its end.
struct Follower {
    hands: Hands,
    key: TaskKey,
    run: RunId,
    left: bool,
    /// Somebody wants it to stop.
    told: Arc<Notify>,
}

impl Follower {
    /// The job as the owner knows it; `None` when it is no more.
    fn job(&self) -> Option<(Job, Arc<Task>)> {
        let task = self.hands.live.snapshot().tasks.get(&self.key)?.clone();
        let job = task.phase.delegated().filter(|job| job.run == self.run)?.clone();
        Some((job, task))
    }

    fn now(&self) -> Timestamp {
        self.hands.clock.now()
    }

    async fn run(self) {
        let Some((job, _)) = self.job() else { return };
        let repeats = self.hands.providers.repeats(&job.provider);
        let mut next = decide::begin(&job, self.left, repeats, self.now());
        let mut pause = decide::FIRST_LOOK / 2;
        while let Some((job, task)) = self.job() {
            next = match next {
                Next::Submit => self.submit(&job, &task).await,
                Next::Cancel => {
                    self.cancel(&job).await;
                    decide::stopped(&job, self.now())
                }
                Next::Look(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.told.notified() => {}
                        () = self.news(&job) => {}
                    }
                    pause = wait.max(pause);
                    let Some((job, task)) = self.job() else { return };
                    self.look(&job, &task, repeats, pause).await
                }
                Next::Output(text) => {
                    let event = TaskEvent::Output { run: job.run.clone(), text };
                    self.hands.live.report(vec![Event::Task(self.key.clone(), event)]).await;
                    pause = SHOW_EVERY.min(self.poll(&job));
                    Next::Look(pause)
                }
                Next::GiveBack { why, refused } => match self.give_back(&job, &why, refused).await {
                    Ok(()) => return,
                    Err(next) => next,
                },
                Next::End(ending) => {
                    let event = TaskEvent::Ended { run: job.run.clone(), ending: ending.clone(), told: None };
                    match self.hands.live.propose(vec![Event::Task(self.key.clone(), event)]).await {
                        Ok(()) => return,
                        Err(refusal) => {
                            tracing::warn!(task = %self.key, %refusal, "the end of a job was not taken");
                            tokio::time::sleep(AGAIN).await;
                            Next::End(ending)
                        }
                    }
                }
            };
        }
    }

    async fn news(&self, job: &Job) {
        match &job.id {
            Some(id) => self.hands.providers.news(&job.provider, id).await,
            None => std::future::pending().await,
        }
    }

    fn poll(&self, job: &Job) -> Duration {
        self.hands.config.borrow().providers.get(&job.provider).map_or(AGAIN, |row| row.poll)
    }

    async fn submit(&self, job: &Job, task: &Task) -> Next {
        let prompt = match self.prompt().await {
            Ok(prompt) => prompt,
            Err(why) => {
                tokio::time::sleep(AGAIN).await;
                return Next::GiveBack { why, refused: false };
            }
        };
        let order = Order {
            key: job.run.clone(),
            prompt,
            word: task.spec.preferred_ai.clone(),
            complexity: task.spec.complexity_hint.clone(),
        };
        match self.hands.providers.submit(&job.provider, &order).await {
            Ok(id) => self.submitted(job, id).await,
            Err(error) => {
                // What it became meanwhile counts: somebody may have cancelled it.
                let job = self.job().map_or_else(|| job.clone(), |(job, _)| job);
                let news = decide::submitted(&job, &error, self.now());
                self.tell(&job, news.standing).await;
                news.next
            }
        }
    }

    /// The id goes into the marker first, where scripts and a later daemon find it.
    async fn submitted(&self, job: &Job, id: String) -> Next {
        let snapshot = self.hands.live.snapshot();
        let marker = DelegatedMarker::of(&Job { id: Some(id.clone()), ..job.clone() }, &snapshot).to_json();
        let (project, task) = (&self.key.project, &self.key.id);
        if let Err(error) = self.hands.queue.mark(project, task, Sidecar::Delegated, &marker, Over::Replace).await {
            // The owner keeps it too.
            tracing::warn!(task = %self.key, %error, "the job's id can't be written into its marker");
        }
        loop {
            let taken = TaskEvent::Submitted { run: job.run.clone(), job: id.clone() };
            let events =
                vec![Event::Task(self.key.clone(), taken), Event::Provider(job.provider.clone(), ProviderEvent::Works)];
            match self.hands.live.propose(events).await {
                Ok(()) => return Next::Look(decide::FIRST_LOOK),
                Err(refusal) if self.job().is_some() => {
                    tracing::warn!(task = %self.key, %refusal, "a job's id was not taken");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(_) => return Next::Cancel,
            }
        }
    }

    async fn look(&self, job: &Job, task: &Task, repeats: bool, pause: Duration) -> Next {
        if job.stop != JobStop::No {
            return Next::Cancel;
        }
        let timeout = self.hands.config.borrow().providers.get(&job.provider).map(|row| row.timeout);
        if let Some(timeout) = task.spec.timeout.or(timeout)
            && let Some(ending) = decide::overdue(job, timeout, self.now())
        {
            self.cancel(job).await;
            return Next::End(ending);
        }
        let Some(id) = &job.id else { return Next::Submit };
        let answer = self.hands.providers.look(&job.provider, id).await;
        let news = decide::looked(job, answer, repeats, pause, self.poll(job), self.now());
        self.tell(job, news.standing).await;
        news.next
    }

    /// The provider's state, if it is new.
    async fn tell(&self, job: &Job, standing: Option<ProviderStanding>) {
        let Some(standing) = standing else { return };
        let event = match standing {
            ProviderStanding::Usable => ProviderEvent::Works,
            out => ProviderEvent::Out(out),
        };
        self.hands.live.report(vec![Event::Provider(job.provider.clone(), event)]).await;
    }

    /// A provider that does not answer is not waited for: what it does then, nobody reads.
    async fn cancel(&self, job: &Job) {
        let Some(id) = &job.id else { return };
        if let Err(error) = self.hands.providers.cancel(&job.provider, id).await {
            tracing::warn!(task = %self.key, job = %id, %error, "a job could not be cancelled");
        }
    }

    /// The marker goes first: a task that waits has none.
    async fn give_back(&self, job: &Job, why: &str, refused: bool) -> Result<(), Next> {
        let again = || Next::GiveBack { why: why.to_owned(), refused };
        let removed = self.hands.queue.unmark(&self.key.project, &self.key.id, &[Sidecar::Delegated]).await;
        if let Err(error) = removed {
            tracing::warn!(task = %self.key, %error, "a marker can't be removed");
            tokio::time::sleep(AGAIN).await;
            return Err(again());
        }
        let (run, why) = (job.run.clone(), why.to_owned());
        let event = if refused { TaskEvent::RefusedBy { run, why } } else { TaskEvent::Unclaimed { run, why } };
        match self.hands.live.propose(vec![Event::Task(self.key.clone(), event)]).await {
            Ok(()) => Ok(()),
            // Somebody has cancelled it meanwhile.
            Err(_) if self.job().is_some_and(|(job, _)| job.stop == JobStop::Cancelled) => {
                Err(decide::stopped(&Job { stop: JobStop::Cancelled, ..job.clone() }, self.now()))
            }
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                Err(again())
            }
        }
    }

    /// What the provider gets: the text that was claimed, without its frontmatter.
    async fn prompt(&self) -> Result<String, String> {
        let text = self.hands.live.snapshot().texts.get(&self.run).cloned().ok_or("its text is gone")?;
        match read(text.as_bytes()) {
            Reading::Ready { prompt, .. } => Ok(prompt),
            Reading::Empty | Reading::OpenFrontmatter | Reading::Rejected(_) => Err("its text is no task".to_owned()),
        }
    }
}
