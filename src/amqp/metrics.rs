//! The figures of the broker as metrics, read at each scrape.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::broker::{Broker, Figures, LinkState};

/// A collector that reads the figures of the broker.
#[derive(Debug)]
pub struct Metrics {
    broker: Arc<Broker>,
}

impl Metrics {
    /// Returns the collector of a broker.
    #[must_use]
    pub const fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.broker.figures();
        let counters = [
            ("amqp_published", "Messages that the broker has confirmed", figures.published),
            (
                "amqp_returned",
                "Mandatory messages that the broker returned because no queue took them",
                figures.returned,
            ),
            ("amqp_nacked", "Messages that the broker rejected with a nack", figures.nacked),
            (
                "amqp_refused",
                "Messages that the broker refused because of their content, such as their size",
                figures.refused,
            ),
            ("amqp_consumed", "Messages that were consumed and accepted", figures.consumed),
            ("amqp_dead_lettered", "Messages that were consumed and became dead letters", figures.dead_lettered),
        ];
        for (name, help, value) in counters {
            ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let waiting = i64::try_from(figures.held).unwrap_or(i64::MAX);
        let help = "Events that were returned, nacked or refused and wait to be published again";
        ConstGauge::new(waiting).encode(encoder.encode_descriptor("amqp_held", help, None, MetricType::Gauge)?)?;
        links(&mut encoder, &figures)?;
        work_queues(&mut encoder, &figures)
    }
}

fn links(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    let links = [("publisher", &figures.publisher), ("consumer", &figures.consumer)];
    let mut states =
        encoder.encode_descriptor("amqp_link", "State of a connection to the broker", None, MetricType::Gauge)?;
    for (side, link) in links {
        for state in LinkState::ALL {
            let labels = [("side", side), ("state", state.as_str())];
            ConstGauge::new(i64::from(link.state == state)).encode(states.encode_family(&labels)?)?;
        }
    }
    let mut connects = encoder.encode_descriptor(
        "amqp_connects",
        "Connections to the broker that were established",
        None,
        MetricType::Counter,
    )?;
    for (side, link) in links {
        ConstCounter::new(link.connects).encode(connects.encode_family(&[("side", side)])?)?;
    }
    Ok(())
}

fn work_queues(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    let help = "Messages of a work queue that were not delivered to a worker";
    let mut ready = encoder.encode_descriptor("amqp_work_queue_ready", help, None, MetricType::Gauge)?;
    for (tier, waiting) in &figures.waiting {
        ConstGauge::new(i64::from(waiting.ready)).encode(ready.encode_family(&[("tier", tier.as_str())])?)?;
    }
    let mut consumers =
        encoder.encode_descriptor("amqp_work_queue_consumers", "Consumers of a work queue", None, MetricType::Gauge)?;
    for (tier, waiting) in &figures.waiting {
        ConstGauge::new(i64::from(waiting.consumers)).encode(consumers.encode_family(&[("tier", tier.as_str())])?)?;
    }
    Ok(())
}
