//! Interferes with a process at the Nth call that changes a file: kills it before that call, or makes the call fail.
//! Counts across all its threads, which strace's `when=` doesn't.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::c_void,
    fs,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use libc::{c_int, c_long, pid_t};

/// Where a call names its file: by an open descriptor, or by a directory's descriptor and a name.
enum By {
    Descriptor,
    Name,
    /// The same, and only with these flags (third argument) does it change anything.
    Open,
}

const CHANGING: [(c_long, &str, By); 15] = [
    (libc::SYS_openat, "openat", By::Open),
    (libc::SYS_write, "write", By::Descriptor),
    (libc::SYS_pwrite64, "pwrite64", By::Descriptor),
    (libc::SYS_pwritev2, "pwritev2", By::Descriptor),
    (libc::SYS_fsync, "fsync", By::Descriptor),
    (libc::SYS_fdatasync, "fdatasync", By::Descriptor),
    (libc::SYS_ftruncate, "ftruncate", By::Descriptor),
    // What the C library makes of a renameat2 without flags.
    (libc::SYS_renameat, "renameat", By::Name),
    (libc::SYS_renameat2, "renameat2", By::Name),
    (libc::SYS_linkat, "linkat", By::Name),
    (libc::SYS_unlinkat, "unlinkat", By::Name),
    (libc::SYS_mkdirat, "mkdirat", By::Name),
    (libc::SYS_symlinkat, "symlinkat", By::Name),
    (libc::SYS_fchownat, "fchownat", By::Name),
    (libc::SYS_utimensat, "utimensat", By::Name),
];

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Kill,
    /// The call isn't made and fails with this errno.
    Error(i32),
    /// The same, and every later one.
    ErrorsFrom(i32),
    /// A write takes half of its bytes; other calls pass.
    Short,
}

/// Whether calls can be changed here: that needs the names of this machine's registers.
pub const CAN_CHANGE_CALLS: bool = cfg!(target_arch = "x86_64");

/// What happened while it was watched.
#[derive(Debug)]
pub struct Watched {
    /// Every call so far, the last one not made if it was killed there.
    pub calls: Vec<String>,
    pub killed: bool,
    /// Those that something was done to.
    pub hit: Vec<String>,
}

pub struct Tracer {
    thread: JoinHandle<Watched>,
    stop: Arc<AtomicBool>,
    hit: Arc<AtomicBool>,
}

impl Tracer {
    /// Counts calls on what lies below the directories `roots`, and does `what` at the given one, from 1.
    pub fn attach(pid: u32, roots: &[PathBuf], what: Option<(usize, Fault)>) -> Self {
        let (stop, hit) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (attached, is_attached) = mpsc::channel();
        let (end, has_hit, roots) = (stop.clone(), hit.clone(), roots.to_owned());
        let pid = pid_t::try_from(pid).expect("a pid");
        // Every ptrace(2) request has to come from the thread that attached.
        let thread = std::thread::spawn(move || {
            let mut work = Work {
                pid,
                roots,
                what,
                watched: Watched { calls: Vec::new(), killed: false, hit: Vec::new() },
                threads: BTreeSet::new(),
                failing: BTreeMap::new(),
                has_hit,
            };
            work.attach();
            attached.send(()).expect("somebody waits");
            work.run(&end);
            work.watched
        });
        is_attached.recv().expect("attached");
        Self { thread, stop, hit }
    }

    /// Lets it go, if it still lives.
    pub fn end(self) -> Watched {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the tracer")
    }

    /// Whether something was done.
    pub fn has_hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }

    /// Whether nothing of it lives any more.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Work {
    pid: pid_t,
    roots: Vec<PathBuf>,
    what: Option<(usize, Fault)>,
    watched: Watched,
    threads: BTreeSet<pid_t>,
    /// Threads in a call that is to fail, with its errno.
    failing: BTreeMap<pid_t, i32>,
    has_hit: Arc<AtomicBool>,
}

fn ptrace(request: libc::c_uint, thread: pid_t, data: usize) -> bool {
    // SAFETY: these requests take plain numbers and touch no memory of ours.
    unsafe { libc::ptrace(request, thread, std::ptr::null_mut::<c_void>(), data as *mut c_void) == 0 }
}

impl Work {
    /// Until no thread is left that isn't ours; those that are made from then on come by themselves.
    fn attach(&mut self) {
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
        loop {
            let before = self.threads.len();
            let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("a process");
            for thread in tasks.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
                if !self.threads.contains(&thread)
                    && ptrace(libc::PTRACE_SEIZE, thread, options.unsigned_abs() as usize)
                {
                    ptrace(libc::PTRACE_INTERRUPT, thread, 0);
                    self.threads.insert(thread);
                }
            }
            if self.threads.len() == before {
                break;
            }
        }
        assert!(!self.threads.is_empty(), "process {} can't be traced", self.pid);
    }

    fn run(&mut self, end: &AtomicBool) {
        let mut letting_go = false;
        while !self.threads.is_empty() {
            if end.load(Ordering::SeqCst) && !letting_go {
                letting_go = true;
                for thread in &self.threads {
                    ptrace(libc::PTRACE_INTERRUPT, *thread, 0);
                }
            }
            let mut status: c_int = 0;
            // Children of other threads of this test are theirs to wait for.
            let how = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
            // SAFETY: `status` is ours.
            let thread = unsafe { libc::waitpid(-1, &raw mut status, how) };
            if thread == 0 {
                std::thread::sleep(std::time::Duration::from_micros(50));
                continue;
            }
            if thread < 0 {
                return;
            }
            if !libc::WIFSTOPPED(status) {
                self.threads.remove(&thread);
                continue;
            }
            self.threads.insert(thread);
            let signal = libc::WSTOPSIG(status);
            let (is_call, is_event) = (signal == libc::SIGTRAP | 0x80, status >> 16 != 0);
            let pass = if is_call || is_event { 0 } else { usize::try_from(signal).unwrap_or(0) };
            if is_call && !letting_go {
                self.look(thread);
            }
            if letting_go && !self.watched.killed {
                ptrace(libc::PTRACE_DETACH, thread, pass);
                self.threads.remove(&thread);
            } else {
                ptrace(libc::PTRACE_SYSCALL, thread, pass);
            }
        }
    }

    fn look(&mut self, thread: pid_t) {
        // SAFETY: plain numbers, for which zero is a value.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the kernel writes at most `size` bytes to `info`.
        let got = unsafe {
            libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size as *mut c_void, (&raw mut info).cast::<c_void>())
        };
        if let Some(errno) = self.failing.remove(&thread) {
            return set(thread, Register::Result, -i64::from(errno));
        }
        if got <= 0 || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return;
        }
        // SAFETY: `op` says which of the union it is.
        let entry = unsafe { info.u.entry };
        let Some((_, name, by)) = CHANGING.iter().find(|(number, ..)| u64::try_from(*number) == Ok(entry.nr)) else {
            return;
        };
        let writes = libc::O_CREAT | libc::O_TRUNC;
        if matches!(by, By::Open) && entry.args[2] & u64::try_from(writes).unwrap_or(0) == 0 {
            return;
        }
        // A descriptor is an int; the register may hold anything above.
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "what the kernel does")]
        let descriptor = entry.args[0] as i32;
        let open = fs::read_link(format!("/proc/{}/fd/{descriptor}", self.pid)).unwrap_or_default();
        let path = match by {
            By::Descriptor => open,
            By::Name | By::Open => open.join(self.text_at(entry.args[1])),
        };
        let Some(root) = self.roots.iter().find(|root| path.starts_with(root)) else { return };
        let below = root.parent().and_then(|above| path.strip_prefix(above).ok()).unwrap_or(&path);
        self.watched.calls.push(format!("{name} {}", below.display()));
        let n = self.watched.calls.len();
        match self.what {
            Some((at, Fault::Kill)) if n == at => {
                self.watched.killed = true;
                // SAFETY: a signal to a process of this test.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
            }
            Some((at, Fault::Error(errno))) if n == at => self.fail(thread, errno),
            Some((at, Fault::ErrorsFrom(errno))) if n >= at => self.fail(thread, errno),
            Some((at, Fault::Short)) if n == at && name.contains("write") && entry.args[2] > 1 => {
                set(thread, Register::Count, i64::try_from(entry.args[2] / 2).unwrap_or(1));
            }
            Some(_) | None => return,
        }
        self.has_hit.store(true, Ordering::SeqCst);
        self.watched.hit.extend(self.watched.calls.last().cloned());
    }

    /// The call becomes one that there isn't; at its return it gets its errno.
    fn fail(&mut self, thread: pid_t, errno: i32) {
        set(thread, Register::Number, -1);
        self.failing.insert(thread, errno);
    }

    fn text_at(&self, at: u64) -> String {
        let mut bytes = [0; 256];
        let memory = fs::File::open(format!("/proc/{}/mem", self.pid));
        let read = memory.and_then(|memory| memory.read_at(&mut bytes, at)).unwrap_or(0);
        let end = bytes[..read].iter().position(|byte| *byte == 0).unwrap_or(read);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

enum Register {
    Number,
    Count,
    Result,
}

/// Changes a register of a stopped thread.
#[cfg(target_arch = "x86_64")]
fn set(thread: pid_t, register: Register, value: i64) {
    let at = match register {
        Register::Number => libc::ORIG_RAX,
        Register::Count => libc::RDX,
        Register::Result => libc::RAX,
    };
    let offset = usize::try_from(at).unwrap_or(0) * size_of::<libc::c_ulong>();
    // SAFETY: plain numbers; the registers are another process's.
    let done = unsafe { libc::ptrace(libc::PTRACE_POKEUSER, thread, offset as *mut c_void, value as *mut c_void) };
    assert_eq!(done, 0, "a register could not be set");
}

#[cfg(not(target_arch = "x86_64"))]
fn set(_: pid_t, _: Register, _: i64) {
    panic!("see CAN_CHANGE_CALLS");
}
