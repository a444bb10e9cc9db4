//! Safe wrappers for Linux system calls that more than one place needs.
//! Takes paths, descriptors and pids; returns what the kernel answers. Built on nix, and on libc where nix lacks a
//! call. Decides nothing and knows no tasks. All `unsafe` of the program is here (`tests/layers.rs`), each with its
//! reason.

pub mod ask;
pub mod dirs;
pub mod file;
pub mod lock;
pub mod locks;
pub mod mark;
pub mod memory;
pub mod mountinfo;
pub mod peek;
pub mod process;
pub mod shared;
pub mod slice;
pub mod socket;
pub mod spawn;
pub mod statx;
pub mod term;
pub mod xattr;
