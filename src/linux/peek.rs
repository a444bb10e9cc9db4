//! What another process tells of itself in `/proc`: its first environment, its command line.
//! In: pids. Out: the bytes, or why there are none. Either waits for the lock of the process's memory, which one that stands still in
//! the kernel (at a dead disk) may hold for ever. So only processes of this user are asked, on a thread that is given up after a
//! while; who has not answered is not asked again before it does, and not many may be waited for. Everybody asks through here.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::model::command_line;

/// How long an answer may take. It is a matter of microseconds, and on a loaded machine of the scheduler.
const WITHIN: Duration = Duration::from_secs(1);
/// Threads that may wait for processes that don't answer.
const STUCK_MAX: usize = 16;

static PROC: Reader = Reader::new(WITHIN);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// As the program was started with it: one that has changed it tells the old one.
    Environment,
    CommandLine,
}

/// Why a process tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// It is gone, or not this user's.
    NotOurs,
    /// It did not answer in time: what it would have told is not known.
    Late,
}

pub type Answer = Result<Vec<u8>, Silent>;

/// One answer for each pid, in order. Never waits long, and may be called wherever a thread may wait.
#[must_use]
pub fn all(pids: &[u32], part: Part) -> Vec<Answer> {
    PROC.ask(pids, move |pid| of_proc(pid, part))
}

/// # Errors
/// When the process tells nothing.
pub fn one(pid: u32, part: Part) -> Answer {
    all(&[pid], part).pop().unwrap_or(Err(Silent::NotOurs))
}

/// A variable of an environment.
#[must_use]
pub fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let of_name = |entry: &'a [u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    environment.split(|byte| *byte == 0).find_map(of_name)
}

/// A process's command line as people are told of it; `None` for one that has ended or tells nothing.
#[must_use]
pub fn told(pid: u32) -> Option<String> {
    one(pid, Part::CommandLine).ok().filter(|line| !line.is_empty()).map(|line| command_line::told(&line))
}

fn of_proc(pid: u32, part: Part) -> Answer {
    let dir = format!("/proc/{pid}");
    let own = fs::metadata(&dir).is_ok_and(|facts| facts.uid() == nix::unistd::geteuid().as_raw());
    let file = match part {
        Part::Environment => "environ",
        Part::CommandLine => "cmdline",
    };
    if own { fs::read(format!("{dir}/{file}")).map_err(|_| Silent::NotOurs) } else { Err(Silent::NotOurs) }
}

struct Reader {
    within: Duration,
    /// Who is being asked, and since when; made at the first question.
    asked: Mutex<Option<Arc<Asked>>>,
}

type Asked = Mutex<BTreeMap<u32, Instant>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    const fn new(within: Duration) -> Self {
        Self { within, asked: Mutex::new(None) }
    }

    fn ask(&self, pids: &[u32], read: impl Fn(u32) -> Answer + Clone + Send + 'static) -> Vec<Answer> {
        let asked = lock(&self.asked).get_or_insert_default().clone();
        let mut answers = Vec::with_capacity(pids.len());
        while let Some(rest) = pids.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            let (sender, receiver) = mpsc::channel();
            let (rest, asked, read, within) = (rest.to_vec(), asked.clone(), read.clone(), self.within);
            let asks = move || {
                for pid in rest {
                    if sender.send(ask_one(&asked, pid, within, &read)).is_err() {
                        // Given up: another thread has asked the others.
                        return;
                    }
                }
            };
            if thread::Builder::new().name("peek".to_owned()).spawn(asks).is_err() {
                answers.resize(pids.len(), Err(Silent::Late));
            }
            while answers.len() < pids.len() {
                let Ok(answer) = receiver.recv_timeout(self.within) else {
                    answers.push(Err(Silent::Late));
                    break;
                };
                answers.push(answer);
            }
        }
        answers
    }
}

fn ask_one(asked: &Asked, pid: u32, within: Duration, read: &impl Fn(u32) -> Answer) -> Answer {
    {
        let mut asked = lock(asked);
        let stuck = |since: &Instant| since.elapsed() >= within;
        if asked.get(&pid).is_some_and(stuck) || asked.values().filter(|since| stuck(since)).count() >= STUCK_MAX {
            return Err(Silent::Late);
        }
        asked.entry(pid).or_insert_with(Instant::now);
    }
    let answer = read(pid);
    lock(asked).remove(&pid);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn who_never_answers_costs_one_wait_and_is_not_asked_again() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let reader = Reader::new(Duration::from_secs(2));
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
            let answers = reader.ask(&[1, 2, 3], read.clone());
            assert_eq!(answers, [Ok(vec![1]), Err(Silent::Late), Ok(vec![3])]);
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        release.send(()).expect("somebody waits");
        drop(release);
        let deadline = Instant::now() + Duration::from_secs(20);
        while reader.ask(&[2], read.clone()) != [Ok(vec![2])] {
            assert!(Instant::now() < deadline, "it answers again, and is asked again");
            thread::yield_now();
        }
    }

    #[test]
    fn not_more_than_a_few_threads_wait() {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let reader = Reader::new(Duration::from_millis(100));
        let pids: Vec<u32> = (1..=60).collect();
        let answers = reader.ask(&pids, |_| {
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
