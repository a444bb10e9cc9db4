//! Finds and ends process trees.
//! Takes a root; signals exactly the processes that belong to it. Owns a pidfd of each member while it ends them.
//! Never hits a stranger: each member is checked again after its pidfd is open, so a reused pid is recognised by its
//! start time.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{task::spawn_blocking, time::Instant};

use super::{Pidfd, Stat};
use crate::model::pane::Background;

/// The tree of a program that leads a terminal's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// The program's pid, which is also its terminal session's number.
    pub pid: u32,
    /// Only a child of this process can be the root; guards against a reused pid.
    pub parent: u32,
}

/// Members of the tree among `all`: descendants, and everything in a session or process group that a member leads.
/// `known` holds members of earlier looks, whose children may have lost their parent meanwhile. `proof` decides for
/// a root with another parent, and for processes that only the root's session number ties to a root that is gone.
#[must_use]
pub fn tree(all: &[Stat], root: Root, known: &HashMap<u32, u64>, proof: impl Fn(u32) -> bool) -> Vec<Stat> {
    // Neither they nor what they started for themselves belongs to the tree.
    let own = std::process::id();
    let spared = |pid: u32| pid <= 1 || pid == own || pid == root.parent;
    let by_pid: HashMap<u32, &Stat> = all.iter().map(|stat| (stat.pid, stat)).collect();
    // One whose terminal server has ended has another parent.
    let root_lives = by_pid.get(&root.pid).is_some_and(|stat| stat.parent == root.parent || proof(root.pid));
    // A number still means the member that we knew unless another process carries it now.
    let same = |pid: &u32, start: &u64| by_pid.get(pid).is_none_or(|stat| stat.start == *start);
    let mut leaders: HashSet<u32> = known.iter().filter(|(pid, start)| same(pid, start)).map(|(pid, _)| *pid).collect();
    if root_lives {
        leaders.insert(root.pid);
    }
    let mut members: HashSet<u32> = leaders.iter().copied().filter(|pid| by_pid.contains_key(pid)).collect();
    if !root_lives && !by_pid.contains_key(&root.pid) {
        let in_session = || all.iter().filter(|s| s.session == root.pid);
        // The kernel gives no number away that is still a session's: what one member proves holds for all.
        if in_session().any(|s| proof(s.pid)) {
            members.extend(in_session().map(|s| s.pid));
        }
        leaders.extend(&members);
    }
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|s| !members.contains(&s.pid) && !spared(s.pid))
            .filter(|s| [s.parent, s.session, s.group].iter().any(|id| leaders.contains(id)))
            .map(|s| s.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        members.extend(&more);
        leaders.extend(&more);
    }
    all.iter().filter(|s| members.contains(&s.pid) && !s.zombie).copied().collect()
}

/// How long KILL may take before the process counts as stuck in the kernel. Chosen: the kernel needs milliseconds; a
/// busy machine gets the rest.
const KILL_WITHIN: Duration = Duration::from_secs(5);

/// Ends a tree: TERM to every member, KILL to those left after `grace`, and waits until none is left. Processes that the tree
/// starts meanwhile are ended too. Where the background stays, only the root's own process group is ended, by KILL at once.
///
/// # Errors
/// The pids that outlive KILL.
pub async fn end_tree(
    root: Root,
    grace: Duration,
    background: Background,
    proof: impl Fn(u32) -> bool + Clone + Send + 'static,
) -> Result<(), Vec<u32>> {
    // Asked to end, an agent would end its commands first (Claude Code 2.1.332 does).
    let grace = if background == Background::Stays { Duration::ZERO } else { grace };
    let kill_at = Instant::now() + grace;
    let mut known: HashMap<u32, u64> = HashMap::new();
    let mut held: HashMap<u32, Pidfd> = HashMap::new();
    // Doubles to 200 ms. Chosen: most trees end in milliseconds, and a stubborn one is worth five looks a second.
    let mut pause = Duration::from_millis(10);
    loop {
        let killing = Instant::now() >= kill_at;
        // A look that failed must not count as one that found nobody.
        let Ok(all) = Stat::every().await else { return Err(vec![root.pid]) };
        let asks_for_proof =
            all.iter().any(|s| s.session == root.pid && (s.pid != root.pid || s.parent != root.parent));
        let mut members = if asks_for_proof {
            let (earlier, proof) = (known.clone(), proof.clone());
            let Ok(members) = spawn_blocking(move || tree(&all, root, &earlier, proof)).await else {
                return Err(vec![root.pid]);
            };
            members
        } else {
            tree(&all, root, &known, |_| false)
        };
        if background == Background::Stays {
            members.retain(|stat| stat.group == root.pid);
        }
        held.retain(|_, fd| !fd.has_ended());
        if members.is_empty() && held.is_empty() {
            return Ok(());
        }
        if Instant::now() >= kill_at + KILL_WITHIN {
            let mut left: Vec<u32> = held.keys().copied().collect();
            left.sort_unstable();
            return Err(left);
        }
        for member in members {
            let fresh = !held.contains_key(&member.pid);
            if fresh {
                let Ok(fd) = Pidfd::open(member.pid) else { continue };
                // The pid may have changed hands between the look and the handle.
                if Stat::read(member.pid).is_none_or(|now| now.start != member.start) {
                    continue;
                }
                known.insert(member.pid, member.start);
                held.insert(member.pid, fd);
            }
            let Some(fd) = held.get(&member.pid) else { continue };
            // A member that has just ended needs no signal.
            if killing {
                drop(fd.signal(Signal::SIGKILL));
            } else if fresh {
                drop(fd.signal(Signal::SIGTERM));
                // A stopped program can't act on TERM.
                drop(fd.signal(Signal::SIGCONT));
            }
        }
        let next = if killing { Instant::now() + pause } else { kill_at.min(Instant::now() + pause) };
        drop(tokio::time::timeout_at(next, all_ended(&held)).await);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

async fn all_ended(held: &HashMap<u32, Pidfd>) {
    for fd in held.values() {
        fd.ended().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, parent: u32, group: u32, session: u32) -> Stat {
        Stat { pid, parent, group, session, terminal: 0, front: -1, zombie: false, start: u64::from(pid) }
    }

    const ROOT: Root = Root { pid: 100, parent: 50 };

    fn pids(all: &[Stat], known: &[(u32, u64)], proof: impl Fn(u32) -> bool) -> Vec<u32> {
        tree(all, ROOT, &known.iter().copied().collect(), proof).iter().map(|s| s.pid).collect()
    }

    #[test]
    fn a_tree_is_descendants_and_the_sessions_and_groups_they_lead() {
        let all = [
            stat(50, 1, 50, 50),
            stat(60, 50, 60, 60),    // another pane
            stat(100, 50, 100, 100), // the root
            stat(101, 100, 101, 100),
            stat(102, 101, 102, 102), // its own session
            stat(103, 1, 101, 100),   // orphan in the root's session
            stat(104, 1, 102, 102),   // orphan in a member's session
            stat(105, 1, 105, 105),   // stranger
        ];
        assert_eq!(pids(&all, &[], |_| false), [100, 101, 102, 103, 104]);
    }

    #[test]
    fn a_pid_in_other_hands_is_no_root() {
        let all = [stat(50, 1, 50, 50), stat(100, 1, 100, 100), stat(101, 100, 100, 100)];
        assert!(pids(&all, &[], |_| false).is_empty());
        assert_eq!(pids(&all, &[], |pid| pid == 100), [100, 101], "its own parent may have ended");
    }

    #[test]
    fn survivors_of_a_dead_root_need_a_proof() {
        let all = [stat(50, 1, 50, 50), stat(101, 1, 100, 100), stat(102, 101, 102, 102), stat(103, 1, 103, 100)];
        assert!(pids(&all, &[], |_| false).is_empty());
        assert_eq!(pids(&all, &[], |pid| pid == 101), [101, 102, 103]);
    }

    #[test]
    fn orphans_of_known_members_belong_and_a_reused_number_does_not() {
        let all = [
            stat(50, 1, 50, 50),
            stat(100, 50, 100, 100),
            stat(201, 1, 201, 200),
            stat(301, 300, 301, 301),
            stat(300, 1, 300, 300),
        ];
        assert_eq!(pids(&all, &[(200, 200), (300, 299)], |_| false), [100, 201]);
    }

    #[test]
    fn the_server_and_ourselves_are_spared() {
        let own = std::process::id();
        let all = [stat(50, 100, 100, 100), stat(100, 50, 100, 100), stat(own, 100, 100, 100), stat(2, own, own, own)];
        assert_eq!(pids(&all, &[], |_| true), [100]);
    }
}
