//! Inode numbers: a real file keeps its own, across forgets and remounts, so listings agree with `stat`. Everything
//! else gets a number that is never reused.
//! Tracks what the kernel looked up and forgot; maps a number to an object and its current place. Holds no descriptors
//! for known nodes, so a million lookups cost only memory until forgotten.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
    sync::Arc,
};

use crate::fs::{
    handles::RealFile,
    real::FileId,
    tree::{Object, Spot, View},
};

/// The object of an inode number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Spot(Spot),
    /// A real directory has a number for each place in the tree where it is shown: the kernel keeps a directory in one
    /// place only. A file has one number everywhere, so that locks and watches meet.
    Dir(View, FileId),
    File(FileId),
}

/// Where a real file was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// Below a queue by a fixed path: the queue itself, or one of its directories shown at the root.
    Base {
        queue: usize,
        path: PathBuf,
    },
    Child {
        parent: u64,
        name: OsString,
    },
}

#[derive(Debug, Clone)]
pub struct Node {
    pub key: Key,
    pub place: Option<Where>,
    lookups: u64,
    /// Open handles on it; they reach it when its name is gone.
    open: Vec<(u64, Arc<RealFile>)>,
}

#[derive(Debug)]
pub struct Nodes {
    next: u64,
    /// Devices that real files were seen on, the first one's files showing their numbers as they are.
    devices: Vec<u64>,
    by_number: HashMap<u64, Node>,
    by_key: HashMap<Key, u64>,
}

/// Assigned numbers begin here: above every real one, and below 2^53, up to which a double is exact (IEEE 754).
const GIVEN: u64 = 1 << 52;
/// Bits of a real inode number; those above distinguish devices and the places of a directory. Chosen: 2.8 × 10^14
/// inodes, more than any disk has.
const REAL_BITS: u32 = 48;

impl Nodes {
    /// `devices` are those of the queues, so that numbers are the same after each mount.
    #[must_use]
    pub fn new(devices: Vec<u64>) -> Self {
        let root = Key::Spot(Spot::dir(Object::Root));
        let node = Node { key: root.clone(), place: None, lookups: 1, open: Vec::new() };
        Self { next: GIVEN, devices, by_number: HashMap::from([(1, node)]), by_key: HashMap::from([(root, 1)]) }
    }

    /// The number of a key, made when it is new, with one more lookup to be forgotten.
    pub fn remember(&mut self, key: Key, place: Option<Where>) -> u64 {
        let number = match self.by_key.get(&key) {
            Some(number) => *number,
            None => {
                let number = self.number_for(&key);
                self.by_key.insert(key.clone(), number);
                number
            }
        };
        let node =
            self.by_number.entry(number).or_insert_with(|| Node { key, place: None, lookups: 0, open: Vec::new() });
        node.lookups += 1;
        if place.is_some() {
            node.place = place;
        }
        number
    }

    fn number_for(&mut self, key: &Key) -> u64 {
        let own = match key {
            Key::Spot(_) => None,
            Key::Dir(view, id) => self.real_number(*view, id.device(), id.number()),
            Key::File(id) => self.real_number(View::Project, id.device(), id.number()),
        };
        // Taken while a removed file with the same number is still open, and by the root.
        own.filter(|own| !self.by_number.contains_key(own)).unwrap_or_else(|| {
            self.next += 1;
            self.next
        })
    }

    /// The number that a real file shows unless it is taken. Files show the same one in every view.
    pub fn real_number(&mut self, view: View, device: u64, number: u64) -> Option<u64> {
        let known = self.devices.iter().position(|known| *known == device).unwrap_or_else(|| {
            self.devices.push(device);
            self.devices.len() - 1
        });
        let slot = known as u64 * 2 + u64::from(matches!(view, View::Root));
        (number >> REAL_BITS == 0 && slot < GIVEN >> REAL_BITS).then_some(slot << REAL_BITS | number)
    }

    pub fn forget(&mut self, number: u64, lookups: u64) {
        let Some(node) = self.by_number.get_mut(&number) else { return };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 && number != 1 {
            let key = node.key.clone();
            self.by_number.remove(&number);
            if self.by_key.get(&key) == Some(&number) {
                self.by_key.remove(&key);
            }
        }
    }

    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Node> {
        self.by_number.get(&number)
    }

    /// The queue and the path below it where a real node was seen last.
    #[must_use]
    pub fn path(&self, number: u64) -> Option<(usize, PathBuf)> {
        let mut names: Vec<&OsStr> = Vec::new();
        let mut at = number;
        // A chain that is longer than everything known goes round in a circle.
        for _ in 0..self.by_number.len() {
            match self.by_number.get(&at)?.place.as_ref()? {
                Where::Base { queue, path } => {
                    let mut path = path.clone();
                    path.extend(names.iter().rev());
                    return Some((*queue, path));
                }
                Where::Child { parent, name } => {
                    names.push(name);
                    at = *parent;
                }
            }
        }
        None
    }

    /// The queue of a real node.
    #[must_use]
    pub fn queue(&self, number: u64) -> Option<usize> {
        let mut at = number;
        for _ in 0..self.by_number.len() {
            match self.by_number.get(&at)?.place.as_ref()? {
                Where::Base { queue, .. } => return Some(*queue),
                Where::Child { parent, .. } => at = *parent,
            }
        }
        None
    }

    #[must_use]
    pub fn number(&self, key: &Key) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// The file that was seen last at a name, there or not.
    #[must_use]
    pub fn stood_at(&self, parent: u64, name: &OsStr) -> Option<u64> {
        let here =
            |node: &Node| matches!(&node.place, Some(Where::Child { parent: p, name: n }) if *p == parent && n == name);
        let file = |node: &Node| matches!(node.key, Key::File(_)) && here(node);
        // The newest, should several have stood there.
        self.by_number.iter().filter(|(_, node)| file(node)).map(|(number, _)| *number).max()
    }

    /// One more lookup of a number that is still known.
    pub fn looked_up(&mut self, number: u64) -> bool {
        self.by_number.get_mut(&number).map(|node| node.lookups += 1).is_some()
    }

    /// A name was moved: nodes known at the old place get the new one.
    pub fn moved(&mut self, id: FileId, view: View, to: Where) {
        for key in [Key::File(id), Key::Dir(view, id)] {
            if let Some(node) = self.by_key.get(&key).and_then(|number| self.by_number.get_mut(number)) {
                node.place = Some(to.clone());
            }
        }
    }

    pub fn opened(&mut self, number: u64, handle: u64, file: Arc<RealFile>) {
        if let Some(node) = self.by_number.get_mut(&number) {
            node.open.push((handle, file));
        }
    }

    pub fn closed(&mut self, number: u64, handle: u64) {
        if let Some(node) = self.by_number.get_mut(&number) {
            node.open.retain(|(id, _)| *id != handle);
        }
    }

    #[must_use]
    pub fn any_open(&self, number: u64) -> Option<Arc<RealFile>> {
        self.by_number.get(&number)?.open.first().map(|(_, file)| Arc::clone(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_given_is_never_given_twice_and_forgetting_frees() {
        let mut nodes = Nodes::new(Vec::new());
        let key = Key::Spot(Spot::dir(Object::Sessions));
        let first = nodes.remember(key.clone(), None);
        assert_eq!(nodes.remember(key.clone(), None), first);
        nodes.forget(first, 1);
        assert!(nodes.get(first).is_some());
        nodes.forget(first, 1);
        assert!(nodes.get(first).is_none());
        assert_ne!(nodes.remember(key, None), first);
        assert_eq!(nodes.by_number.len(), 2);
        nodes.forget(1, 99);
        assert!(nodes.get(1).is_some(), "the root stays");
    }
}
