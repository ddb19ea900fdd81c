//! Figures of the calls, counted as they happen and read as a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::breaker::BreakerState;
use super::error::Error;
use crate::task::{Moment, Timestamp};

/// Upper bounds of the latency buckets, in seconds. A last bucket has no bound.
pub const LATENCIES: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];
/// Longest error text that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 512;

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// A usable answer.
    Answered,
    /// An answer in an unexpected form.
    Invalid,
    /// The service refused the request.
    Refused,
    /// The service could not answer.
    Unavailable,
    /// No connection, or a broken one.
    Connection,
    /// No complete answer in time.
    Timeout,
}

impl CallOutcome {
    /// All outcomes, in the order of [`ServiceFigures::calls`].
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Invalid, Self::Refused, Self::Unavailable, Self::Connection, Self::Timeout];

    /// The name in figures.
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

    /// Returns `None` for an attempt that was not made.
    pub(super) const fn of<T>(result: &Result<T, Error>) -> Option<Self> {
        Some(match result {
            Ok(_) => Self::Answered,
            Err(Error::Invalid(_) | Error::TooLarge { .. }) => Self::Invalid,
            Err(Error::Refused { .. }) => Self::Refused,
            Err(Error::Unavailable { .. }) => Self::Unavailable,
            Err(Error::Connection(_)) => Self::Connection,
            Err(Error::Timeout(_)) => Self::Timeout,
            Err(Error::BreakerOpen { .. }) => return None,
        })
    }
}

/// Durations of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Latency {
    /// Attempts by bucket: those up to each of [`LATENCIES`], then the slower ones.
    pub classes: [u64; LATENCIES.len() + 1],
    /// Duration of all attempts together, in seconds.
    pub sum_seconds: f64,
}

impl Latency {
    /// Returns the number of attempts.
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
    /// The state of the circuit breaker.
    pub state: BreakerState,
    /// The time since which the service has not answered; `None` while the breaker is
    /// closed.
    pub away_since: Option<Moment>,
    /// The number of times that the breaker has opened.
    pub openings: u64,
    /// Attempts by outcome, in the order of [`CallOutcome::ALL`].
    pub calls: [u64; CallOutcome::ALL.len()],
    /// Attempts that were not made, because the breaker was open.
    pub left_alone: u64,
    /// Durations of the attempts.
    pub latency: Latency,
    /// Attempts that are running.
    pub in_flight: u64,
    /// The time and the error of the last failed attempt.
    pub last_error: Option<(Timestamp, String)>,
}

/// The figures of routing as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// The configured services.
    pub services: Vec<ServiceFigures>,
    /// Routing jobs that are running.
    pub in_flight: u64,
    /// Findings that the engine accepted.
    pub routed: u64,
    /// Tasks that the built-in rules routed, because the Agent did not answer or its answer
    /// was not usable.
    pub fallbacks: u64,
    /// Jobs that were returned, to run again later.
    pub returned: u64,
}

/// Counts the attempts of one service.
#[derive(Debug, Default)]
pub(super) struct CallMetrics {
    calls: [AtomicU64; CallOutcome::ALL.len()],
    left_alone: AtomicU64,
    openings: AtomicU64,
    classes: [AtomicU64; LATENCIES.len() + 1],
    sum_micros: AtomicU64,
    in_flight: Arc<AtomicU64>,
    last_error: Mutex<Option<(Timestamp, String)>>,
}

impl CallMetrics {
    /// Counts a running attempt until the guard is dropped.
    pub(super) fn count_call(&self) -> CountGuard {
        CountGuard::new(&self.in_flight)
    }

    /// Records the outcome of an attempt.
    pub(super) fn record<T>(&self, result: &Result<T, Error>, took: Duration, now: Timestamp) {
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

    /// Records that the breaker has opened.
    pub(super) fn record_opening(&self) {
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

/// Counts up, and down again when dropped.
#[derive(Debug)]
pub(super) struct CountGuard(Arc<AtomicU64>);

impl CountGuard {
    pub(super) fn new(counter: &Arc<AtomicU64>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_outcome_and_latency() {
        let metrics = CallMetrics::default();
        let now = Timestamp::from_micros(1_000_000);
        let (ok, late): (Result<(), _>, Result<(), _>) = (Ok(()), Err(Error::Timeout(Duration::from_secs(1))));
        let counted = metrics.count_call();
        metrics.record(&ok, Duration::from_millis(1), now);
        metrics.record(&ok, Duration::from_micros(1001), now);
        metrics.record(&late, Duration::from_mins(2), now);
        metrics.record(&Err::<(), _>(Error::BreakerOpen { until: None }), Duration::ZERO, now);
        let figures = metrics.snapshot("agent", BreakerState::Closed, None);
        assert_eq!((figures.calls, figures.left_alone, figures.in_flight), ([2, 0, 0, 0, 0, 1], 1, 1));
        assert_eq!((figures.latency.classes[0], figures.latency.classes[1], figures.latency.classes[14]), (1, 1, 1));
        assert_eq!(figures.latency.count(), 3);
        assert!((figures.latency.sum_seconds - 120.002_001).abs() < 1e-9, "{}", figures.latency.sum_seconds);
        assert_eq!(figures.last_error, Some((now, "no complete answer within 1000 ms".to_owned())));
        drop(counted);
        assert_eq!(metrics.snapshot("agent", BreakerState::Closed, None).in_flight, 0);
    }
}
