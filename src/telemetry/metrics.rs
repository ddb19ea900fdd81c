//! Counts of spans and of log lines as metrics, read when metrics are rendered.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::figures::Figures;
use super::log::log_figures;

/// A collector of the counts of spans.
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
        let help = "Spans by outcome: sent to the collector, failed to be sent, or dropped because the queue was full";
        let mut spans = encoder.encode_descriptor("trace_spans", help, None, MetricType::Counter)?;
        for (outcome, count) in [("sent", counts.sent), ("failed", counts.failed), ("dropped", counts.dropped)] {
            ConstCounter::new(count).encode(spans.encode_family(&[("outcome", outcome)])?)?;
        }
        Ok(())
    }
}

/// A collector of the counts of log lines.
#[derive(Debug)]
pub struct LogMetrics;

impl Collector for LogMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = log_figures();
        let help =
            "Log lines that were left out: dropped because stderr was not read, or repeated and counted in a summary";
        let mut lines = encoder.encode_descriptor("log_lines_omitted", help, None, MetricType::Counter)?;
        for (reason, count) in [("dropped", figures.dropped), ("repeated", figures.repeated)] {
            ConstCounter::new(count).encode(lines.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }
}
