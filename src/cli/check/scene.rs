//! Shared input of the individual checks.

use std::path::PathBuf;

use crate::config::{Config, paths::Lookup};

/// What the single checks look at.
pub(super) struct Scene<'a> {
    pub config: &'a Config,
    pub env: Lookup<'a>,
    /// No permission stops us.
    pub root: bool,
    pub fix: bool,
    /// As it is configured.
    pub point: PathBuf,
}
