//! Observed time: what durations and expiries count.
//!
//! A [`Moment`] is a point on the store's own time axis, which only ever counts
//! forward and which nobody can set. A [`Timestamp`] is a calendar time by the
//! wall clock, which can step either way. The two are separate types, so that an
//! expiry that is compared with the wall clock does not compile. [`Now`] has
//! both, and is what the core is told instead of reading a clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::micros;
use super::time::Timestamp;

/// A point in observed time, in whole microseconds. The axis begins where the
/// wall clock stood when the store was made, so until the first step of the
/// wall clock the two have the same number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// From microseconds on the axis, kept at zero or above.
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

    /// The moment with the number of a calendar time: what that time was on the
    /// axis before the wall clock ever stepped.
    #[must_use]
    pub const fn aligned(time: Timestamp) -> Self {
        Self(time.as_micros())
    }

    /// This moment and `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(micros::later(self.0, duration))
    }

    /// This moment and `duration` earlier, at least zero.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self::from_micros(micros::earlier(self.0, duration))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        micros::since(self.0, earlier.0)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Readable in tests, where the axis is mostly aligned with the calendar.
        write!(f, "~{}", Timestamp::from_micros(self.0))
    }
}

/// The present: observed time, and the wall clock's reading of the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// Observed time: for durations and expiries.
    pub observed: Moment,
    /// The wall clock: for `not_before` and every time that people see.
    pub wall: Timestamp,
}

impl Now {
    /// The present where observed time and the wall clock have the same number.
    #[must_use]
    pub const fn aligned(wall: Timestamp) -> Self {
        Self { observed: Moment::aligned(wall), wall }
    }

    /// The moment that is `duration` from now.
    #[must_use]
    pub fn after(self, duration: Duration) -> Moment {
        self.observed.after(duration)
    }

    /// The moment that was `duration` ago.
    #[must_use]
    pub fn before(self, duration: Duration) -> Moment {
        self.observed.before(duration)
    }

    /// How long ago `earlier` was; zero when it is ahead.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        self.observed.since(earlier)
    }

    /// What the wall clock shows at `moment`, or showed, if it does not step:
    /// for people.
    #[must_use]
    pub fn calendar(self, moment: Moment) -> Timestamp {
        let distance = moment.as_micros().saturating_sub(self.observed.as_micros());
        Timestamp::from_micros(self.wall.as_micros().saturating_add(distance))
    }

    /// The moment at which the wall clock shows `time`, or showed it, if it does
    /// not step.
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
