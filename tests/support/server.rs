//! A loopback server whose behaviour a test scripts: answers, streams, drips, cuts, stays silent.
//! Takes what to do at each request; records the requests. Listens on 127.0.0.1 only; ends when dropped.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longest that anything here may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Value,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What is done to a connection, one after another; it is closed at the end.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// The bytes again and again with a pause between, until nobody reads any more.
    Drip(Vec<u8>, Duration),
    /// Waits until the gate is open.
    Wait(Gate),
    /// Says nothing until the other side is gone.
    Hang,
}

/// Closed until a test opens it.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *locked(&self.0.0) = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let open = locked(&self.0.0);
        drop(self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open));
    }
}

type Script = dyn Fn(&Request) -> Vec<Step> + Send + Sync;

pub struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
    /// Connections that the other side has closed before their steps were done.
    left: Mutex<usize>,
    over: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub fn start(script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", script)
    }

    /// The same at a port that an earlier one had.
    pub fn at(address: &str, script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a loopback port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            left: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let server = Self { port, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        server
    }

    /// The same steps for everybody.
    pub fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_| steps.clone())
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        locked(&self.shared.requests).clone()
    }

    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}: {:?}", self.requests());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many connections were left by the other side.
    pub fn left(&self) -> usize {
        *locked(&self.shared.left)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let Some(request) = read(&stream) else { return };
        locked(&self.requests).push(request.clone());
        for step in (self.script)(&request) {
            let whole = match step {
                Step::Send(bytes) => stream.write_all(&bytes).is_ok(),
                Step::Drip(bytes, pause) => {
                    while stream.write_all(&bytes).is_ok() {
                        std::thread::sleep(pause);
                    }
                    false
                }
                Step::Wait(gate) => {
                    gate.wait();
                    true
                }
                Step::Hang => {
                    let _ = stream.read(&mut [0; 1]);
                    false
                }
            };
            if !whole {
                *locked(&self.left) += 1;
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        // Closed with unread bytes the connection would be reset, and the answer lost.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = stream.read(&mut [0; 1]);
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// A whole answer; `headers` are whole lines.
pub fn answer(status: u16, headers: &[&str], body: &str) -> Vec<Step> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    vec![Step::Send(text.into_bytes())]
}

/// The beginning of a stream of events, which ends with the connection.
pub fn stream() -> Step {
    Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec())
}

/// The beginning of a stream in chunks, whose end is told.
pub fn chunked() -> Step {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    Step::Send(head.as_bytes().to_vec())
}

pub fn event(data: &str) -> Step {
    Step::Send(format!("data: {data}\n\n").into_bytes())
}

/// As one chunk.
pub fn chunk(data: &str) -> Step {
    let data = format!("data: {data}\n\n");
    Step::Send(format!("{:x}\r\n{data}\r\n", data.len()).into_bytes())
}
