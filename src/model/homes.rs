//! Faults of an account's home, or of the operator's link to one, each with its remedy. Plain values.

/// Why a home can't be used: each fault one sentence with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct HomeFaults(pub Vec<String>);

/// Something wrong with an account's home or with the operator's link, as `check` and the daemon's start tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeFault {
    /// The key of the configuration that it is about.
    pub key: String,
    pub message: String,
    pub remedy: String,
    /// Nothing is in the way: it can be made.
    pub missing: bool,
}

/// What a look at all homes found, and what it made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HomesReport {
    pub made: Vec<String>,
    pub faults: Vec<HomeFault>,
    /// What keeps nothing from working and still is hardly meant.
    pub notes: Vec<String>,
}
