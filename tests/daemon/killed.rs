//! `kill -9` at every call by which the daemon changes a file of the queue or of its state, before that call is made: on a
//! task's way in (submit, claim, handing over) and on its way out (filing). A sample by default, with `SLOW=1` every one.

use std::fs;

use crate::{
    tracer::{Tracer, Watched},
    world::{Setup, World},
};

/// How many of the calls are tried by default.
const SAMPLE: usize = 8;

struct Stage {
    world: World,
    tasks: usize,
}

/// What became of one task.
struct Story {
    id: String,
    acknowledged: bool,
    watched: Watched,
}

impl Stage {
    fn new() -> Self {
        Self { world: World::start(&Setup::agents(1)), tasks: 0 }
    }

    fn next(&mut self) -> String {
        self.tasks += 1;
        format!("k{}", self.tasks)
    }

    /// The program that works until it is let go, and leaves a line when it begins.
    fn text(id: &str) -> String {
        let pad: String = (0..200).map(|n| format!("line {n} of {id}\n")).collect();
        format!("task {id} begins.\n{pad}```sh\necho {id} >> ../begun; until [ -e ../go-{id} ]; do sleep 0.02; done\n```\n")
    }

    fn has_begun(&self, id: &str) -> bool {
        fs::read_to_string(self.world.path("begun")).is_ok_and(|text| text.lines().any(|line| line == id))
    }

    fn let_go(&self, id: &str) {
        fs::write(self.world.path(&format!("go-{id}")), "").expect("written");
    }

    fn is_filed(&self, id: &str) -> bool {
        let at = |dir: &str| self.world.queue(&format!("{dir}/{id}.md")).exists();
        (at("done") || at("failed")) && self.world.inbox_is_empty()
    }

    fn trace(&self, kill_at: Option<usize>) -> Tracer {
        Tracer::attach(self.world.daemon_pid(), &[self.world.path("web"), self.world.path("state")], kill_at)
    }

    /// Watched from the submit until the agent has begun.
    fn way_in(&mut self, kill_at: Option<usize>) -> Story {
        let id = self.next();
        fs::write(self.world.path("S"), Self::text(&id)).expect("written");
        self.world.until("a free agent", || self.world.word("sessions/pool-11/state") == "idle");
        let tracer = self.trace(kill_at);
        // In turn by a move, which needs more calls, and by a copy.
        let script = match self.tasks % 2 {
            0 => format!("cp S $MNT/inbox/{id}.md"),
            _ => format!("cp S $MNT/drafts/{id}.md && mv $MNT/drafts/{id}.md $MNT/inbox/{id}.md"),
        };
        let acknowledged = self.world.sh(&script).status.success();
        self.world.until("the agent to begin, or the end", || tracer.is_over() || self.has_begun(&id));
        Story { id, acknowledged, watched: tracer.end() }
    }

    /// Watched from the end of the agent's work until its result is filed.
    fn way_out(&mut self, kill_at: Option<usize>) -> Story {
        let id = self.next();
        self.world.submit(&id, &Self::text(&id));
        self.world.until("the agent to begin", || self.has_begun(&id));
        let tracer = self.trace(kill_at);
        self.let_go(&id);
        // The run's text goes last of all.
        let runs = self.world.path("state/runs");
        let is_over = || fs::read_dir(&runs).is_ok_and(|mut entries| entries.next().is_none());
        self.world.until("the result, or the end", || tracer.is_over() || self.is_filed(&id) && is_over());
        Story { id, acknowledged: true, watched: tracer.end() }
    }

    /// The next daemon brings the task to its end: whole, in one place, and nobody was given it twice.
    fn set_right(&mut self, story: &Story) {
        let (id, at) = (&story.id, story.watched.calls.last());
        if story.watched.killed {
            self.world.kill_daemon();
            if !story.acknowledged {
                // Its writer knows that it failed; it may be there in part.
                for dir in ["inbox", "drafts"] {
                    let _ = fs::remove_file(self.world.queue(&format!("{dir}/{id}.md")));
                }
            }
            self.world.run();
        }
        self.let_go(id);
        if !story.acknowledged {
            return;
        }
        self.world.until_told(|| format!("the end of {id}, killed at {at:?}"), || self.is_filed(id));
        let [done, failed] = ["done", "failed"].map(|dir| fs::read_to_string(self.world.queue(&format!("{dir}/{id}.md"))).ok());
        assert!(done.is_some() != failed.is_some(), "killed at {at:?}: {id} is in one place");
        let result = done.clone().or(failed).expect("one of the two");
        let (text, of_run) = result.split_once("<!-- claude-failover:result -->").expect("a result");
        assert_eq!(text.trim_end(), Self::text(id).trim_end(), "killed at {at:?}");
        assert!(of_run.ends_with("```\n"), "killed at {at:?}: {of_run}");
        let transcripts = self.world.ok("cat home/projects/*/*.jsonl");
        let given = format!("task {id} begins.");
        let times = transcripts.lines().filter(|line| line.contains("\"type\":\"user\"") && line.contains(&given)).count();
        assert!(times <= 1, "killed at {at:?}: given {times} times");
        match done {
            Some(_) => assert_eq!(times, 1, "killed at {at:?}: done without having run"),
            None => assert!(of_run.contains("not run again"), "killed at {at:?}: {of_run}"),
        }
        let left = self.world.ok("ls -A web/.agent-queue/inbox state/runs");
        assert!(!left.contains(id.as_str()) && !left.contains(".claude-failover-"), "killed at {at:?}: {left}");
    }

    /// Every call once, or a sample of them.
    fn at_every_call(&mut self, way: fn(&mut Self, Option<usize>) -> Story) {
        let whole = way(self, None);
        assert!(!whole.watched.killed);
        let calls = whole.watched.calls.len();
        println!("{calls} calls: {:#?}", whole.watched.calls);
        self.set_right(&whole);
        let step = if std::env::var("SLOW").is_ok_and(|value| value == "1") { 1 } else { calls.div_ceil(SAMPLE) };
        let mut killed = Vec::new();
        for at in (1..=calls).step_by(step.max(1)) {
            let story = way(self, Some(at));
            self.set_right(&story);
            killed.extend(story.watched.calls.last().filter(|_| story.watched.killed).map(|call| format!("{at}: {call}")));
        }
        println!("killed before {killed:#?}");
        assert!(killed.len() * 2 > calls.div_ceil(step), "the daemon was hardly ever killed: {killed:?} of {calls}");
    }
}

#[test]
fn kill_9_at_every_call_of_a_task_s_way_in() {
    Stage::new().at_every_call(Stage::way_in);
}

#[test]
fn kill_9_at_every_call_of_a_task_s_way_out() {
    Stage::new().at_every_call(Stage::way_out);
}
