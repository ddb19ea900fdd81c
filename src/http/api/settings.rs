//! Settings of the API, checked by the code that builds them.

use std::time::Duration;

use crate::task::Tier;

/// Settings of the API.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The version that health and metrics show.
    pub version: String,
    /// The name of the service in metrics.
    pub service_name: String,
    /// The tiers that a submission or a worker may name.
    pub tiers: Vec<Tier>,
    /// Duration of a lease if the worker does not set it.
    pub lease_default: Duration,
    /// Longest lease that a worker may ask for.
    pub lease_max: Duration,
    /// Time between the comments that keep an idle stream open.
    pub heartbeat: Duration,
}
