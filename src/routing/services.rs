//! The configured services, and the figures of routing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::agent::Agent;
use super::error::Error;
use super::figures::{CountGuard, Figures};
use super::rag::Rag;
use super::settings::Settings;
use crate::clock::Clock;
use crate::engine::RoutingJob;
use crate::task::Context;
use crate::telemetry::Tracer;
use crate::tls;

/// The configured services. The driver calls them; health and metrics report on them.
#[derive(Debug)]
pub struct Services {
    pub(super) agent: Option<Agent>,
    pub(super) rag: Option<Rag>,
    in_flight: Arc<AtomicU64>,
    routed: AtomicU64,
    fallbacks: AtomicU64,
    returned: AtomicU64,
}

impl Services {
    /// Makes a client for each configured service. Makes no call yet.
    ///
    /// # Errors
    /// A service is called over TLS, and the certificate authorities cannot be read.
    pub fn new(settings: &Settings, clock: &Clock) -> Result<Self, tls::Error> {
        let agent = settings.agent.clone().map(|agent| Agent::new(agent, settings.tiers.clone(), clock.clone()));
        let rag = settings.rag.clone().map(|rag| Rag::new(rag, settings.context_max_tokens, clock.clone()));
        Ok(Self {
            agent: agent.transpose()?,
            rag: rag.transpose()?,
            in_flight: Arc::default(),
            routed: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            returned: AtomicU64::new(0),
        })
    }

    /// Makes a span for each call, if there is a tracer.
    #[must_use]
    pub fn traced(mut self, tracer: Option<&Tracer>) -> Self {
        let agent = self.agent.as_mut().map(Agent::caller_mut);
        let rag = self.rag.as_mut().map(Rag::caller_mut);
        for caller in agent.into_iter().chain(rag) {
            caller.trace(tracer.cloned());
        }
        self
    }

    /// Returns the figures so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let services = self.agent.iter().map(Agent::figures).chain(self.rag.iter().map(Rag::figures));
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            services: services.collect(),
            in_flight: read(&self.in_flight),
            routed: read(&self.routed),
            fallbacks: read(&self.fallbacks),
            returned: read(&self.returned),
        }
    }

    /// Counts a running job until the guard is dropped.
    pub(super) fn count_job(&self) -> CountGuard {
        CountGuard::new(&self.in_flight)
    }

    pub(super) fn record_finding(&self) {
        self.routed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_return(&self) {
        self.returned.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks the health of the Agent, if its breaker allows a probe.
    pub(super) async fn check_agent_health(self: Arc<Self>) {
        if let Some(agent) = &self.agent {
            agent.caller().check_health().await;
        }
    }

    /// Checks the health of RAG, if its breaker allows a probe.
    pub(super) async fn check_rag_health(self: Arc<Self>) {
        if let Some(rag) = &self.rag {
            rag.caller().check_health().await;
        }
    }

    /// Asks RAG for the context of a task. Returns `None` without RAG, and if the call
    /// fails.
    pub(super) async fn context(&self, job: &RoutingJob) -> Option<Context> {
        let rag = self.rag.as_ref()?;
        match rag.query(&job.description, &job.project, job.traceparent.as_deref()).await {
            Ok(context) => Some(context),
            Err(failed) if failed.error.is_service_failure() => None,
            Err(failed) => {
                if !matches!(failed.error, Error::BreakerOpen { .. }) {
                    tracing::warn!(task = %job.task, error = %failed, "answer of RAG not usable, the task is routed without context");
                }
                None
            }
        }
    }
}
