//! Observed time, in which durations and expiries are counted.
//!
//! A [`Moment`] is a point on the store's own time axis, which only counts forward and cannot be
//! set. A [`Timestamp`] is a calendar time of the wall clock, which can step either way. They are
//! separate types, so that comparing an expiry with the wall clock does not compile. [`Now`] holds
//! both, and is passed to the core instead of a clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::micros;
use super::time::Timestamp;

/// A point in observed time, in whole microseconds. The axis starts at the wall clock's reading
/// when the store was created, so both have the same number until the wall clock first steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// From microseconds on the axis; negative numbers become zero.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(if micros < 0 { 0 } else { micros })
    }

    /// Microseconds on the axis; never negative.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds on the axis.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0.unsigned_abs() / 1000
    }

    /// The moment with the same number as a calendar time, which is the moment of that time if the
    /// wall clock never stepped.
    #[must_use]
    pub const fn aligned(time: Timestamp) -> Self {
        Self(time.as_micros())
    }

    /// The moment `duration` later, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(micros::later(self.0, duration))
    }

    /// The moment `duration` earlier, at least zero.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self::from_micros(micros::earlier(self.0, duration))
    }

    /// Time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        micros::since(self.0, earlier.0)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Readable in tests, in which the axis is mostly aligned with the calendar.
        write!(f, "~{}", Timestamp::from_micros(self.0))
    }
}

/// The present: observed time, and the wall clock's reading of the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// Observed time, for durations and expiries.
    pub observed: Moment,
    /// The wall clock, for `not_before` and all times that people see.
    pub wall: Timestamp,
}

impl Now {
    /// A present in which observed time and the wall clock have the same number.
    #[must_use]
    pub const fn aligned(wall: Timestamp) -> Self {
        Self { observed: Moment::aligned(wall), wall }
    }

    /// The moment `duration` from now.
    #[must_use]
    pub fn after(self, duration: Duration) -> Moment {
        self.observed.after(duration)
    }

    /// The moment `duration` ago.
    #[must_use]
    pub fn before(self, duration: Duration) -> Moment {
        self.observed.before(duration)
    }

    /// Time since `earlier`; zero if `earlier` is in the future.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        self.observed.since(earlier)
    }

    /// The wall clock's reading at `moment`, assuming that the wall clock does not step. For
    /// display only.
    #[must_use]
    pub fn calendar(self, moment: Moment) -> Timestamp {
        let distance = moment.as_micros().saturating_sub(self.observed.as_micros());
        Timestamp::from_micros(self.wall.as_micros().saturating_add(distance))
    }

    /// The moment at which the wall clock reads `time`, assuming that the wall clock does not step.
    #[must_use]
    pub fn moment_of(self, time: Timestamp) -> Moment {
        let distance = time.as_micros().saturating_sub(self.wall.as_micros());
        Moment::from_micros(self.observed.as_micros().saturating_add(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_moment_is_shown_by_the_wall_clock_of_the_present() {
        let now = Now { observed: Moment::from_micros(5_000_000), wall: Timestamp::from_micros(90_000_000) };
        let later = now.after(Duration::from_secs(3));
        assert_eq!(now.calendar(later), Timestamp::from_micros(93_000_000));
        assert_eq!(now.moment_of(Timestamp::from_micros(93_000_000)), later);
        assert_eq!(later.since(now.observed), Duration::from_secs(3));
        // The wall clock is set: the same moment has another calendar time.
        let set = Now { wall: now.wall.after(HOUR), ..now };
        assert_eq!(set.calendar(later).since(now.calendar(later)), HOUR);
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Moment::from_micros(i64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert_eq!(Moment::default().since(end), Duration::ZERO);
        assert_eq!(Moment::default().before(HOUR), Moment::default());
        let now = Now { observed: end, wall: Timestamp::default() };
        assert_eq!(now.calendar(Moment::default()), Timestamp::default());
    }
}
