//! The only module that reads a clock.
//!
//! [`Now`] holds two times. *Observed time* is the time since boot
//! (`CLOCK_BOOTTIME`), which cannot be set, continued from the observed time at which
//! the store was left. A stop counts as the difference that the wall clock shows, from
//! zero to [`MAX_STOP`]. The *wall clock* may step in either direction; a large step is
//! logged. It is kept as a distance from observed time, and the distance changes only
//! when the clocks differ by more than `DRIFT`. So a moment has the same calendar time
//! each time it is shown, even after a restart.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::task::{Moment, Now, Timestamp};

/// The longest time that a stop adds to observed time. After a start with a clock that
/// is years ahead, nothing must expire because of it.
pub const MAX_STOP: Duration = Duration::from_hours(1);
/// A change of the wall clock against observed time that is logged as a step. Time
/// synchronization corrects a clock by less, or slowly.
pub const LARGE_STEP: Duration = Duration::from_secs(5);

/// Difference up to which the shown wall clock does not follow the system's.
const DRIFT: Duration = Duration::from_millis(10);
/// Longest time between the readings of two clocks that count as simultaneous.
const MAX_READING_TIME: Duration = Duration::from_millis(1);
/// Attempts to read both clocks, in case the thread is interrupted in between.
const MAX_READINGS: usize = 8;

/// The clock of the service. Clones show the same time.
#[derive(Debug, Clone)]
pub struct Clock {
    state: Arc<Mutex<State>>,
}

/// The times of the system's clocks, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Reading {
    boot: i64,
    wall: i64,
    /// Whether both were read within [`MAX_READING_TIME`].
    is_exact: bool,
}

impl Reading {
    fn take() -> Self {
        let read = || {
            let (before, wall, boot) =
                (micros_of(ClockId::Boottime), micros_of(ClockId::Realtime), micros_of(ClockId::Boottime));
            Self { boot, wall, is_exact: boot.saturating_sub(before) <= micros(MAX_READING_TIME) }
        };
        let mut reading = read();
        for _ in 1..MAX_READINGS {
            if reading.is_exact {
                break;
            }
            reading = read();
        }
        reading
    }

    fn skewed(self, by: Skew) -> Self {
        Self { boot: self.boot.saturating_add(by.boot), wall: self.wall.saturating_add(by.wall), ..self }
    }
}

/// Added to the readings of the two clocks, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Skew {
    boot: i64,
    wall: i64,
}

#[derive(Debug)]
struct State {
    /// Observed time minus the time since boot, in microseconds.
    base: i64,
    /// The newest observed time that was returned. Observed time never goes back.
    observed: i64,
    /// The shown wall clock minus observed time, in microseconds.
    ahead: i64,
    /// Whether observed time continues that of a store.
    is_resumed: bool,
    /// See [`Clock::advance`].
    skew: Skew,
}

fn micros_of(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Makes a clock whose observed time begins at the time of the wall clock.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State::new(Reading::take()))) }
    }

    /// Continues the observed time of a store that was left at `last`. Only the first
    /// call has an effect.
    pub fn resume(&self, last: Now) {
        self.with(|state, reading| state.resume(last, reading));
    }

    /// Returns both times.
    #[must_use]
    pub fn now(&self) -> Now {
        self.with(State::now)
    }

    /// Returns the time of the wall clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.now().wall
    }

    /// Returns observed time.
    #[must_use]
    pub fn observed(&self) -> Moment {
        self.now().observed
    }

    /// Sets both clocks ahead by `duration`. For tests.
    pub fn advance(&self, duration: Duration) {
        self.with(|state, _| {
            state.skew.boot += micros(duration);
            state.skew.wall += micros(duration);
        });
    }

    /// Sets the wall clock ahead, or back, by `micros`. For tests.
    pub fn step_wall(&self, micros: i64) {
        self.with(|state, _| state.skew.wall += micros);
    }

    fn with<T>(&self, act: impl FnOnce(&mut State, Reading) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that the readings of two threads stay in order.
        let reading = Reading::take().skewed(state.skew);
        act(&mut state, reading)
    }
}

impl State {
    const fn new(reading: Reading) -> Self {
        let base = reading.wall.saturating_sub(reading.boot);
        Self { base, observed: reading.wall, ahead: 0, is_resumed: false, skew: Skew { boot: 0, wall: 0 } }
    }

    fn resume(&mut self, last: Now, reading: Reading) {
        if self.is_resumed {
            return;
        }
        self.is_resumed = true;
        let stopped = Timestamp::from_micros(reading.wall).since(last.wall).min(MAX_STOP);
        self.observed = last.observed.after(stopped).as_micros();
        self.base = self.observed.saturating_sub(reading.boot);
        self.ahead = reading.wall.saturating_sub(self.observed);
    }

    fn now(&mut self, reading: Reading) -> Now {
        self.observed = self.observed.max(self.base.saturating_add(reading.boot));
        let ahead = reading.wall.saturating_sub(self.observed);
        let step = ahead.saturating_sub(self.ahead);
        if reading.is_exact && step.saturating_abs() > micros(DRIFT) {
            if step.saturating_abs() > micros(LARGE_STEP) {
                let expected = Timestamp::from_micros(self.observed.saturating_add(self.ahead));
                let (shown, seconds) = (Timestamp::from_micros(reading.wall), step / 1_000_000);
                tracing::warn!(%expected, %shown, seconds, "wall clock stepped, calendar times follow it");
            }
            self.ahead = ahead;
        }
        let wall = Timestamp::from_micros(self.observed.saturating_add(self.ahead));
        Now { observed: Moment::from_micros(self.observed), wall }
    }
}

/// Measures elapsed time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    started: std::time::Instant,
}

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "this module is where clocks are read")]
    #[must_use]
    pub fn start() -> Self {
        Self { started: std::time::Instant::now() }
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const YEAR: i64 = 365 * 86_400 * SECOND;
    const BEGIN: i64 = 50 * YEAR;

    fn reading(boot_seconds: i64, wall: i64) -> Reading {
        Reading { boot: boot_seconds * SECOND, wall, is_exact: true }
    }

    fn times(state: &mut State, boot_seconds: i64, wall: i64) -> (i64, i64) {
        let now = state.now(reading(boot_seconds, wall));
        (now.observed.as_micros() - BEGIN, now.wall.as_micros())
    }

    #[test]
    fn steps_of_the_wall_clock_do_not_change_observed_time() {
        let mut state = State::new(reading(10, BEGIN));
        assert_eq!(times(&mut state, 11, BEGIN + SECOND), (SECOND, BEGIN + SECOND));
        assert_eq!(times(&mut state, 12, BEGIN + YEAR), (2 * SECOND, BEGIN + YEAR));
        assert_eq!(times(&mut state, 13, 5), (3 * SECOND, 5));
        // Even if the time since boot went back, observed time would not.
        assert_eq!(times(&mut state, 1, BEGIN), (3 * SECOND, BEGIN));
    }

    #[test]
    fn a_moment_keeps_its_calendar_time_despite_small_drift() {
        let mut state = State::new(reading(10, BEGIN));
        let moment = Moment::from_micros(BEGIN + YEAR);
        let shown = state.now(reading(11, BEGIN + SECOND + 9_000)).calendar(moment);
        assert_eq!(state.now(reading(12, BEGIN + 2 * SECOND - 9_000)).calendar(moment), shown);
        assert_eq!(times(&mut state, 13, BEGIN + 3 * SECOND + 11_000), (3 * SECOND, BEGIN + 3 * SECOND + 11_000));
        // A reading that was interrupted between the two clocks is ignored.
        let interrupted = Reading { is_exact: false, ..reading(14, BEGIN + 9 * SECOND) };
        assert_eq!(state.now(interrupted).wall.as_micros(), BEGIN + 4 * SECOND + 11_000);
        // The wall clock measures the stop, so the distance stays the same.
        let last = state.now(reading(15, BEGIN + 5 * SECOND));
        let after = reading(3, BEGIN + 600 * SECOND);
        let mut state = State::new(after);
        state.resume(last, after);
        assert_eq!(state.now(after).calendar(moment), last.calendar(moment));
    }

    fn resumed(wall_since: i64) -> i64 {
        let last = Now { observed: Moment::from_micros(BEGIN), wall: Timestamp::from_micros(BEGIN + YEAR) };
        let reading = reading(7, BEGIN + YEAR + wall_since);
        let mut state = State::new(reading);
        state.resume(last, reading);
        state.now(reading).observed.as_micros() - BEGIN
    }

    #[test]
    fn a_stop_counts_as_the_wall_clock_shows_within_limits() {
        assert_eq!(resumed(20 * SECOND), 20 * SECOND);
        assert_eq!(resumed(3600 * SECOND), 3600 * SECOND);
        assert_eq!(resumed(YEAR), 3600 * SECOND);
        assert_eq!(resumed(0), 0);
        assert_eq!(resumed(-YEAR), 0);
    }

    #[test]
    fn a_clock_is_resumed_once() {
        let clock = Clock::new();
        let last = Now { observed: Moment::from_micros(SECOND), wall: clock.wall() };
        clock.resume(last);
        let observed = clock.observed();
        assert!(observed >= last.observed && observed < last.observed.after(MAX_STOP));
        clock.resume(Now::default());
        assert!(clock.observed() >= observed);
        clock.advance(Duration::from_secs(5));
        assert!(clock.observed() >= observed.after(Duration::from_secs(5)));
        let before = clock.now();
        clock.step_wall(-YEAR);
        let after = clock.now();
        assert!(after.observed.since(before.observed) < LARGE_STEP && after.wall < before.wall);
    }
}
