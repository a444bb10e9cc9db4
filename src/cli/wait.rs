//! `wait`: returns when a task is finished, a swap is over, or everything is idle.
//! Polls `status.json` and the queue directories; returns an exit code. Changes nothing.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use indicatif::ProgressBar;

use super::{
    args::{WaitArgs, WaitFor},
    exit::{Exit, Failure},
    mount::{ANSWERS_WITHIN, Mount},
    place, show,
    status_file::{self, Status, Swaps},
    table::clean,
};
use crate::{cli::io::Io, model::ids::TaskId};

/// How often the mount is polled; its answers come from memory. Chosen: looks immediate to a person.
const EVERY: Duration = Duration::from_millis(200);
/// A restarting daemon is back within this time. Chosen: it takes below a second; systemd pauses a few before it.
const RESTART: Duration = Duration::from_secs(15);
/// Between two directories a task may be in neither for a moment. Chosen: a move takes milliseconds.
const MISSING: Duration = Duration::from_secs(2);

#[derive(Debug, PartialEq)]
enum Seen {
    Holds,
    /// It can't hold any more; why.
    Never(String),
    /// What is going on.
    NotYet(String),
    /// There is no such thing; may be only for a moment.
    Nothing(String),
}

/// # Errors
/// No daemon, time is up, or what is waited for can't come.
pub fn run(args: &WaitArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let how = match &args.what {
        WaitFor::Task { how, .. } | WaitFor::Swap { how } | WaitFor::Idle { how } => how,
    };
    let mount = place::mount(&how.mount, io);
    let begun = Instant::now();
    let mut last_answer = None;
    let mut missing_since = None;
    let mut ended_before = None;
    let progress = if io.err_terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let mut going_on;
    loop {
        let left = || how.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let within = left().map_or(ANSWERS_WITHIN, |left| left.clamp(EVERY, ANSWERS_WITHIN));
        match look(&args.what, &mount, within, &mut ended_before) {
            Ok(seen) => {
                last_answer = Some(Instant::now());
                match seen {
                    Seen::Holds => return Ok(Exit::Ok),
                    Seen::Never(why) => return Err(Failure::Failed(clean(&why))),
                    Seen::NotYet(what) => {
                        missing_since = None;
                        going_on = clean(&what);
                    }
                    Seen::Nothing(what) => {
                        if missing_since.get_or_insert_with(Instant::now).elapsed() >= MISSING {
                            return Err(Failure::Failed(clean(&what)));
                        }
                        going_on = clean(&what);
                    }
                }
            }
            Err(failure) => {
                let restarting = last_answer.is_some_and(|at: Instant| at.elapsed() < RESTART);
                let late = left().is_some_and(|left| left.is_zero());
                if !restarting && !late {
                    return Err(failure);
                }
                going_on = failure.to_string();
            }
        }
        let left = left();
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Failure::TimedOut(format!("time is up: {going_on}")));
        }
        progress.set_message(going_on.clone());
        progress.tick();
        std::thread::sleep(left.map_or(EVERY, |left| left.min(EVERY)));
    }
}

fn look(what: &WaitFor, mount: &Mount, within: Duration, ended_before: &mut Option<String>) -> Result<Seen, Failure> {
    let status = status_file::read(mount, within)?;
    match what {
        WaitFor::Swap { .. } => Ok(swap(&status.swap, ended_before)),
        WaitFor::Task { id, .. } => {
            let id = id.clone();
            mount.look(within, move |dir| task(&status, &id, &|below| dir.join(below)))
        }
        WaitFor::Idle { .. } => mount.look(within, move |dir| idle(&status, &fresh(&status, &|below| dir.join(below)))),
    }
}

/// A file that the daemon hasn't listed for this long after its last change is no task to it. Chosen: five times the
/// default settle time.
const UNLISTED: Duration = Duration::from_secs(5);

/// Task files that were just put into an inbox and that the daemon doesn't list yet: `cp x.md inbox/; wait idle` must wait.
fn fresh(status: &Status, at: &dyn Fn(&str) -> PathBuf) -> Vec<String> {
    let mut found = Vec::new();
    for queue in &status.queues {
        let Ok(entries) = std::fs::read_dir(at(&format!("projects/{}/inbox", queue.project))) else { continue };
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(TaskId::from_file_name) else { continue };
            let listed = status.tasks.iter().any(|task| {
                task.project == queue.project && own_id(task) == id.as_str() && !show::finished(&task.state)
            });
            if !listed && entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0 && changed_lately(&meta)) {
                found.push(format!("{}:{id}", queue.project));
            }
        }
    }
    found
}

fn changed_lately(meta: &std::fs::Metadata) -> bool {
    let changed = Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed) < UNLISTED
}

/// The id without the project prefix that it has where two projects share one.
fn own_id(task: &status_file::Task) -> &str {
    task.id.strip_prefix(&task.project).and_then(|rest| rest.strip_prefix(':')).unwrap_or(&task.id)
}

/// `ended_before` holds the number of the last swap that ended before the wait began; what became of that one is no news.
fn swap(swaps: &Swaps, ended_before: &mut Option<String>) -> Seen {
    let last = swaps.last.clone().unwrap_or_default();
    let ended_before = ended_before.get_or_insert_with(|| last.number.clone());
    match (&swaps.partial, &swaps.under_way) {
        (Some(partial), _) => Seen::Never(format!(
            "swap {} is half done: {}; `cat health` says what to do",
            partial.number, partial.error
        )),
        (None, Some(swap)) => {
            Seen::NotYet(format!("swap {} from {} to {}: {}", swap.number, swap.from, swap.to, swap.step))
        }
        (None, None) if !last.error.is_empty() && last.number != *ended_before => {
            Seen::Never(format!("swap {} from {} to {} failed: {}", last.number, last.from, last.to, last.error))
        }
        (None, None) => Seen::Holds,
    }
}

fn idle(status: &Status, fresh: &[String]) -> Seen {
    if let Some(first) = fresh.first() {
        return Seen::NotYet(format!("{first} was just put in"));
    }
    // What was just written and settles runs in a moment.
    let open =
        |task: &&status_file::Task| task.settling || matches!(task.state.as_str(), "queued" | "working" | "delegated");
    let tasks = status.tasks.iter().filter(open).count() as u64;
    let queued: u64 = status.queues.iter().map(|queue| queue.queued + queue.working).sum();
    let busy = status.sessions.iter().filter(|session| session.state == "working").count();
    // The queue's counts also know what the list of tasks doesn't show yet.
    match tasks.max(queued) {
        0 if busy == 0 => Seen::Holds,
        tasks => Seen::NotYet(format!("open tasks: {tasks}, working sessions: {busy}")),
    }
}

/// `at` makes a path in the mount of one below it.
fn task(status: &Status, wanted: &str, at: &dyn Fn(&str) -> PathBuf) -> Seen {
    let wanted = wanted.strip_suffix(".md").unwrap_or(wanted);
    let full = |task: &status_file::Task| format!("{}:{}", task.project, own_id(task));
    let exact: Vec<_> = status.tasks.iter().filter(|task| full(task) == wanted).collect();
    let found =
        if exact.is_empty() { status.tasks.iter().filter(|task| own_id(task) == wanted).collect() } else { exact };
    match found.as_slice() {
        [] => by_files(status, wanted, at),
        // The file is there again: somebody sent a new task of the same name.
        [task] if show::finished(&task.state) && there(&at(&in_inbox(&task.project, own_id(task)))) => {
            Seen::NotYet(format!("{wanted} was sent again"))
        }
        [task] => match task.state.as_str() {
            "done" => Seen::Holds,
            "rejected" => Seen::Never(format!("the task {wanted} is rejected until it is mended: {}", task.why)),
            state if show::finished(state) => Seen::Never(format!("the task {wanted} is {state}: {}", task.why)),
            state => Seen::NotYet(format!("{wanted} is {state}: {}", task.why)),
        },
        several => {
            let names: Vec<_> = several.iter().map(|task| full(task)).collect();
            Seen::Never(format!("several projects have a task {wanted}: say one of {}", names.join(", ")))
        }
    }
}

fn there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn in_inbox(project: &str, id: &str) -> String {
    format!("projects/{project}/inbox/{id}.md")
}

/// Tasks that finished long ago, or that were not scanned yet, exist only as files.
fn by_files(status: &Status, wanted: &str, at: &dyn Fn(&str) -> PathBuf) -> Seen {
    let mut ends = Vec::new();
    for queue in &status.queues {
        let own = wanted.strip_prefix(&format!("{}:", queue.project));
        for id in own.into_iter().chain([wanted]) {
            let file = |dir: &str| at(&format!("projects/{}/{dir}/{id}.md", queue.project));
            if ["inbox", "drafts"].iter().any(|dir| there(&file(dir))) {
                return Seen::NotYet(format!("{wanted} lies in {}", queue.project));
            }
            if there(&file("done")) {
                ends.push(Seen::Holds);
            } else if there(&file("failed")) {
                ends.push(Seen::Never(format!("the task {wanted} failed: its result stands in failed/{id}.md")));
            }
        }
    }
    let none = || {
        let misnamed = status.queues.iter().find_map(|queue| {
            let id = wanted.strip_prefix(&format!("{}:", queue.project)).unwrap_or(wanted);
            let names = ["", ".txt", ".markdown", ".MD"].map(|end| format!("{id}{end}"));
            let name = names.into_iter().find(|name| there(&at(&format!("projects/{}/inbox/{name}", queue.project))))?;
            Some(format!(
                "there is no task {wanted}, but {name} lies in the inbox of {}, and a task's name ends in .md: mv {name} {id}.md",
                queue.project
            ))
        });
        misnamed.unwrap_or_else(|| format!("there is no task {wanted}; `claude-failover tasks` lists them"))
    };
    ends.into_iter().next().unwrap_or_else(|| Seen::Nothing(none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Status {
        serde_json::from_str(text).expect("json")
    }

    fn nowhere(_: &str) -> PathBuf {
        PathBuf::from("/nonexistent")
    }

    #[test]
    fn a_task_is_found_by_id_or_project() {
        let status = status(
            r#"{"tasks":[{"id":"a","project":"web","state":"done"},{"id":"a","project":"api","state":"working","why":"w"},
                {"id":"b","project":"api","state":"failed","why":"no"},{"id":"c","project":"api","state":"rejected"}]}"#,
        );
        assert_eq!(task(&status, "web:a", &nowhere), Seen::Holds);
        assert_eq!(task(&status, "api:a", &nowhere), Seen::NotYet("api:a is working: w".to_owned()));
        assert!(matches!(task(&status, "a", &nowhere), Seen::Never(why) if why.contains("web:a, api:a")));
        assert!(matches!(task(&status, "b.md", &nowhere), Seen::Never(why) if why.contains("failed: no")));
        assert!(matches!(task(&status, "c", &nowhere), Seen::Never(_)));
        assert!(matches!(task(&status, "d", &nowhere), Seen::Nothing(_)));
    }

    #[test]
    fn a_task_that_only_files_know() {
        let dir = tempfile::tempdir().expect("tmp");
        let at = |path: &str| dir.path().join(path);
        let status = status(r#"{"queues":[{"project":"web"}]}"#);
        for sub in ["done", "failed", "inbox"] {
            std::fs::create_dir_all(at(&format!("projects/web/{sub}"))).expect("mkdir");
        }
        let put = |path: &str| std::fs::write(at(path), "x").expect("write");
        assert!(matches!(task(&status, "a", &at), Seen::Nothing(_)));
        put("projects/web/failed/a.md");
        assert!(matches!(task(&status, "web:a", &at), Seen::Never(_)));
        put("projects/web/done/b.md");
        assert_eq!(task(&status, "b", &at), Seen::Holds);
        // Sent again: the old result doesn't count.
        put("projects/web/inbox/b.md");
        assert!(matches!(task(&status, "b", &at), Seen::NotYet(_)));
    }

    #[test]
    fn a_swap_is_over_when_none_is_under_way_and_none_failed_meanwhile() {
        let seen = |text: &str, before: &mut Option<String>| swap(&status(text).swap, before);
        let under_way = r#"{"swap":{"under_way":{"number":3,"from":"a","to":"b","step":"move"},"last":{"number":2,"error":"old"}}}"#;
        let mut before = None;
        assert_eq!(seen(under_way, &mut before), Seen::NotYet("swap 3 from a to b: move".to_owned()));
        assert_eq!(seen(r#"{"swap":{"last":{"number":3,"error":null}}}"#, &mut before), Seen::Holds);
        let failed = seen(r#"{"swap":{"last":{"number":3,"from":"a","to":"b","error":"no links"}}}"#, &mut before);
        assert_eq!(failed, Seen::Never("swap 3 from a to b failed: no links".to_owned()));
        // One that failed before anybody waited is no news; a half done one stays a problem.
        assert_eq!(seen(r#"{"swap":{"last":{"number":3,"error":"no links"}}}"#, &mut None), Seen::Holds);
        let partial = r#"{"swap":{"under_way":null,"partial":{"number":3,"error":"no"}}}"#;
        assert!(matches!(seen(partial, &mut None), Seen::Never(why) if why.contains("swap 3 is half done: no")));
        assert_eq!(seen("{}", &mut None), Seen::Holds, "a daemon that knows no swaps has none under way");
    }

    #[test]
    fn idle_looks_at_tasks_counts_and_sessions() {
        assert_eq!(
            idle(&status(r#"{"tasks":[{"state":"held"},{"state":"done"}],"queues":[{"done":3,"held":1}]}"#), &[]),
            Seen::Holds
        );
        for busy in [
            r#"{"tasks":[{"state":"queued"}]}"#,
            r#"{"tasks":[{"state":"held","settling":true}]}"#,
            r#"{"queues":[{"queued":1}]}"#,
            r#"{"sessions":[{"state":"working"}]}"#,
        ] {
            assert!(matches!(idle(&status(busy), &[]), Seen::NotYet(_)), "{busy}");
        }
    }

    /// The daemon scans when it comes to it; a script that sends and waits must not win against it.
    #[test]
    fn what_was_just_sent_counts() {
        let dir = tempfile::tempdir().expect("tmp");
        let at = |path: &str| dir.path().join(path);
        let put = |name: &str, text: &str| {
            std::fs::create_dir_all(at("projects/web/inbox")).expect("mkdir");
            std::fs::write(at(&format!("projects/web/inbox/{name}")), text).expect("write");
        };
        let old = status(r#"{"tasks":[{"id":"web:a","project":"web","state":"done"}],"queues":[{"project":"web"}]}"#);
        assert_eq!((task(&old, "a", &at), fresh(&old, &at)), (Seen::Holds, Vec::new()));
        put("a.md", "again");
        put("notes.txt", "no task");
        put("empty.md", "");
        assert!(matches!(task(&old, "notes", &at), Seen::Nothing(why) if why.ends_with("mv notes.txt notes.md")));
        assert!(matches!(task(&old, "web:a", &at), Seen::NotYet(_)));
        assert_eq!(fresh(&old, &at), ["web:a"]);
        assert!(matches!(idle(&old, &fresh(&old, &at)), Seen::NotYet(_)));
        let listed =
            status(r#"{"tasks":[{"id":"a","project":"web","state":"rejected"}],"queues":[{"project":"web"}]}"#);
        assert!(fresh(&listed, &at).is_empty());
    }
}
