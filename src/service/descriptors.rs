//! Limits of file descriptors. Each connection needs one, and files need some. The default
//! limit of the system is usually low, so the service raises it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most descriptors reserved for files, the log and other services.
const MAX_RESERVED: usize = 256;
/// Most connections above the limit that get an answer, which refuses them.
const MAX_EXCESS: usize = 1024;

/// The number of possible connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections within the limit.
    pub(super) connections: usize,
    /// Connections above the limit.
    pub(super) reserve: usize,
}

/// Raises the limit of descriptors as far as allowed, and divides them. Logs a warning if they
/// do not suffice for `wanted` connections.
pub(super) fn share(wanted: usize) -> Shares {
    let all = raise();
    let shares = Shares::of(all, wanted);
    if shares.connections < wanted {
        tracing::warn!(
            descriptors = all,
            max_connections = wanted,
            connections = shares.connections,
            "the limit of open files allows fewer connections than server.max_connections: raise it (ulimit -n)"
        );
    }
    shares
}

impl Shares {
    /// Divides `all` descriptors. Even of few descriptors, most are for connections.
    fn of(all: usize, wanted: usize) -> Self {
        let reserve = MAX_EXCESS.min(all / 8).max(1);
        let left = all.saturating_sub(reserve + MAX_RESERVED.min(all / 4)).max(1);
        Self { connections: wanted.min(left), reserve }
    }
}

/// Raises the limit and returns it; `usize::MAX` if there is none.
fn raise() -> usize {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: found.maximum, maximum: found.maximum };
    // If the system refuses it, the old limit applies.
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { found.maximum } else { found.current };
    current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(Shares::of(usize::MAX, 10_240), Shares { connections: 10_240, reserve: 1024 });
        assert_eq!(Shares::of(20_000, 30_000), Shares { connections: 18_720, reserve: 1024 });
        assert_eq!(Shares::of(1024, 10_240), Shares { connections: 640, reserve: 128 });
        assert_eq!(Shares::of(0, 8), Shares { connections: 1, reserve: 1 });
    }

    #[test]
    fn the_limit_is_raised() {
        let raised = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert!(raised > 0);
    }
}
