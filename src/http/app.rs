//! What every request shares.

use std::sync::Arc;

use super::headers::RequestIds;
use super::metrics::Metrics;
use super::routes::Routes;
use super::settings::Settings;
use super::walks::Walks;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::events::Envelope;
use crate::routing::Services;

/// The service as the edge sees it.
#[derive(Debug)]
pub struct App {
    pub(super) engine: Engine,
    pub(super) services: Arc<Services>,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) envelope: Envelope,
    pub(super) metrics: Metrics,
    pub(super) routes: Routes,
    pub(super) request_ids: RequestIds,
    pub(super) walks: Walks,
}

impl App {
    /// Puts the service together.
    #[must_use]
    pub fn new(engine: Engine, services: Arc<Services>, settings: Settings, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            metrics: Metrics::new(engine.clone(), services.clone(), clock.clone(), &settings),
            // The ids of events follow from the store they are read from.
            envelope: Envelope::new(engine.store_id()),
            walks: Walks::new(clock.clone(), settings.limits.walk_timeout),
            engine,
            services,
            settings,
            clock,
            routes: Routes::new(),
            request_ids: RequestIds::new(),
        })
    }
}
