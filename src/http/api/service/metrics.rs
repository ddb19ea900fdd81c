//! Measurements of requests, in Prometheus' text form.
//!
//! Each endpoint's counters are looked up once, at the start: a request only
//! adds to them.

use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::amqp;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::http::api::app::Others;
use crate::http::api::routes;
use crate::http::api::service::figures::EngineFigures;
use crate::http::api::settings::Settings;
use crate::replica;
use crate::routing;
use crate::telemetry::LogMetrics;

/// Upper bounds of the latency classes, in seconds.
const LATENCIES: [f64; 13] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: &'static str,
}

/// What is measured of one endpoint.
#[derive(Debug)]
struct Measured {
    by_class: [Counter; 4],
    latency: Histogram,
}

/// All measurements.
#[derive(Debug)]
pub(in crate::http) struct Metrics {
    registry: Registry,
    endpoints: Vec<Measured>,
    unmatched: Measured,
    in_flight: Gauge,
    connections: Gauge,
    refused_connections: Counter,
}

/// Counts down when dropped.
#[derive(Debug)]
pub(in crate::http) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(in crate::http) fn new(engine: Engine, others: &Others, clock: Clock, settings: &Settings) -> Self {
        let mut registry = Registry::with_prefix("dats");
        let name = ("service_name", settings.service_name.clone());
        let build = Info::new([name, ("version", settings.version.clone())]);
        registry.register("build", "What is running", build);
        let requests = Family::<RequestLabels, Counter>::default();
        let latencies =
            Family::<RouteLabels, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(LATENCIES));
        let (in_flight, connections, refused_connections) = (Gauge::default(), Gauge::default(), Counter::default());
        registry.register("http_requests", "Requests by route and class of status", requests.clone());
        registry.register("http_request_seconds", "Time to the head of the answer", latencies.clone());
        registry.register("http_requests_in_flight", "Requests being answered", in_flight.clone());
        registry.register("http_connections", "Open connections", connections.clone());
        registry.register("http_connections_refused", "Connections over a limit", refused_connections.clone());
        registry.register_collector(Box::new(EngineFigures::new(engine, clock.clone())));
        registry.register_collector(Box::new(routing::Metrics::new(others.services.clone())));
        if let Some(broker) = &others.broker {
            registry.register_collector(Box::new(amqp::Metrics::new(broker.clone())));
        }
        if let Some(replica) = &others.replica {
            registry.register_collector(Box::new(replica::Metrics::new(replica.clone(), clock)));
        }
        registry.register_collector(Box::new(LogMetrics));
        if let Some(tracer) = &others.tracer {
            registry.register_collector(Box::new(tracer.metrics()));
        }
        let measured = |(method, route)| Measured {
            by_class: ["2xx", "3xx", "4xx", "5xx"]
                .map(|status| requests.get_or_create(&RequestLabels { method, route, status }).clone()),
            latency: latencies.get_or_create(&RouteLabels { method, route }).clone(),
        };
        let endpoints = routes::labels().map(measured).collect();
        let unmatched = measured(("other", "other"));
        Self { registry, endpoints, unmatched, in_flight, connections, refused_connections }
    }

    /// A request was answered. `endpoint` is its number in the table of
    /// routes; requests that wait for something on purpose have no latency.
    pub(in crate::http) fn answered(&self, endpoint: Option<usize>, status: StatusCode, latency: Option<Duration>) {
        let measured = endpoint.and_then(|number| self.endpoints.get(number)).unwrap_or(&self.unmatched);
        let class = usize::from(status.as_u16() / 100).saturating_sub(2).min(3);
        if let Some(counter) = measured.by_class.get(class) {
            counter.inc();
        }
        if let Some(latency) = latency {
            measured.latency.observe(latency.as_secs_f64());
        }
    }

    /// A request is being answered until this is dropped.
    pub(in crate::http) fn request(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// A connection is open until this is dropped.
    pub(in crate::http) fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// A connection was over a limit.
    pub(in crate::http) fn refused(&self) {
        self.refused_connections.inc();
    }

    /// Everything, as text.
    pub(in crate::http) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
