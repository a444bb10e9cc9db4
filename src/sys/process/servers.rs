//! Tracks our tmux servers and the processes seen outside of them, by which a dead server's orphans are recognised.
//! Takes the current server and all processes; returns what `model::writer` needs, and what is to be saved. Decides
//! nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::lineage::login_of;
use crate::{
    linux::process::Stat,
    model::writer::{Lost, Servers},
};

/// Of one daemon.
pub struct Watch {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    servers: Servers,
    reapers: Arc<HashSet<(u32, u64)>>,
    outside: Arc<HashSet<(u32, u64)>>,
}

impl Watch {
    /// Goes on from what the last daemon saved; `boot` is this start of the machine.
    #[must_use]
    pub fn begin(saved: Option<&Servers>, boot: &str) -> Self {
        let saved = saved.filter(|saved| saved.boot == boot).cloned();
        let servers = saved.unwrap_or_else(|| Servers { boot: boot.to_owned(), ..Servers::default() });
        // What took in its orphans, if it has ended: an ancestor of this daemon, maybe.
        let reapers = Arc::new(line(std::process::id()));
        let outside = Arc::new(servers.outside.iter().copied().collect());
        Self { held: Mutex::new(Held { servers, reapers, outside }) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be saved.
    #[must_use]
    pub fn servers(&self) -> Servers {
        self.held().servers.clone()
    }

    /// What tells orphans, when a server has ended. To be asked after a writer's line was read: as long as the server is
    /// there then, it had not given its orphans away.
    #[must_use]
    pub fn lost(&self, server: Option<u32>) -> Option<Lost> {
        let mut held = self.held();
        held.meet(server);
        let (first, login) = (held.servers.first, held.servers.login);
        let (reapers, outside) = (held.reapers.clone(), held.outside.clone());
        held.servers.lost.then_some(Lost { first, login, reapers, outside })
    }

    /// Takes a picture of who stands outside; `all` was read before.
    pub fn look(&self, server: Option<u32>, all: &[Stat]) {
        let mut held = self.held();
        held.meet(server);
        if !held.servers.lost && held.servers.last.0 != 0 {
            held.outside = Arc::new(outside(all, held.servers.last.0, held.servers.first));
        }
    }
}

impl Held {
    /// Notes which server there is, and whether the one before has ended.
    fn meet(&mut self, server: Option<u32>) {
        let (pid, start) = self.servers.last;
        let lives = Stat::read(pid).is_some_and(|stat| stat.may_have_begun(start) && !stat.zombie);
        if pid != 0 && !lives {
            self.lose();
        }
        let another = server.filter(|server| *server != pid || !lives).and_then(Stat::read);
        let Some(stat) = another.filter(|stat| !stat.zombie) else { return };
        if pid == 0 {
            self.servers.first = stat.start;
        } else {
            // One that lost its socket may live on, and what is below it is not known then.
            self.lose();
        }
        self.servers.last = (stat.pid, stat.start);
        self.servers.login = self.servers.login.or_else(|| login_of(stat.pid));
        let ancestors = line(stat.pid).into_iter().filter(|step| *step != self.servers.last);
        self.reapers = Arc::new(self.reapers.iter().copied().chain(ancestors).collect());
    }

    fn lose(&mut self) {
        if !self.servers.lost {
            self.servers.lost = true;
            self.servers.outside = self.outside.iter().copied().collect();
        }
    }
}

/// A process and its ancestors, by pid and start.
fn line(pid: u32) -> HashSet<(u32, u64)> {
    let mut line = HashSet::new();
    let mut next = Some(pid);
    while let Some(stat) = next.filter(|pid| *pid != 0).and_then(Stat::read) {
        if !line.insert((stat.pid, stat.start)) {
            break;
        }
        next = Some(stat.parent);
    }
    line
}

/// Those that are younger than the first server, not below this one, and can be followed to the end.
fn outside(all: &[Stat], server: u32, first: u64) -> HashSet<(u32, u64)> {
    let by_pid: HashMap<u32, &Stat> = all.iter().map(|stat| (stat.pid, stat)).collect();
    let is_outside = |stat: &&Stat| {
        let mut next = stat.pid;
        // A line that changed while it was read may go round.
        for _ in 0..=all.len() {
            match by_pid.get(&next) {
                Some(_) if next == server => return false,
                Some(stat) if stat.parent == 0 => return true,
                Some(stat) => next = stat.parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|stat| stat.start >= first).filter(is_outside).map(|stat| (stat.pid, stat.start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_is_what_can_be_followed_past_the_server() {
        let stat = |pid: u32, parent: u32| Stat {
            pid,
            parent,
            group: pid,
            session: pid,
            terminal: 0,
            front: -1,
            zombie: false,
            start: u64::from(pid),
        };
        let all = [stat(1, 0), stat(5, 1), stat(6, 5), stat(7, 1), stat(8, 7), stat(10, 99), stat(11, 0), stat(12, 6)];
        assert_eq!(outside(&all, 5, 4), [(7, 7), (8, 8), (11, 11)].into());
    }

    #[test]
    fn a_server_that_ended_is_remembered_and_the_next_start_of_the_machine_forgets_it() {
        let mut server = std::process::Command::new("sleep").arg("300").spawn().expect("sleep");
        let pid = server.id();
        let watch = Watch::begin(None, "boot");
        assert_eq!(watch.lost(None), None, "none was there");
        assert_eq!(watch.lost(Some(pid)), None);
        assert_eq!(watch.lost(None), None, "the connection alone was lost");
        let saved = watch.servers();
        server.kill().expect("killed");
        server.wait().expect("reaped");
        assert!(watch.lost(Some(pid)).is_some(), "the connection is not told yet");
        assert!(Watch::begin(Some(&saved), "boot").lost(None).is_some(), "while no daemon ran");
        assert_eq!(Watch::begin(Some(&watch.servers()), "another").lost(None), None);
    }
}
