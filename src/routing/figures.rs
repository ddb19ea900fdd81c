//! What is measured of the calls: counted as they happen, read as a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::breaker::BreakerState;
use super::error::Error;
use crate::task::{Moment, Timestamp};

/// Upper bounds of the latency classes, in seconds; what is slower counts in
/// a last class without a bound.
pub const LATENCIES: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];
/// Longest error text that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 512;

/// What came of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// An answer that could be used.
    Answered,
    /// An answer that is not as agreed.
    Invalid,
    /// The service does not take the question.
    Refused,
    /// The service says that it can't answer now.
    Unavailable,
    /// No connection, or a broken one.
    Connection,
    /// No whole answer in time.
    Timeout,
}

impl CallOutcome {
    /// All of them, in the order of [`ServiceFigures::calls`].
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Invalid, Self::Refused, Self::Unavailable, Self::Connection, Self::Timeout];

    /// The word for figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
        }
    }

    /// `None` for a try that was not made.
    pub(super) const fn of<T>(result: &Result<T, Error>) -> Option<Self> {
        Some(match result {
            Ok(_) => Self::Answered,
            Err(Error::Invalid(_) | Error::TooLarge { .. }) => Self::Invalid,
            Err(Error::Refused { .. }) => Self::Refused,
            Err(Error::Unavailable { .. }) => Self::Unavailable,
            Err(Error::Connection(_)) => Self::Connection,
            Err(Error::Timeout(_)) => Self::Timeout,
            Err(Error::Away { .. }) => return None,
        })
    }
}

/// How long tries took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Latency {
    /// Tries by class: those up to each of [`LATENCIES`], then the slower ones.
    pub classes: [u64; LATENCIES.len() + 1],
    /// All of them together, in seconds.
    pub sum_seconds: f64,
}

impl Latency {
    /// How many tries there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }
}

/// The figures of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceFigures {
    /// `agent` or `rag`.
    pub service: &'static str,
    /// What its breaker lets pass.
    pub state: BreakerState,
    /// Since when it does not answer; `None` while it does.
    pub away_since: Option<Moment>,
    /// Times the breaker has opened.
    pub openings: u64,
    /// Tries by what came of them, in the order of [`CallOutcome::ALL`].
    pub calls: [u64; CallOutcome::ALL.len()],
    /// Tries that were not made, since the breaker was open.
    pub left_alone: u64,
    /// How long the tries took.
    pub latency: Latency,
    /// Tries under way.
    pub in_flight: u64,
    /// The last try that failed, and why.
    pub last_error: Option<(Timestamp, String)>,
}

/// The figures of routing as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// The configured services.
    pub services: Vec<ServiceFigures>,
    /// Tasks that are being routed.
    pub in_flight: u64,
    /// Findings that were brought back.
    pub routed: u64,
    /// Tasks that the built-in rules were left to, since the Agent was away
    /// or had no usable answer.
    pub fallbacks: u64,
    /// Tasks that were given back to be routed later.
    pub returned: u64,
}

/// Counts the tries of one service.
#[derive(Debug, Default)]
pub(super) struct Measured {
    calls: [AtomicU64; CallOutcome::ALL.len()],
    left_alone: AtomicU64,
    openings: AtomicU64,
    classes: [AtomicU64; LATENCIES.len() + 1],
    sum_micros: AtomicU64,
    in_flight: Arc<AtomicU64>,
    last_error: Mutex<Option<(Timestamp, String)>>,
}

impl Measured {
    /// A try is under way until this is dropped.
    pub(super) fn begun(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// A try has ended.
    pub(super) fn ended<T>(&self, result: &Result<T, Error>, took: Duration, now: Timestamp) {
        let Some(outcome) = CallOutcome::of(result) else {
            self.left_alone.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let place = CallOutcome::ALL.iter().position(|each| *each == outcome);
        if let Some(counter) = place.and_then(|place| self.calls.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let class = LATENCIES.partition_point(|bound| *bound < took.as_secs_f64());
        if let Some(counter) = self.classes.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Err(error) = result {
            let mut text = error.to_string();
            text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, text));
        }
    }

    /// The breaker has opened.
    pub(super) fn opened(&self) {
        self.openings.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(
        &self,
        service: &'static str,
        state: BreakerState,
        away_since: Option<Moment>,
    ) -> ServiceFigures {
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed));
        let classes = std::array::from_fn(|class| read(self.classes.get(class)));
        ServiceFigures {
            service,
            state,
            away_since,
            openings: self.openings.load(Ordering::Relaxed),
            calls: std::array::from_fn(|place| read(self.calls.get(place))),
            left_alone: self.left_alone.load(Ordering::Relaxed),
            latency: Latency { classes, sum_seconds: sum.as_secs_f64() },
            in_flight: self.in_flight.load(Ordering::Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

fn read(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
}

/// Counts one up, and down again when dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicU64>);

impl Counted {
    pub(super) fn new(counter: &Arc<AtomicU64>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_count_by_outcome_and_class() {
        let measured = Measured::default();
        let now = Timestamp::from_micros(1_000_000);
        let (ok, late): (Result<(), _>, Result<(), _>) = (Ok(()), Err(Error::Timeout(Duration::from_secs(1))));
        let counted = measured.begun();
        measured.ended(&ok, Duration::from_millis(1), now);
        measured.ended(&ok, Duration::from_micros(1001), now);
        measured.ended(&late, Duration::from_mins(2), now);
        measured.ended(&Err::<(), _>(Error::Away { until: None }), Duration::ZERO, now);
        let figures = measured.snapshot("agent", BreakerState::Closed, None);
        assert_eq!((figures.calls, figures.left_alone, figures.in_flight), ([2, 0, 0, 0, 0, 1], 1, 1));
        assert_eq!((figures.latency.classes[0], figures.latency.classes[1], figures.latency.classes[14]), (1, 1, 1));
        assert_eq!(figures.latency.count(), 3);
        assert!((figures.latency.sum_seconds - 120.002_001).abs() < 1e-9, "{}", figures.latency.sum_seconds);
        assert_eq!(figures.last_error, Some((now, "no whole answer within 1000 ms".to_owned())));
        drop(counted);
        assert_eq!(measured.snapshot("agent", BreakerState::Closed, None).in_flight, 0);
    }
}
