//! The services beside the engine.

use std::sync::Arc;

use crate::amqp::{self, Broker};
use crate::replica;
use crate::routing::Services;
use crate::telemetry::Tracer;

/// The services beside the engine that the API reports on.
#[derive(Debug, Clone)]
pub struct Backends {
    /// The clients of the Agent and RAG services.
    pub services: Arc<Services>,
    /// The broker. `None` if workers lease tasks over HTTP.
    pub broker: Option<Arc<Broker>>,
    /// The broker that the `AsyncAPI` document describes, even if none is in use.
    pub described: amqp::Settings,
    /// The copy in Postgres. `None` if it is not enabled.
    pub replica: Option<Arc<replica::Status>>,
    /// Makes the spans of requests. `None` if traces are not exported.
    pub tracer: Option<Tracer>,
}
