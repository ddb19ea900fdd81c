//! The state that all requests share, beside the state of the application.

use prometheus_client::registry::Registry;

use super::body_reader::BodyReader;
use super::endpoint::Endpoint;
use super::guard::Guard;
use super::headers::RequestIds;
use super::metrics::RequestMetrics;
use super::read_pool::{self, ReadPool};
use super::reply::Reply;
use super::router::{self, Router};
use super::settings::{ApiKey, Limits, ServerSettings};
use super::spans::RequestSpans;
use crate::telemetry::Tracer;

/// The state that all requests share. The state `A` of an application contains it, and
/// implements `AsRef` for it.
#[derive(Debug)]
pub(in crate::http) struct ServerState<A: 'static> {
    pub(in crate::http) limits: Limits,
    pub(in crate::http) api_key: Option<ApiKey>,
    pub(in crate::http) router: Router<A>,
    pub(in crate::http) probe_paths: Vec<String>,
    pub(in crate::http) guard: Guard,
    pub(in crate::http) request_ids: RequestIds,
    pub(in crate::http) metrics: RequestMetrics,
    /// `None` if traces are not exported.
    pub(in crate::http) spans: Option<RequestSpans>,
    pub(in crate::http) bodies: BodyReader,
    pub(in crate::http) reads: ReadPool,
}

impl<A> ServerState<A> {
    /// Builds the state for a table of endpoints, and registers its metrics.
    ///
    /// # Errors
    /// The threads of the read pool cannot be started.
    pub(in crate::http) fn new(
        table: &[&'static Endpoint<A>],
        settings: ServerSettings,
        registry: &mut Registry,
        tracer: Option<Tracer>,
    ) -> std::io::Result<Self> {
        let ServerSettings { api_key, allowed_hosts, is_loopback, limits } = settings;
        Ok(Self {
            api_key,
            router: Router::new(table),
            probe_paths: router::probe_paths(table),
            guard: Guard::new(allowed_hosts, is_loopback),
            request_ids: RequestIds::new(),
            metrics: RequestMetrics::register(registry, table),
            spans: tracer.map(|tracer| RequestSpans::new(tracer, table)),
            bodies: BodyReader::new(limits.body_bytes, limits.body_timeout),
            reads: ReadPool::new()?,
            limits,
        })
    }

    /// Limits the time of a search of the provenance to the configured one.
    pub(in crate::http) async fn with_walk_timeout(&self, answer: impl Future<Output = Reply>) -> Reply {
        read_pool::with_walk_timeout(self.limits.walk_timeout, answer).await
    }
}
