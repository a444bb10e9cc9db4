//! Reads files in `/proc` that may block, with a timeout.
//! Takes pids; returns the bytes, or why there are none. Such a read takes a lock of the process: of its memory, which
//! a process stuck in the kernel (at a dead disk) may hold for ever, or of its exec(2). exec(2) closes close-on-exec
//! files under that lock, and the flush of a file of the mount waits for this daemon, which therefore must not wait
//! for that process. So reads run on a thread that is abandoned after a timeout; a process that has not answered is
//! not asked again until it does, and only a few may be pending. All such reads go through here. Never blocks: `comm`,
//! `status`, `cgroup`, `sessionid`, `task/*/children`, `fdinfo` (Linux 6.18).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Read as _},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::MetadataExt as _,
    },
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::model::command_line;

/// How long a read may take. Chosen: it takes microseconds, and on a loaded machine a few turns of the scheduler.
const WITHIN: Duration = Duration::from_secs(1);
/// The same where there is another way to know (`Stat`). Chosen: shorter, because a process in its exec(2) waits at
/// the mount meanwhile.
const STAT_WITHIN: Duration = Duration::from_millis(200);
/// Threads that may wait for processes that don't answer. Chosen: each costs a stack; more stuck processes than this
/// are one dead disk.
const STUCK_MAX: usize = 16;
/// Threads kept for the next reads. Chosen: as many as usually read at once.
const IDLE_MAX: usize = 4;
/// Bytes read of `stat`. Its fields up to the start time take at most 484 (proc_pid_stat(5): a name of 64 and twenty
/// numbers).
const STAT_MAX: u64 = 512;

static PROC: Reader = Reader::new();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// As the program was started with it: later changes by the program don't show.
    Environment,
    CommandLine,
    /// The first fields of `stat`, of any user's process.
    Stat,
    /// The path of its program.
    Program,
    /// Its descriptors with what each is open at: number and path, each ended by NUL.
    Files,
}

impl Part {
    fn within(self) -> Duration {
        match self {
            Self::Stat => STAT_WITHIN,
            Self::Environment | Self::CommandLine | Self::Program | Self::Files => WITHIN,
        }
    }
}

/// Why a process can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// It is gone, or not this user's.
    NotOurs,
    /// It did not answer in time: its data is unknown.
    Late,
}

pub type Answer = Result<Vec<u8>, Silent>;

/// One answer for each pid, in order. Never waits long, and may be called wherever a thread may wait.
#[must_use]
pub fn all(pids: &[u32], part: Part) -> Vec<Answer> {
    PROC.ask(pids, part.within(), move |pid| of_proc(pid, part))
}

/// # Errors
/// If the process can't be read.
pub fn one(pid: u32, part: Part) -> Answer {
    all(&[pid], part).pop().unwrap_or(Err(Silent::NotOurs))
}

/// A variable of an environment.
#[must_use]
pub fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let of_name = |entry: &'a [u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    environment.split(|byte| *byte == 0).find_map(of_name)
}

/// A process's command line as shown to people; `None` for one that has exited or can't be read.
#[must_use]
pub fn told(pid: u32) -> Option<String> {
    one(pid, Part::CommandLine).ok().filter(|line| !line.is_empty()).map(|line| command_line::told(&line))
}

/// The file that a process runs.
#[must_use]
pub fn program(pid: u32) -> Option<PathBuf> {
    one(pid, Part::Program).ok().map(|path| PathBuf::from(OsString::from_vec(path)))
}

/// What a process has open: descriptor and path.
#[must_use]
pub fn files(pid: u32) -> Vec<(String, PathBuf)> {
    let told = one(pid, Part::Files).unwrap_or_default();
    let mut words = told.split(|byte| *byte == 0);
    let mut files = Vec::new();
    while let (Some(number), Some(path)) = (words.next(), words.next()) {
        files.push((String::from_utf8_lossy(number).into_owned(), PathBuf::from(OsString::from_vec(path.to_vec()))));
    }
    files
}

fn of_proc(pid: u32, part: Part) -> Answer {
    let dir = format!("/proc/{pid}");
    let own = || fs::metadata(&dir).is_ok_and(|facts| facts.uid() == nix::unistd::geteuid().as_raw());
    let told = match part {
        Part::Environment => own().then(|| fs::read(format!("{dir}/environ"))),
        Part::CommandLine => own().then(|| fs::read(format!("{dir}/cmdline"))),
        Part::Program => Some(fs::read_link(format!("{dir}/exe")).map(|path| path.into_os_string().into_vec())),
        Part::Files => Some(descriptors(&dir)),
        Part::Stat => Some(start_of(&format!("{dir}/stat"))),
    };
    told.and_then(Result::ok).ok_or(Silent::NotOurs)
}

fn start_of(file: &str) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    fs::File::open(file)?.take(STAT_MAX).read_to_end(&mut line)?;
    Ok(line)
}

fn descriptors(dir: &str) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(format!("{dir}/fd"))?.flatten() {
        let Ok(path) = fs::read_link(entry.path()) else { continue };
        for word in [entry.file_name().as_bytes(), path.as_os_str().as_bytes()] {
            all.extend_from_slice(word);
            all.push(0);
        }
    }
    Ok(all)
}

type Job = Box<dyn FnOnce() + Send>;

struct Reader {
    /// Who is being asked; made at the first question.
    asked: Mutex<Option<Arc<Asked>>>,
}

#[derive(Default)]
struct Asked {
    /// From when on each counts as stuck.
    waiting: Mutex<BTreeMap<u32, Instant>>,
    /// Threads without a question.
    idle: Mutex<Vec<mpsc::Sender<Job>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    const fn new() -> Self {
        Self { asked: Mutex::new(None) }
    }

    fn ask(
        &self,
        pids: &[u32],
        within: Duration,
        read: impl Fn(u32) -> Answer + Clone + Send + 'static,
    ) -> Vec<Answer> {
        let asked = lock(&self.asked).get_or_insert_default().clone();
        let mut answers = Vec::with_capacity(pids.len());
        while let Some(rest) = pids.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            let (sender, receiver) = mpsc::channel();
            let (rest, of, read) = (rest.to_vec(), asked.clone(), read.clone());
            let asks = move || {
                for pid in rest {
                    if sender.send(of.ask(pid, within, &read)).is_err() {
                        // Given up: another thread has asked the others.
                        return;
                    }
                }
            };
            if !asked.run(Box::new(asks)) {
                answers.resize(pids.len(), Err(Silent::Late));
            }
            while answers.len() < pids.len() {
                let Ok(answer) = receiver.recv_timeout(within) else {
                    asked.give_up(pids[answers.len()]);
                    answers.push(Err(Silent::Late));
                    break;
                };
                answers.push(answer);
            }
        }
        answers
    }
}

impl Asked {
    /// Has an idle thread do it, or a new one; `false` when there is none to be had.
    fn run(self: &Arc<Self>, mut job: Job) -> bool {
        loop {
            // Taken apart from the loop's condition, so that the lock is not held meanwhile.
            let worker = lock(&self.idle).pop();
            let Some(worker) = worker else { break };
            match worker.send(job) {
                Ok(()) => return true,
                Err(mpsc::SendError(back)) => job = back,
            }
        }
        let asked = self.clone();
        let works = move || {
            let (sender, jobs) = mpsc::channel::<Job>();
            job();
            loop {
                {
                    let mut idle = lock(&asked.idle);
                    if idle.len() >= IDLE_MAX {
                        return;
                    }
                    idle.push(sender.clone());
                }
                let Ok(job) = jobs.recv() else { return };
                job();
            }
        };
        thread::Builder::new().name("peek".to_owned()).spawn(works).is_ok()
    }

    /// It has been waited for long enough, by whatever clock it was asked.
    fn give_up(&self, pid: u32) {
        if let Some(from) = lock(&self.waiting).get_mut(&pid) {
            *from = Instant::now().min(*from);
        }
    }

    fn ask(&self, pid: u32, within: Duration, read: &impl Fn(u32) -> Answer) -> Answer {
        let now = Instant::now();
        {
            let mut waiting = lock(&self.waiting);
            let stuck = |from: &Instant| *from <= now;
            if waiting.get(&pid).is_some_and(stuck) || waiting.values().filter(|from| stuck(from)).count() >= STUCK_MAX
            {
                return Err(Silent::Late);
            }
            waiting.entry(pid).or_insert(now + within);
        }
        let answer = read(pid);
        lock(&self.waiting).remove(&pid);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn who_never_answers_costs_one_wait_and_is_not_asked_again() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let (reader, within) = (Reader::new(), Duration::from_secs(2));
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let read = move |pid| {
            if pid == 2 {
                ASKED.fetch_add(1, Ordering::SeqCst);
                let _ = lock(&held).recv();
            }
            Ok(vec![u8::try_from(pid).unwrap_or(0)])
        };
        for _ in 0..3 {
            let answers = reader.ask(&[1, 2, 3], within, read.clone());
            assert_eq!(answers, [Ok(vec![1]), Err(Silent::Late), Ok(vec![3])]);
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        release.send(()).expect("somebody waits");
        drop(release);
        let deadline = Instant::now() + Duration::from_secs(20);
        while reader.ask(&[2], within, read.clone()) != [Ok(vec![2])] {
            assert!(Instant::now() < deadline, "it answers again, and is asked again");
            thread::yield_now();
        }
    }

    #[test]
    fn not_more_than_a_few_threads_wait() {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let reader = Reader::new();
        let pids: Vec<u32> = (1..=60).collect();
        let answers = reader.ask(&pids, Duration::from_millis(100), |_| {
            WAITING.fetch_add(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        });
        assert!(answers.len() == 60 && answers.iter().all(|answer| *answer == Err(Silent::Late)));
        assert!(WAITING.load(Ordering::SeqCst) <= 2 * STUCK_MAX, "{}", WAITING.load(Ordering::SeqCst));
    }

    #[test]
    fn a_process_tells_its_own_and_others_nothing() {
        let own = std::process::id();
        let environment = one(own, Part::Environment).expect("its own");
        let path = std::env::var("PATH").expect("a path");
        assert_eq!(variable(&environment, "PATH"), Some(path.as_bytes()));
        assert!(told(own).is_some_and(|line| !line.is_empty()));
        assert_eq!(one(u32::MAX, Part::Environment), Err(Silent::NotOurs));
    }
}
