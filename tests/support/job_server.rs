//! A job server by doc/PROVIDERS.md: keeps jobs by their idempotency key.
//! Takes when and how jobs end; returns a server. A job's answer is its prompt.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use crate::server::{Server, answer};

/// What the server knows.
#[derive(Default)]
pub struct Jobs {
    /// Keys of the jobs, in the order in which they were begun; a job's id is `job-<n>`.
    keys: Mutex<Vec<String>>,
    prompts: Mutex<Vec<String>>,
    pub finished: AtomicBool,
    pub fails: AtomicBool,
    pub cancelled: AtomicBool,
}

impl Jobs {
    pub fn count(&self) -> usize {
        self.keys.lock().expect("whole").len()
    }

    /// The server of these jobs.
    pub fn serve(self: &Arc<Self>) -> Server {
        let jobs = self.clone();
        Server::start(move |request| {
            let (method, path) = (request.method.as_str(), request.path.as_str());
            match (method, path.strip_prefix("/api/v1/jobs").map(|rest| rest.trim_start_matches('/'))) {
                ("POST", Some("")) => answer(202, &[], &jobs.submit(request)),
                ("GET", Some(id)) => match jobs.look(id) {
                    Some(job) => answer(200, &[], &job),
                    None => answer(404, &[], "{}"),
                },
                ("DELETE", Some(_)) => {
                    jobs.cancelled.store(true, Ordering::SeqCst);
                    answer(204, &[], "")
                }
                _ => answer(404, &[], "{}"),
            }
        })
    }

    fn submit(&self, request: &crate::server::Request) -> String {
        let (mut keys, key) = (self.keys.lock().expect("whole"), request.header("idempotency-key").to_owned());
        let known = keys.iter().position(|known| *known == key);
        let at = known.unwrap_or_else(|| {
            keys.push(key);
            self.prompts.lock().expect("whole").push(request.body["prompt"].as_str().unwrap_or_default().to_owned());
            keys.len() - 1
        });
        json!({"id": format!("job-{at}"), "status": "queued"}).to_string()
    }

    fn look(&self, id: &str) -> Option<String> {
        let at: usize = id.strip_prefix("job-")?.parse().ok()?;
        let prompt = self.prompts.lock().expect("whole").get(at)?.clone();
        Some(
            match (self.finished.load(Ordering::SeqCst), self.fails.load(Ordering::SeqCst)) {
                (false, _) => json!({"id": id, "status": "running"}),
                (true, true) => json!({"id": id, "status": "failed", "error": "it broke"}),
                (true, false) => {
                    json!({"id": id, "status": "completed", "output": format!("did: {prompt}"), "cost_usd": 0.25,
                    "tokens": {"input": 3, "output": 4}})
                }
            }
            .to_string(),
        )
    }
}
