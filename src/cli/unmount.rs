//! `unmount`: detaches our mount and its copies, whether the daemon is alive or dead. Succeeds when nothing is mounted
//! and refuses somebody else's mount.

use std::{path::Path, process::Command};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};

use super::{
    args::UnmountArgs,
    exit::{Exit, Failure},
    place,
};
use crate::{cli::io::Io, linux::mountinfo};

/// Stacked mounts that are detached. Chosen: more than anybody stacks by accident; a loop must end.
const MOST: usize = 16;

/// # Errors
/// When another's file system is mounted there, or the kernel refuses.
pub fn run(args: &UnmountArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let point = mountinfo::resolved(&place::mountpoint(&args.mount, io));
    let mut detached = 0;
    loop {
        let all =
            mountinfo::read().map_err(|error| Failure::Failed(format!("can't read /proc/self/mountinfo: {error}")))?;
        let Some(mounted) = mountinfo::at(&all, &point) else { break };
        if !mounted.is_ours() {
            if detached > 0 {
                break;
            }
            return Err(Failure::Failed(format!(
                "{} is a {} file system of {:?}, not ours; nothing was done",
                point.display(),
                mounted.fstype,
                mounted.source
            )));
        }
        if detached == MOST {
            return Err(Failure::Failed(format!("{} is still mounted after {MOST} detachments", point.display())));
        }
        detach(&point)?;
        detached += 1;
        // Over queues, for example.
        let copies = all.iter().rev().filter(|copy| copy.is_ours() && copy.device == mounted.device);
        for copy in copies.filter(|copy| copy.point != point) {
            detach(&copy.point)?;
        }
    }
    match detached {
        0 => writeln!(io.out, "{}: nothing is mounted", point.display())?,
        _ => writeln!(io.out, "{}: detached", point.display())?,
    }
    Ok(Exit::Ok)
}

fn detach(point: &Path) -> Result<(), Failure> {
    let refused = |tried: &str, why: &dyn std::fmt::Display| {
        Failure::Failed(format!("can't detach {} ({tried}): {why}\n  As root: umount -l {0}", point.display()))
    };
    match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: somebody else was faster.
        Ok(()) | Err(Errno::EINVAL) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(error) => return Err(refused("umount2", &error)),
    }
    let output = Command::new("fusermount3").args(["-u", "-z", "--"]).arg(point).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(refused("fusermount3 -uz", &String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(refused("fusermount3 -uz", &error)),
    }
}
