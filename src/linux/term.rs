//! A terminal's window size (ioctl_tty(2)).

use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc;

/// Columns and rows; `None` where it is no terminal, or the terminal does not say.
#[must_use]
pub fn window_size(terminal: &impl AsFd) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which is valid for the call; the descriptor is borrowed, thus open.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}
