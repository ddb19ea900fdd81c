//! What became of spans and of log lines as metrics, read when they are asked for.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::figures::Figures;
use super::log::log_figures;

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

/// Reads the counts of log lines; to be registered as a collector.
#[derive(Debug)]
pub struct LogMetrics;

impl Collector for LogMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = log_figures();
        let help = "Log lines that are not in the log: dropped because stderr was not read, or summed up as repeated";
        let mut lines = encoder.encode_descriptor("log_lines_omitted", help, None, MetricType::Counter)?;
        for (reason, count) in [("dropped", figures.dropped), ("repeated", figures.repeated)] {
            ConstCounter::new(count).encode(lines.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }
}
