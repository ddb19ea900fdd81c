//! Calls of one service: a try within its deadline, further tries where they
//! may help, and none while the service does not answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::breaker::{Breaker, BreakerState, Leave, Turn};
use super::error::Error;
use super::exchange::Exchange;
use super::figures::{Measured, ServiceFigures};
use super::retry::{doubled, fraction, jittered};
use super::settings;
use super::spans::{self, Spans};
use crate::clock::{Clock, Stopwatch};
use crate::task::Moment;
use crate::telemetry::{Span, Tracer};
use crate::tls;

/// Longest time of a probe that belongs to no task.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// A call that brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// Why the last try failed.
    pub error: Error,
    /// When the first one did.
    pub since: Moment,
}

/// What to ask.
#[derive(Debug)]
pub(super) struct Question<'a> {
    path: &'static str,
    body: Bytes,
    traceparent: Option<&'a str>,
}

impl<'a> Question<'a> {
    /// Asks the endpoint at `path`, below the base path.
    pub(super) fn new(path: &'static str, body: &impl Serialize, traceparent: Option<&'a str>) -> Self {
        // Texts and numbers always have a JSON form.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { path, body: Bytes::from(body), traceparent }
    }
}

/// Calls one service.
#[derive(Debug)]
pub(super) struct Caller {
    service: &'static str,
    exchange: Exchange,
    settings: settings::Service,
    breaker: Mutex<Breaker>,
    slots: Semaphore,
    measured: Measured,
    spans: Option<Spans>,
    clock: Clock,
}

impl Caller {
    /// `service` is its name in logs and figures.
    pub(super) fn new(service: &'static str, settings: settings::Service, clock: Clock) -> Result<Self, tls::Error> {
        let exchange = Exchange::new(&settings)?;
        let slots = Semaphore::new(settings.concurrency.min(Semaphore::MAX_PERMITS));
        let breaker = Mutex::new(Breaker::new(settings.breaker));
        Ok(Self { service, exchange, settings, breaker, slots, measured: Measured::default(), spans: None, clock })
    }

    /// From now on each try has a span.
    pub(super) fn trace(&mut self, tracer: Option<Tracer>) {
        self.spans = tracer.map(|tracer| Spans::new(tracer, &self.settings.address));
    }

    /// Asks until there is an answer that can be read, or further tries are
    /// not allowed or of no use. Dropping the future ends the call.
    pub(super) async fn call<T>(
        &self,
        question: Question<'_>,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Failed> {
        let started = Stopwatch::start();
        let mut before: Option<Failed> = None;
        for number in 1_u32.. {
            let left = self.settings.call_timeout.saturating_sub(started.elapsed());
            let error = match self.attempt(&question, number, left, &read).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let now = self.clock.observed();
            let failed = match before {
                // The try that was made says more than the one that was not.
                Some(before) if matches!(error, Error::Away { .. }) => return Err(before),
                before => Failed { error, since: before.map_or(now, |before| before.since) },
            };
            let wait = self.wait(number, &failed.error);
            let left = self.settings.call_timeout.saturating_sub(started.elapsed().saturating_add(wait));
            // A try with hardly any time would only fail once more.
            let has_time = left >= self.settings.try_timeout / 10 && !self.asks_for_more(&failed.error);
            if number > self.settings.retries || !failed.error.is_of_service() || !has_time {
                return Err(failed);
            }
            sleep(wait).await;
            before = Some(failed);
        }
        // Only after more tries than there are numbers.
        Err(Failed { error: Error::Away { until: None }, since: self.clock.observed() })
    }

    /// How long to wait after the `number`-th try.
    fn wait(&self, number: u32, error: &Error) -> Duration {
        let step = doubled(self.settings.retry_initial, self.settings.retry_max, number);
        let wait = jittered(step, fraction());
        match error {
            Error::Unavailable { retry_after: Some(asked), .. } => wait.max(*asked),
            _ => wait,
        }
    }

    /// Whether the service wants to be left alone for longer than a call may
    /// wait: then its task comes again later.
    fn asks_for_more(&self, error: &Error) -> bool {
        match error {
            Error::Unavailable { retry_after: Some(asked), .. } => *asked > self.settings.retry_max,
            _ => false,
        }
    }

    /// The `number`-th try.
    async fn attempt<T>(
        &self,
        question: &Question<'_>,
        number: u32,
        left: Duration,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let waited = Stopwatch::start();
        // The semaphore is never closed.
        let Ok(Ok(_slot)) = timeout(left, self.slots.acquire()).await else {
            return Err(Error::Timeout(left));
        };
        let limit = left.saturating_sub(waited.elapsed()).min(self.settings.try_timeout);
        let now = self.clock.now();
        let passage = match self.pass(now.observed) {
            Ok(passage) => passage,
            Err(away) => {
                self.measured.ended::<T>(&Err(away.clone()), Duration::ZERO, now.wall);
                return Err(away);
            }
        };
        let _counted = self.measured.begun();
        let asked = Stopwatch::start();
        let span = self.spans.as_ref().map(|spans| spans.begin(question.path, number, question.traceparent));
        let below = span.as_ref().and_then(Span::trace_parent).map(|own| own.to_string());
        let trace = below.as_deref().or(question.traceparent);
        let post = self.exchange.post(question.path, question.body.clone(), trace, now.wall);
        let answered = timeout(limit, post).await.unwrap_or(Err(Error::Timeout(limit)));
        let result = answered.and_then(|body| read(&body));
        if let Some(span) = span {
            spans::end(span, result.as_ref().err());
        }
        let now = self.clock.now();
        self.measured.ended(&result, asked.elapsed(), now.wall);
        passage.settle(result.as_ref().err(), now.observed);
        result
    }

    /// Whether the breaker waits for a probe.
    pub(super) fn wants_probe(&self) -> bool {
        let Availability { state, opens_again_at, .. } = self.availability();
        state == BreakerState::HalfOpen && opens_again_at.is_some()
    }

    /// Probes with a question that belongs to no task, for when there is none:
    /// that a service is back should be seen before it is needed.
    pub(super) async fn probe(&self) {
        let now = self.clock.now();
        let Ok(passage) = self.pass(now.observed) else { return };
        let limit = self.settings.try_timeout.min(PROBE_TIMEOUT);
        let answered =
            timeout(limit, self.exchange.get("/health", now.wall)).await.unwrap_or(Err(Error::Timeout(limit)));
        passage.settle_probe(answered.as_ref().err(), self.clock.observed());
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, now: Moment) -> Result<Passage<'_>, Error> {
        let mut breaker = self.breaker();
        match breaker.pass(now) {
            Some(leave) => Ok(Passage { caller: self, leave, is_settled: false }),
            None => Err(Error::Away { until: breaker.opens_again_at() }),
        }
    }

    /// What the breaker lets pass now, since when the service is away, and
    /// when it may be tried again.
    pub(super) fn availability(&self) -> Availability {
        let now = self.clock.observed();
        let breaker = self.breaker();
        Availability {
            state: breaker.state(now),
            away_since: breaker.away_since(),
            opens_again_at: breaker.opens_again_at(),
        }
    }

    pub(super) fn figures(&self) -> ServiceFigures {
        let Availability { state, away_since, .. } = self.availability();
        self.measured.snapshot(self.service, state, away_since)
    }

    fn log(&self, turn: Turn, error: Option<&Error>, now: Moment) {
        let service = self.service;
        match (turn, error) {
            (Turn::Opened { until }, Some(error)) => {
                self.measured.opened();
                let next_try_at = self.clock.now().calendar(until);
                tracing::warn!(service, %error, %next_try_at, "the service does not answer; it is left alone");
            }
            (Turn::Closed { away_since }, _) => {
                let away_seconds = now.since(away_since).as_secs();
                tracing::info!(service, away_seconds, "the service answers again");
            }
            (Turn::Opened { .. }, None) => {}
        }
    }
}

/// Whether a service can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Availability {
    pub(super) state: BreakerState,
    pub(super) away_since: Option<Moment>,
    pub(super) opens_again_at: Option<Moment>,
}

/// Leave for one try. Dropped without a result, it is given back.
struct Passage<'a> {
    caller: &'a Caller,
    leave: Leave,
    is_settled: bool,
}

impl Passage<'_> {
    fn settle(mut self, error: Option<&Error>, now: Moment) {
        self.settle_as(Breaker::answered, error, now);
    }

    /// The same for a question about the service's health alone.
    fn settle_probe(mut self, error: Option<&Error>, now: Moment) {
        self.settle_as(Breaker::is_well, error, now);
    }

    fn settle_as(&mut self, good: fn(&mut Breaker) -> Option<Turn>, error: Option<&Error>, now: Moment) {
        self.is_settled = true;
        let mut breaker = self.caller.breaker();
        let turn = match error {
            Some(error) if error.is_of_service() => breaker.failed(self.leave, now, fraction()),
            _ => good(&mut breaker),
        };
        drop(breaker);
        if let Some(turn) = turn {
            self.caller.log(turn, error, now);
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.caller.breaker().given_up(self.leave, self.caller.clock.observed());
        }
    }
}
