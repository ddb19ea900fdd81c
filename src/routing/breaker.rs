//! A circuit breaker. Its caller passes in the time and the outcome of each attempt.
//!
//! While it is closed, all attempts are allowed, until a number of them in a row have
//! failed. While it is open, no attempt is allowed until the cool-down is over. Then it
//! is half open, and one attempt is allowed, the probe. Any answer closes the breaker;
//! a failed probe opens it again for a longer time.

use std::time::Duration;

use super::retry::{backoff, with_jitter};
use super::settings;
use crate::task::Moment;

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// All attempts are allowed.
    Closed,
    /// No attempt is allowed.
    Open,
    /// One attempt is allowed, the probe.
    HalfOpen,
}

impl BreakerState {
    /// The name in figures and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The kind of an allowed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// An attempt while the breaker was closed.
    Normal,
    /// The probe, whose outcome decides about all other attempts.
    Probe,
}

/// A change of the breaker's state, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    Opened { until: Moment },
    Closed { away_since: Moment },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Moment,
    },
    /// A probe is running.
    Probing,
}

/// The circuit breaker of one service.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: settings::Breaker,
    state: State,
    /// Failures since the last answer.
    failures: u32,
    /// Time of the first of these failures.
    failing_since: Option<Moment>,
    /// The number of times the breaker opened since the last answer.
    openings: u32,
}

impl Breaker {
    pub(super) const fn new(settings: settings::Breaker) -> Self {
        Self { settings, state: State::Closed, failures: 0, failing_since: None, openings: 0 }
    }

    /// Returns the state at `now`.
    pub(super) fn state(&self, now: Moment) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probing => BreakerState::HalfOpen,
        }
    }

    /// Returns the time since which the service has not answered; `None` while the breaker
    /// is closed.
    pub(super) fn away_since(&self) -> Option<Moment> {
        self.failing_since.filter(|_| self.state != State::Closed)
    }

    /// Returns the time of the next probe; `None` while the breaker is closed or a probe
    /// is running.
    pub(super) fn next_probe_at(&self) -> Option<Moment> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::Probing => None,
        }
    }

    /// Allows an attempt, or returns `None`.
    pub(super) fn try_acquire(&mut self, now: Moment) -> Option<Attempt> {
        match self.state {
            State::Closed => Some(Attempt::Normal),
            State::Open { until } if now >= until => {
                self.state = State::Probing;
                Some(Attempt::Probe)
            }
            State::Open { .. } | State::Probing => None,
        }
    }

    /// Records an answer of any kind.
    pub(super) fn record_answer(&mut self) -> Option<Transition> {
        let away_since = self.away_since();
        *self = Self::new(self.settings);
        away_since.map(|away_since| Transition::Closed { away_since })
    }

    /// Records that the health endpoint of the service answered. This does not count as
    /// an answer to a call: calls are allowed, and the first one that fails opens the
    /// breaker again, for a longer time.
    pub(super) fn record_health(&mut self) -> Option<Transition> {
        let away_since = self.away_since();
        self.state = State::Closed;
        self.failures = self.settings.failures.saturating_sub(1);
        self.failing_since = None;
        away_since.map(|away_since| Transition::Closed { away_since })
    }

    /// Records that an attempt was not answered. `fraction` is the jitter of the
    /// cool-down, from 0 to 1.
    pub(super) fn record_failure(&mut self, attempt: Attempt, now: Moment, fraction: f64) -> Option<Transition> {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let opens = match (self.state, attempt) {
            (State::Closed, _) => self.failures >= self.settings.failures,
            (State::Probing, Attempt::Probe) => true,
            // An attempt that began before the breaker opened says nothing new.
            (State::Probing, Attempt::Normal) | (State::Open { .. }, _) => false,
        };
        if !opens {
            return None;
        }
        self.openings = self.openings.saturating_add(1);
        let until = now.after(self.cool_down(fraction));
        let was_closed = self.state == State::Closed;
        self.state = State::Open { until };
        was_closed.then_some(Transition::Opened { until })
    }

    /// Records that an attempt was abandoned without an outcome.
    pub(super) fn record_abandoned(&mut self, attempt: Attempt, now: Moment) {
        if self.state == State::Probing && attempt == Attempt::Probe {
            self.state = State::Open { until: now };
        }
    }

    fn cool_down(&self, fraction: f64) -> Duration {
        let step = backoff(self.settings.cool_down_initial, self.settings.cool_down_max, self.openings);
        with_jitter(step, fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: settings::Breaker = settings::Breaker {
        failures: 3,
        cool_down_initial: Duration::from_secs(10),
        cool_down_max: Duration::from_mins(1),
    };

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    /// A breaker that opened at 3 s, until 13 s.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        assert_eq!(breaker.record_failure(Attempt::Normal, at(1), 1.0), None);
        assert_eq!(breaker.record_failure(Attempt::Normal, at(2), 1.0), None);
        assert_eq!(breaker.record_failure(Attempt::Normal, at(3), 1.0), Some(Transition::Opened { until: at(13) }));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_the_breaker() {
        let mut breaker = open();
        assert_eq!((breaker.state(at(4)), breaker.away_since()), (BreakerState::Open, Some(at(1))));
        assert_eq!((breaker.try_acquire(at(12)), breaker.next_probe_at()), (None, Some(at(13))));
        let mut other = Breaker::new(SETTINGS);
        for second in 0..20 {
            assert_eq!(other.record_failure(Attempt::Normal, at(second), 0.5), None);
            assert_eq!(other.record_failure(Attempt::Normal, at(second), 0.5), None);
            assert_eq!(other.record_answer(), None, "an answer resets the count");
            assert_eq!(other.try_acquire(at(second)), Some(Attempt::Normal));
        }
        assert_eq!(other.away_since(), None);
    }

    #[test]
    fn a_health_check_does_not_count_as_an_answer() {
        let mut breaker = open();
        assert_eq!(breaker.try_acquire(at(13)), Some(Attempt::Probe));
        assert_eq!(breaker.record_health(), Some(Transition::Closed { away_since: at(1) }));
        assert_eq!((breaker.state(at(14)), breaker.away_since()), (BreakerState::Closed, None));
        // One failed call is enough, and the cool-down goes on growing.
        assert_eq!(breaker.record_failure(Attempt::Normal, at(15), 1.0), Some(Transition::Opened { until: at(35) }));
        assert_eq!(breaker.away_since(), Some(at(15)));
        assert_eq!(breaker.try_acquire(at(35)), Some(Attempt::Probe));
        breaker.record_health();
        assert_eq!(breaker.record_answer(), None);
        assert_eq!(breaker.record_failure(Attempt::Normal, at(40), 1.0), None, "an answer resets the count");
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = open();
        assert_eq!(breaker.state(at(13)), BreakerState::HalfOpen);
        assert_eq!(breaker.try_acquire(at(13)), Some(Attempt::Probe));
        assert_eq!(breaker.try_acquire(at(14)), None, "one probe only");
        assert_eq!(breaker.record_answer(), Some(Transition::Closed { away_since: at(1) }));
        assert_eq!((breaker.state(at(14)), breaker.away_since()), (BreakerState::Closed, None));
        assert_eq!(breaker.try_acquire(at(14)), Some(Attempt::Normal));
    }

    #[test]
    fn each_failed_probe_doubles_the_cool_down_up_to_its_limit() {
        let mut breaker = open();
        let mut now = 13;
        for cool_down in [20, 40, 60, 60, 60] {
            assert_eq!(breaker.try_acquire(at(now)), Some(Attempt::Probe));
            assert_eq!(breaker.record_failure(Attempt::Probe, at(now), 1.0), None, "the breaker was open before");
            assert_eq!(breaker.next_probe_at(), Some(at(now + cool_down)));
            now += cool_down;
        }
        assert_eq!(breaker.away_since(), Some(at(1)));
        breaker.try_acquire(at(now));
        breaker.record_answer();
        for second in 0..3 {
            breaker.record_failure(Attempt::Normal, at(now + second), 0.0);
        }
        assert_eq!(breaker.next_probe_at(), Some(at(now + 2 + 5)), "an answer resets the doubling");
    }

    #[test]
    fn late_failures_do_not_affect_a_probe() {
        let mut breaker = open();
        assert_eq!(breaker.record_failure(Attempt::Normal, at(12), 1.0), None);
        assert_eq!(breaker.next_probe_at(), Some(at(13)));
        breaker.try_acquire(at(13));
        assert_eq!(breaker.record_failure(Attempt::Normal, at(14), 1.0), None);
        assert_eq!((breaker.state(at(14)), breaker.try_acquire(at(14))), (BreakerState::HalfOpen, None));
        let mut late = open();
        assert_eq!(late.record_answer(), Some(Transition::Closed { away_since: at(1) }), "a late answer is an answer");
    }

    #[test]
    fn an_abandoned_probe_allows_another_one() {
        let mut breaker = open();
        breaker.record_abandoned(Attempt::Normal, at(5));
        assert_eq!(breaker.try_acquire(at(5)), None);
        assert_eq!(breaker.try_acquire(at(13)), Some(Attempt::Probe));
        breaker.record_abandoned(Attempt::Probe, at(14));
        assert_eq!(breaker.try_acquire(at(14)), Some(Attempt::Probe));
    }
}
