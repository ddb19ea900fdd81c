//! What every request shares.

use std::io;
use std::sync::Arc;

use super::asyncapi::Document;
use super::decoding::Decoding;
use super::feed::Feed;
use super::guard::Guard;
use super::headers::RequestIds;
use super::metrics::Metrics;
use super::reads::Reads;
use super::routes::Routes;
use super::settings::Settings;
use super::sse::Streams;
use super::transfer::Imports;
use super::walks::Walks;
use crate::amqp::{self, Broker};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::events::Envelope;
use crate::replica;
use crate::routing::Services;
use crate::telemetry::Tracer;

/// What the edge tells of the other services.
#[derive(Debug, Clone)]
pub struct Others {
    /// Agent and RAG.
    pub services: Arc<Services>,
    /// The broker; `None`: workers lease tasks here.
    pub broker: Option<Arc<Broker>>,
    /// The broker whose messages are described, be there one or not.
    pub described: amqp::Settings,
    /// The copy in Postgres, if there is one.
    pub replica: Option<Arc<replica::Status>>,
    /// Makes the spans of requests, where they go to a collector.
    pub tracer: Option<Tracer>,
}

/// The service as the edge sees it.
#[derive(Debug)]
pub struct App {
    pub(super) engine: Engine,
    pub(super) services: Arc<Services>,
    pub(super) broker: Option<Arc<Broker>>,
    /// The copy in Postgres, if there is one.
    pub(super) replica: Option<Arc<replica::Status>>,
    /// Without a collector there is none, and no request has a span.
    pub(super) tracer: Option<Tracer>,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) envelope: Envelope,
    pub(super) metrics: Metrics,
    pub(super) routes: Routes,
    pub(super) guard: Guard,
    pub(super) request_ids: RequestIds,
    pub(super) walks: Walks,
    pub(super) reads: Reads,
    pub(super) decoding: Decoding,
    pub(super) streams: Streams,
    pub(super) feed: Arc<Feed>,
    pub(super) imports: Imports,
    /// What goes through the broker, described.
    pub(super) asyncapi: Document,
}

impl App {
    /// Puts the service together. An error: the threads of expensive reads can't
    /// be started.
    pub fn new(engine: Engine, others: Others, settings: Settings, clock: Clock) -> io::Result<Arc<Self>> {
        let guard = Guard::new(&settings.allowed_hosts, settings.is_loopback);
        Ok(Arc::new(Self {
            metrics: Metrics::new(engine.clone(), &others, clock.clone(), &settings),
            // The ids of events follow from the store they are read from.
            envelope: Envelope::new(engine.store_id()),
            walks: Walks::new(clock.clone(), settings.limits.walk_timeout),
            reads: Reads::new()?,
            decoding: Decoding::new(),
            streams: Streams::new(settings.limits.streams),
            feed: Arc::default(),
            imports: Imports::default(),
            engine,
            services: others.services,
            broker: others.broker,
            replica: others.replica,
            tracer: others.tracer,
            settings,
            clock,
            routes: Routes::new(),
            guard,
            request_ids: RequestIds::new(),
            asyncapi: Document::new(others.described),
        }))
    }
}
