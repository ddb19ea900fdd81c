//! The plan of an event that says something of records.

use super::cascade::CascadePlan;
use super::failure::{Stored, unless_refused};
use super::rollback_plan::RollbackPlan;
use super::snapshot::Snapshot;
use crate::engine::api::EventContent;
use crate::task::Router;

/// The plan of an event that says something of records.
#[derive(Debug)]
pub(crate) enum EventPlan {
    Cascade(Box<CascadePlan>),
    Rollback(Box<RollbackPlan>),
}

impl EventPlan {
    /// Plans what an event does. `None`: nothing of it is planned, or it names something that
    /// does not exist, which the writer finds as well.
    pub(crate) fn of(snapshot: &Snapshot, message: &EventContent, router: &Router) -> Stored<Option<Self>> {
        match message {
            EventContent::Report { .. } => Ok(None),
            EventContent::Cascade { request, .. } => {
                let plan = CascadePlan::new(snapshot, request, request.cancel_running);
                Ok(unless_refused(plan)?.map(|plan| Self::Cascade(Box::new(plan))))
            }
            EventContent::Rollback(request) => {
                let plan = RollbackPlan::new(snapshot, request, router, false);
                Ok(unless_refused(plan)?.map(|plan| Self::Rollback(Box::new(plan))))
            }
        }
    }

    pub(super) fn into_cascade(self) -> Option<CascadePlan> {
        match self {
            Self::Cascade(plan) => Some(*plan),
            Self::Rollback(_) => None,
        }
    }

    pub(super) fn into_rollback(self) -> Option<RollbackPlan> {
        match self {
            Self::Cascade(_) => None,
            Self::Rollback(plan) => Some(*plan),
        }
    }
}
