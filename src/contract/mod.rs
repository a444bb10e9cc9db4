//! `ccl-delegate`: lets shell scripts delegate tasks, with or without a daemon.
//! Takes arguments, the environment and task files; prints a word, a job's JSON or its output, and returns an exit
//! code. Keeps no state: the marker belongs to the script. Keys come from the environment or a file, never from an
//! argument, and are never printed.

mod args;
mod servers;

use std::{
    ffi::OsString,
    io::{Read, Write},
    path::Path,
};

use clap::Parser as _;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

pub use args::command;

use self::{
    args::{Call, Cli, JobArgs},
    servers::Servers,
};
use crate::{
    cli::{Exit, Failure},
    linux::memory,
    model::{
        ids::{ProviderName, RunId},
        marker::DelegatedMarker,
        provider::{Order, Progress, ProviderError},
        task::TaskSpec,
        task_file::{Reading, read},
    },
    ports::Providers,
};

/// Largest file that is read. Chosen: the limit of a request's body (`sys/providers/send.rs`).
const LARGEST: u64 = 10 * 1024 * 1024;

/// Carries out one call.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> Exit {
    memory::keep_secrets();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(&cli)),
        Err(error) => Err(Failure::Failed(format!("the async runtime can't be made: {error}"))),
    };
    match done {
        Ok(exit) => exit,
        Err(Failure::Broken(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(failure) => {
            complain(&failure.to_string());
            failure.exit()
        }
    }
}

/// Nothing is left to report to when this fails.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "ccl-delegate: {text}");
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write!(out, "{text}{end}").and_then(|()| out.flush()).map_err(Failure::from)
}

async fn carry_out(cli: &Cli) -> Result<Exit, Failure> {
    let servers = Servers::find(cli)?;
    match &cli.call {
        Call::Decide(task) => {
            let (spec, _) = task_in(&task.file)?;
            say(Servers::word(&servers.route(&spec, None)))?;
            Ok(Exit::Ok)
        }
        Call::Submit { task, provider, key } => {
            let (spec, prompt) = task_in(&task.file)?;
            submit(&servers, &spec, prompt, provider.as_deref(), key.clone()).await
        }
        Call::Get(job) => get(&servers, job).await,
        Call::Result { job, wait, timeout } => {
            let until = match (wait, timeout) {
                (false, _) => Some(Instant::now()),
                (true, Some(timeout)) => Some(Instant::now() + *timeout),
                (true, None) => None,
            };
            result(&servers, job, until).await
        }
    }
}

/// A task file's frontmatter and prompt.
fn task_in(file: &Path) -> Result<(TaskSpec, String), Failure> {
    let shown = file.display();
    let unreadable = |error: std::io::Error| Failure::Failed(format!("{shown} can't be read: {error}"));
    let from: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(unreadable)?)
    };
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::Failed(format!("{shown} is larger than 10 MiB")));
    }
    match read(&bytes) {
        Reading::Ready { spec, prompt } => Ok((*spec, prompt)),
        Reading::Empty => Err(Failure::Failed(format!("{shown} is empty"))),
        Reading::OpenFrontmatter => Err(Failure::Failed(format!("{shown}: its frontmatter is not closed"))),
        Reading::Rejected(problem) => Err(Failure::Failed(format!("{shown}:{problem}"))),
    }
}

async fn submit(
    servers: &Servers,
    spec: &TaskSpec,
    prompt: String,
    provider: Option<&str>,
    key: Option<String>,
) -> Result<Exit, Failure> {
    let route = servers.route(spec, provider);
    let chain: Vec<&ProviderName> = route.chain.iter().filter(|name| servers.keeps_jobs(name)).collect();
    if chain.is_empty() {
        let why = match route.chain.first() {
            None => route.rule.to_string(),
            Some(name) => format!("{name} answers on the call's own connection, which only the daemon can wait for"),
        };
        complain(&format!("not delegated: {why}"));
        return Ok(Exit::Usage);
    }
    let word = Servers::word(&route);
    let order = Order {
        key: RunId(key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string())),
        prompt,
        word: Some(word.to_owned()),
        complexity: spec.complexity_hint.clone(),
    };
    let providers = servers.connect()?;
    let mut whys = Vec::new();
    for name in chain {
        match providers.submit(name, &order).await {
            Ok(id) => {
                let marker = DelegatedMarker {
                    job_id: Some(id),
                    // A fallback is named, so that it is asked for the result.
                    provider: if route.chain.first() == Some(name) { word.to_owned() } else { name.to_string() },
                    submitted_at: Some(Timestamp::now()),
                    ours: None,
                };
                say(&String::from_utf8_lossy(&marker.to_json()))?;
                return Ok(Exit::Ok);
            }
            Err(error) => whys.push(format!("{name} did not take it: {error}")),
        }
    }
    Err(Failure::Failed(whys.join("; ")))
}

async fn get(servers: &Servers, args: &JobArgs) -> Result<Exit, Failure> {
    let name = servers.server(args.provider.as_deref())?;
    let progress = servers.connect()?.look(&name, &args.job).await.map_err(unclear)?;
    let json = match &progress {
        Progress::Running { output } => json!({"state": "running", "output": output}),
        Progress::Done(answer) => json!({"state": "completed", "output": answer.text, "tokens": answer.tokens,
            "cost_usd": answer.cost_usd}),
        Progress::Failed(why) => json!({"state": "failed", "error": why}),
        Progress::Declined(error) => json!({"state": "failed", "error": error.to_string()}),
        Progress::Unknown => return Err(unknown(&name, &args.job)),
    };
    let mut whole = json!({"job_id": args.job, "provider": name});
    if let (Some(whole), Some(json)) = (whole.as_object_mut(), json.as_object()) {
        whole
            .extend(json.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())));
    }
    say(&whole.to_string())?;
    Ok(Exit::Ok)
}

/// Prints the output; without an end until then it is not yet there.
async fn result(servers: &Servers, args: &JobArgs, until: Option<Instant>) -> Result<Exit, Failure> {
    let name = servers.server(args.provider.as_deref())?;
    let providers = servers.connect()?;
    loop {
        let why = match providers.look(&name, &args.job).await {
            Ok(Progress::Done(answer)) => {
                say(&answer.text)?;
                return Ok(Exit::Ok);
            }
            Ok(Progress::Failed(why)) => return Err(Failure::Failed(format!("job {} failed: {why}", args.job))),
            Ok(Progress::Declined(error)) => return Err(Failure::Failed(format!("job {} failed: {error}", args.job))),
            Ok(Progress::Unknown) => return Err(unknown(&name, &args.job)),
            Ok(Progress::Running { .. }) => format!("job {} has not ended yet", args.job),
            Err(ProviderError::Refused(why)) => return Err(Failure::Failed(why)),
            // The job continues anyway.
            Err(error @ ProviderError::Out(_)) => error.to_string(),
        };
        if until.is_some_and(|until| until <= Instant::now()) {
            return Err(Failure::TimedOut(why));
        }
        let next = Instant::now() + servers.poll(&name);
        tokio::time::sleep_until(until.map_or(next, |until| until.min(next))).await;
    }
}

/// A server that can't be asked says nothing of the job.
fn unclear(error: ProviderError) -> Failure {
    match error {
        ProviderError::Refused(why) => Failure::Failed(why),
        ProviderError::Out(_) => Failure::TimedOut(error.to_string()),
    }
}

fn unknown(name: &ProviderName, job: &str) -> Failure {
    Failure::Failed(format!("{name} knows no job {job:?}"))
}
