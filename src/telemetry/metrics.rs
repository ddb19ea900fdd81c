//! What became of spans as a metric, read when it is asked for.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::figures::Figures;

/// Reads the counts of spans; to be registered as a collector.
#[derive(Debug)]
pub struct Metrics {
    figures: Arc<Figures>,
}

impl Metrics {
    pub(super) const fn new(figures: Arc<Figures>) -> Self {
        Self { figures }
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.figures.counts();
        let help = "Spans by what became of them: sent to the collector, not taken by it, or without a place to wait";
        let mut spans = encoder.encode_descriptor("trace_spans", help, None, MetricType::Counter)?;
        for (outcome, count) in [("sent", counts.sent), ("failed", counts.failed), ("dropped", counts.dropped)] {
            ConstCounter::new(count).encode(spans.encode_family(&[("outcome", outcome)])?)?;
        }
        Ok(())
    }
}
