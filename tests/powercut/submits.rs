//! Cuts the power right after a submit was acknowledged.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::{
    disks::{has_loop_devices, own_namespace},
    ledger::{Ledger, nothing_is_lost, text},
    machine::{Disks, Machine},
    rounds,
    strace::Strace,
    world::Setup,
};

/// Back to back, the next submit's fsync would put the one before on disk.
const GAP: Duration = Duration::from_millis(20);

/// How a task comes into the inbox. `$S` is a file with its text on another disk, `$T` the task's name.
const WAYS: [(&str, &str); 7] = [
    ("echo", "echo \"$(cat $S)\" > $MNT/inbox/$T"),
    ("cp", "cp $S $MNT/inbox/$T"),
    ("mv from another disk", "mv $S $MNT/inbox/$T"),
    ("mv from drafts", "cp $S $MNT/drafts/$T && mv $MNT/drafts/$T $MNT/inbox/$T"),
    ("mv from a script's directory", "cp $S $MNT/projects/web/doing/$T && mv $MNT/projects/web/doing/$T $MNT/inbox/$T"),
    ("an editor that renames over", "cp $S $MNT/inbox/.$T.tmp && mv $MNT/inbox/.$T.tmp $MNT/inbox/$T"),
    // The second of two saves, as vim with backupcopy=no.
    (
        "an editor that renames away",
        "echo earlier > $MNT/inbox/$T && mv $MNT/inbox/$T $MNT/inbox/$T~ && cp $S $MNT/inbox/$T && rm $MNT/inbox/$T~",
    ),
];

/// Those whose last step is a rename: without an fsync of the directory it is lost.
const RENAMES: [usize; 3] = [3, 4, 5];

/// A machine without agents, its state on another disk: nothing but a submit itself puts a submit on disk.
fn quiet(durable: bool) -> Machine {
    let mut setup = Setup::agents(0);
    if !durable {
        setup.more_mount = ", durable: false".to_owned();
    }
    Machine::start(&setup, Disks::Two)
}

/// Submits some tasks in some of the ways, each acknowledged when its program has ended well.
fn submit(machine: &Machine, ledger: &mut Ledger, ways: &[usize], random: &mut fastrand::Rng) -> Vec<&'static str> {
    machine.world.ok("mkdir -p web/.agent-queue/doing && sync -f web/.agent-queue");
    let mut used = Vec::new();
    for _ in 0..random.usize(2..6) {
        std::thread::sleep(GAP);
        let id = format!("t{}", ledger.tasks.len());
        let text = text(&id, random);
        let (name, script) = WAYS[ways[random.usize(..ways.len())]];
        fs::write(machine.world.path("S"), &text).expect("written");
        machine.world.ok(&format!("set -e; S=S T={id}.md; {script}"));
        ledger.tasks.insert(id, text);
        used.push(name);
    }
    used
}

#[test]
fn a_submit_that_has_returned_outlives_a_power_cut() {
    if !own_namespace() || !has_loop_devices() {
        return;
    }
    let mut machine = quiet(true);
    let mut ledger = Ledger::default();
    let mut ends = BTreeMap::<_, usize>::new();
    for seed in 0..rounds(10, 60) {
        let mut random = fastrand::Rng::with_seed(seed);
        // Each way is the last one in turn.
        let last = usize::try_from(seed).expect("small") % WAYS.len();
        submit(&machine, &mut ledger, &(0..WAYS.len()).collect::<Vec<_>>(), &mut random);
        *ends.entry(submit(&machine, &mut ledger, &[last], &mut random).pop().expect("a way")).or_default() += 1;
        machine.cut(0);
        machine.reboot();
        nothing_is_lost(&ledger, &machine, &format!("seed {seed}, last by {}", WAYS[last].0));
        machine.world.run();
    }
    println!("{} tasks, last before a cut: {ends:?}", ledger.tasks.len());
    assert_eq!(ends.len(), WAYS.len(), "every way was the last before a cut");
}

#[test]
fn control_without_durability_the_cut_finds_losses() {
    if !own_namespace() || !has_loop_devices() {
        return;
    }
    let mut machine = quiet(false);
    let mut ledger = Ledger::default();
    submit(&machine, &mut ledger, &[0, 1, 2, 3, 4, 5, 6], &mut fastrand::Rng::with_seed(1));
    machine.cut(0);
    machine.reboot();
    let losses = ledger.losses(&machine);
    println!("{losses:#?}");
    assert_eq!(losses.len(), ledger.tasks.len(), "nothing was at risk in these tests: {losses:#?}");
}

#[test]
fn control_without_the_fsync_of_the_directory_the_cut_finds_the_last_move_lost() {
    if !own_namespace() || !has_loop_devices() {
        return;
    }
    let mut machine = quiet(true);
    for (seed, way) in (0..).zip(RENAMES) {
        let mut ledger = Ledger::default();
        {
            let (inbox, drafts) = (machine.world.queue("inbox"), machine.world.queue("drafts"));
            let _lie = Strace::inject(machine.world.daemon_pid(), "inject=fsync:retval=0", &[&inbox, &drafts]);
            submit(&machine, &mut ledger, &[way], &mut fastrand::Rng::with_seed(seed));
            machine.cut(0);
        }
        machine.reboot();
        let losses = ledger.losses(&machine);
        let last = ledger.tasks.keys().last().expect("a task");
        println!("{}: {losses:?}", WAYS[way].0);
        assert!(losses.iter().any(|loss| loss.contains(last)), "nothing was at risk by {}: {losses:#?}", WAYS[way].0);
        machine.world.ok("rm -f web/.agent-queue/*/t*.md web/.agent-queue/*/.t*");
        machine.world.run();
    }
}

/// Sends some tasks to a provider, each acknowledged when `mv` has ended well; with a lie, state isn't synced meanwhile.
fn delegated_after_a_cut(rounds: u64, lie: bool) -> (usize, usize) {
    let mut setup = Setup::agents(0);
    setup.more =
        "providers: {far: {kind: openai, url: 'http://127.0.0.1:9', model: m, key_file: /dev/null}}".to_owned();
    let mut machine = Machine::start(&setup, Disks::Two);
    let (mut sent, mut lost) = (0, 0);
    for round in 0..rounds {
        machine.world.ok("echo pause > \"$MNT/control\"");
        let id = format!("t{round}");
        fs::write(machine.world.mount(&format!("inbox/{id}.md")), "Do it there.\n").expect("written");
        machine.world.until_word(&format!("tasks/{id}/state"), "queued");
        machine.world.ok("sync -f state");
        let (state, journal) = (machine.world.path("state"), machine.world.path("state/state.journal"));
        let inject = "inject=fsync,fdatasync:retval=0";
        let strace = lie.then(|| Strace::inject(machine.world.daemon_pid(), inject, &[&state, &journal]));
        machine.world.ok(&format!("mv \"$MNT/inbox/{id}.md\" \"$MNT/delegated/\""));
        machine.cut(0);
        drop(strace);
        machine.reboot();
        machine.world.run();
        machine.world.until_word(&format!("tasks/{id}/state"), "queued");
        sent += 1;
        lost += usize::from(!machine.world.mount(&format!("delegated/{id}.md")).exists());
    }
    (sent, lost)
}

#[test]
fn a_move_into_delegated_that_has_returned_outlives_a_power_cut() {
    if !own_namespace() || !has_loop_devices() {
        return;
    }
    assert_eq!(delegated_after_a_cut(rounds(5, 30), false).1, 0);
}

#[test]
fn control_without_the_fsync_of_the_state_the_cut_finds_the_move_lost() {
    if !own_namespace() || !has_loop_devices() {
        return;
    }
    let (sent, lost) = delegated_after_a_cut(2, true);
    assert!(lost > 0, "nothing was at risk in {sent} moves");
}
