//! Finds programs by name and runs a command for its output, with a timeout.
//! Takes a name and a search path, or a command; returns a file, the output, or the reason there is none. Ends what it
//! started.

use std::{
    ffi::OsString,
    io::Read as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{AccessFlags, access},
};

use crate::linux::process::pidfd_open;

/// Bytes of output that are read. Chosen: one page; a version is one line.
const LONGEST_ANSWER: u64 = 4096;

/// The program as a shell would find it.
#[must_use]
pub fn find(program: &str, path: Option<OsString>) -> Option<PathBuf> {
    let runs = |file: &Path| file.is_file() && access(file, AccessFlags::X_OK).is_ok();
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|file| runs(file));
    }
    std::env::split_paths(&path?).map(|dir| dir.join(program)).find(|file| runs(file))
}

/// What the command writes before it ends well, if it does so in time.
///
/// # Errors
/// When it can't be started, fails, or is not over in time: what it did.
pub fn answer(command: &mut Command, patience: Duration) -> Result<String, String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("can't be started: {error}"))?;
    let pipe = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = pipe.map(|pipe| pipe.take(LONGEST_ANSWER).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let ended = pidfd_open(child.id()).is_ok_and(|pidfd| {
        let within = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut end = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        while poll(&mut end, within) == Err(Errno::EINTR) {}
        end[0].any() == Some(true)
    });
    if !ended {
        let _ = child.kill();
    }
    match child.wait() {
        Ok(status) if ended && status.success() => Ok(reader.join().unwrap_or_default()),
        Ok(status) if ended => Err(format!("ended with {status}")),
        Ok(_) | Err(_) => Err(format!("gave no answer within {} s", patience.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        assert!(find("sh", Some("/nope:/bin:/usr/bin".into())).is_some());
        assert_eq!(find("sh", Some("/nope".into())), None);
        assert_eq!(find("/etc/passwd", None), None);
        assert_eq!(find("sh", None), None);
    }

    #[test]
    fn an_answer_is_what_was_written_or_what_went_wrong() {
        let asked = |script: &str| answer(Command::new("sh").args(["-c", script]), Duration::from_secs(1));
        assert_eq!(asked("echo 1.2.3"), Ok("1.2.3\n".to_owned()));
        assert_eq!(asked("echo no; exit 3"), Err("ended with exit status: 3".to_owned()));
        assert_eq!(asked("exec sleep 60"), Err("gave no answer within 1 s".to_owned()));
    }
}
