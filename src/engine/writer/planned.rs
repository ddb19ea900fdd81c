//! Plans that were made beside the writer: carried out if they still hold.

use super::commit::Committer;
use crate::engine::api::{CascadeUndo, PreparedEvent, Rollback, RollbackRequest, UndoRequest};
use crate::engine::state::{Attempt, EventPlan, Failure, RollbackPlan, Stored, UndoPlan, Validity};
use crate::task::Now;

/// Returns the plan of an event if it still holds. Drops the plan of a rollback that does
/// not: the state machine makes another one then, from what is committed.
pub(super) fn settle_event_plan(
    committer: &mut Committer,
    event: &PreparedEvent,
    plan: Option<EventPlan>,
    now: Now,
) -> Stored<Option<EventPlan>> {
    if committer.machine.event_plan_holds(event.event(), plan.as_ref()) {
        return Ok(plan);
    }
    committer.commit(false, now)?;
    Ok(None)
}

/// Carries out the plan of a rollback. If this is the last try and the plan does not hold,
/// the writer makes a plan of its own.
pub(super) fn roll_back(
    committer: &mut Committer,
    request: &RollbackRequest,
    mut plan: RollbackPlan,
    is_last: bool,
    now: Now,
) -> Result<Attempt<Rollback>, Failure> {
    let validity = committer.machine.rollback_validity(&plan);
    if validity.is_stale(plan.is_small(), is_last) {
        return Ok(Attempt::Stale);
    }
    if validity == Validity::Gone {
        committer.commit(false, now)?;
        plan = committer.machine.plan_rollback(request)?;
    }
    let rollback = committer.machine.roll_back(request, plan, now)?;
    Ok(Attempt::Done(Box::new(rollback)))
}

/// Carries out the plan of an undo. If this is the last try and the plan does not hold, the
/// writer makes a plan of its own.
pub(super) fn undo(
    committer: &mut Committer,
    request: &UndoRequest,
    mut plan: UndoPlan,
    is_last: bool,
    now: Now,
) -> Result<Attempt<CascadeUndo>, Failure> {
    let validity = committer.machine.undo_validity(&plan);
    if validity.is_stale(plan.is_small(), is_last) {
        return Ok(Attempt::Stale);
    }
    if validity == Validity::Gone {
        committer.commit(false, now)?;
        plan = committer.machine.plan_undo(&request.cascade_id)?;
    }
    let undone = committer.machine.undo(request, plan, now)?;
    Ok(Attempt::Done(Box::new(undone)))
}
