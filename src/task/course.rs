//! The steps of a task's life in observed time, beside the calendar times that
//! people see: what took how long is known also where the wall clock stepped
//! meanwhile.

use serde::{Deserialize, Serialize};

use super::id::Seq;
use super::moment::{Moment, Now};

/// When a task began and ended, and after what its attempts began. All of it is
/// empty in rows that were written before it was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// When a worker first took it.
    pub started: Option<Moment>,
    /// When it ended.
    pub ended: Option<Moment>,
    /// When anything about it last changed: with the calendar time of the same
    /// change it tells how the two related then.
    pub updated: Option<Moment>,
    /// After which step of the provenance graph each attempt began, by its
    /// number, ascending.
    pub attempts: Vec<(u32, Seq)>,
}

impl Course {
    /// Of a task that is submitted now; `has_ended` if it fails at once.
    pub(super) fn submitted(has_ended: bool, now: Now) -> Self {
        Self { ended: has_ended.then_some(now.observed), updated: Some(now.observed), ..Self::default() }
    }
}
