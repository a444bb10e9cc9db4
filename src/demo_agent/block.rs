//! Runs the shell block of a prompt.
//!
//! Takes the block's text; returns its output piece by piece and its exit. Owns the block's process group and kills it
//! on interrupt.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Most output that is kept. Chosen: a demonstration's block prints a few lines.
pub const MAX_OUTPUT: usize = 64 << 10;
/// How often a silent block is checked for its exit; its children may hold the output open. Chosen: looks immediate to
/// a person.
const ASK_EVERY_MS: u8 = 100;

/// How a block ended.
#[derive(Debug)]
pub enum Ended {
    /// Output, and the status in words when it is not 0.
    Exited {
        output: String,
        failure: Option<String>,
    },
    Interrupted,
}

/// The text of the first fenced `sh` block.
pub fn find(prompt: &str) -> Option<String> {
    let mut lines = prompt.lines();
    lines.find(|line| line.trim() == "```sh")?;
    let block: Vec<&str> = lines.take_while(|line| line.trim() != "```").collect();
    Some(block.join("\n"))
}

/// Runs `block` with `sh` until it ends or `interrupt` becomes readable.
pub fn run(block: &str, cwd: &Path, interrupt: impl AsFd, mut show: impl FnMut(String)) -> io::Result<Ended> {
    let (mut reader, writer) = io::pipe()?;
    let mut command = Command::new("sh");
    command
        .args(["-c", block])
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let mut child = command.spawn()?;
    // It holds the pipe's other end, which would never close.
    drop(command);
    let mut output = Output::default();
    let mut open = true;
    let status = loop {
        let status = child.try_wait()?;
        let timeout = if status.is_some() { PollTimeout::ZERO } else { PollTimeout::from(ASK_EVERY_MS) };
        let mut fds = vec![PollFd::new(interrupt.as_fd(), PollFlags::POLLIN)];
        if open {
            fds.push(PollFd::new(reader.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |i: usize| fds.get(i).and_then(PollFd::any).unwrap_or(false);
        let (stop, more) = (ready(0), ready(1));
        if stop {
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            let _ = child.wait();
            return Ok(Ended::Interrupted);
        }
        match status {
            // What the block left running may write for ever.
            Some(status) if !more || output.full => break status,
            Some(_) | None => {}
        }
        if more {
            let mut chunk = [0; 16 << 10];
            let n = reader.read(&mut chunk)?;
            open = n > 0;
            output.push(&chunk[..n], &mut show);
        }
    };
    Ok(Ended::Exited { output: output.finish(&mut show), failure: failure(status) })
}

fn failure(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, signal) => Some(format!("killed by signal {}", signal.unwrap_or(0))),
    }
}

/// Output as text: characters cut by the pipe are put together again, the whole is kept up to [`MAX_OUTPUT`].
#[derive(Default)]
struct Output {
    text: String,
    rest: Vec<u8>,
    full: bool,
}

impl Output {
    fn push(&mut self, bytes: &[u8], show: &mut impl FnMut(String)) {
        self.rest.extend_from_slice(bytes);
        let end = match std::str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => self.rest.len(),
        };
        let rest = self.rest.split_off(end);
        let piece = String::from_utf8_lossy(&std::mem::replace(&mut self.rest, rest)).into_owned();
        self.add(piece, show);
    }

    fn add(&mut self, mut piece: String, show: &mut impl FnMut(String)) {
        if self.full {
            return;
        }
        let room = MAX_OUTPUT - self.text.len();
        if piece.len() > room {
            piece.truncate((0..=room).rev().find(|end| piece.is_char_boundary(*end)).unwrap_or(0));
            piece.push_str("\n[output cut at 64 KiB]");
            self.full = true;
        }
        self.text.push_str(&piece);
        show(piece);
    }

    fn finish(mut self, show: &mut impl FnMut(String)) -> String {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.add(String::from_utf8_lossy(&rest).into_owned(), show);
        }
        if self.text.ends_with('\n') {
            self.text.pop();
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_sh_block_counts() {
        assert_eq!(find("do\n```sh\na\n b\n```\n```sh\nc\n```").as_deref(), Some("a\n b"));
        assert_eq!(find("```\na\n```"), None);
        assert_eq!(find("```sh\nopen end").as_deref(), Some("open end"));
    }

    #[test]
    fn output_is_capped_and_characters_stay_whole() {
        let mut shown = String::new();
        let mut output = Output::default();
        for byte in "é".repeat(MAX_OUTPUT).bytes() {
            output.push(&[byte], &mut |piece| shown.push_str(&piece));
        }
        let text = output.finish(&mut |_| {});
        assert!(text.ends_with("[output cut at 64 KiB]") && !text.contains('\u{fffd}'));
        assert_eq!(text, shown);
    }
}
