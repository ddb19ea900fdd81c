//! Taints, marks and clears: planned beside the writer, and carried out by it with
//! what the plan has found, where that still holds.

use super::api::{Cascade, CascadeRequest, Refusal};
use super::group::InStore;
use super::machine::Machine;
use super::plan::{Attempt, PlannedStep, Planning, Snapshot, Validity};
use super::statements::{InView, NewStatement, unsaid};
use super::undo_plan::details_of;
use super::users::Users;
use crate::lineage::{Action, Flag, Known, Replaced, Step};
use crate::store::{self, CascadeRow, Cause, Changes};
use crate::task::{Input, Now, RecordId, RecordStatus, Seq, TaskId};

type Stored<T> = Result<T, store::Error>;

/// What a taint, a mark or a clear does.
#[derive(Debug)]
pub(super) struct CascadePlan {
    record: RecordId,
    new: Vec<NewStatement>,
    /// Whether the record counts as validated from then on.
    is_judged: bool,
    step: PlannedStep,
    /// `None`: nobody asks for the tasks that use what became suspect.
    users: Option<Users>,
}

/// What was said.
struct SaidNow {
    seq: Seq,
    step: Step,
    is_change: bool,
    told: Changes,
}

/// Found good after another look: it counts as validated.
fn is_judged(action: Action, known: &Known) -> bool {
    action == Action::Clear && known.flag != Flag::Clean && known.status != RecordStatus::HumanApproved
}

impl CascadePlan {
    /// Plans what a request does; `with_users`: also which running tasks it affects.
    pub(super) fn new(
        snapshot: &Snapshot,
        request: &CascadeRequest,
        with_users: bool,
    ) -> Stored<Result<Self, Refusal>> {
        let graph = &*snapshot.graph;
        let Some(known) = request.subject.resolve(graph).and_then(|node| graph.record(node)) else {
            return Ok(Err(Refusal::SubjectNotFound(request.subject.clone())));
        };
        let mut planning = Planning::on(graph);
        let sayings = &mut InView::new(&snapshot.view, graph);
        let new = unsaid(request.action, &[known.id], &request.cascade_id, graph, sayings)?;
        let named: Vec<RecordId> = new.iter().map(|new| new.id).collect();
        let mut step = Step::default();
        if !named.is_empty() {
            step = planning.change(|graph, seq| graph.apply(request.action, &named, seq))?;
        }
        let is_judged = is_judged(request.action, &known);
        if is_judged {
            planning.judge(known.id, RecordStatus::Passed, &mut step)?;
        }
        let step = planning.finish(step, &named);
        let users = if with_users { Some(Users::of(snapshot, &step.after, &step.step)?) } else { None };
        Ok(Ok(Self { record: known.id, new, is_judged, step, users }))
    }
}

#[cfg(test)]
impl CascadePlan {
    /// Whether the writer makes the step itself where the graph has moved on.
    pub(super) const fn set_small(&mut self, is_small: bool) {
        self.step.is_small = is_small;
    }
}

impl Machine {
    /// Carries out a plan. Where it no longer holds, the caller plans again as long as
    /// this is not the last try; a small step is made on the graph as it is.
    pub(super) fn try_cascade(
        &mut self,
        request: CascadeRequest,
        plan: CascadePlan,
        is_last: bool,
        now: Now,
    ) -> Stored<Result<Attempt<Cascade>, Refusal>> {
        let is_whole = plan.step.validity(&self.provenance) == Validity::Whole;
        if !(is_whole || is_last || plan.step.is_small) {
            return Ok(Ok(Attempt::Stale));
        }
        Ok(self.cascade(request, Some(plan), now)?.map(|cascade| Attempt::Done(Box::new(cascade))))
    }

    /// Taints, marks or clears, in one step with all that follows. Where the plan no
    /// longer holds, or there is none, the step is made on the graph as it is.
    pub(super) fn cascade(
        &mut self,
        request: CascadeRequest,
        plan: Option<CascadePlan>,
        now: Now,
    ) -> Stored<Result<Cascade, Refusal>> {
        let graph = self.provenance.graph();
        let Some(known) = request.subject.resolve(graph).and_then(|node| graph.record(node)) else {
            return Ok(Err(Refusal::SubjectNotFound(request.subject)));
        };
        // An event neither cancels them nor has an answer that names them.
        let wants_users = request.cancel_running || plan.as_ref().is_some_and(|plan| plan.users.is_some());
        let (said, users, is_planned) = match plan {
            Some(plan) if plan.record == known.id && plan.step.validity(&self.provenance) == Validity::Whole => {
                (self.say_as_planned(&request, plan.new, plan.is_judged, plan.step)?, plan.users, true)
            }
            plan => (self.say_now(&request, &known)?, plan.and_then(|plan| plan.users), false),
        };
        let running =
            if wants_users { self.running_users(&said.step, users.as_ref(), is_planned)? } else { Vec::new() };
        if said.is_change {
            let cause =
                Cause::Said { action: request.action, record: known.id, artifact: request.subject.artifact().cloned() };
            let row = CascadeRow {
                at: now.wall,
                cascade_id: request.cascade_id.clone(),
                cause,
                reason: request.reason.clone(),
                source: request.source.clone(),
            };
            // A mark on what is suspect anyway changes no flag, but counts once the taint has gone.
            self.group.batch.put_cascade(said.seq, &row, said.told)?;
        }
        let cancelled = if request.cancel_running { self.cancel_users(&running, &request, now)? } else { Vec::new() };
        let graph = self.provenance.graph().clone();
        let (cascade_id, is_change) = (request.cascade_id, said.is_change);
        Ok(Ok(Cascade { cascade_id, record: known.id, graph, step: said.step, is_change, running, cancelled }))
    }

    fn say_as_planned(
        &mut self,
        request: &CascadeRequest,
        new: Vec<NewStatement>,
        is_judged: bool,
        planned: PlannedStep,
    ) -> Stored<SaidNow> {
        let Some(id) = new.first().map(|new| new.id) else {
            let (seq, told) = (planned.base, Changes::default());
            return Ok(SaidNow { seq, step: Step::default(), is_change: false, told });
        };
        let (seq, step, told) = self.provenance.adopt(planned);
        self.keep_said(seq, new, &request.cascade_id);
        if is_judged {
            self.keep_passed(id)?;
        }
        Ok(SaidNow { seq, step, is_change: true, told })
    }

    fn say_now(&mut self, request: &CascadeRequest, known: &Known) -> Stored<SaidNow> {
        let mut said = self.say(request.action, &[known.id], &request.cascade_id)?;
        if is_judged(request.action, known) {
            let more = self.provenance.settle(known.id, RecordStatus::Passed)?.flags;
            if !more.is_empty() {
                said.step.flags.extend(more);
                said.step.join();
                said.step.flags.sort_by_key(|change| change.depth);
            }
            self.keep_passed(known.id)?;
        }
        let graph = self.provenance.graph();
        let told = Changes::of(graph, &said.told(graph));
        Ok(SaidNow { seq: said.seq, is_change: !said.named.is_empty(), step: said.step, told })
    }

    /// Gives a record that was cleared the verdict `passed`, and keeps the one
    /// that it had. One that had failed is an input again.
    fn keep_passed(&mut self, id: RecordId) -> Stored<()> {
        let stored = InStore { store: &self.store, recent: &self.recent };
        let Some(record) = self.group.record(stored, id)? else { return Ok(()) };
        let (status, details) = (record.status, details_of(record.verification.as_deref()));
        record.status = RecordStatus::Passed;
        let statement = self.group.statements.get_mut(&id).and_then(|statements| statements.last_mut());
        if let Some(statement) = statement.filter(|_| status != RecordStatus::Passed) {
            statement.replaced = Some(Replaced { status, details });
        }
        Ok(())
    }

    fn cancel_users(&mut self, users: &[TaskId], request: &CascadeRequest, now: Now) -> Stored<Vec<TaskId>> {
        let reason = format!("it uses what became suspect in cascade {}", request.cascade_id);
        let mut cancelled = Vec::new();
        for task in users {
            let input = Input::Cancel { reason: Some(reason.clone()) };
            if self.apply(*task, input, None, now)?.is_ok() {
                cancelled.push(*task);
            }
        }
        Ok(cancelled)
    }
}
