//! Calls: jobs whose answer is streamed on the request's own connection.
//! Takes orders; returns a job once the server has begun to answer, and its progress. Owns the connections: a call
//! lives and ends with this process, and its end is reported once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{RequestBuilder, Response, header};
use serde_json::Value;
use tokio::{
    sync::{Notify, oneshot},
    task::AbortHandle,
    time::Instant,
};

use super::{
    key,
    send::{self, How, LARGEST, Sender},
    sse::Events,
    talk::{Said, Stop, Talk},
    words,
};
use crate::{
    config::Secret,
    model::{
        ids::ProviderName,
        provider::{Answer, Order, Progress, ProviderError},
    },
    sys::providers::row::Row,
};

/// How long a submit waits for the answer to begin; later errors are reported by `look`. Chosen: as the connection's
/// timeout (`sys/http.rs`).
const BEGIN_WITHIN: Duration = Duration::from_secs(10);

/// How long a server that has given its finish reason may take to send the usage, or to close. Chosen: both follow at
/// once where they come at all.
const LINGER: Duration = Duration::from_secs(2);

/// By provider and job.
#[derive(Default)]
pub struct Calls(Mutex<HashMap<(ProviderName, String), Call>>);

/// Ends its connection when it is dropped.
struct Call {
    so_far: Arc<Mutex<SoFar>>,
    key: Option<Secret>,
    ended: Arc<Notify>,
    reader: AbortHandle,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Default)]
struct SoFar {
    text: String,
    end: Option<Progress>,
}

impl Calls {
    pub async fn submit(
        &self,
        sender: &Arc<Sender>,
        row: &Arc<Row>,
        talk: &'static dyn Talk,
        order: &Order,
    ) -> Result<String, ProviderError> {
        let key = key::read(row)?;
        let request = talk.request(&sender.client, row, key.as_ref(), order)?;
        // Servers that don't know the header pass over it.
        let request = request.header("idempotency-key", order.key.0.as_str());
        let so_far = Arc::new(Mutex::new(SoFar::default()));
        let (began, beginning) = oneshot::channel();
        let deadline = Instant::now() + row.provider.timeout;
        let caller = Caller { sender: sender.clone(), row: row.clone(), talk, key: key.clone(), deadline };
        let (shared, ended) = (so_far.clone(), Arc::new(Notify::new()));
        let tell = ended.clone();
        let task = tokio::spawn(async move {
            let end = caller.run(&request, began, &shared).await;
            locked(&shared).end = Some(end);
            tell.notify_one();
        });
        let call = Call { so_far, key, ended, reader: task.abort_handle() };
        let id = match tokio::time::timeout(BEGIN_WITHIN, beginning).await {
            Ok(Ok(id)) => id,
            // It never began.
            Ok(Err(_)) => {
                let _ = task.await;
                if let Some(Progress::Declined(error)) = &locked(&call.so_far).end {
                    return Err(error.clone());
                }
                None
            }
            Err(_) => None,
        };
        Ok(self.keep(call, row, id, order))
    }

    /// The job's id is the server's own, unless that is none or another call has it.
    fn keep(&self, call: Call, row: &Row, id: Option<String>, order: &Order) -> String {
        let mut calls = locked(&self.0);
        let id = id.map(|id| words::tidy(&id, None));
        let free = |id: &String| !id.is_empty() && !calls.contains_key(&(row.name.clone(), id.clone()));
        let id = id.filter(free).unwrap_or_else(|| order.key.to_string());
        calls.insert((row.name.clone(), id.clone()), call);
        id
    }

    pub fn look(&self, provider: &ProviderName, job: &str) -> Progress {
        let at = (provider.clone(), job.to_owned());
        let mut calls = locked(&self.0);
        let Some(call) = calls.get(&at) else { return Progress::Unknown };
        let end = {
            let so_far = locked(&call.so_far);
            let Some(end) = &so_far.end else {
                let text = words::masked(&so_far.text, call.key.as_ref());
                return Progress::Running { output: (!text.is_empty()).then(|| text.into()) };
            };
            end.clone()
        };
        calls.remove(&at);
        end
    }

    /// Completes when the call has ended; never for one that isn't there.
    pub async fn ended(&self, provider: &ProviderName, job: &str) {
        let ended = locked(&self.0).get(&(provider.clone(), job.to_owned())).map(|call| call.ended.clone());
        match ended {
            Some(ended) => ended.notified().await,
            None => std::future::pending().await,
        }
    }

    pub fn cancel(&self, provider: &ProviderName, job: &str) {
        locked(&self.0).remove(&(provider.clone(), job.to_owned()));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes one call.
struct Caller {
    sender: Arc<Sender>,
    row: Arc<Row>,
    talk: &'static dyn Talk,
    key: Option<Secret>,
    deadline: Instant,
}

/// Why an answer has no end.
enum Broke {
    /// The connection, or what came on it.
    Off(String),
    /// The server says so.
    Told(Value),
}

impl Caller {
    async fn run(
        &self,
        request: &RequestBuilder,
        began: oneshot::Sender<Option<String>>,
        so_far: &Mutex<SoFar>,
    ) -> Progress {
        let idle = self.sender.pace.idle;
        let how = How { key: self.key.as_ref(), repeats: self.row.repeats(), wait: idle, deadline: self.deadline };
        let response = match self.sender.send(request, &how).await {
            Ok(response) => response,
            Err(fault) => return Progress::Declined(fault.into()),
        };
        let mut began = Some(began);
        let mut said = Said::default();
        match self.read(response, &mut said, &mut began, so_far).await {
            Ok(()) => match said.finish(&self.row) {
                Ok(answer) => {
                    let text = words::masked(&answer.text, self.key.as_ref());
                    Progress::Done(Answer { text, ..answer })
                }
                Err(why) => Progress::Failed(why),
            },
            Err(Broke::Told(error)) => match self.sender.judge(&error, self.key.as_ref()) {
                ProviderError::Refused(why) if began.is_none() => Progress::Failed(why),
                error => Progress::Declined(error),
            },
            Err(Broke::Off(why)) if began.is_some() => Progress::Declined(send::cooling(why, None)),
            Err(Broke::Off(why)) => Progress::Failed(why),
        }
    }

    /// Reads an answer to its end, and reports its beginning.
    async fn read(
        &self,
        mut response: Response,
        said: &mut Said,
        began: &mut Option<oneshot::Sender<Option<String>>>,
        so_far: &Mutex<SoFar>,
    ) -> Result<(), Broke> {
        if let Some(encoding) = encoding(&response) {
            return Err(Broke::Off(format!("its answer is encoded as {encoding}, which nobody asked for")));
        }
        let told = is_stream(&response);
        let mut streams = told;
        let (mut events, mut whole, mut bytes) = (Events::default(), Vec::new(), 0);
        loop {
            let stopped = streams && said.stop.is_some();
            let idle = if stopped { LINGER } else { self.sender.pace.idle };
            let wait = idle.min(self.deadline.saturating_duration_since(Instant::now()));
            let piece = match send::next(&mut response, wait, self.key.as_ref()).await {
                // The answer is whole; how the connection ends is no matter.
                Err(_) if stopped => None,
                // A complete answer with a wrong length is still complete.
                Err(_) if !streams && serde_json::from_slice::<Value>(&whole).is_ok() => None,
                piece => piece.map_err(Broke::Off)?,
            };
            if let Some(piece) = piece.as_ref().filter(|_| bytes == 0) {
                streams = looks_like_stream(piece).unwrap_or(told);
            }
            let data = match &piece {
                Some(piece) => {
                    bytes += piece.len();
                    if bytes > LARGEST {
                        return Err(Broke::Off(send::too_large()));
                    }
                    if streams {
                        events.feed(piece)
                    } else {
                        whole.extend_from_slice(piece);
                        Vec::new()
                    }
                }
                None if streams => events.finish().into_iter().collect(),
                None => vec![String::from_utf8_lossy(&whole).into_owned()],
            };
            for data in &data {
                self.take(data, said)?;
                if let Some(began) = began.take() {
                    let _ = began.send(said.id.clone());
                }
            }
            let text = &mut locked(so_far).text;
            let shown = text.len();
            text.push_str(&said.text[shown..]);
            if piece.is_none() || said.over {
                return Ok(());
            }
        }
    }

    fn take(&self, data: &str, said: &mut Said) -> Result<(), Broke> {
        // The end by OpenAI's convention.
        if data.trim() == "[DONE]" {
            said.stop.get_or_insert(Stop::End);
            said.over = true;
            return Ok(());
        }
        let json: Value = serde_json::from_str(data.trim_start_matches('\u{feff}')).map_err(|_| {
            let data = words::tidy(data, self.key.as_ref());
            Broke::Off(format!("the server's answer is no JSON: {data:?}"))
        })?;
        // A stream that a server sends as one list.
        let events = if let Value::Array(events) = json { events } else { vec![json] };
        for event in events {
            if event.get("error").is_some_and(|error| !error.is_null()) {
                return Err(Broke::Told(event));
            }
            self.talk.take(&event, said);
        }
        Ok(())
    }
}

/// Whether these first bytes are an event stream, whatever the header says; `None` where they don't tell.
fn looks_like_stream(bytes: &[u8]) -> Option<bool> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    match bytes.first()? {
        b'{' | b'[' => Some(false),
        _ => ["data:", "event:", "id:", "retry:", ":"]
            .iter()
            .any(|word| bytes.starts_with(word.as_bytes()))
            .then_some(true),
    }
}

/// A coding of the body that can't be read: none was asked for (RFC 9110, 8.4).
fn encoding(response: &Response) -> Option<String> {
    let told = response.headers().get(header::CONTENT_ENCODING)?.to_str().ok()?.trim().to_ascii_lowercase();
    (!told.is_empty() && told != "identity").then_some(told)
}

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/event-stream"))
}
