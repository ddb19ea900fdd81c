//! The prediction of when a task completes, as it is kept with the task.

use serde::{Deserialize, Serialize};

use super::id::{Domain, Tier};
use super::moment::Moment;

/// What was foretold of a task when it was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimated {
    /// Since when its time counts: its submission, its `not_before`, or when
    /// the tasks it depends on were thought to be done.
    pub from: Moment,
    /// Wait and work as predicted, before the factor, in milliseconds.
    pub base_ms: u64,
    /// By when it should be done.
    pub at: Moment,
    /// What it was told from. Routing can find that the task is of another
    /// kind than it seemed.
    pub cohort: Cohort,
}

/// Tasks that are looked at together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cohort {
    /// All.
    All,
    /// Those of a tier.
    Tier(Tier),
    /// Those of a tier and a domain.
    Kind(Tier, Domain),
}
