//! Renders `tasks/<id>/`.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    model::{
        command::TASK_VERBS,
        ids::ProviderName,
        permits,
        provider::{Job, JobStop},
        route::{self, Pick},
        session::{Activity, Incarnation, Session, SessionPhase},
        snapshot::Under,
        task::{Delivery, Ending, Phase, Run, Stop, Task, Work},
        task_file::meant,
    },
    render::{Picture, account, clean, json_text, session, words},
};

/// Unknown keys that `why` names. Chosen: a line; a text may have thousands.
const KEYS_NAMED: usize = 10;

#[must_use]
pub fn state(_: &Picture, task: &Task) -> String {
    words::line(task.phase.word())
}

#[must_use]
pub fn why(picture: &Picture, task: &Task) -> String {
    let mut out = format!("{} {}\n", task.phase.word(), words::since(picture, task.since));
    match &task.phase {
        Phase::Held(hold) => {
            let _ = writeln!(out, "{hold}");
            for also in &task.also {
                let _ = writeln!(out, "when that is let go, it stays held: {also}");
            }
        }
        Phase::Queued if picture.snapshot.paused => {
            out.push_str(
                "ready; dispatching is paused: `echo resume > control` in the mount's top directory goes on\n",
            );
        }
        Phase::Queued => {
            let _ = writeln!(out, "ready; {}", waits_for(picture, task));
            out.push_str(&routed(picture, task));
        }
        Phase::Rejected(problem) => {
            let _ = writeln!(out, "{problem}");
        }
        Phase::Working(run) => working(picture, task, run, &mut out),
        Phase::Delegated(job) => {
            delegated(picture, job, &mut out);
            out.push_str(&routed(picture, task));
        }
        Phase::Filing(filing) => {
            let _ =
                writeln!(out, "its end is known ({}); the result is being put on disk", filing.ending.status.word());
            ended(picture, &filing.ending, &mut out);
        }
        Phase::Finished(finished) => {
            ended(picture, &finished.ending, &mut out);
            match &finished.work {
                None => {}
                Some(Work::Run(run)) => {
                    let _ = writeln!(out, "session {}, attempt {}, run {}", run.session, run.attempt, run.id);
                }
                Some(Work::Job(job)) => {
                    let id = job.id.as_deref().unwrap_or("-");
                    let _ =
                        writeln!(out, "provider {}, attempt {}, job {id}, run {}", job.provider, job.attempt, job.run);
                }
            }
        }
    }
    out.push_str(&agent_by_words(picture, task));
    for (key, near) in task.spec.unknown.iter().filter_map(|key| Some((key, meant(key)?))).take(KEYS_NAMED) {
        let _ = writeln!(out, "warning: unknown key `{key}` in its frontmatter; did you mean `{near}`?");
    }
    if let Some(hint) = route::unknown_hint(&task.spec) {
        let known = route::HINTS.join(", ");
        let _ = writeln!(out, "warning: complexity_hint {hint:?} is none of {known}; it counts as medium");
    }
    let work = match &task.phase {
        Phase::Working(run) => run.instead.as_deref(),
        Phase::Delegated(job) => job.instead.as_deref(),
        Phase::Filing(filing) => filing.work.as_ref().and_then(Work::instead),
        Phase::Finished(finished) => finished.work.as_ref().and_then(Work::instead),
        Phase::Held(_) | Phase::Queued | Phase::Rejected(_) => None,
    };
    if let Some(instead) = work {
        let _ = writeln!(out, "not where it asked to be done: {instead}");
    }
    if !task.spec.unknown.is_empty() {
        let named: Vec<&str> = task.spec.unknown.iter().take(KEYS_NAMED).map(String::as_str).collect();
        let more = task.spec.unknown.len() - named.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let _ = writeln!(out, "frontmatter keys that mean nothing here: {}{more}", named.join(", "));
    }
    if let Some(note) = &task.note {
        let _ = writeln!(out, "{note}");
    }
    if let Some(writer) = &task.origin.writer {
        let waits = matches!(task.phase, Phase::Held(_) | Phase::Queued | Phase::Rejected(_));
        let own = task.origin.text.is_none() || task.text.is_none() || task.origin.text == task.bound();
        let who = permits::who(writer);
        let _ = if own || !waits {
            writeln!(out, "written by {who}")
        } else {
            writeln!(out, "changed behind the mount, by whom is not known; the text before was written by {who}")
        };
    }
    if let Some(parent) = &task.origin.parent {
        let _ = writeln!(out, "written from the session of task {parent}, {} deep", task.origin.depth);
    }
    clean(&out)
}

/// The cause of its state, in one line.
#[must_use]
pub fn reason(picture: &Picture, task: &Task) -> String {
    why(picture, task).lines().nth(1).unwrap_or_default().to_owned()
}

/// Which rule chose between sessions and providers, where there are providers.
fn routed(picture: &Picture, task: &Task) -> String {
    let delegation = &picture.snapshot.delegation;
    if !delegation.is_on() {
        return String::new();
    }
    let route = route::route(&task.spec, task.wish.as_ref(), delegation);
    let chain: Vec<&str> = route.chain.iter().map(ProviderName::as_str).chain(["a session here"]).collect();
    let refused: Vec<&str> = task.refused_by.iter().map(ProviderName::as_str).collect();
    let refused = if refused.is_empty() { String::new() } else { format!("; refused by {}", refused.join(", ")) };
    format!("route: {} ({}){refused}\n", chain.join(", then "), route.rule)
}

/// Which agent the words of its name and text chose, where words choose and the task names none.
fn agent_by_words(picture: &Picture, task: &Task) -> String {
    let snapshot = picture.snapshot;
    let waits = matches!(task.phase, Phase::Held(_) | Phase::Queued);
    match (&task.spec.by_words, &snapshot.pool_agent) {
        (Some(found), _) => format!("agent {} by the word {:?} (agent_by_words)\n", found.agent, found.word),
        (None, Some(pool))
            if waits && task.text.is_some() && task.spec.agent.is_none() && !snapshot.rights.words.is_empty() =>
        {
            format!("agent {pool}, the pool's: no word of agent_by_words is in its name or text\n")
        }
        (None, _) => String::new(),
    }
}

/// What keeps a ready task from being dispatched.
fn waits_for(picture: &Picture, task: &Task) -> String {
    let snapshot = picture.snapshot;
    match route::pick(task, &snapshot.delegation, &route::busy(snapshot), picture.now) {
        Pick::Here => {}
        Pick::Provider(name) => return format!("goes to provider {name}"),
        Pick::Wait(name) => return format!("waits for provider {name}, whose jobs are as many as it may have at once"),
    }
    let Some(agent) = task.spec.agent().or(snapshot.pool_agent.as_ref()) else {
        return "waits for a free session".to_owned();
    };
    match snapshot.under(agent) {
        Under::Blocked(account) => {
            let out = account::out_of_use(picture, account).unwrap_or_default();
            format!("waits for an account of agent {agent}: {} {out}, and no other has taken its place", account.name)
        }
        Under::Account(_) => "waits for a free session".to_owned(),
        Under::NoAccount => {
            let stands = |session: &&Arc<Session>| {
                let own = |inc: &Incarnation| inc.agent == *agent && inc.account.is_none();
                session.verdict.activity == Activity::Limited && session.phase.incarnation().is_some_and(own)
            };
            match snapshot.sessions.values().find(stands) {
                None => "waits for a free session".to_owned(),
                Some(session) => {
                    let until = session::parked_until(picture, session);
                    let until = until.map_or_else(
                        || "until a person acts".to_owned(),
                        |until| format!("until its limit ends {}", words::at(picture, until)),
                    );
                    format!("agent {agent} is stopped by a limit in session {} {until}", session.name)
                }
            }
        }
    }
}

fn working(picture: &Picture, task: &Task, run: &Run, out: &mut String) {
    let how_far = match &run.delivery {
        Delivery::NotBegun => match (not_yet(picture, run), &task.note) {
            (Some(cause), _) => format!("its prompt is not typed yet: {cause}"),
            // What a try to type it met.
            (None, Some(note)) => format!("its prompt is not typed yet: {note}"),
            (None, None) => "its prompt is not typed yet".to_owned(),
        },
        Delivery::Begun => "its prompt is being handed over".to_owned(),
        Delivery::Taken { at } => format!("the agent took its prompt {} ago", words::age(picture, *at)),
    };
    let _ = writeln!(out, "{how_far}");
    out.push_str(match run.stop {
        Stop::No => "",
        Stop::Cancelled => "somebody asked to stop it\n",
        Stop::Yielded => "somebody else claimed it before anything was typed; its session is being freed\n",
        Stop::Again => "this attempt came to nothing; once its agent is ended, the next may begin\n",
    });
    if let Some(session) = picture.snapshot.sessions.get(&run.session) {
        let _ = writeln!(out, "session {} is {}: {}", session.name, session.word(), words::short_why(picture, session));
        if let Some(line) = session::going_on(picture, session) {
            let _ = writeln!(out, "{line}");
        }
    }
    let (session, attempt, most, id) = (&run.session, run.attempt, run.attempts_allowed, &run.id);
    let _ = writeln!(out, "session {session}, attempt {attempt} of {most}, run {id}");
}

/// What prevents typing, if the session reports it.
fn not_yet(picture: &Picture, run: &Run) -> Option<String> {
    let session = picture.snapshot.sessions.get(&run.session)?;
    let asks = session.verdict.evidence.first().map(|signal| signal.text.as_str()).unwrap_or_default();
    let cause = match (&session.phase, session.verdict.activity) {
        (SessionPhase::Starting(_) | SessionPhase::Up(_), Activity::Waiting(what)) => {
            format!("its agent waits ({}): {asks}; {}", words::kebab(&what), words::answer(what, &session.name))
        }
        (SessionPhase::Starting(_), _) => "its agent has not shown its prompt".to_owned(),
        (SessionPhase::Up(_), Activity::Working | Activity::Stalled) => "its agent is at work".to_owned(),
        (SessionPhase::Up(_), Activity::Limited) => "its agent is stopped by its account".to_owned(),
        (SessionPhase::Up(_), Activity::Unknown | Activity::Idle)
        | (SessionPhase::Down | SessionPhase::Ending(_) | SessionPhase::Dead { .. }, _) => return None,
    };
    Some(cause)
}

fn ended(picture: &Picture, ending: &Ending, out: &mut String) {
    if let Some(error) = &ending.error {
        let _ = writeln!(out, "error: {}", error.replace('\n', " "));
    }
    let _ = writeln!(out, "ended {} at {}", ending.status.word(), words::second(picture.shown(ending.at)));
}

fn delegated(picture: &Picture, job: &Job, out: &mut String) {
    let how_far = match (&job.id, &job.output) {
        (None, _) => "being submitted".to_owned(),
        (Some(_), None) => "no answer yet".to_owned(),
        (Some(_), Some(output)) => {
            format!("{} characters of an answer so far", output.chars().count())
        }
    };
    let (run, provider, attempt) = (&job.run, &job.provider, job.attempt);
    let _ = writeln!(out, "at provider {provider}: {how_far}, sent {}", words::since(picture, job.claimed));
    out.push_str(match job.stop {
        JobStop::No => "",
        JobStop::Cancelled => "somebody asked to stop it\n",
        JobStop::Recalled => "somebody wants it back: it will wait for a session here\n",
    });
    let _ = writeln!(out, "attempt {attempt}, job {}, run {run}", job.id.as_deref().unwrap_or("-"));
}

/// Where it is worked on: a session or a provider.
#[must_use]
pub fn place(task: &Task) -> String {
    let run = task.phase.run().map(|run| run.session.to_string());
    run.or_else(|| task.phase.job().map(|job| job.provider.to_string())).unwrap_or_default()
}

#[must_use]
pub fn session(_: &Picture, task: &Task) -> String {
    task.phase.run().map_or_else(String::new, |run| words::line(run.session.as_str()))
}

#[must_use]
pub fn attempts(_: &Picture, task: &Task) -> String {
    format!("{}\n", task.attempts)
}

#[must_use]
pub fn run(picture: &Picture, task: &Task) -> String {
    if let Some(job) = task.phase.job() {
        let id = job.id.as_deref().unwrap_or("");
        return clean(&format!(
            "run: {}\nprovider: {}\njob: {id}\nattempt: {}\nclaimed: {}\ntask_sha256: {}\n",
            job.run,
            job.provider,
            job.attempt,
            picture.shown(job.claimed),
            job.text.sha256
        ));
    }
    let Some(run) = task.phase.run() else { return String::new() };
    let mut out = String::new();
    let _ = writeln!(out, "run: {}\nsession: {}\nagent: {}", run.id, run.session, run.agent);
    for account in &run.accounts {
        let _ = writeln!(out, "account: {account}");
    }
    let _ = writeln!(out, "attempt: {}\nclaimed: {}", run.attempt, picture.shown(run.claimed));
    let delivery = match &run.delivery {
        Delivery::NotBegun => "not-begun".to_owned(),
        Delivery::Begun => "begun".to_owned(),
        Delivery::Taken { at } => format!("taken {}", picture.shown(*at)),
    };
    let _ = writeln!(out, "delivery: {delivery}\ntask_sha256: {}", run.text.sha256);
    clean(&out)
}

/// `delegated/<id>.json`.
#[must_use]
pub fn job(picture: &Picture, task: &Task) -> String {
    let job = task.phase.job();
    json_text(&serde_json::json!({
        "task": picture.snapshot.display_id(&task.key),
        "state": task.phase.word(),
        "since": picture.shown(task.since),
        "provider": job.map(|job| &job.provider),
        "job": job.and_then(|job| job.id.as_deref()),
        "submitted_at": job.map(|job| picture.shown(job.claimed)),
        "attempt": task.attempts,
        "bytes_so_far": job.and_then(|job| job.output.as_ref()).map_or(0, |output| output.len()),
    }))
}

#[must_use]
pub fn events(picture: &Picture, task: &Task) -> String {
    let object = format!("task {}", task.key);
    let mut out = String::new();
    for line in picture.snapshot.recent.iter().filter(|line| line.about.object == object) {
        if let Some(json) = line.json() {
            let _ = writeln!(out, "{json}");
        }
    }
    out
}

#[must_use]
pub fn control(picture: &Picture, task: &Task) -> String {
    let shown = picture.snapshot.display_id(&task.key);
    let files = [format!("tasks/{shown}/control"), format!("tasks/{}/control", task.key)];
    words::control(TASK_VERBS, picture.snapshot.outcomes.iter().filter(|outcome| files.contains(&outcome.file)))
}
