//! The one place that reads a clock.
//!
//! The service's time starts at the wall clock's and then follows the time
//! since boot, which no one can set. A wall clock that jumps is approached
//! slowly, by at most a fiftieth of the elapsed time, so that no timer fires early
//! or twice because somebody corrected a clock, and yet a wrong one is left
//! behind in the end. Time never goes back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::task::Timestamp;

/// The part of the elapsed time by which a difference to the wall clock is
/// reduced: one fiftieth.
const SLEW: i64 = 50;

/// The service's clock; clones show the same time.
#[derive(Debug, Clone)]
pub struct Clock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    boot_micros: i64,
    shown_micros: i64,
}

fn micros_of(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that starts at the wall clock's time.
    #[must_use]
    pub fn new() -> Self {
        let state = State { boot_micros: micros_of(ClockId::Boottime), shown_micros: micros_of(ClockId::Realtime) };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Never shows a time before `earliest` from now on: what was written
    /// before a restart is not in the future.
    pub fn not_before(&self, earliest: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shown_micros = state.shown_micros.max(earliest.as_micros());
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (boot, wall) = (micros_of(ClockId::Boottime), micros_of(ClockId::Realtime));
        state.advance(boot, wall);
        Timestamp::from_micros(state.shown_micros)
    }
}

impl State {
    fn advance(&mut self, boot: i64, wall: i64) {
        let elapsed = boot.saturating_sub(self.boot_micros).max(0);
        if elapsed < SLEW {
            // Too short to slew by whole microseconds; keep it for the next call.
            return;
        }
        self.boot_micros = boot;
        let steady = self.shown_micros.saturating_add(elapsed);
        let correction = wall.saturating_sub(steady).clamp(-elapsed / SLEW, elapsed / SLEW);
        self.shown_micros = steady.saturating_add(correction);
    }
}

/// Measures how long something takes.
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

    #[test]
    fn a_jump_of_the_wall_clock_is_approached_slowly() {
        let mut state = State { boot_micros: 0, shown_micros: 1000 * SECOND };
        state.advance(SECOND, 1001 * SECOND);
        assert_eq!(state.shown_micros, 1001 * SECOND);
        state.advance(2 * SECOND, 9_000_000 * SECOND);
        assert_eq!(state.shown_micros, 1002 * SECOND + SECOND / SLEW);
        let before = state.shown_micros;
        state.advance(3 * SECOND, 5 * SECOND);
        assert_eq!(state.shown_micros, before + SECOND - SECOND / SLEW);
    }

    #[test]
    fn it_never_goes_back() {
        let clock = Clock::new();
        let far = clock.now().after(Duration::from_hours(1));
        clock.not_before(far);
        assert!(clock.now() >= far);
    }
}
