//! A loopback server that speaks the parts of the Anthropic Messages API, the OpenAI Responses API, OpenAI's chat
//! completions and Gemini's API that the agent CLIs of tests/agents need. Takes modes, set globally or per key;
//! returns answers, and keeps a log of requests in memory. Listens on 127.0.0.1 only and never connects anywhere.
//!
//! The prompt controls the answer: `RUN: <command>` requests one shell call (with `ESCALATE` before it, Codex asks for
//! permission), `SLOW: <seconds>` streams that long, `LONG: <lines>` answers that many lines, `SUB: <prompt>` starts a
//! subagent (Claude Code), `BACKGROUND: <command>` a command that outlives the turn, `ASK: <question>` asks the
//! person. Anything else is answered with `MOCK-REPLY done: <n> chars received.`

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

#[path = "mock_llm/anthropic.rs"]
mod anthropic;
#[path = "mock_llm/chat.rs"]
mod chat;
#[path = "mock_llm/gemini.rs"]
mod gemini;
#[path = "mock_llm/http.rs"]
mod http;
#[path = "mock_llm/openai.rs"]
mod openai;

/// How the server answers a model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Ok,
    /// Two seconds between pieces.
    Slow,
    /// No answer at all.
    Hang,
    /// The connection is closed without an answer.
    Reset,
    /// The account's usage limit: unified headers for Anthropic, `usage_limit_reached` for OpenAI.
    Limit(Claim),
    /// An allowed answer that warns of 93 % of the limit.
    Warn,
    /// 429 of the server, not of the account.
    RateLimit,
    /// 500.
    ServerError,
    /// 529, for OpenAI 503.
    Overloaded,
    /// 401.
    BadKey,
    /// 401 as a subscription account gets it.
    ExpiredToken,
    /// 402.
    NoCredit,
    /// 403.
    Forbidden,
    /// 404 for the model.
    NoModel,
    /// 400, prompt too long.
    TooLong,
    /// An error event in the middle of the stream.
    MidStream,
}

/// Which window of a subscription is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    FiveHour,
    SevenDay,
}

/// One request that came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Value,
    /// `x-api-key`, or the bearer token.
    pub key: String,
    /// Text of the last user message, without system reminders.
    pub prompt: String,
    /// It offers tools: the conversation itself, not a title or a probe.
    pub main: bool,
    /// It brings a tool's result, and so continues a turn.
    pub after_tool: bool,
    pub mode: Mode,
}

#[derive(Debug)]
struct State {
    everybody: Mode,
    /// The mode of one key; with a count, for that many calls.
    keys: HashMap<String, (Mode, Option<u32>)>,
    reset_in: Duration,
    requests: Vec<Request>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    came: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub struct MockLlm {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for MockLlm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MockLlm {
    /// Starts on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let port = listener.local_addr().expect("its address").port();
        let state = State {
            everybody: Mode::Ok,
            keys: HashMap::new(),
            reset_in: Duration::from_secs(7200),
            requests: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), came: Notify::new() });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A client that goes away in the middle is no fault of the server's.
                tokio::spawn(async move { drop(serve(&shared, stream).await) });
            }
        });
        Self { port, shared, task }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How every key without a mode of its own is answered from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.state().everybody = mode;
    }

    /// How one key is answered from now on.
    pub fn set_for(&self, key: &str, mode: Mode) {
        self.shared.state().keys.insert(key.to_owned(), (mode, None));
    }

    /// How the next `times` model calls of one key are answered.
    pub fn set_for_next(&self, key: &str, mode: Mode, times: u32) {
        self.shared.state().keys.insert(key.to_owned(), (mode, Some(times)));
    }

    /// In how long a limit ends.
    pub fn set_reset_in(&self, time: Duration) {
        self.shared.state().reset_in = time;
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Waits until `found` gives something for the requests so far.
    ///
    /// # Panics
    /// After `patience`, with the requests that came.
    pub async fn wait<T>(&self, patience: Duration, what: &str, found: impl Fn(&[Request]) -> Option<T>) -> T {
        let search = async {
            loop {
                let came = self.shared.came.notified();
                if let Some(value) = found(&self.shared.state().requests) {
                    return value;
                }
                came.await;
            }
        };
        match tokio::time::timeout(patience, search).await {
            Ok(value) => value,
            Err(_) => {
                let seen: Vec<String> =
                    self.requests().iter().map(|r| format!("{} {} {:?}", r.method, r.path, r.prompt)).collect();
                panic!("no request with {what} within {patience:?}; requests: {seen:#?}")
            }
        }
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub struct Plan {
    text: String,
    pieces: Vec<String>,
    pause: Duration,
    call: Option<Call>,
}

#[derive(Debug, Clone)]
pub enum Call {
    Shell { command: String, escalate: bool },
    Subagent { prompt: String },
    Background { command: String },
    Question { question: String },
}

fn plan(prompt: &str, after_tool: bool, main: bool, mode: Mode) -> Plan {
    let command = |name: &str| prompt.lines().find_map(|l| l.split_once(name)).map(|(_, rest)| rest.trim().to_owned());
    let number = |name: &str| command(name).and_then(|t| t.split_whitespace().next()?.parse::<u32>().ok());
    let mut pause = Duration::from_millis(20);
    let mut call = None;
    let mut by_word = false;
    let text = if !main {
        "MOCK-TITLE".to_owned()
    } else if after_tool {
        "MOCK-REPLY tool finished.".to_owned()
    } else if let Some(line) = command("RUN: ") {
        call = Some(Call::Shell { command: line, escalate: prompt.contains("ESCALATE") });
        "I will run a command.".to_owned()
    } else if let Some(line) = command("SUB: ") {
        call = Some(Call::Subagent { prompt: line });
        "I will start a subagent.".to_owned()
    } else if let Some(line) = command("BACKGROUND: ") {
        call = Some(Call::Background { command: line });
        "I will start it.".to_owned()
    } else if let Some(line) = command("ASK: ") {
        call = Some(Call::Question { question: line });
        "I have a question.".to_owned()
    } else if let Some(seconds) = number("SLOW: ") {
        let words = (seconds * 2).max(4);
        pause = Duration::from_secs(u64::from(seconds)) / (words + 1);
        by_word = true;
        let words: Vec<String> = (0..words).map(|i| format!("word{i}")).collect();
        format!("{} MOCK-SLOW-END", words.join(" "))
    } else if let Some(lines) = number("LONG: ") {
        pause = Duration::from_millis(5);
        let lines: Vec<String> = (0..lines).map(|i| format!("line {i} of the long answer")).collect();
        format!("{}\nMOCK-LONG-END", lines.join("\n"))
    } else {
        format!("MOCK-REPLY done: {} chars received.", prompt.chars().count())
    };
    if mode == Mode::Slow {
        pause = Duration::from_secs(2);
    }
    let pieces = if by_word {
        text.split_inclusive(' ').map(str::to_owned).collect()
    } else {
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(chars.len().div_ceil(6).max(1)).map(|c| c.iter().collect()).collect()
    };
    Plan { text, pieces, pause, call }
}

/// Whose model calls a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Messages,
    Responses,
    Chat,
    Gemini,
}

impl Api {
    fn of(path: &str) -> Option<Self> {
        match path {
            p if p.ends_with("/chat/completions") => Some(Self::Chat),
            p if p.ends_with("/messages") => Some(Self::Messages),
            p if p.ends_with("/responses") => Some(Self::Responses),
            p if p.contains("/models/") && p.contains(':') => Some(Self::Gemini),
            _ => None,
        }
    }
}

async fn serve(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let raw = http::read(&mut stream).await?;
    let path = raw.path.split('?').next().unwrap_or_default().to_owned();
    let bearer = raw.headers.get("authorization").and_then(|v| v.strip_prefix("Bearer "));
    let own = ["x-api-key", "x-goog-api-key"].into_iter().find_map(|name| raw.headers.get(name).map(String::as_str));
    let key = own.or(bearer).unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(&raw.body).unwrap_or(Value::Null);
    let api = Api::of(&path).filter(|_| raw.method == "POST");
    let (prompt, after_tool) = match api {
        Some(Api::Messages) | None => anthropic::last_prompt(&body),
        Some(Api::Responses) => openai::last_prompt(&body),
        Some(Api::Chat) => chat::last_prompt(&body),
        Some(Api::Gemini) => gemini::last_prompt(&body),
    };
    let main = match api {
        Some(Api::Gemini) => gemini::is_main(&body),
        Some(Api::Messages | Api::Responses | Api::Chat) | None => {
            body["tools"].as_array().is_some_and(|tools| !tools.is_empty())
        }
    };
    let (mode, reset_in) = {
        let mut state = shared.state();
        let mode = if api.is_some() { take_mode(&mut state, &key) } else { Mode::Ok };
        let prompt = prompt.clone();
        let request = Request {
            method: raw.method.clone(),
            path: raw.path,
            headers: raw.headers,
            body: body.clone(),
            key,
            prompt,
            main,
            after_tool,
            mode,
        };
        state.requests.push(request);
        (mode, state.reset_in)
    };
    shared.came.notify_waiters();
    let answer = plan(&prompt, after_tool, main, mode);
    let client = http::Client::new(stream);
    match mode {
        Mode::Hang => std::future::pending().await,
        Mode::Reset => return Ok(()),
        _ => {}
    }
    match api {
        Some(Api::Messages) => return anthropic::answer(client, &body, &answer, mode, reset_in).await,
        Some(Api::Responses) => return openai::answer(client, &body, &answer, mode, reset_in).await,
        Some(Api::Chat) => return chat::answer(client, &body, &answer, mode, reset_in).await,
        Some(Api::Gemini) => return gemini::answer(client, &path, &body, &answer, mode).await,
        None => {}
    }
    match (raw.method.as_str(), path.as_str()) {
        ("POST", p) if p.ends_with("/messages/count_tokens") => {
            client.json(200, &[], &serde_json::json!({"input_tokens": 100})).await
        }
        (_, p) if p.ends_with("/models") => {
            client
                .json(200, &[], &serde_json::json!({"object": "list", "data": [], "models": [], "has_more": false}))
                .await
        }
        (_, "/" | "/api/hello") => client.json(200, &[], &serde_json::json!({"message": "hello"})).await,
        (_, p) => {
            let error = serde_json::json!({"type": "not_found_error", "message": format!("no such path {p}")});
            client.json(404, &[], &serde_json::json!({"type": "error", "error": error})).await
        }
    }
}

fn take_mode(state: &mut State, key: &str) -> Mode {
    match state.keys.get_mut(key) {
        None | Some((_, Some(0))) => state.everybody,
        Some((mode, None)) => *mode,
        Some((mode, Some(left))) => {
            *left -= 1;
            *mode
        }
    }
}
