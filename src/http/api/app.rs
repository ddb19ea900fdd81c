//! The state of the application, which all requests share.

use std::io;
use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::amqp::{self, Broker};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::events::Envelope;
use crate::http::api::backends::Backends;
use crate::http::api::events::feed::Feed;
use crate::http::api::provenance::import_limiter::ImportLimiter;
use crate::http::api::provenance::results::Queries;
use crate::http::api::service::document::{LazyDocument, RenderedDocument};
use crate::http::api::service::registry;
use crate::http::api::settings::Settings;
use crate::http::server;
use crate::http::server::body_reader::BodyReader;
use crate::http::server::endpoint::Endpoint;
use crate::http::server::settings::ServerSettings;
use crate::http::server::sse::StreamLimiter;
use crate::http::server::state::ServerState;
use crate::replica;
use crate::routing::Services;

/// A request to an endpoint of the application.
pub(in crate::http) type Call = server::request::Call<App>;

/// The application behind the HTTP server.
#[derive(Debug)]
pub struct App {
    pub(in crate::http) server: ServerState<Self>,
    pub(in crate::http) engine: Engine,
    pub(in crate::http) services: Arc<Services>,
    pub(in crate::http) broker: Option<Arc<Broker>>,
    /// The copy in Postgres, if it is enabled.
    pub(in crate::http) replica: Option<Arc<replica::Status>>,
    pub(in crate::http) settings: Settings,
    pub(in crate::http) clock: Clock,
    pub(in crate::http) envelope: Envelope,
    pub(in crate::http) registry: Registry,
    pub(in crate::http) queries: Queries,
    pub(in crate::http) streams: StreamLimiter,
    pub(in crate::http) feed: Arc<Feed>,
    pub(in crate::http) imports: ImportLimiter,
    /// Describes the HTTP interface.
    pub(in crate::http) openapi: LazyDocument,
    /// Describes the messages on the broker.
    pub(in crate::http) asyncapi: LazyDocument,
}

impl App {
    /// Builds the application. `openapi` renders the description of the endpoints.
    ///
    /// # Errors
    /// Fails if the threads of the read pool cannot be started.
    pub(in crate::http) fn new(
        endpoints: &[&'static Endpoint<Self>],
        openapi: fn() -> RenderedDocument,
        engine: Engine,
        backends: Backends,
        (settings, server_settings): (Settings, ServerSettings),
        clock: Clock,
    ) -> io::Result<Arc<Self>> {
        let mut registry = registry::new(engine.clone(), &backends, clock.clone(), &settings);
        let described = backends.described;
        let asyncapi =
            move || RenderedDocument::new(serde_json::to_vec(&amqp::document(&described)).unwrap_or_default());
        let streams = StreamLimiter::new(server_settings.limits.streams);
        Ok(Arc::new(Self {
            server: ServerState::new(endpoints, server_settings, &mut registry, backends.tracer)?,
            // The ids of events are derived from the id of the store.
            envelope: Envelope::new(engine.store_id()),
            queries: Queries::new(clock.clone()),
            streams,
            feed: Arc::default(),
            imports: ImportLimiter::default(),
            engine,
            services: backends.services,
            broker: backends.broker,
            replica: backends.replica,
            settings,
            clock,
            registry,
            openapi: LazyDocument::new(Box::new(openapi)),
            asyncapi: LazyDocument::new(Box::new(asyncapi)),
        }))
    }
}

impl AsRef<ServerState<Self>> for App {
    fn as_ref(&self) -> &ServerState<Self> {
        &self.server
    }
}

impl AsRef<BodyReader> for App {
    fn as_ref(&self) -> &BodyReader {
        &self.server.bodies
    }
}
