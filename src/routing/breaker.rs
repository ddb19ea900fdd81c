//! When to leave a service alone: a circuit breaker, told the time and told
//! what came of each try.
//!
//! Closed, it lets everything pass, until a number of tries in a row have
//! failed. Open, it lets nothing pass until its cool-down is over. Then it is
//! half open: one try passes, the probe. Any answer closes it, a failed probe
//! opens it again for longer.

use std::time::Duration;

use super::retry::{doubled, jittered};
use super::settings;
use crate::task::Moment;

/// What a breaker lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One probe.
    HalfOpen,
}

impl BreakerState {
    /// The word for figures and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Leave to try once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// As any other.
    Plain,
    /// As the probe: every other try waits for what comes of it.
    Probe,
}

/// What a result has changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Opened { until: Moment },
    Closed { away_since: Moment },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Moment,
    },
    /// A probe is under way.
    Probing,
}

/// The state of one service.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: settings::Breaker,
    state: State,
    /// Failures since the last answer.
    failures: u32,
    /// The first of them.
    failing_since: Option<Moment>,
    /// Times it opened since the last answer.
    openings: u32,
}

impl Breaker {
    pub(super) const fn new(settings: settings::Breaker) -> Self {
        Self { settings, state: State::Closed, failures: 0, failing_since: None, openings: 0 }
    }

    /// What it lets pass now.
    pub(super) fn state(&self, now: Moment) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probing => BreakerState::HalfOpen,
        }
    }

    /// Since when the service does not answer; `None` while it is closed.
    pub(super) fn away_since(&self) -> Option<Moment> {
        self.failing_since.filter(|_| self.state != State::Closed)
    }

    /// When the next try may be worth it; `None` while a probe is under way
    /// or where nothing holds one up.
    pub(super) fn opens_again_at(&self) -> Option<Moment> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::Probing => None,
        }
    }

    /// Asks for leave to try; `None`: not now.
    pub(super) fn pass(&mut self, now: Moment) -> Option<Leave> {
        match self.state {
            State::Closed => Some(Leave::Plain),
            State::Open { until } if now >= until => {
                self.state = State::Probing;
                Some(Leave::Probe)
            }
            State::Open { .. } | State::Probing => None,
        }
    }

    /// The service has answered, whatever it said.
    pub(super) fn answered(&mut self) -> Option<Turn> {
        let away_since = self.away_since();
        *self = Self::new(self.settings);
        away_since.map(|away_since| Turn::Closed { away_since })
    }

    /// The service says that it is well, which is no answer to a question yet:
    /// questions may pass, and the first one that fails opens it again, for
    /// longer.
    pub(super) fn is_well(&mut self) -> Option<Turn> {
        let away_since = self.away_since();
        self.state = State::Closed;
        self.failures = self.settings.failures.saturating_sub(1);
        self.failing_since = None;
        away_since.map(|away_since| Turn::Closed { away_since })
    }

    /// The service did not answer a try that had this leave. `fraction`,
    /// from 0 to 1, is the chance's part in the cool-down.
    pub(super) fn failed(&mut self, leave: Leave, now: Moment, fraction: f64) -> Option<Turn> {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let opens = match (self.state, leave) {
            (State::Closed, _) => self.failures >= self.settings.failures,
            (State::Probing, Leave::Probe) => true,
            // A try from before it opened says nothing new.
            (State::Probing, Leave::Plain) | (State::Open { .. }, _) => false,
        };
        if !opens {
            return None;
        }
        self.openings = self.openings.saturating_add(1);
        let until = now.after(self.cool_down(fraction));
        let was_closed = self.state == State::Closed;
        self.state = State::Open { until };
        was_closed.then_some(Turn::Opened { until })
    }

    /// A try with this leave was given up without a result.
    pub(super) fn given_up(&mut self, leave: Leave, now: Moment) {
        if self.state == State::Probing && leave == Leave::Probe {
            self.state = State::Open { until: now };
        }
    }

    fn cool_down(&self, fraction: f64) -> Duration {
        let step = doubled(self.settings.cool_down_initial, self.settings.cool_down_max, self.openings);
        jittered(step, fraction)
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

    /// One that opened at 3 s, until 13 s.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        assert_eq!(breaker.failed(Leave::Plain, at(1), 1.0), None);
        assert_eq!(breaker.failed(Leave::Plain, at(2), 1.0), None);
        assert_eq!(breaker.failed(Leave::Plain, at(3), 1.0), Some(Turn::Opened { until: at(13) }));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let mut breaker = open();
        assert_eq!((breaker.state(at(4)), breaker.away_since()), (BreakerState::Open, Some(at(1))));
        assert_eq!((breaker.pass(at(12)), breaker.opens_again_at()), (None, Some(at(13))));
        let mut other = Breaker::new(SETTINGS);
        for second in 0..20 {
            assert_eq!(other.failed(Leave::Plain, at(second), 0.5), None);
            assert_eq!(other.failed(Leave::Plain, at(second), 0.5), None);
            assert_eq!(other.answered(), None, "an answer between them starts the count anew");
            assert_eq!(other.pass(at(second)), Some(Leave::Plain));
        }
        assert_eq!(other.away_since(), None);
    }

    #[test]
    fn to_be_well_is_not_to_answer() {
        let mut breaker = open();
        assert_eq!(breaker.pass(at(13)), Some(Leave::Probe));
        assert_eq!(breaker.is_well(), Some(Turn::Closed { away_since: at(1) }));
        assert_eq!((breaker.state(at(14)), breaker.away_since()), (BreakerState::Closed, None));
        // One question that fails is enough, and the cool-down goes on growing.
        assert_eq!(breaker.failed(Leave::Plain, at(15), 1.0), Some(Turn::Opened { until: at(35) }));
        assert_eq!(breaker.away_since(), Some(at(15)));
        assert_eq!(breaker.pass(at(35)), Some(Leave::Probe));
        breaker.is_well();
        assert_eq!(breaker.answered(), None);
        assert_eq!(breaker.failed(Leave::Plain, at(40), 1.0), None, "an answer begins anew");
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = open();
        assert_eq!(breaker.state(at(13)), BreakerState::HalfOpen);
        assert_eq!(breaker.pass(at(13)), Some(Leave::Probe));
        assert_eq!(breaker.pass(at(14)), None, "one probe only");
        assert_eq!(breaker.answered(), Some(Turn::Closed { away_since: at(1) }));
        assert_eq!((breaker.state(at(14)), breaker.away_since()), (BreakerState::Closed, None));
        assert_eq!(breaker.pass(at(14)), Some(Leave::Plain));
    }

    #[test]
    fn each_failed_probe_doubles_the_cool_down_up_to_its_limit() {
        let mut breaker = open();
        let mut now = 13;
        for cool_down in [20, 40, 60, 60, 60] {
            assert_eq!(breaker.pass(at(now)), Some(Leave::Probe));
            assert_eq!(breaker.failed(Leave::Probe, at(now), 1.0), None, "it was open before");
            assert_eq!(breaker.opens_again_at(), Some(at(now + cool_down)));
            now += cool_down;
        }
        assert_eq!(breaker.away_since(), Some(at(1)));
        breaker.pass(at(now));
        breaker.answered();
        for second in 0..3 {
            breaker.failed(Leave::Plain, at(now + second), 0.0);
        }
        assert_eq!(breaker.opens_again_at(), Some(at(now + 2 + 5)), "an answer starts the doubling anew");
    }

    #[test]
    fn stragglers_neither_prolong_nor_end_a_probe() {
        let mut breaker = open();
        assert_eq!(breaker.failed(Leave::Plain, at(12), 1.0), None);
        assert_eq!(breaker.opens_again_at(), Some(at(13)));
        breaker.pass(at(13));
        assert_eq!(breaker.failed(Leave::Plain, at(14), 1.0), None);
        assert_eq!((breaker.state(at(14)), breaker.pass(at(14))), (BreakerState::HalfOpen, None));
        let mut late = open();
        assert_eq!(late.answered(), Some(Turn::Closed { away_since: at(1) }), "a late answer is an answer");
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_room_for_another() {
        let mut breaker = open();
        breaker.given_up(Leave::Plain, at(5));
        assert_eq!(breaker.pass(at(5)), None);
        assert_eq!(breaker.pass(at(13)), Some(Leave::Probe));
        breaker.given_up(Leave::Probe, at(14));
        assert_eq!(breaker.pass(at(14)), Some(Leave::Probe));
    }
}
