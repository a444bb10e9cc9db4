//! `mount-path`: prints the mountpoint, for `MNT=$(claude-failover mount-path)`.

use super::{
    args::UnmountArgs,
    exit::{Exit, Failure},
    place,
};
use crate::{cli::io::Io, linux::mountinfo};

/// # Errors
/// `NoDaemon` when nothing of ours is mounted there; the path is printed all the same.
pub fn run(args: &UnmountArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mount = place::mount(&args.mount, io);
    writeln!(io.out, "{}", mount.dir.display())?;
    io.out.flush()?;
    let all = mountinfo::read().unwrap_or_default();
    let served = mountinfo::at(&all, &mountinfo::resolved(&mount.dir)).is_some_and(mountinfo::Entry::is_ours);
    if served { Ok(Exit::Ok) } else { Err(Failure::NoDaemon(mount.absent())) }
}
