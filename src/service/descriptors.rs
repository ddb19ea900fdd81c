//! File descriptors: one for each connection, and some for files. Systems hand
//! out few of them unless a process asks for more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for files, for the log and for other services.
const MAX_OTHERS: usize = 256;
/// Connections over the limits that are told so at once.
const MAX_RESERVE: usize = 1024;

/// How many connections there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections within the limits.
    pub(super) connections: usize,
    /// Connections over them.
    pub(super) reserve: usize,
}

/// Raises the limit of descriptors as far as the process may, and shares them
/// out. Says so where they do not suffice for `wanted` connections.
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
    /// Of few descriptors most are for connections, too.
    fn of(all: usize, wanted: usize) -> Self {
        let reserve = MAX_RESERVE.min(all / 8).max(1);
        let left = all.saturating_sub(reserve + MAX_OTHERS.min(all / 4)).max(1);
        Self { connections: wanted.min(left), reserve }
    }
}

/// The limit after it was raised; without one, the largest number.
fn raise() -> usize {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: found.maximum, maximum: found.maximum };
    // Where it is refused, the old limit holds.
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
