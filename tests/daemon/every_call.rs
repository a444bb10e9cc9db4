//! Crash and error injection at every call by which the daemon changes a file of the queue or of its state, while a
//! task is submitted, claimed, handed over and filed: killed before the call, the call failing, or a short write. A
//! sample by default, with `SLOW=1` every call.

use std::fs;

use crate::{
    tracer::{CAN_CHANGE_CALLS, Fault, Tracer, Watched},
    world::{Setup, World, is_root},
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
        format!(
            "task {id} begins.\n{pad}```sh\necho {id} >> ../begun; until [ -e ../go-{id} ]; do sleep 0.02; done\n```\n"
        )
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

    fn trace(&self, what: Option<(usize, Fault)>) -> Tracer {
        Tracer::attach(self.world.daemon_pid(), &[self.world.path("web"), self.world.path("state")], what)
    }

    /// Watched from the submit until the agent has begun.
    fn way_in(&mut self, what: Option<(usize, Fault)>) -> Story {
        let id = self.next();
        fs::write(self.world.path("S"), Self::text(&id)).expect("written");
        self.world.until("a free agent", || self.world.word("sessions/pool-11/state") == "idle");
        let tracer = self.trace(what);
        // In turn by a move, which needs more calls, and by a copy.
        let script = match self.tasks % 2 {
            0 => format!("cp S $MNT/inbox/{id}.md"),
            _ => format!("cp S $MNT/drafts/{id}.md && mv $MNT/drafts/{id}.md $MNT/inbox/{id}.md"),
        };
        let acknowledged = self.world.sh(&script).status.success();
        let is_over = || !acknowledged || tracer.is_over() || self.has_begun(&id);
        self.world.until("the agent to begin, or the end", is_over);
        Story { id, acknowledged, watched: tracer.end() }
    }

    /// Watched from the end of the agent's work until its result is filed.
    fn way_out(&mut self, what: Option<(usize, Fault)>) -> Story {
        let id = self.next();
        self.world.submit(&id, &Self::text(&id));
        self.world.until("the agent to begin", || self.has_begun(&id));
        let tracer = self.trace(what);
        // That it is filed is saved last of all, and told then.
        let told = format!("\"reason\":\"done\",\"object\":\"task web:{id}\"");
        self.let_go(&id);
        let is_over =
            || tracer.is_over() || self.is_filed(&id) && (tracer.has_hit() || self.world.events().contains(&told));
        self.world.until("the result, or the end", is_over);
        Story { id, acknowledged: true, watched: tracer.end() }
    }

    /// The next daemon brings the task to its end: whole, in one place, and nobody was given it twice.
    fn set_right(&mut self, story: &Story) {
        let (id, at) = (&story.id, &story.watched.hit);
        let fault = if story.watched.killed { "killed" } else { "failed" };
        if story.watched.killed {
            self.world.kill_daemon();
        }
        if !story.acknowledged {
            // Its writer knows that it failed; it may be there in part.
            for dir in ["inbox", "drafts"] {
                let _ = fs::remove_file(self.world.queue(&format!("{dir}/{id}.md")));
            }
        }
        if story.watched.killed {
            self.world.run();
        }
        self.let_go(id);
        if !story.acknowledged {
            return self.world.until("nothing to be left of it", || self.world.inbox_is_empty());
        }
        self.world.until_told(|| format!("the end of {id}, {fault} at {at:?}"), || self.is_filed(id));
        let [done, failed] =
            ["done", "failed"].map(|dir| fs::read_to_string(self.world.queue(&format!("{dir}/{id}.md"))).ok());
        assert!(done.is_some() != failed.is_some(), "{fault} at {at:?}: {id} is in one place");
        let result = done.clone().or(failed).expect("one of the two");
        let (text, of_run) = result.split_once("<!-- claude-failover:result -->").expect("a result");
        assert_eq!(text.trim_end(), Self::text(id).trim_end(), "{fault} at {at:?}");
        assert!(of_run.ends_with("```\n"), "{fault} at {at:?}: {of_run}");
        let transcripts = self.world.ok("cat home/projects/*/*.jsonl");
        let given = format!("task {id} begins.");
        let times =
            transcripts.lines().filter(|line| line.contains("\"type\":\"user\"") && line.contains(&given)).count();
        assert!(times <= 1, "{fault} at {at:?}: given {times} times");
        match done {
            Some(_) => assert_eq!(times, 1, "{fault} at {at:?}: done without having run"),
            None => assert!(of_run.contains("not run again"), "{fault} at {at:?}: {of_run}"),
        }
        let left = self.world.ok("ls -A web/.agent-queue/inbox state");
        assert!(!left.contains(id.as_str()) && !left.contains(".claude-failover-"), "{fault} at {at:?}: {left}");
    }

    /// Every call once, or a sample of them.
    fn at_every_call(&mut self, way: fn(&mut Self, Option<(usize, Fault)>) -> Story, fault: Fault) {
        let whole = way(self, None);
        assert!(!whole.watched.killed);
        let calls = whole.watched.calls.len();
        println!("{calls} calls: {:#?}", whole.watched.calls);
        self.set_right(&whole);
        // Only a write can be short.
        let fits = |at: &usize| fault != Fault::Short || whole.watched.calls[at - 1].contains("write");
        let places: Vec<usize> = (1..=calls).filter(fits).collect();
        let step =
            if std::env::var("SLOW").is_ok_and(|value| value == "1") { 1 } else { places.len().div_ceil(SAMPLE) };
        let mut hit = Vec::new();
        for at in places.iter().copied().step_by(step.max(1)) {
            let story = way(self, Some((at, fault)));
            self.set_right(&story);
            hit.extend(story.watched.hit.iter().map(|call| format!("{at}: {call}")));
        }
        println!("{fault:?}: {hit:#?}");
        let expected = if fault == Fault::Short { 1 } else { places.len().div_ceil(step.max(1)).div_ceil(2) };
        assert!(hit.len() >= expected, "hardly anything was at risk: {hit:?} of {calls}");
    }
}

#[test]
fn kill_9_at_every_call_of_a_task_s_way_in() {
    if !is_root() {
        return;
    }
    Stage::new().at_every_call(Stage::way_in, Fault::Kill);
}

#[test]
fn kill_9_at_every_call_of_a_task_s_way_out() {
    if !is_root() {
        return;
    }
    Stage::new().at_every_call(Stage::way_out, Fault::Kill);
}

#[test]
fn an_error_at_every_call_of_a_task_s_way_is_overcome() {
    if !is_root() {
        return;
    }
    if CAN_CHANGE_CALLS {
        let mut stage = Stage::new();
        stage.at_every_call(Stage::way_in, Fault::Error(libc::EIO));
        stage.at_every_call(Stage::way_out, Fault::Error(libc::EIO));
        stage.world.until("all to be right again", || stage.world.word("health") == "ok");
    }
}

#[test]
fn a_short_write_is_gone_on_with() {
    if !is_root() {
        return;
    }
    if CAN_CHANGE_CALLS {
        let mut stage = Stage::new();
        stage.at_every_call(Stage::way_in, Fault::Short);
        stage.at_every_call(Stage::way_out, Fault::Short);
        assert_eq!(stage.world.word("health"), "ok");
    }
}
