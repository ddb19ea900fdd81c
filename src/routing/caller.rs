//! Calls of one service: attempts with a deadline, retries where they may help, and
//! no attempts while the circuit breaker is open.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::breaker::{Attempt, Breaker, BreakerState, Transition};
use super::error::Error;
use super::exchange::Exchange;
use super::figures::{CallMetrics, ServiceFigures};
use super::retry::{backoff, random_fraction, with_jitter};
use super::settings;
use super::spans::{self, Spans};
use crate::clock::{Clock, Stopwatch};
use crate::task::Moment;
use crate::telemetry::{Span, Tracer};
use crate::tls;

/// Time limit of a health check.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A call without a usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct CallError {
    /// The error of the last attempt.
    pub error: Error,
    /// The time at which the first attempt failed.
    pub since: Moment,
}

/// A request to an endpoint of a service.
#[derive(Debug)]
pub(super) struct CallRequest<'a> {
    path: &'static str,
    body: Bytes,
    traceparent: Option<&'a str>,
}

impl<'a> CallRequest<'a> {
    /// Makes a request to the endpoint at `path`, below the base path.
    pub(super) fn new(path: &'static str, body: &impl Serialize, traceparent: Option<&'a str>) -> Self {
        // Texts and numbers can always be serialized.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { path, body: Bytes::from(body), traceparent }
    }
}

/// Makes the calls of one service.
#[derive(Debug)]
pub(super) struct Caller {
    service: &'static str,
    exchange: Exchange,
    settings: settings::Service,
    breaker: Mutex<Breaker>,
    slots: Semaphore,
    metrics: CallMetrics,
    spans: Option<Spans>,
    clock: Clock,
}

impl Caller {
    /// `service` is the name of the service in logs and figures.
    pub(super) fn new(service: &'static str, settings: settings::Service, clock: Clock) -> Result<Self, tls::Error> {
        let exchange = Exchange::new(&settings)?;
        let slots = Semaphore::new(settings.concurrency.min(Semaphore::MAX_PERMITS));
        let breaker = Mutex::new(Breaker::new(settings.breaker));
        Ok(Self { service, exchange, settings, breaker, slots, metrics: CallMetrics::default(), spans: None, clock })
    }

    /// Makes a span for each attempt from now on.
    pub(super) fn trace(&mut self, tracer: Option<Tracer>) {
        self.spans = tracer.map(|tracer| Spans::new(tracer, &self.settings.address));
    }

    /// Makes attempts until `read` accepts an answer, or until further attempts are not
    /// allowed or would not help. Dropping the future ends the call.
    pub(super) async fn call<T>(
        &self,
        request: CallRequest<'_>,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, CallError> {
        let started = Stopwatch::start();
        let mut previous: Option<CallError> = None;
        for number in 1_u32.. {
            let left = self.settings.call_timeout.saturating_sub(started.elapsed());
            let error = match self.attempt(&request, number, left, &read).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let now = self.clock.observed();
            let failed = match previous {
                // The error of an attempt says more than that no attempt was allowed.
                Some(before) if matches!(error, Error::BreakerOpen { .. }) => return Err(before),
                before => CallError { error, since: before.map_or(now, |before| before.since) },
            };
            let wait = self.wait_after(number, &failed.error);
            let left = self.settings.call_timeout.saturating_sub(started.elapsed().saturating_add(wait));
            // An attempt with hardly any time left would only fail again.
            let has_time = left >= self.settings.try_timeout / 10 && !self.asks_for_longer_wait(&failed.error);
            if number > self.settings.retries || !failed.error.is_service_failure() || !has_time {
                return Err(failed);
            }
            sleep(wait).await;
            previous = Some(failed);
        }
        // Reached only after more attempts than there are numbers.
        Err(CallError { error: Error::BreakerOpen { until: None }, since: self.clock.observed() })
    }

    /// Returns the wait after the `number`-th attempt, counted from 1.
    fn wait_after(&self, number: u32, error: &Error) -> Duration {
        let step = backoff(self.settings.retry_initial, self.settings.retry_max, number);
        let wait = with_jitter(step, random_fraction());
        match error {
            Error::Unavailable { retry_after: Some(asked), .. } => wait.max(*asked),
            _ => wait,
        }
    }

    /// Whether the service asks for a longer wait than a call may make. Then the task is
    /// returned, to be routed later.
    fn asks_for_longer_wait(&self, error: &Error) -> bool {
        match error {
            Error::Unavailable { retry_after: Some(asked), .. } => *asked > self.settings.retry_max,
            _ => false,
        }
    }

    /// Makes the `number`-th attempt, counted from 1, within the time that is left.
    async fn attempt<T>(
        &self,
        request: &CallRequest<'_>,
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
        let permit = match self.try_acquire(now.observed) {
            Ok(permit) => permit,
            Err(error) => {
                self.metrics.record::<T>(&Err(error.clone()), Duration::ZERO, now.wall);
                return Err(error);
            }
        };
        let _in_flight = self.metrics.count_call();
        let asked = Stopwatch::start();
        let span = self.spans.as_ref().map(|spans| spans.start(request.path, number, request.traceparent));
        let below = span.as_ref().and_then(Span::trace_parent).map(|own| own.to_string());
        let trace = below.as_deref().or(request.traceparent);
        let post = self.exchange.post(request.path, request.body.clone(), trace, now.wall);
        let answered = timeout(limit, post).await.unwrap_or(Err(Error::Timeout(limit)));
        let result = answered.and_then(|body| read(&body));
        if let Some(span) = span {
            spans::end(span, result.as_ref().err());
        }
        let now = self.clock.now();
        self.metrics.record(&result, asked.elapsed(), now.wall);
        permit.settle(result.as_ref().err(), now.observed);
        result
    }

    /// Whether the breaker is half open and no probe is running.
    pub(super) fn wants_probe(&self) -> bool {
        let Availability { state, next_probe_at, .. } = self.availability();
        state == BreakerState::HalfOpen && next_probe_at.is_some()
    }

    /// Makes a health check as the probe. Without it, the breaker would stay open until
    /// the next task, although the service may have recovered.
    pub(super) async fn check_health(&self) {
        let now = self.clock.now();
        let Ok(permit) = self.try_acquire(now.observed) else { return };
        let limit = self.settings.try_timeout.min(HEALTH_CHECK_TIMEOUT);
        let answered =
            timeout(limit, self.exchange.get("/health", now.wall)).await.unwrap_or(Err(Error::Timeout(limit)));
        permit.settle_health_check(answered.as_ref().err(), self.clock.observed());
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_acquire(&self, now: Moment) -> Result<Permit<'_>, Error> {
        let mut breaker = self.breaker();
        match breaker.try_acquire(now) {
            Some(attempt) => Ok(Permit { caller: self, attempt, is_settled: false }),
            None => Err(Error::BreakerOpen { until: breaker.next_probe_at() }),
        }
    }

    /// Returns whether the breaker allows attempts now.
    pub(super) fn availability(&self) -> Availability {
        let now = self.clock.observed();
        let breaker = self.breaker();
        Availability {
            state: breaker.state(now),
            away_since: breaker.away_since(),
            next_probe_at: breaker.next_probe_at(),
        }
    }

    pub(super) fn figures(&self) -> ServiceFigures {
        let Availability { state, away_since, .. } = self.availability();
        self.metrics.snapshot(self.service, state, away_since)
    }

    fn log(&self, transition: Transition, error: Option<&Error>, now: Moment) {
        let service = self.service;
        match (transition, error) {
            (Transition::Opened { until }, Some(error)) => {
                self.metrics.record_opening();
                let next_try_at = self.clock.now().calendar(until);
                tracing::warn!(service, %error, %next_try_at, "service does not answer, circuit breaker opened");
            }
            (Transition::Closed { away_since }, _) => {
                let away_seconds = now.since(away_since).as_secs();
                tracing::info!(service, away_seconds, "service answers again, circuit breaker closed");
            }
            (Transition::Opened { .. }, None) => {}
        }
    }
}

/// Whether a service can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Availability {
    pub(super) state: BreakerState,
    pub(super) away_since: Option<Moment>,
    pub(super) next_probe_at: Option<Moment>,
}

/// A permit for one attempt. If it is dropped without an outcome, the attempt counts as
/// abandoned.
struct Permit<'a> {
    caller: &'a Caller,
    attempt: Attempt,
    is_settled: bool,
}

impl Permit<'_> {
    /// Reports the outcome of the attempt to the breaker.
    fn settle(mut self, error: Option<&Error>, now: Moment) {
        self.settle_as(Breaker::record_answer, error, now);
    }

    /// Like [`Self::settle`], for a health check.
    fn settle_health_check(mut self, error: Option<&Error>, now: Moment) {
        self.settle_as(Breaker::record_health, error, now);
    }

    fn settle_as(&mut self, on_answer: fn(&mut Breaker) -> Option<Transition>, error: Option<&Error>, now: Moment) {
        self.is_settled = true;
        let mut breaker = self.caller.breaker();
        let transition = match error {
            Some(error) if error.is_service_failure() => breaker.record_failure(self.attempt, now, random_fraction()),
            _ => on_answer(&mut breaker),
        };
        drop(breaker);
        if let Some(transition) = transition {
            self.caller.log(transition, error, now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.caller.breaker().record_abandoned(self.attempt, self.caller.clock.observed());
        }
    }
}
