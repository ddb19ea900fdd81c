//! Taints, marks and clears: planned beside the writer, and carried out by it with what the
//! plan has found, as far as that still holds.

use super::affected::{AffectedTasks, running_users};
use super::failure::{Failure, Stored, unless_refused};
use super::provenance::{NewStatement, PlannedStep, Planning, Provenance, StatementLookup, Validity, new_statements};
use super::replaced_verdicts::details_hash;
use super::snapshot::{Attempt, Snapshot};
use super::storage::Storage;
use super::transitions::EngineState;
use crate::engine::api::{Cascade, CascadeRequest, Refusal, Subject};
use crate::lineage::{Action, Flag, Graph, RecordState, ReplacedVerdict, Step};
use crate::store::{CascadeRow, Cause, FlagChanges};
use crate::task::{Input, Now, RecordId, RecordStatus, Seq, TaskId};

/// What a taint, a mark or a clear does.
#[derive(Debug)]
pub(crate) struct CascadePlan {
    record: RecordId,
    new: Vec<NewStatement>,
    /// Whether the record counts as validated from then on.
    is_judged: bool,
    step: PlannedStep,
    /// The running tasks that use what becomes suspect, if the request asks for them.
    affected: Option<AffectedTasks>,
}

/// A step that was made or adopted.
struct AppliedStep {
    seq: Seq,
    step: Step,
    is_change: bool,
    changes: FlagChanges,
}

/// Whether a request gives the record the verdict `passed`: a record that is found good after
/// another look counts as validated.
fn is_judged(action: Action, known: &RecordState) -> bool {
    action == Action::Clear && known.flag != Flag::Clean && known.status != RecordStatus::HumanApproved
}

impl CascadePlan {
    /// Plans what a request does; `with_affected`: also which running tasks it affects.
    pub(crate) fn new(snapshot: &Snapshot, request: &CascadeRequest, with_affected: bool) -> Result<Self, Failure> {
        let graph = &*snapshot.graph;
        let known = find(graph, &request.subject)?;
        let mut planning = Planning::on(graph);
        let mut lookup = StatementLookup::in_view(&snapshot.view, graph);
        let new = new_statements(request.action, &[known.id], &request.cascade_id, &mut lookup)?;
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
        let affected = if with_affected { Some(AffectedTasks::of(snapshot, &step.after, &step.step)?) } else { None };
        Ok(Self { record: known.id, new, is_judged, step, affected })
    }
}

#[cfg(test)]
impl CascadePlan {
    /// Sets whether the writer makes the step itself where the graph has another version.
    pub(crate) const fn set_small(&mut self, is_small: bool) {
        self.step.is_small = is_small;
    }
}

/// The record that a subject names.
fn find(graph: &Graph, subject: &Subject) -> Result<RecordState, Refusal> {
    let known = subject.resolve(graph).and_then(|node| graph.record(node));
    known.ok_or_else(|| Refusal::SubjectNotFound(subject.clone()))
}

/// Carries out a plan. Where it no longer holds, the caller plans again, unless this is the
/// last try; a small step is made on the graph as it is.
pub(super) fn carry_out(
    state: &mut EngineState,
    request: CascadeRequest,
    plan: CascadePlan,
    is_last: bool,
    now: Now,
) -> Result<Attempt<Cascade>, Failure> {
    let is_whole = state.provenance.validity(&plan.step) == Validity::Whole;
    if !(is_whole || is_last || plan.step.is_small) {
        return Ok(Attempt::Stale);
    }
    let cascade = apply(state, request, Some(plan), now)?;
    Ok(Attempt::Done(Box::new(cascade)))
}

/// Taints, marks or clears, in one step with all that follows. Where the plan no longer
/// holds, or there is none, the step is made on the graph as it is.
pub(super) fn apply(
    state: &mut EngineState,
    request: CascadeRequest,
    plan: Option<CascadePlan>,
    now: Now,
) -> Result<Cascade, Failure> {
    let known = find(state.provenance.graph(), &request.subject)?;
    // An event neither cancels affected tasks nor has an answer that names them.
    let wants_affected = request.cancel_running || plan.as_ref().is_some_and(|plan| plan.affected.is_some());
    let (provenance, storage) = (&mut state.provenance, &state.storage);
    let (said, affected, is_planned) = match plan {
        Some(plan) if plan.record == known.id && provenance.validity(&plan.step) == Validity::Whole => {
            let affected = plan.affected;
            let said = apply_planned(provenance, storage, &request, plan.new, plan.is_judged, plan.step)?;
            (said, affected, true)
        }
        plan => (apply_now(provenance, storage, &request, &known)?, plan.and_then(|plan| plan.affected), false),
    };
    let running =
        if wants_affected { running_users(state, &said.step, affected.as_ref(), is_planned)? } else { Vec::new() };
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
        // A mark on a suspect record changes no flag, but counts once the taint has gone.
        state.group.batch.put_cascade(said.seq, &row, said.changes)?;
    }
    let cancelled = if request.cancel_running { cancel(state, &running, &request, now)? } else { Vec::new() };
    let graph = state.provenance.graph().clone();
    let (cascade_id, is_change) = (request.cascade_id, said.is_change);
    Ok(Cascade { cascade_id, record: known.id, graph, step: said.step, is_change, running, cancelled })
}

fn apply_planned(
    provenance: &mut Provenance,
    storage: &Storage,
    request: &CascadeRequest,
    new: Vec<NewStatement>,
    is_judged: bool,
    planned: PlannedStep,
) -> Stored<AppliedStep> {
    let Some(id) = new.first().map(|new| new.id) else {
        let (seq, changes) = (planned.base, FlagChanges::default());
        return Ok(AppliedStep { seq, step: Step::default(), is_change: false, changes });
    };
    let (seq, step, changes) = provenance.adopt_statements(planned, new, &request.cascade_id);
    if is_judged {
        set_passed(provenance, storage, id)?;
    }
    Ok(AppliedStep { seq, step, is_change: true, changes })
}

fn apply_now(
    provenance: &mut Provenance,
    storage: &Storage,
    request: &CascadeRequest,
    known: &RecordState,
) -> Stored<AppliedStep> {
    let mut said = provenance.make_statements(storage, request.action, &[known.id], &request.cascade_id)?;
    if is_judged(request.action, known) {
        let more = provenance.judge_within(known.id, RecordStatus::Passed)?.flags;
        if !more.is_empty() {
            said.step.flags.extend(more);
            said.step.join();
            said.step.flags.sort_by_key(|change| change.depth);
        }
        set_passed(provenance, storage, known.id)?;
    }
    let changes = said.changes(provenance.graph());
    Ok(AppliedStep { seq: said.seq, is_change: !said.named.is_empty(), step: said.step, changes })
}

/// Gives a record that was cleared the verdict `passed`, and keeps the one that it had. A
/// record that had failed is an input again.
fn set_passed(provenance: &mut Provenance, storage: &Storage, id: RecordId) -> Stored<()> {
    let Some(record) = provenance.records.get_mut(storage, id)? else { return Ok(()) };
    let (status, details) = (record.status, details_hash(record.verification.as_deref()));
    record.status = RecordStatus::Passed;
    if status != RecordStatus::Passed {
        provenance.keep_replaced_verdict(id, ReplacedVerdict { status, details });
    }
    Ok(())
}

/// Cancels running tasks that use what has become suspect. Returns those that were not ending
/// anyway.
fn cancel(state: &mut EngineState, users: &[TaskId], request: &CascadeRequest, now: Now) -> Stored<Vec<TaskId>> {
    let reason = format!("it uses what became suspect in cascade {}", request.cascade_id);
    let mut cancelled = Vec::new();
    for task in users {
        let input = Input::Cancel { reason: Some(reason.clone()) };
        if unless_refused(state.apply(*task, input, None, now))?.is_some() {
            cancelled.push(*task);
        }
    }
    Ok(cancelled)
}
