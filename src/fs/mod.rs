//! The mount: a FUSE file system that shows the supervisor's state as a directory tree, and the real queue
//! directories.
//! Answers kernel requests from the last snapshot or from the real queue directories. Owns open handles and inode
//! numbers, nothing else. Starts, stops and moves nothing except through `Backend::control`, and waits only for the
//! local disk and that one bounded call.

mod backend;
mod claims;
mod error;
mod found;
mod fuse;
mod handles;
mod links;
mod log;
mod mount_helper;
mod mounting;
mod nodes;
mod ops;
mod ops_dir;
mod ops_file;
mod ops_real;
mod ops_text;
mod ops_verb;
mod passthrough;
mod readme;
mod real;
mod repeat;
mod repeating;
mod slow;
pub mod tree;
mod waiters;
mod words;
mod xattr;

pub use backend::{Backend, Place, Process, Touched};
pub use error::FsError;
pub use found::told as found_told;
pub use mounting::{MountError, Mounted, Options, detach_dead, uncover};
pub use ops::Ops;
pub use real::{QUEUE_DIRS, Queue};
pub use repeat::Teller;
pub use words::{Attr, Caller, FSTYPE, Kind, Opened, ROOT, Ready, SetAttr};
