//! Tasks at providers: how many a second beside what the provider can do, memory, how soon a task is on the wire beside a
//! `curl` in a loop, and whether many ends at once delay others.
//!
//! In: a world with providers on loopback, each with a latency and a limit of answers at once. Out: rows.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::{
    measure::{Samples, memory, row, wanted},
    world::{Setup, World},
};

const TASKS: usize = 1000;
const LATENCY: Duration = Duration::from_millis(200);
/// How many answers the provider gives at once.
const LIMITS: [usize; 3] = [8, 16, 32];
const SAMPLES: usize = 50;
const ANSWER: &str = r#"{"id": "c", "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}"#;

/// A chat server with a latency and a limit, and a job server whose jobs end when they are told to.
struct Provider {
    port: u16,
    shared: Arc<Shared>,
    arrivals: mpsc::Receiver<Instant>,
}

struct Shared {
    latency: Duration,
    limit: usize,
    busy: Mutex<usize>,
    free: Condvar,
    most: AtomicUsize,
    jobs: AtomicUsize,
    finished: AtomicBool,
    arrived: Mutex<mpsc::Sender<Instant>>,
}

impl Provider {
    fn start(latency: Duration, limit: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (arrived, arrivals) = mpsc::channel();
        let shared = Arc::new(Shared {
            latency,
            limit,
            busy: Mutex::default(),
            free: Condvar::new(),
            most: AtomicUsize::new(0),
            jobs: AtomicUsize::new(0),
            finished: AtomicBool::new(false),
            arrived: Mutex::new(arrived),
        });
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = served.clone();
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Ok(Self { port, shared, arrivals })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// When the next request came.
    fn next(&self) -> io::Result<Instant> {
        self.arrivals.recv_timeout(Duration::from_secs(60)).map_err(io::Error::other)
    }
}

impl Shared {
    /// Requests of one connection, until it is closed.
    fn serve(&self, stream: &TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first).ok()? == 0 {
                return None;
            }
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim_end().split_once(':') else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let answer = if first.starts_with("GET") {
                match self.finished.load(Ordering::Relaxed) {
                    true => r#"{"status": "completed", "output": "hello"}"#.to_owned(),
                    false => r#"{"status": "running"}"#.to_owned(),
                }
            } else if first.contains("/jobs") {
                format!(r#"{{"id": {}}}"#, self.jobs.fetch_add(1, Ordering::Relaxed))
            } else {
                self.chat()
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            (&*stream).write_all((head + &answer).as_bytes()).ok()?;
        }
    }

    fn chat(&self) -> String {
        let _ = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).send(Instant::now());
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = self.free.wait_while(busy, |busy| *busy >= self.limit).unwrap_or_else(PoisonError::into_inner);
        *busy += 1;
        self.most.fetch_max(*busy, Ordering::Relaxed);
        drop(busy);
        std::thread::sleep(self.latency);
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.free.notify_one();
        ANSWER.to_owned()
    }
}

fn task(provider: &str) -> String {
    format!("---\npreferred_ai: {provider}\nallow_delegation: true\n---\nsay hello\n")
}

fn world(providers: &str) -> io::Result<World> {
    World::start(&Setup { sessions: 1, more: format!("providers:\n{providers}"), ..Setup::default() })
}

/// Tasks written elsewhere and renamed into the inbox, so that each is whole when it is seen.
fn submit(world: &World, name: &str, provider: &str) -> io::Result<()> {
    let draft = world.queue(&format!("drafts/{name}.md"));
    fs::write(&draft, task(provider))?;
    fs::rename(draft, world.queue(&format!("inbox/{name}.md")))
}

fn until_done(world: &World, prefix: &str, count: usize) -> io::Result<()> {
    let mut next = 0;
    world.until("every task to be done", |world| {
        while next < count && world.queue(&format!("done/{prefix}{next}.md")).exists() {
            next += 1;
        }
        next == count
    })
}

pub fn run() -> io::Result<()> {
    LIMITS.into_iter().try_for_each(throughput)
}

fn throughput(limit: usize) -> io::Result<()> {
    let provider = Provider::start(LATENCY, limit)?;
    let jobs = limit + limit.div_ceil(4);
    let world = world(&format!("  p: {{kind: openai, url: '{}', model: m, max_jobs: {jobs}}}\n", provider.url()))?;
    // Everything once, so that what is made at the first use is there.
    for i in 0..limit {
        submit(&world, &format!("w{i}"), "p")?;
    }
    until_done(&world, "w", limit)?;
    let pid = world.daemon_pid();
    let before = memory(pid, "VmRSS");
    let begun = Instant::now();
    for i in 0..TASKS {
        submit(&world, &format!("t{i}"), "p")?;
    }
    until_done(&world, "t", TASKS)?;
    let took = begun.elapsed();
    let after = memory(pid, "VmRSS");
    let (rate, most) = (TASKS as f64 / took.as_secs_f64(), limit as f64 / LATENCY.as_secs_f64());
    row(
        &format!("{TASKS} delegated tasks, {limit} at once, 200 ms each (`max_jobs: {jobs}`)"),
        &format!("{rate:.1} a second"),
        &format!("the provider's most {most:.0}"),
        &format!("{:.2}", rate / most),
        &wanted("0.90", rate >= 0.9 * most),
    );
    let at_once = provider.shared.most.load(Ordering::Relaxed);
    row("… at once at the provider, at most", &at_once.to_string(), &limit.to_string(), "", "");
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    row("… memory after them, before them", &mib(after), &mib(before), "", "");
    Ok(())
}

pub fn latency() -> io::Result<()> {
    let (chat, jobs) = (Provider::start(Duration::ZERO, usize::MAX)?, Provider::start(Duration::ZERO, usize::MAX)?);
    let world = world(&format!(
        "  p: {{kind: openai, url: '{}', model: m, max_jobs: 100}}\n  jobs: {{kind: secutools, url: '{}', max_jobs: {TASKS}}}\n",
        chat.url(),
        jobs.url()
    ))?;
    let quiet = submits(&world, &chat, "q", |n| n < SAMPLES)?;
    let mut curl = Samples::default();
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        let body = r#"{"model": "m", "messages": [{"role": "user", "content": "say hello"}]}"#;
        let url = format!("{}/chat/completions", chat.url());
        let status = Command::new("curl").args(["-s", "-o", "/dev/null", "-d", body, &url]).status()?;
        if !status.success() {
            return Err(io::Error::other("curl failed"));
        }
        curl.push(chat.next()?.saturating_duration_since(begun));
    }
    let ratio = crate::measure::ratio(quiet.median(), curl.median());
    row(
        "rename(2) into the inbox until the request is at the provider",
        &quiet.show(),
        &format!("curl {}", curl.show()),
        &format!("{ratio:.2}"),
        "",
    );

    for i in 0..TASKS {
        submit(&world, &format!("j{i}"), "jobs")?;
    }
    world.until("every job to be begun", |_| jobs.shared.jobs.load(Ordering::Relaxed) >= TASKS)?;
    let waiting = submits(&world, &chat, "v", |n| n < SAMPLES)?;
    row(
        "… while 1,000 jobs are waited for",
        &waiting.show(),
        &quiet.show(),
        &format!("{:.2}", crate::measure::ratio(waiting.median(), quiet.median())),
        "",
    );
    jobs.shared.finished.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let last = world.queue("done");
    let reaped = || {
        fs::read_dir(&last)
            .map_or(0, |dir| dir.flatten().filter(|e| e.file_name().as_encoded_bytes()[0] == b'j').count())
    };
    let meanwhile = submits(&world, &chat, "r", |_| reaped() < TASKS)?;
    let took = begun.elapsed();
    until_done(&world, "j", TASKS)?;
    row(
        "… while 1,000 jobs that ended at once are filed",
        &meanwhile.show(),
        &quiet.show(),
        &format!("{:.2}", crate::measure::ratio(meanwhile.median(), quiet.median())),
        "",
    );
    row(
        "1,000 jobs that ended at once, until the last is filed (`poll: 2s`)",
        &format!("{:.1} s", took.as_secs_f64()),
        "",
        "",
        "",
    );
    Ok(())
}

/// One task after another while it goes on; each from its rename until its request has arrived.
fn submits(
    world: &World,
    chat: &Provider,
    prefix: &str,
    mut goes_on: impl FnMut(usize) -> bool,
) -> io::Result<Samples> {
    let mut samples = Samples::default();
    let mut n = 0;
    while goes_on(n) {
        let name = format!("{prefix}{n}");
        let draft = world.queue(&format!("drafts/{name}.md"));
        fs::write(&draft, task("p"))?;
        let begun = Instant::now();
        fs::rename(draft, world.queue(&format!("inbox/{name}.md")))?;
        samples.push(chat.next()?.saturating_duration_since(begun));
        world.until("it to be done", |world| world.queue(&format!("done/{name}.md")).exists())?;
        n += 1;
    }
    Ok(samples)
}
