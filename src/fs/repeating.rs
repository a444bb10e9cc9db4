//! The thread that drives the repeater: for each place where a watcher could be, the child makes the calls of
//! `repeat`.
//! Takes changes; makes the child's calls one at a time, each with a timeout. Owns the child process.

use std::{
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::fs::{
    nodes::Key,
    ops::Ops,
    real::Facts,
    repeat::{Call, Notice, Shows, Sight, Table, calls, is_shown_twice},
    tree::View,
    words::lock,
};

/// Milliseconds that one call may take; a child that takes longer is killed. Chosen: a call is answered from memory;
/// only a stopped child is that slow.
const CALL_WITHIN: u16 = 2000;
/// How often the thread checks for the end of the mount. Chosen: an unmount may be delayed by that.
const LOOK_FOR_END: Duration = Duration::from_millis(200);
/// Pause before a child that failed to start, or exited by itself, is started again. Chosen: no busy loop of forks.
const START_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Repeating {
    pub ops: Arc<Ops>,
    pub table: Arc<Table>,
    pub program: PathBuf,
    pub mountpoint: PathBuf,
    /// The mount's device number, by which the child knows it again.
    pub device: u64,
    pub ended: Arc<AtomicBool>,
}

struct Running {
    child: Child,
    requests: ChildStdin,
    done: ChildStdout,
}

impl Repeating {
    /// Works until the mount has ended.
    pub fn run(self, notices: &Receiver<Notice>) {
        let mut running: Option<Running> = None;
        let mut failed: Option<Instant> = None;
        while !self.ended.load(Ordering::SeqCst) {
            let notice = match notices.recv_timeout(LOOK_FOR_END) {
                Ok(notice) => notice,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            for view in [View::Root, View::Project] {
                if notice.view.is_some_and(|only| only != view) {
                    continue;
                }
                let base = match view {
                    View::Root => PathBuf::new(),
                    View::Project => Path::new("projects").join(notice.project.as_str()),
                };
                for call in calls(&notice.change, |dir| self.number(&notice, view, dir).is_some()) {
                    let Some(sights) = self.sights(&notice, view, &call) else { break };
                    if running.is_none() && failed.is_none_or(|at| at.elapsed() >= START_AGAIN) {
                        running = self.start();
                        failed = running.is_none().then(Instant::now);
                    }
                    let Some(child) = &mut running else { break };
                    if !self.make(child, &base, &call, sights) {
                        failed = Some(Instant::now());
                        running.take().into_iter().for_each(|running| self.end(running));
                        break;
                    }
                }
            }
        }
        running.into_iter().for_each(|running| self.end(running));
    }

    /// A directory's number in a view, if it has one: one that nobody has looked up is one that nobody watches.
    fn number(&self, notice: &Notice, view: View, dir: &Path) -> Option<u64> {
        let (index, queue) = self.ops.queues.iter().enumerate().find(|(_, queue)| queue.project == notice.project)?;
        if view == View::Root && !is_shown_twice(index, dir) {
            return None;
        }
        let dir = queue.open_at(dir, OFlag::O_PATH | OFlag::O_DIRECTORY).ok()?;
        lock(&self.ops.nodes).number(&Key::Dir(view, Facts::of(&dir).ok()?.id()))
    }

    /// What the child has to see for this call; `None` when it must not be made.
    fn sights(&self, notice: &Notice, view: View, call: &Call) -> Option<Vec<Sight>> {
        let mut sights = Vec::new();
        for (at, kind) in call.seen() {
            let parent = self.number(notice, view, &at.dir)?;
            let shows = match kind {
                None => Shows::Nothing,
                Some(kind) => match lock(&self.ops.nodes).stood_at(parent, &at.name) {
                    Some(number) if matches!(call, Call::Remove { dir: false, .. }) => Shows::Former(number),
                    Some(_) | None => Shows::Ghost(kind),
                },
            };
            sights.push(Sight { parent, name: at.name.clone(), shows });
        }
        // A directory that somebody is in already must not be made to vanish under him.
        if let Call::Make { at, dir: true } | Call::Move { to: at, dir: true, .. } = call
            && self.number(notice, view, &at.dir.join(&at.name)).is_some()
        {
            return None;
        }
        Some(sights)
    }

    fn start(&self) -> Option<Running> {
        let mut command = Command::new(&self.program);
        command.arg("repeater").arg(&self.mountpoint).arg(self.device.to_string()).current_dir("/").env_clear();
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started
            .inspect_err(
                |error| tracing::warn!(%error, "no repeater: watchers of the mount don't see the supervisor's changes"),
            )
            .ok()?;
        let (requests, done) = (child.stdin.take()?, child.stdout.take()?);
        Some(Running { child, requests, done })
    }

    /// Has one call made; whether the child said so in time.
    fn make(&self, running: &mut Running, base: &Path, call: &Call, sights: Vec<Sight>) -> bool {
        self.table.expect(running.child.id(), call, sights);
        let asked = running.requests.write_all(&call.request(base)).and_then(|()| running.requests.flush());
        let mut ready = [PollFd::new(running.done.as_fd(), PollFlags::POLLIN)];
        let answered = asked.is_ok()
            && poll(&mut ready, PollTimeout::from(CALL_WITHIN)).is_ok_and(|ready| ready > 0)
            && running.done.read(&mut [0]).is_ok_and(|read| read == 1);
        self.table.clear();
        answered
    }

    fn end(&self, running: Running) {
        // Nothing is expected of this process number any more before another process can have it.
        self.table.clear();
        let Running { mut child, requests, done } = running;
        drop((requests, done));
        let _ = child.kill();
        // Reaped elsewhere: it may be in a call that ends with the mount only.
        std::thread::spawn(move || child.wait());
    }
}
