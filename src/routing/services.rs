//! The services there are, and what is counted of their use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::agent::Agent;
use super::figures::{Counted, Figures};
use super::rag::Rag;
use super::settings::Settings;
use crate::clock::Clock;
use crate::engine::RoutingJob;
use crate::task::Context;
use crate::telemetry::Tracer;
use crate::tls;

/// The configured services, shared by who asks them and who shows how they
/// are.
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
    /// Clients for what is configured. Nothing is asked yet; but whom encrypted
    /// connections believe is read.
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

    /// The same, where each question has a span.
    #[must_use]
    pub fn traced(mut self, tracer: Option<&Tracer>) -> Self {
        let agent = self.agent.as_mut().map(Agent::caller_mut);
        let rag = self.rag.as_mut().map(Rag::caller_mut);
        for caller in agent.into_iter().chain(rag) {
            caller.trace(tracer.cloned());
        }
        self
    }

    /// What was measured up to now.
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

    /// A task is being routed until this is dropped.
    pub(super) fn begun(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    pub(super) fn note_routed(&self) {
        self.routed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_returned(&self) {
        self.returned.fetch_add(1, Ordering::Relaxed);
    }

    /// Probes the Agent, where its breaker waits for that.
    pub(super) async fn probe_agent(self: Arc<Self>) {
        if let Some(agent) = &self.agent {
            agent.caller().probe().await;
        }
    }

    /// Probes RAG, where its breaker waits for that.
    pub(super) async fn probe_rag(self: Arc<Self>) {
        if let Some(rag) = &self.rag {
            rag.caller().probe().await;
        }
    }

    /// Context for a task, where RAG has any in time.
    pub(super) async fn context(&self, job: &RoutingJob) -> Option<Context> {
        let rag = self.rag.as_ref()?;
        match rag.query(&job.description, &job.project, job.traceparent.as_deref()).await {
            Ok(context) => Some(context),
            Err(failed) if failed.error.is_of_service() => None,
            Err(failed) => {
                if !matches!(failed.error, super::Error::Away { .. }) {
                    tracing::warn!(task = %job.task, error = %failed, "RAG's answer is of no use; the task goes without context");
                }
                None
            }
        }
    }
}
