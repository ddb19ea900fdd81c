//! When a task changed, in observed time, beside the calendar times that people see. Durations are
//! known also if the wall clock stepped meanwhile.

use serde::{Deserialize, Serialize};

use super::id::Seq;
use super::moment::{Moment, Now};

/// Observed times of a task, and the graph positions at which its attempts started. All fields are
/// empty in rows written before these fields existed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// When a worker first had the task.
    pub started: Option<Moment>,
    /// When the task ended.
    pub ended: Option<Moment>,
    /// When the task last changed. Together with the calendar time of the same change it shows how
    /// the two axes related.
    pub updated: Option<Moment>,
    /// For each attempt, by number and ascending, the position of the provenance graph at which it
    /// started.
    pub attempts: Vec<(u32, Seq)>,
}

impl Course {
    /// Times of a task that is submitted at `now`. `has_ended` if the task fails at once.
    pub(super) fn submitted(has_ended: bool, now: Now) -> Self {
        Self { ended: has_ended.then_some(now.observed), updated: Some(now.observed), ..Self::default() }
    }
}
