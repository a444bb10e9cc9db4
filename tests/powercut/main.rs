//! Power cuts: a queue on its own disk (ext4 on a loop device, in a mount namespace of the test), whose power is cut
//! at a bad moment. Whatever a writer was told is saved, and a reader saw finished, must be there afterwards; the
//! control rounds prove that these tests can fail. Needs root. `SLOW=1` for many more rounds.

#[path = "../support/disks.rs"]
mod disks;
#[path = "../support/strace.rs"]
mod strace;
#[path = "../support/daemon.rs"]
mod world;

mod ledger;
mod machine;
mod results;
mod submits;

/// `SLOW=1` runs what takes too long for every day.
fn rounds(usual: u64, slow: u64) -> u64 {
    if std::env::var("SLOW").is_ok_and(|value| value == "1") { slow } else { usual }
}
