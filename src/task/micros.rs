//! Saturating arithmetic on microseconds, for both kinds of time.

use std::time::Duration;

/// Adds a duration.
pub(super) fn later(micros: i64, duration: Duration) -> i64 {
    micros.saturating_add(whole(duration))
}

/// Subtracts a duration.
pub(super) fn earlier(micros: i64, duration: Duration) -> i64 {
    micros.saturating_sub(whole(duration))
}

/// Time since `earlier`; zero if `earlier` is later.
pub(super) fn since(micros: i64, earlier: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros.saturating_sub(earlier)).unwrap_or(0))
}

fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
