//! What every request shares.

use std::io;
use std::sync::Arc;

use crate::amqp::{self, Broker};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::events::Envelope;
use crate::http::api::events::feed::Feed;
use crate::http::api::provenance::results::Walks;
use crate::http::api::provenance::transfer::Imports;
use crate::http::api::routes::Routes;
use crate::http::api::service::asyncapi::Document;
use crate::http::api::service::metrics::Metrics;
use crate::http::api::settings::Settings;
use crate::http::decoding::Decoding;
use crate::http::guard::Guard;
use crate::http::headers::RequestIds;
use crate::http::reads::Reads;
use crate::http::sse::Streams;
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
    pub(in crate::http) engine: Engine,
    pub(in crate::http) services: Arc<Services>,
    pub(in crate::http) broker: Option<Arc<Broker>>,
    /// The copy in Postgres, if there is one.
    pub(in crate::http) replica: Option<Arc<replica::Status>>,
    /// Without a collector there is none, and no request has a span.
    pub(in crate::http) tracer: Option<Tracer>,
    pub(in crate::http) settings: Settings,
    pub(in crate::http) clock: Clock,
    pub(in crate::http) envelope: Envelope,
    pub(in crate::http) metrics: Metrics,
    pub(in crate::http) routes: Routes,
    pub(in crate::http) guard: Guard,
    pub(in crate::http) request_ids: RequestIds,
    pub(in crate::http) walks: Walks,
    pub(in crate::http) reads: Reads,
    pub(in crate::http) decoding: Decoding,
    pub(in crate::http) streams: Streams,
    pub(in crate::http) feed: Arc<Feed>,
    pub(in crate::http) imports: Imports,
    /// What goes through the broker, described.
    pub(in crate::http) asyncapi: Document,
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
