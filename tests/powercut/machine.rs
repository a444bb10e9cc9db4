//! A machine whose power can be cut: a daemon whose queue and state are on disks that lose everything not synced.

use std::{fs, path::PathBuf};

use crate::{
    disks::{Disk, bind, mount_tmpfs, unmount},
    world::{Setup, World},
};

/// Which disks there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// Queue and state on one: saving the state puts the queue's names on disk too.
    One,
    /// On two: what the queue doesn't sync itself stays at risk.
    Two,
}

pub struct Machine {
    pub world: World,
    disks: Vec<Disk>,
    binds: Vec<PathBuf>,
}

impl Machine {
    /// A running daemon.
    pub fn start(setup: &Setup, which: Disks) -> Self {
        let mut world = World::prepare(setup);
        let at = |name: &str| world.path(name);
        let platter = at("platter");
        mount_tmpfs(&platter, "size=128m");
        let (disks, binds) = match which {
            Disks::One => {
                let disk = Disk::make(&platter.join("disk"), &at("disk"));
                (vec![disk], vec![at("web"), at("state")])
            }
            Disks::Two => {
                let disks = ["web", "state"].map(|name| Disk::make(&platter.join(name), &at(name)));
                (disks.into(), Vec::new())
            }
        };
        world.mounts = [vec![platter], disks.iter().map(|disk| disk.at.clone()).collect(), binds.clone()].concat();
        let mut machine = Self { world, disks, binds };
        machine.power_on();
        machine.world.run();
        machine
    }

    /// Mounts what is on the disks.
    fn power_on(&mut self) {
        for disk in &self.disks {
            disk.mount();
        }
        for to in &self.binds {
            bind(&self.disks[0].at.join(to.file_name().expect("a name")), to);
        }
    }

    /// At this moment; `first` of two disks a little earlier than the other.
    pub fn cut(&self, first: usize) {
        for n in 0..self.disks.len() {
            self.disks[(first + n) % self.disks.len()].cut();
        }
    }

    /// After a cut: nothing runs any more, and the disks are mounted again as they are.
    pub fn reboot(&mut self) {
        self.world.end_everything();
        for mount in self.binds.iter().chain(self.disks.iter().map(|disk| &disk.at)) {
            unmount(mount);
        }
        self.power_on();
    }

    /// Names of tasks and what stands beside them, in one directory of the queue.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.world.queue(dir)).expect("a queue directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}
