//! The terminal's raw mode, size and signals.
//!
//! Owns raw mode and restores the terminal on exit, also after a panic.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, FlushArg, SetArg, Termios};

use super::screen::emit;
use crate::linux::term::window_size;

/// Raw mode with bracketed paste, for as long as it lives.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        emit("\x1b[?2004h");
        Ok(Self { before })
    }

    /// Throws away what was typed and not yet read.
    pub fn discard_input(&self) {
        let _ = termios::tcflush(io::stdin(), FlushArg::TCIFLUSH);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        emit("\x1b[?2004l");
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// Columns and rows; 80 × 24 where the terminal does not say.
pub fn size(terminal: BorrowedFd) -> (usize, usize) {
    window_size(&terminal).filter(|(_, rows)| *rows > 0).unwrap_or((80, 24))
}

/// The signals the agent answers, as a descriptor. To be called before any thread starts: threads inherit the block.
pub fn signals() -> io::Result<SignalFd> {
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGWINCH] {
        wanted.add(signal);
    }
    wanted.thread_block()?;
    Ok(SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Says something just before the end. tmux (3.3a, one time in six) loses what a program writes in the moment of its end:
/// the kernel has not yet passed it on when tmux asks whether anything is left. So the end waits 20 ms (chosen: invisible).
pub fn last_words(text: &str) {
    emit(text);
    std::thread::sleep(std::time::Duration::from_millis(20));
}
