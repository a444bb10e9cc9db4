//! Fatal errors: why the daemon can't start or has to stop.

/// Why a daemon can't start or continue; reads as one sentence with its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

pub(super) fn fatal(what: impl std::fmt::Display) -> Fatal {
    Fatal(what.to_string())
}
