//! Metrics of the copy, collected on each scrape.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::status::{CopyState, Status};
use crate::clock::Clock;

/// A collector that reads the figures of the copy.
#[derive(Debug)]
pub struct Metrics {
    status: Arc<Status>,
    clock: Clock,
}

impl Metrics {
    /// Creates the collector.
    #[must_use]
    pub const fn new(status: Arc<Status>, clock: Clock) -> Self {
        Self { status, clock }
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.status.figures();
        let help = "Commits that are not copied to the database yet";
        let lag = encoder.encode_descriptor("replica_lag_changes", help, None, MetricType::Gauge)?;
        ConstGauge::new(signed(figures.lag_changes)).encode(lag)?;
        let help = "Age of the oldest commit that is not copied to the database yet";
        let lag = encoder.encode_descriptor("replica_lag_seconds", help, None, MetricType::Gauge)?;
        let now = self.clock.now();
        ConstGauge::new(figures.behind_since.map_or(0.0, |since| now.since(since).as_secs_f64())).encode(lag)?;
        let help = "Rows written to the database since the start";
        let rows = encoder.encode_descriptor("replica_rows", help, None, MetricType::Counter)?;
        ConstCounter::new(figures.rows).encode(rows)?;
        let help = "Rows that the database has refused, which wait for a repair";
        let rejects = encoder.encode_descriptor("replica_rejects", help, None, MetricType::Gauge)?;
        ConstGauge::new(signed(figures.rejects)).encode(rejects)?;
        let help = "1 for the current state of the copy";
        let mut family = encoder.encode_descriptor("replica_state", help, None, MetricType::Gauge)?;
        for state in CopyState::ALL {
            let value = i64::from(state == figures.state);
            ConstGauge::new(value).encode(family.encode_family(&[("state", state.as_str())])?)?;
        }
        Ok(())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
