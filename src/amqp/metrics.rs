//! The figures of the broker as metrics, read when they are asked for.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::broker::{Broker, Figures, LinkState};

/// Reads the figures of the broker; to be registered as a collector.
#[derive(Debug)]
pub struct Metrics {
    broker: Arc<Broker>,
}

impl Metrics {
    /// The metrics of this broker.
    #[must_use]
    pub const fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.broker.figures();
        let counters = [
            ("amqp_published", "Messages that the broker confirmed", figures.published),
            ("amqp_returned", "Messages that no queue took where one must", figures.returned),
            ("amqp_nacked", "Messages that the broker refused", figures.nacked),
            (
                "amqp_refused",
                "Messages that the broker refused for themselves, such as too large ones",
                figures.refused,
            ),
            ("amqp_consumed", "Messages that were taken", figures.consumed),
            ("amqp_dead_lettered", "Messages that could not be taken", figures.dead_lettered),
        ];
        for (name, help, value) in counters {
            ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let waiting = i64::try_from(figures.held).unwrap_or(i64::MAX);
        let help = "Events that were refused or came back and wait for their next turn";
        ConstGauge::new(waiting).encode(encoder.encode_descriptor("amqp_held", help, None, MetricType::Gauge)?)?;
        links(&mut encoder, &figures)?;
        work_queues(&mut encoder, &figures)
    }
}

fn links(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    let links = [("publisher", &figures.publisher), ("consumer", &figures.consumer)];
    let mut states = encoder.encode_descriptor("amqp_link", "State of a connection", None, MetricType::Gauge)?;
    for (side, link) in links {
        for state in LinkState::ALL {
            let labels = [("side", side), ("state", state.as_str())];
            ConstGauge::new(i64::from(link.state == state)).encode(states.encode_family(&labels)?)?;
        }
    }
    let mut connects =
        encoder.encode_descriptor("amqp_connects", "Connections that were made", None, MetricType::Counter)?;
    for (side, link) in links {
        ConstCounter::new(link.connects).encode(connects.encode_family(&[("side", side)])?)?;
    }
    Ok(())
}

fn work_queues(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    let help = "Tasks that wait for a worker at the broker";
    let mut ready = encoder.encode_descriptor("amqp_work_queue_ready", help, None, MetricType::Gauge)?;
    for (tier, waiting) in &figures.waiting {
        ConstGauge::new(i64::from(waiting.ready)).encode(ready.encode_family(&[("tier", tier.as_str())])?)?;
    }
    let mut consumers =
        encoder.encode_descriptor("amqp_work_queue_consumers", "Workers of a tier", None, MetricType::Gauge)?;
    for (tier, waiting) in &figures.waiting {
        ConstGauge::new(i64::from(waiting.consumers)).encode(consumers.encode_family(&[("tier", tier.as_str())])?)?;
    }
    Ok(())
}
