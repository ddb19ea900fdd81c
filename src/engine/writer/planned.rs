//! Plans that were made beside the writer: carried out where they still hold.

use super::Writer;
use crate::engine::api::{Prepared, Refusal, Rollback, RollbackRequest, UndoRequest, Undone};
use crate::engine::plan::{Attempt, EventPlan, Validity};
use crate::engine::rollback_plan::RollbackPlan;
use crate::engine::undo_plan::UndoPlan;
use crate::store;
use crate::task::Now;

type Stored<T> = Result<T, store::Error>;

impl Writer {
    /// Drops the plan of a rollback that does not hold any more: the machine makes
    /// another one then, from what is committed.
    pub(super) fn settle_plan(
        &mut self,
        event: &Prepared,
        plan: Option<EventPlan>,
        now: Now,
    ) -> Stored<Option<EventPlan>> {
        let holds = match &plan {
            Some(EventPlan::Rollback(plan)) => plan.validity(&self.machine) != Validity::Gone,
            Some(EventPlan::Cascade(_)) | None => !event.event.is_rollback(),
        };
        if holds {
            return Ok(plan);
        }
        self.commit(now)?;
        Ok(None)
    }

    /// Carries out the plan of a rollback. The last resort is a plan of the writer's own.
    pub(super) fn roll_back(
        &mut self,
        request: &RollbackRequest,
        mut plan: RollbackPlan,
        is_last: bool,
        now: Now,
    ) -> Stored<Result<Attempt<Rollback>, Refusal>> {
        let validity = plan.validity(&self.machine);
        if validity.is_stale(plan.step.is_small, is_last) {
            return Ok(Ok(Attempt::Stale));
        }
        if validity == Validity::Gone {
            self.commit(now)?;
            let router = &self.machine.settings.router;
            plan = match RollbackPlan::new(&self.machine.snapshot()?, request, router, true)? {
                Ok(plan) => plan,
                Err(refusal) => return Ok(Err(refusal)),
            };
        }
        Ok(Ok(Attempt::Done(Box::new(self.machine.rollback(request, plan, now)?))))
    }

    /// Carries out the plan of an undo. The last resort is a plan of the writer's own.
    pub(super) fn undo(
        &mut self,
        request: &UndoRequest,
        mut plan: UndoPlan,
        is_last: bool,
        now: Now,
    ) -> Stored<Result<Attempt<Undone>, Refusal>> {
        let validity = plan.validity(&self.machine);
        if validity.is_stale(plan.step.is_small, is_last) {
            return Ok(Ok(Attempt::Stale));
        }
        if validity == Validity::Gone {
            self.commit(now)?;
            plan = match UndoPlan::new(&self.machine.snapshot()?, &request.cascade_id)? {
                Ok(plan) => plan,
                Err(refusal) => return Ok(Err(refusal)),
            };
        }
        Ok(Ok(Attempt::Done(Box::new(self.machine.undo(request, plan, now)?))))
    }
}
