//! Finds processes that agents left running: orphans with an agent start's mark in their initial environment.
//! Takes the tmux server, this daemon's mountpoint and the tokens of running agents; returns leftovers. Caches what it
//! read of each process, so that each is read once. Looks at orphans only: a process below another belongs to that
//! one.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
};

use jiff::{SignedDuration, Timestamp};

use super::lineage::marked;
use crate::{
    linux::{
        peek::{self, Part, Silent},
        process::Stat,
    },
    model::agent::{INCARNATION, Leftover},
    ports::Clock,
};

/// The process that adopts orphans when no subreaper does (credentials(7), pid 1).
const INIT: u32 = 1;

pub struct Left {
    mountpoint: PathBuf,
    /// By pid and start. Without our mark it is none of ours.
    read: HashMap<(u32, u64), Option<Leftover>>,
}

impl Left {
    #[must_use]
    pub fn new(mountpoint: PathBuf) -> Self {
        Self { mountpoint, read: HashMap::new() }
    }

    /// What is left among `all`, oldest first. May wait for a while, for processes that don't answer.
    pub fn among(
        &mut self,
        all: &[Stat],
        server: Option<u32>,
        living: &BTreeSet<String>,
        clock: &dyn Clock,
    ) -> Vec<Leftover> {
        let reapers = reapers(all, server);
        let own = std::process::id();
        let is_orphan = |stat: &&Stat| !stat.zombie && stat.pid != own && reapers.contains(&stat.parent);
        let orphans: Vec<&Stat> = all.iter().filter(is_orphan).collect();
        let there: HashSet<(u32, u64)> = orphans.iter().map(|stat| (stat.pid, stat.start)).collect();
        self.read.retain(|key, _| there.contains(key));
        let fresh: Vec<&Stat> =
            orphans.iter().copied().filter(|stat| !self.read.contains_key(&(stat.pid, stat.start))).collect();
        let pids: Vec<u32> = fresh.iter().map(|stat| stat.pid).collect();
        for (stat, environment) in fresh.iter().zip(peek::all(&pids, Part::Environment)) {
            let found = match environment {
                Ok(environment) => self.of(stat, &environment, clock),
                Err(Silent::NotOurs) => None,
                // It may answer another time.
                Err(Silent::Late) => continue,
            };
            self.read.insert((stat.pid, stat.start), found);
        }
        let mut left: Vec<Leftover> =
            self.read.values().flatten().filter(|one| !living.contains(&one.token)).cloned().collect();
        left.sort_by_key(|one| (one.start, one.pid));
        left
    }

    fn of(&self, stat: &Stat, environment: &[u8], clock: &dyn Clock) -> Option<Leftover> {
        let session = marked(environment, &self.mountpoint)?;
        let token = peek::variable(environment, INCARNATION).filter(|token| !token.is_empty())?;
        let command = peek::told(stat.pid)?;
        // The number may be another process's by now.
        Stat::read(stat.pid).filter(|now| now.start == stat.start)?;
        Some(Leftover {
            pid: stat.pid,
            start: stat.start,
            since: clock.heard(started(stat, clock.wall())),
            session,
            token: String::from_utf8_lossy(token).into_owned(),
            command,
        })
    }
}

/// Who takes in what an agent leaves: its tmux server, or who is above that.
fn reapers(all: &[Stat], server: Option<u32>) -> HashSet<u32> {
    let parents: HashMap<u32, u32> = all.iter().map(|stat| (stat.pid, stat.parent)).collect();
    let mut reapers = HashSet::from([INIT]);
    let mut next = server;
    while let Some(pid) = next.filter(|pid| *pid > INIT && reapers.insert(*pid)) {
        next = parents.get(&pid).copied();
    }
    reapers
}

/// When a process was started, in wall-clock time.
fn started(stat: &Stat, wall: Timestamp) -> Timestamp {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1);
    let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(0, |up| up.tv_sec());
    let age = up - i64::try_from(stat.start).unwrap_or(0) / ticks;
    wall.saturating_sub(SignedDuration::from_secs(age.max(0))).unwrap_or(wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Wall;

    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            Timestamp::now()
        }
    }

    #[test]
    fn what_carries_the_mark_of_a_start_that_is_over_is_left_and_a_number_in_other_hands_is_not() {
        let own = std::process::id();
        let sleeper = |mount: &str| {
            let mut command = std::process::Command::new("sleep");
            command.env("CLAUDE_FAILOVER_SESSION", "pool-1").env("CLAUDE_FAILOVER_MOUNT", mount);
            command.arg("300").env(INCARNATION, "t1").spawn().expect("sleep")
        };
        let (mut ours, mut other) = (sleeper("/m"), sleeper("/n"));
        let started = Timestamp::now();
        let of = |pid: u32| Stat::read(pid).expect("it lives");
        let look = |all: &[Stat], living: &[&str]| {
            let living = living.iter().map(|token| (*token).to_owned()).collect();
            // Who runs this test stands for the server.
            Left::new("/m".into()).among(all, Some(own), &living, &Wall)
        };
        // The program's own environment is there when it runs.
        while peek::told(ours.id()).is_none_or(|told| !told.starts_with("sleep"))
            || peek::told(other.id()).is_none_or(|told| !told.starts_with("sleep"))
        {
            std::thread::yield_now();
        }
        let all = [of(ours.id()), of(other.id())];
        let left = look(&all, &["t2"]);
        let [one] = left.as_slice() else { panic!("{left:?}") };
        assert_eq!((one.pid, one.session.as_str(), one.command.as_str()), (ours.id(), "pool-1", "sleep 300"));
        assert!(started.duration_since(one.since).as_secs().abs() <= 5, "{} {started}", one.since);
        assert!(look(&all, &["t1"]).is_empty(), "its agent is there");
        let another = Stat { start: all[0].start - 1, ..all[0] };
        assert!(look(&[another], &[]).is_empty());
        for child in [&mut ours, &mut other] {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    #[test]
    fn orphans_go_to_the_server_or_who_is_above_it() {
        let stat = |pid, parent| Stat {
            pid,
            parent,
            group: pid,
            session: pid,
            terminal: 0,
            front: -1,
            zombie: false,
            start: 1,
        };
        let all = [stat(1, 0), stat(10, 1), stat(20, 10), stat(30, 20), stat(40, 30)];
        assert_eq!(reapers(&all, Some(20)), HashSet::from([1, 10, 20]));
        assert_eq!(reapers(&all, None), HashSet::from([1]));
    }
}
