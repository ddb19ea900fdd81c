//! The registry of all metrics, and its text form (Prometheus).

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::amqp;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::http::api::backends::Backends;
use crate::http::api::service::figures::EngineFigures;
use crate::http::api::settings::Settings;
use crate::replica;
use crate::routing;
use crate::telemetry::LogMetrics;

/// Builds a registry with the metrics of the engine and of the backends.
pub(in crate::http) fn new(engine: Engine, backends: &Backends, clock: Clock, settings: &Settings) -> Registry {
    let mut registry = Registry::with_prefix("dats");
    let name = ("service_name", settings.service_name.clone());
    let build = Info::new([name, ("version", settings.version.clone())]);
    registry.register("build", "What is running", build);
    registry.register_collector(Box::new(EngineFigures::new(engine, clock.clone())));
    registry.register_collector(Box::new(routing::Metrics::new(backends.services.clone())));
    if let Some(broker) = &backends.broker {
        registry.register_collector(Box::new(amqp::Metrics::new(broker.clone())));
    }
    if let Some(replica) = &backends.replica {
        registry.register_collector(Box::new(replica::Metrics::new(replica.clone(), clock)));
    }
    registry.register_collector(Box::new(LogMetrics));
    if let Some(tracer) = &backends.tracer {
        registry.register_collector(Box::new(tracer.metrics()));
    }
    registry
}

/// Renders all metrics.
pub(in crate::http) fn render(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}
