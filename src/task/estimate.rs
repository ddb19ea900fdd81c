//! The predicted completion of a task, as it is stored with the task.

use serde::{Deserialize, Serialize};

use super::id::{Domain, Tier};
use super::moment::Moment;

/// The prediction made when a task was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimated {
    /// Start of the predicted time: the submission, `not_before`, or the predicted completion of
    /// the dependencies.
    pub from: Moment,
    /// Predicted wait and execution before the factor is applied, in milliseconds.
    pub base_ms: u64,
    /// Predicted completion, the factor included.
    pub at: Moment,
    /// The cohort that the prediction was made from. Routing may later find that the task is of
    /// another kind.
    pub cohort: Cohort,
}

/// Tasks that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cohort {
    /// All tasks.
    All,
    /// The tasks of a tier.
    Tier(Tier),
    /// The tasks of a tier and a domain.
    Kind(Tier, Domain),
}
