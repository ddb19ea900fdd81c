//! Arithmetic of microseconds, for both kinds of time.

use std::time::Duration;

/// So much later.
pub(super) fn later(micros: i64, duration: Duration) -> i64 {
    micros.saturating_add(whole(duration))
}

/// So much earlier.
pub(super) fn earlier(micros: i64, duration: Duration) -> i64 {
    micros.saturating_sub(whole(duration))
}

/// How long after `earlier` this is; zero when it is not after it.
pub(super) fn since(micros: i64, earlier: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros.saturating_sub(earlier)).unwrap_or(0))
}

fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
