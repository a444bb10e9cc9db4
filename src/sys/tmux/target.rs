//! Pane ids that stay unique across server restarts.
//! Takes tmux's own id and the server's pid; returns a `PaneId` (`%7@4711`). Every tmux server counts from `%0`, so
//! its own id alone could name another agent's pane after the server was replaced.

use std::fmt;

use crate::model::pane::PaneId;

/// A pane of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// tmux's own id: `%7`.
    pub pane: String,
    /// The server's process id.
    pub server: u32,
}

impl Target {
    /// `None` when `id` isn't one that we gave.
    #[must_use]
    pub fn parse(id: &PaneId) -> Option<Self> {
        let (pane, server) = id.0.split_once('@')?;
        let digits = pane.strip_prefix('%')?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        Some(Self { pane: plain.then(|| pane.to_owned())?, server: server.parse().ok()? })
    }

    #[must_use]
    pub fn id(&self) -> PaneId {
        PaneId(self.to_string())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pane, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_ids_are_targets() {
        let target = Target { pane: "%7".into(), server: 4711 };
        assert_eq!(Target::parse(&target.id()), Some(target));
        for id in ["%7", "7@1", "%@1", "%7@", "%7@x", "=a:@1", "%7;kill-server@1", "%1@1@1", ""] {
            assert_eq!(Target::parse(&PaneId(id.into())), None, "{id}");
        }
    }
}
