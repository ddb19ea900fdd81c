//! Metrics of requests and connections.
//!
//! The counters of each endpoint are looked up once, at the start, so that a
//! request only adds to them.

use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::endpoint::Endpoint;

/// Upper bounds of the latency buckets, in seconds.
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

/// The metrics of one endpoint.
#[derive(Debug)]
struct EndpointMetrics {
    /// Answers with the status 2xx, 3xx, 4xx and 5xx.
    by_class: [Counter; 4],
    latency: Histogram,
}

/// Metrics of requests and connections.
#[derive(Debug)]
pub(in crate::http) struct RequestMetrics {
    /// By the number of the endpoint.
    endpoints: Vec<EndpointMetrics>,
    /// Requests without an endpoint.
    unmatched: EndpointMetrics,
    in_flight: Gauge,
    connections: Gauge,
    refused_connections: Counter,
}

/// Counts a gauge down when dropped.
#[derive(Debug)]
pub(in crate::http) struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RequestMetrics {
    /// Registers the metrics of all endpoints of a table.
    pub(in crate::http) fn register<A>(registry: &mut Registry, table: &[&'static Endpoint<A>]) -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let latencies =
            Family::<RouteLabels, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(LATENCIES));
        let (in_flight, connections, refused_connections) = (Gauge::default(), Gauge::default(), Counter::default());
        registry.register("http_requests", "Requests by route and class of status", requests.clone());
        registry.register("http_request_seconds", "Time to the head of the answer", latencies.clone());
        registry.register("http_requests_in_flight", "Requests being answered", in_flight.clone());
        registry.register("http_connections", "Open connections", connections.clone());
        registry.register("http_connections_refused", "Connections over a limit", refused_connections.clone());
        let metrics_of = |method, route| EndpointMetrics {
            by_class: ["2xx", "3xx", "4xx", "5xx"]
                .map(|status| requests.get_or_create(&RequestLabels { method, route, status }).clone()),
            latency: latencies.get_or_create(&RouteLabels { method, route }).clone(),
        };
        let endpoints = table.iter().map(|endpoint| metrics_of(endpoint.verb.as_str(), endpoint.path)).collect();
        let unmatched = metrics_of("other", "other");
        Self { endpoints, unmatched, in_flight, connections, refused_connections }
    }

    /// Records an answer of the endpoint with this number, if the request had one.
    /// Requests that wait for something on purpose have no latency.
    pub(in crate::http) fn record_answer(
        &self,
        endpoint: Option<usize>,
        status: StatusCode,
        latency: Option<Duration>,
    ) {
        let metrics = endpoint.and_then(|number| self.endpoints.get(number)).unwrap_or(&self.unmatched);
        let class = usize::from(status.as_u16() / 100).saturating_sub(2).min(3);
        if let Some(counter) = metrics.by_class.get(class) {
            counter.inc();
        }
        if let Some(latency) = latency {
            metrics.latency.observe(latency.as_secs_f64());
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(in crate::http) fn count_request(&self) -> GaugeGuard {
        GaugeGuard::new(&self.in_flight)
    }

    /// Counts a connection as open until the guard is dropped.
    pub(in crate::http) fn count_connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections)
    }

    /// Records a connection over a limit.
    pub(in crate::http) fn record_refused_connection(&self) {
        self.refused_connections.inc();
    }
}
