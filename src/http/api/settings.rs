//! The settings of the API.

use std::time::Duration;

use crate::task::Tier;

/// The settings of the API.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The version in health responses.
    pub version: String,
    /// The name of the service in metrics.
    pub service_name: String,
    /// The tiers that submissions and workers may name.
    pub tiers: Vec<Tier>,
    /// The default duration of a lease.
    pub lease_default: Duration,
    /// The longest duration of a lease.
    pub lease_max: Duration,
    /// The time between the comments that keep an idle stream open.
    pub heartbeat: Duration,
}
