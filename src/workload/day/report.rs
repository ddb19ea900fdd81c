//! The report of a day.

use std::collections::BTreeMap;

use serde::Serialize;

use super::findings::{Finding, RequestCounts};
use super::resources::Resources;

/// The report of a day.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// Version that the server reports.
    pub server_version: String,
    /// Seed of the plan.
    pub seed: u64,
    /// Length of the stage of work.
    pub minutes: u64,
    /// Whether there are no findings.
    pub holds: bool,
    /// Tasks whose submission was acknowledged.
    pub tasks: u64,
    /// Outputs that were acknowledged as applied.
    pub outputs: u64,
    /// How often the server was killed.
    pub kills: u64,
    /// Seconds from the end of the stage of work until all tasks had ended.
    pub drained_in_seconds: u64,
    /// Counts of the requests by kind.
    pub requests: BTreeMap<&'static str, RequestCounts>,
    /// Resources after an idle start, after the work, and a little later; empty for a server
    /// that was running before.
    pub resources: Vec<Resources>,
    /// Number of findings by kind.
    pub counts: BTreeMap<&'static str, u64>,
    /// A few findings of each kind.
    pub findings: Vec<Finding>,
}
