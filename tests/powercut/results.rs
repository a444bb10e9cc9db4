//! Cuts the power while agents work and results are filed.

use std::{collections::BTreeSet, fs, time::Duration, time::Instant};

use crate::{
    disks::{has_loop_devices, own_namespace},
    ledger::{Ledger, nothing_is_lost, text},
    machine::{Disks, Machine},
    rounds,
    strace::Strace,
    world::{PATIENCE, Setup},
};

/// Of which every task fails.
const REFUSING: &str = "cat >> ../given; exit 1";

/// Two kinds of agents: one whose tasks go to done/, one whose tasks go to failed/.
fn setup(agents: u32) -> Setup {
    let more_agents = format!(", refuser: {{kind: command, run: [sh, -c, '{REFUSING}'], tasks: anyone}}");
    Setup { more_agents, ..Setup::agents(agents) }
}

/// Submits `tasks`, reads along through the mount, and cuts the power `after` so many results were seen there.
fn work_until_the_cut(machine: &Machine, ledger: &mut Ledger, round: u64, tasks: usize, after: usize) {
    let mut random = fastrand::Rng::with_seed(round);
    let mut waiting = BTreeSet::new();
    for n in 0..tasks {
        let id = format!("r{round}-{n}-");
        let agent = if n % 3 == 1 { "---\nagent: refuser\n---\n" } else { "" };
        let text = format!("{agent}{}", text(&id, &mut random));
        machine.world.submit(&id, &text);
        ledger.tasks.insert(id.clone(), text);
        waiting.insert(id);
        std::thread::sleep(Duration::from_millis(20));
    }
    let deadline = Instant::now() + PATIENCE;
    let mut seen = 0;
    while seen < after {
        let list = |dir: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(machine.world.mount(dir)).expect("the mount");
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
        };
        let (ends, inbox) = (["done", "failed"].map(|dir| (dir, list(dir))), list("inbox"));
        let ended = waiting.iter().find_map(|id| {
            // A removal is seen before it is on disk.
            let (name, marker) = (format!("{id}.md"), format!("{id}.md.working"));
            let gone = !inbox.contains(&name) && !inbox.contains(&marker);
            let (dir, _) = ends.iter().find(|(_, names)| gone && names.contains(&name))?;
            Some((id.clone(), *dir))
        });
        if let Some((id, dir)) = ended {
            let result = machine.world.read(&format!("{dir}/{id}.md")).expect("readable");
            ledger.results.insert(id.clone(), (dir, result));
            waiting.remove(&id);
            seen += 1;
        } else {
            assert!(Instant::now() < deadline, "no results: {}", machine.world.events());
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    machine.cut(usize::try_from(round % 2).expect("small"));
}

/// How often an agent was given this task.
fn receptions(machine: &Machine, id: &str) -> usize {
    let transcripts = machine.world.ok("cat home/projects/*/*.jsonl");
    let given = machine.world.ok("touch given && cat given");
    let begins = format!("task {id} begins.");
    let prompts = transcripts.lines().filter(|line| line.contains("\"type\":\"user\""));
    prompts.chain(given.lines()).filter(|line| line.contains(&begins)).count()
}

/// How many attempts a result tells.
fn attempts(result: &str) -> usize {
    let told = result.lines().rev().find_map(|line| line.strip_prefix("attempts: "));
    told.expect("a number of attempts").parse().expect("a number")
}

fn rounds_on(which: Disks, seeds: impl Iterator<Item = u64>) {
    if !own_namespace() || !has_loop_devices() {
        return;
    }
    let mut machine = Machine::start(&setup(2), which);
    let mut ledger = Ledger::default();
    let mut at_work = 0;
    let seeds: Vec<u64> = seeds.collect();
    // A few more where chance put nothing at risk.
    for (n, round) in seeds.iter().copied().chain(1000..1006).enumerate() {
        if n >= seeds.len() && at_work > 0 {
            break;
        }
        let after = 1 + usize::try_from(round).expect("small") % 3;
        work_until_the_cut(&machine, &mut ledger, round, after + 3, after);
        machine.reboot();
        nothing_is_lost(&ledger, &machine, &format!("{which:?}, round {round}"));
        at_work += machine.names("inbox").iter().filter(|name| name.ends_with(".md.working")).count();
        machine.world.run();
        machine.world.until("all tasks to end", || machine.world.inbox_is_empty());
        nothing_is_lost(&ledger, &machine, &format!("{which:?}, round {round}, after the next start"));
        for id in ledger.tasks.keys() {
            let (done, failed) = ["done", "failed"]
                .map(|dir| fs::read_to_string(machine.world.queue(&format!("{dir}/{id}.md"))).ok())
                .into();
            let times = receptions(&machine, id);
            assert!(done.is_some() != failed.is_some(), "{id} is in one place: done {done:?}, failed {failed:?}");
            // An agent that the cut took is lost, and its task is tried again as an attempt of its own.
            let told = attempts(done.as_ref().or(failed.as_ref()).expect("a result"));
            let least = if done.is_some() { 1 } else { 0 };
            assert!(
                (least..=told).contains(&times),
                "{id} was given to an agent {times} times, its result tells {told}: {done:?} {failed:?}\n{}",
                machine.world.events()
            );
        }
    }
    println!(
        "{which:?}: {} tasks, {} results seen, {at_work} at work in a cut",
        ledger.tasks.len(),
        ledger.results.len()
    );
    assert!(at_work > 0, "no task was at risk");
}

#[test]
fn results_that_were_seen_outlive_a_power_cut_of_one_disk() {
    rounds_on(Disks::One, 0..rounds(2, 20));
}

#[test]
fn results_that_were_seen_outlive_a_power_cut_of_two_disks() {
    rounds_on(Disks::Two, 100..100 + rounds(3, 30));
}

#[test]
fn control_without_the_fsync_of_the_directories_a_result_that_was_seen_is_lost() {
    if !own_namespace() || !has_loop_devices() {
        return;
    }
    let mut machine = Machine::start(&setup(1), Disks::Two);
    let mut ledger = Ledger::default();
    {
        let (inbox, done) = (machine.world.queue("inbox"), machine.world.queue("done"));
        let _lie = Strace::inject(machine.world.daemon_pid(), "inject=fsync:retval=0", &[&inbox, &done]);
        work_until_the_cut(&machine, &mut ledger, 0, 1, 1);
    }
    machine.reboot();
    let losses = ledger.losses(&machine);
    println!("{losses:#?}");
    assert!(losses.iter().any(|loss| loss.contains("result")), "nothing was at risk: {losses:#?}");
}
