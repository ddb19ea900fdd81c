//! The figures of routing as metrics, read when metrics are rendered.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::breaker::BreakerState;
use super::figures::{CallOutcome, LATENCIES, Latency, ServiceFigures};
use super::services::Services;

/// The states of a breaker, each a value of the label `state`.
const STATES: [BreakerState; 3] = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];

/// A collector of the figures of routing.
#[derive(Debug)]
pub struct Metrics {
    services: Arc<Services>,
}

impl Metrics {
    /// Makes a collector for these services.
    #[must_use]
    pub const fn new(services: Arc<Services>) -> Self {
        Self { services }
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.services.figures();
        let counters = [
            ("routing_findings", "Findings that the engine accepted", figures.routed),
            ("routing_fallbacks", "Tasks that the built-in rules routed instead of the Agent", figures.fallbacks),
            ("routing_returned", "Jobs that were returned, to run again later", figures.returned),
        ];
        for (name, help, value) in counters {
            ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let help = "Routing jobs that are running";
        let tasks = encoder.encode_descriptor("routing_in_flight", help, None, MetricType::Gauge)?;
        ConstGauge::new(signed(figures.in_flight)).encode(tasks)?;
        calls(&mut encoder, &figures.services)?;
        breakers(&mut encoder, &figures.services)?;
        latencies(&mut encoder, &figures.services)
    }
}

fn calls(encoder: &mut DescriptorEncoder<'_>, services: &[ServiceFigures]) -> fmt::Result {
    let help = "Calls of other services by outcome";
    let mut family = encoder.encode_descriptor("routing_calls", help, None, MetricType::Counter)?;
    for service in services {
        let outcomes = CallOutcome::ALL.into_iter().map(CallOutcome::as_str).zip(service.calls);
        for (outcome, count) in outcomes.chain([("left_alone", service.left_alone)]) {
            let labels = [("service", service.service), ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Calls of other services that are running";
    let mut family = encoder.encode_descriptor("routing_calls_in_flight", help, None, MetricType::Gauge)?;
    for service in services {
        let labels = [("service", service.service)];
        ConstGauge::new(signed(service.in_flight)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn breakers(encoder: &mut DescriptorEncoder<'_>, services: &[ServiceFigures]) -> fmt::Result {
    let help = "1 for the state of a service's circuit breaker";
    let mut family = encoder.encode_descriptor("routing_breaker", help, None, MetricType::Gauge)?;
    for service in services {
        for state in STATES {
            let labels = [("service", service.service), ("state", state.as_str())];
            ConstGauge::new(i64::from(state == service.state)).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Times that a service's circuit breaker has opened";
    let mut family = encoder.encode_descriptor("routing_breaker_openings", help, None, MetricType::Counter)?;
    for service in services {
        let labels = [("service", service.service)];
        ConstCounter::new(service.openings).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn latencies(encoder: &mut DescriptorEncoder<'_>, services: &[ServiceFigures]) -> fmt::Result {
    let help = "Duration of calls of other services";
    let mut family = encoder.encode_descriptor("routing_call_seconds", help, None, MetricType::Histogram)?;
    for service in services {
        let Latency { classes, sum_seconds } = service.latency;
        let bounds = LATENCIES.into_iter().chain([f64::INFINITY]);
        let classes: Vec<(f64, u64)> = bounds.zip(classes).collect();
        let labels = [("service", service.service)];
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<NoLabelSet>(sum_seconds, service.latency.count(), &classes, None)?;
    }
    Ok(())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::clock::Clock;
    use crate::routing::{Service, Settings};

    #[test]
    fn metrics_name_the_service() {
        let mut settings = Settings::new(Vec::new());
        settings.agent = Some(Service::agent("http://127.0.0.1:9".parse().unwrap()));
        let mut registry = Registry::with_prefix("dats");
        registry.register_collector(Box::new(Metrics::new(Arc::new(Services::new(&settings, &Clock::new()).unwrap()))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "dats_routing_findings_total 0",
            "dats_routing_calls_total{service=\"agent\",outcome=\"left_alone\"} 0",
            "dats_routing_breaker{service=\"agent\",state=\"closed\"} 1",
            "dats_routing_breaker{service=\"agent\",state=\"open\"} 0",
            "dats_routing_call_seconds_bucket{le=\"20.0\",service=\"agent\"} 0",
            "dats_routing_call_seconds_bucket{le=\"+Inf\",service=\"agent\"} 0",
        ] {
            assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
        }
        assert!(!text.contains("rag"));
    }
}
