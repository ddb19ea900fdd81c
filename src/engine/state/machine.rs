//! The state machine that the writer drives: each command borrows the owners of state that it
//! may change, and nothing else.
//!
//! It reads no clock: every call is told the time. An error of the store is fatal: the writer
//! stops.

#[cfg(test)]
mod housekeeping_tests;
#[cfg(test)]
mod plan_tests;
mod start;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::accept::EventCommands;
use super::cascade::{self, CascadePlan};
use super::checkpoint::CheckpointCommands;
use super::event_plan::EventPlan;
use super::failure::{Failure, Stored};
use super::grants;
use super::housekeeping::{self, Housekeeping};
use super::idempotency::IdempotencyKeys;
use super::ids::IdSource;
use super::import::{ImportCommands, ImportedEvents};
use super::project::ProjectCommands;
use super::provenance::Validity;
use super::rollback::RollbackCommands;
use super::rollback_plan::RollbackPlan;
use super::routing;
use super::snapshot::Attempt;
use super::submit::{self, Routed};
use super::tier;
use super::transitions::EngineState;
use super::undo::UndoCommands;
use super::undo_plan::UndoPlan;
use crate::engine::api::{
    Answer, Cascade, CascadeRequest, CascadeUndo, EventOutcome, Grant, IdempotencyKey, Import, ImportResult,
    IncomingEvent, LeaseRequest, NewCheckpoint, NewProject, PreparedEvent, ProjectPatch, Publication, QueueReport,
    Refusal, Rollback, RollbackRequest, Settings, Submissions, TakenRouting, Totals, UndoRequest, WorkQueue,
};
use crate::store::{Batch, Checkpoint, DeadLetter, Durable, Project, ReaderPosition, Room, Store};
use crate::task::{Finding, Input, LeaseId, Moment, Now, Outcome, ProjectId, RoutingStep, TaskId, Tier, Timestamp};

/// The state machine that the writer drives.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Arc<Settings>,
    state: EngineState,
    ids: IdSource,
    keys: IdempotencyKeys,
    imported_events: ImportedEvents,
    housekeeping: Housekeeping,
    /// Open tasks from before the start in a phase that the configured bus does not have.
    of_other_bus: Vec<TaskId>,
}

impl Machine {
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) const fn store(&self) -> &Store {
        self.state.storage.store()
    }

    /// The room on the disk of the store.
    pub(crate) fn room(&self) -> &Arc<Room> {
        self.state.storage.room()
    }

    /// The places of the log's readers, as they are on disk.
    pub(crate) const fn places(&self) -> &BTreeMap<String, ReaderPosition> {
        self.state.log.places()
    }

    // Tasks.

    /// Takes submissions. With a key that was used before, returns the first answer again.
    pub(crate) fn submit(
        &mut self,
        submissions: Vec<Routed>,
        key: Option<IdempotencyKey>,
        now: Now,
    ) -> Result<Submissions, Failure> {
        let context = (&*self.settings, &self.ids);
        submit::submit(&mut self.state, &mut self.keys, context, submissions, key, now)
    }

    /// Cancels a task. Returns its status answer.
    pub(crate) fn cancel(&mut self, task: TaskId, reason: Option<String>, now: Now) -> Result<Answer, Failure> {
        self.state.apply(task, Input::Cancel { reason }, None, now)?;
        let answer = self.state.tasks.answer(&self.state.storage, task, now)?;
        Ok(answer.ok_or(Refusal::TaskNotFound(task))?)
    }

    // Workers.

    /// Whether a tier is configured, or has had tasks.
    pub(crate) fn has_tier(&self, tier: &Tier) -> bool {
        self.state.lines.tier(tier).is_some()
    }

    /// Takes the next task that gets a slot out of its line, of those on tiers that are not
    /// paused and for which a worker waits.
    pub(crate) fn next_to_lease(&mut self, waits: impl Fn(&Tier) -> bool, now: Now) -> Option<(TaskId, Tier)> {
        self.state.lines.next_to_lease(waits, now)
    }

    /// Grants a task, which has been taken out of its line, to a worker.
    pub(crate) fn grant(&mut self, id: TaskId, request: &LeaseRequest, now: Now) -> Stored<Option<Grant>> {
        grants::grant(&mut self.state, &self.ids, id, request, now)
    }

    /// Renews a lease. Returns until when it is held, by the wall clock.
    pub(crate) fn renew(&mut self, lease: LeaseId, duration: Duration, now: Now) -> Result<Timestamp, Failure> {
        grants::renew(&mut self.state, lease, duration, now)
    }

    /// Gives a lease back. `delivered` tells whether its worker ever had it.
    pub(crate) fn release(&mut self, lease: LeaseId, delivered: bool, now: Now) -> Result<(), Failure> {
        grants::release(&mut self.state, lease, delivered, now)
    }

    /// Records a count of the work queue of a tier at the broker. Returns the tasks that have
    /// left the queue although no worker can have taken them.
    pub(crate) fn report_queue(&mut self, report: &QueueReport, now: Now) -> Stored<Vec<TaskId>> {
        tier::report_queue(&mut self.state, report, now)
    }

    // Routing.

    /// Hands out tasks that are to be routed, at most `max`.
    pub(crate) fn take_routing(&mut self, max: usize, now: Now) -> Stored<Vec<TakenRouting>> {
        routing::take(&mut self.state, max, now)
    }

    /// Applies a finding to a task.
    pub(crate) fn route(
        &mut self,
        task: TaskId,
        step: RoutingStep,
        finding: Finding,
        now: Now,
    ) -> Result<Outcome, Failure> {
        routing::route(&mut self.state, &self.ids, task, step, finding, now)
    }

    /// Takes a job back, to hand it out again at `until`.
    pub(crate) fn return_routing(&mut self, id: TaskId, until: Moment) -> Stored<()> {
        routing::return_job(&mut self.state, id, until)
    }

    // Events.

    fn event_commands(&mut self) -> EventCommands<'_> {
        EventCommands { settings: &self.settings, ids: &self.ids, state: &mut self.state }
    }

    /// Accepts an event of another service.
    pub(crate) fn accept(
        &mut self,
        incoming: PreparedEvent,
        plan: Option<EventPlan>,
        now: Now,
    ) -> Result<EventOutcome, Failure> {
        self.event_commands().accept(incoming, plan, now)
    }

    /// Accepts the event that a dead letter holds. If it is taken, the dead letter goes.
    pub(crate) fn requeue(
        &mut self,
        number: u64,
        event: (PreparedEvent, Option<EventPlan>),
        now: Now,
    ) -> Result<EventOutcome, Failure> {
        self.event_commands().requeue(number, event, now)
    }

    /// Whether an event can be accepted with its plan, or without one where it needs none. A
    /// rollback whose plan does not hold must be planned again, from what is committed.
    pub(crate) fn event_plan_holds(&mut self, event: &IncomingEvent, plan: Option<&EventPlan>) -> bool {
        self.event_commands().holds(event, plan)
    }

    /// Keeps messages that can't be taken.
    pub(crate) fn put_dead_letters(&mut self, letters: Vec<DeadLetter>, now: Now) -> Stored<()> {
        let EngineState { inbox, log, group, .. } = &mut self.state;
        inbox.dead_letters.put(&mut group.batch, letters, log.head(), now)
    }

    /// Discards dead letters. Returns how many of them there were.
    pub(crate) fn discard_dead_letters(&mut self, numbers: Vec<u64>, now: Now) -> Stored<u64> {
        self.state.inbox.dead_letters.discard(&mut self.state.group.batch, numbers, now)
    }

    // Provenance.

    /// Taints, marks or clears as planned.
    pub(crate) fn cascade(
        &mut self,
        request: CascadeRequest,
        plan: CascadePlan,
        is_last: bool,
        now: Now,
    ) -> Result<Attempt<Cascade>, Failure> {
        cascade::carry_out(&mut self.state, request, plan, is_last, now)
    }

    fn rollback_commands(&mut self) -> RollbackCommands<'_> {
        RollbackCommands { settings: &self.settings, ids: &self.ids, state: &mut self.state }
    }

    /// How far the plan of a rollback still holds.
    pub(crate) fn rollback_validity(&mut self, plan: &RollbackPlan) -> Validity {
        self.rollback_commands().validity(plan)
    }

    /// Plans a rollback. Nothing of the group may be uncommitted.
    pub(crate) fn plan_rollback(&self, request: &RollbackRequest) -> Result<RollbackPlan, Failure> {
        RollbackPlan::new(&self.state.snapshot()?, request, &self.settings.router, true)
    }

    /// Rolls a project back as planned. All of the plan but its step must hold.
    pub(crate) fn roll_back(&mut self, request: &RollbackRequest, plan: RollbackPlan, now: Now) -> Stored<Rollback> {
        self.rollback_commands().carry_out(request, plan, now)
    }

    fn undo_commands(&mut self) -> UndoCommands<'_> {
        let EngineState { storage, provenance, checkpoints, group, .. } = &mut self.state;
        UndoCommands { storage, provenance, checkpoints, group }
    }

    /// How far the plan of an undo still holds.
    pub(crate) fn undo_validity(&mut self, plan: &UndoPlan) -> Validity {
        self.undo_commands().validity(plan)
    }

    /// Plans the undo of a cascade. Nothing of the group may be uncommitted.
    pub(crate) fn plan_undo(&self, cascade_id: &str) -> Result<UndoPlan, Failure> {
        UndoPlan::new(&self.state.snapshot()?, cascade_id)
    }

    /// Undoes a cascade as planned. All of the plan but its step must hold.
    pub(crate) fn undo(&mut self, request: &UndoRequest, plan: UndoPlan, now: Now) -> Stored<CascadeUndo> {
        self.undo_commands().carry_out(request, plan, now)
    }

    fn checkpoint_commands(&mut self) -> CheckpointCommands<'_> {
        let EngineState { projects, provenance, checkpoints, group, .. } = &mut self.state;
        CheckpointCommands { projects, provenance, ids: &self.ids, checkpoints, group }
    }

    /// Makes a checkpoint on request.
    pub(crate) fn create_checkpoint(
        &mut self,
        project: &ProjectId,
        new: NewCheckpoint,
        now: Now,
    ) -> Result<Checkpoint, Failure> {
        self.checkpoint_commands().create(project, new, now)
    }

    /// Imports one item after the other.
    pub(crate) fn import(&mut self, items: &[Import], now: Now) -> Stored<Vec<ImportResult>> {
        let EngineState { storage, projects, lines, provenance, checkpoints, group, .. } = &mut self.state;
        let events = &mut self.imported_events;
        ImportCommands { storage, projects, lines, provenance, checkpoints, events, group }.import(items, now)
    }

    // Projects and tiers.

    fn project_commands(&mut self) -> ProjectCommands<'_> {
        let EngineState { projects, lines, group, .. } = &mut self.state;
        ProjectCommands { projects, lines, group }
    }

    pub(crate) fn create_project(&mut self, new: NewProject, now: Now) -> Result<Project, Failure> {
        self.project_commands().create(new, now)
    }

    /// Applies a patch, if the project still has the version that the caller knows.
    pub(crate) fn update_project(
        &mut self,
        id: &ProjectId,
        patch: ProjectPatch,
        if_version: Option<u64>,
        now: Now,
    ) -> Result<Project, Failure> {
        self.project_commands().update(id, patch, if_version, now)
    }

    /// Deletes a project without open tasks, if it still has the version that the caller
    /// knows.
    pub(crate) fn delete_project(&mut self, id: &ProjectId, if_version: Option<u64>, now: Now) -> Result<(), Failure> {
        self.project_commands().delete(id, if_version, now)
    }

    /// Pauses or resumes a project. Changes nothing if it is paused or resumed already.
    pub(crate) fn set_project_paused(&mut self, id: &ProjectId, pause: bool, now: Now) -> Result<Project, Failure> {
        self.project_commands().set_paused(id, pause, now)
    }

    /// Pauses or resumes a tier. Changes nothing if it is paused or resumed already.
    pub(crate) fn set_tier_paused(&mut self, tier: &Tier, pause: bool, now: Now) -> Result<WorkQueue, Failure> {
        tier::set_paused(&mut self.state.lines, &mut self.state.group, tier, pause, now)
    }

    // What is due.

    /// Does what is due: timers fire, parked verdicts that are too many are given up, jobs
    /// that were returned join their line again, and tasks are dispatched; at most `max` of
    /// each.
    pub(crate) fn do_what_is_due(&mut self, max: usize, now: Now) -> Stored<()> {
        grants::fire_timers(&mut self.state, max, now)?;
        for id in self.state.tasks.with_excess_parked() {
            self.state.give_up_parked_verdict(id, now)?;
        }
        routing::settle(&mut self.state, &self.ids, max, now)?;
        grants::dispatch(&mut self.state, max, now)
    }

    /// Whether something can be done at once, without waiting for a command or a timer.
    /// `waits` tells whether a worker waits for a tier.
    pub(crate) fn has_work(&self, waits: impl Fn(&Tier) -> bool) -> bool {
        let lines = &self.state.lines;
        lines.has_next_to_dispatch() || lines.has_next_to_lease(waits) || lines.routing.has_unserved()
    }

    /// How long until the next timer is due, or the next returned job joins its line again,
    /// if the wall clock is not set meanwhile.
    pub(crate) fn next_due(&self, now: Now) -> Option<Duration> {
        let lines = &self.state.lines;
        let rejoin = lines.routing.next_rejoin().map(|moment| moment.since(now.observed));
        rejoin.into_iter().chain(lines.next_timer(now)).min()
    }

    /// Runs one round of housekeeping. Returns whether there is more to do.
    pub(crate) fn run_housekeeping(&mut self, now: Now) -> Stored<bool> {
        self.housekeeping.run(&mut self.state, &mut self.keys, &self.settings, now)
    }

    /// Removes tasks that ended before a time, the oldest first: one round. Returns whether
    /// there may be more, and how many were removed.
    pub(crate) fn remove_ended_before(&mut self, before: Moment) -> Stored<(usize, bool)> {
        let count = self.housekeeping.remove_ended_before(&mut self.state, before, housekeeping::ROUND)?;
        Ok((count, count == housekeeping::ROUND))
    }

    /// Has the answers of all waiting tasks rendered again, because the wall clock was set.
    pub(crate) fn rerender_waiting(&mut self) {
        self.housekeeping.rerender_all();
    }

    /// Removes from the list of changes those that the copy elsewhere has.
    pub(crate) fn trim_changes(&mut self, copied: u64) -> Stored<()> {
        housekeeping::trim_changes(&mut self.state, copied)
    }

    // The log's readers.

    /// Gives every configured reader a place, and removes the places of the others.
    pub(crate) fn register_readers(&mut self, now: Now) -> Stored<()> {
        let EngineState { log, group, .. } = &mut self.state;
        log.register_readers(&mut group.batch, &self.settings.log_readers, now)
    }

    /// Stores the places of readers that have moved.
    pub(crate) fn keep_places(&mut self, moved: BTreeMap<String, ReaderPosition>) -> Stored<()> {
        let EngineState { log, group, .. } = &mut self.state;
        log.keep_places(&mut group.batch, moved)
    }

    // Groups.

    /// Ends the group: returns its rows, and what the read side learns when they are
    /// committed.
    pub(crate) fn finish(&mut self, now: Now) -> Stored<(Batch, Publication)> {
        self.checkpoint_commands().make_automatic(now)?;
        let state = &mut self.state;
        let (version, (mut batch, mut publication)) = (state.group.version, state.group.take());
        publication.projects = state.projects.take_changes(&mut state.provenance, &state.lines);
        publication.queues = state.lines.take_changed_queues();
        publication.graph = state.provenance.finish_graph(&mut batch, state.storage.store().id(), now)?;
        publication.answers.extend(state.tasks.finish(&state.storage, &mut batch, version, now)?);
        state.projects.finish(&mut batch)?;
        state.provenance.finish(&mut batch)?;
        state.checkpoints.finish(&mut batch)?;
        state.predictions.finish(&mut batch)?;
        if let Some(events) = state.inbox.taken.finish(state.log.head(), now.observed) {
            batch.put_taken_events(&events);
        }
        self.keys.finish();
        self.imported_events = ImportedEvents::default();
        batch.keep_ids_until(self.ids.until_ms());
        publication.version = version;
        self.add_totals(&mut publication);
        Ok((batch, publication))
    }

    /// Keeps the rows of a commit in memory until the tables have them.
    pub(crate) fn keep_recent(&mut self, durable: &Durable) {
        self.state.storage.keep(durable);
    }

    fn add_totals(&self, publication: &mut Publication) {
        let EngineState { lines, projects, log, inbox, predictions, .. } = &self.state;
        publication.head = log.head();
        publication.has_routing_work = lines.routing.has_next();
        publication.totals = Totals {
            tail: log.tail(),
            counters: projects.totals(),
            projects: projects.live(),
            paused_projects: u64::try_from(lines.paused_projects().len()).unwrap_or(u64::MAX),
            dead_letters: inbox.dead_letters.counts(),
            estimates: predictions.accuracy(),
        };
    }
}
