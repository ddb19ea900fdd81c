//! Events of other services: duplicates are recognized, and the others have their effect on
//! the task, the record or the project that they are about.

use super::cascade::{self, CascadePlan};
use super::event_plan::EventPlan;
use super::failure::{Failure, Stored};
use super::ids::IdSource;
use super::provenance::Validity;
use super::rollback::RollbackCommands;
use super::rollback_plan::RollbackPlan;
use super::taken_events::event_hash;
use super::tier;
use super::transitions::{EngineState, Original};
use crate::engine::api::{
    CascadeRequest, EventContent, EventOutcome, IncomingEvent, PreparedEvent, Refusal, RollbackRequest, Settings,
    Subject,
};
use crate::store::{self, About, LogEntry};
use crate::task::{Change, Correlation, EventHash, Input, Now, Outcome, ProjectId, RecordId, Report, Stale};

/// Accepts events, and what they may change.
#[derive(Debug)]
pub(super) struct EventCommands<'a> {
    pub(super) settings: &'a Settings,
    pub(super) ids: &'a IdSource,
    pub(super) state: &'a mut EngineState,
}

impl EventCommands<'_> {
    /// Accepts an event of another service.
    pub(super) fn accept(
        &mut self,
        incoming: PreparedEvent,
        plan: Option<EventPlan>,
        now: Now,
    ) -> Result<EventOutcome, Failure> {
        let hash = hash_of(&incoming.event);
        if hash.is_some_and(|hash| self.state.inbox.taken.contains(hash)) {
            return Ok(EventOutcome::Duplicate);
        }
        self.take(incoming, plan, hash, now)
    }

    /// Accepts the event that a dead letter holds. If it is taken, the dead letter goes.
    pub(super) fn requeue(
        &mut self,
        number: u64,
        (incoming, plan): (PreparedEvent, Option<EventPlan>),
        now: Now,
    ) -> Result<EventOutcome, Failure> {
        if !self.state.inbox.dead_letters.contains(number) {
            return Err(Refusal::DeadLetterNotFound(number).into());
        }
        let hash = hash_of(&incoming.event);
        // The other services have it since it came first.
        let incoming = PreparedEvent { event: IncomingEvent { on_bus: true, ..incoming.event }, ..incoming };
        // Its producer may have sent it again meanwhile: then that event counts.
        let outcome = if hash.is_some_and(|hash| self.state.inbox.taken.contains(hash)) {
            EventOutcome::Duplicate
        } else {
            self.take(incoming, plan, hash, now)?
        };
        self.state.inbox.dead_letters.remove_requeued(&mut self.state.group.batch, number, now)?;
        Ok(outcome)
    }

    fn take(
        &mut self,
        PreparedEvent { event, files }: PreparedEvent,
        plan: Option<EventPlan>,
        hash: Option<EventHash>,
        now: Now,
    ) -> Result<EventOutcome, Failure> {
        // Before its effect: it may become a dead letter at once, and then is forgotten again.
        if let Some(hash) = hash {
            self.state.inbox.taken.insert(hash);
        }
        let IncomingEvent { message, raw, on_bus, .. } = event;
        let original = Original { text: raw, on_bus };
        self.state.provenance.records.set_content_files(files);
        let outcome = match message {
            EventContent::Report { correlation, report } => self.take_report(&correlation, report, original, hash, now),
            EventContent::Cascade { name, request } => {
                let plan = plan.and_then(EventPlan::into_cascade);
                self.take_cascade(name, (*request, plan), original, now)
            }
            EventContent::Rollback(request) => {
                let plan = plan.and_then(EventPlan::into_rollback);
                self.take_rollback(&request, plan, original, now)
            }
        };
        self.state.provenance.records.set_content_files(Vec::new());
        if let (Err(Failure::Refused(_)), Some(hash)) = (&outcome, hash) {
            self.state.inbox.taken.withdraw(hash);
        }
        outcome.map(EventOutcome::Taken)
    }

    fn take_report(
        &mut self,
        correlation: &Correlation,
        report: Report,
        original: Original,
        hash: Option<EventHash>,
        now: Now,
    ) -> Result<Outcome, Failure> {
        let task = self.state.lines.correlate(correlation).ok_or(Refusal::NothingCorrelates)?;
        let record = RecordId::new(self.ids.next(now));
        let name = report.name();
        let shows_worker = matches!(report, Report::Started(_) | Report::Output(_));
        let before = if shows_worker { self.state.tasks.find_open(task)? } else { None };
        let before = before.map(|task| (task.tier.clone(), task.phase()));
        let input = Input::Report { report, record, raw: original.text.clone(), event: hash };
        let outcome = self.state.apply(task, input, Some(original), now)?;
        if let (Some((tier, phase)), Outcome::Applied) = (before, &outcome) {
            tier::record_worker_report(self.state, &tier, phase, name)?;
        }
        Ok(outcome)
    }

    fn take_cascade(
        &mut self,
        name: &str,
        (request, plan): (CascadeRequest, Option<CascadePlan>),
        original: Original,
        now: Now,
    ) -> Result<Outcome, Failure> {
        let is_unknown = |source: &&String| Subject::find(self.state.provenance.graph(), source).is_none();
        if let Some(source) = request.source.as_ref().filter(is_unknown) {
            return Err(Refusal::SourceNotFound(source.clone()).into());
        }
        let cascade = cascade::apply(self.state, request, plan, now)?;
        let outcome = outcome(cascade.is_change);
        let known = cascade.graph.find(cascade.record).and_then(|node| cascade.graph.record(node));
        let project = known.and_then(|known| ProjectId::new(cascade.graph.project_id(known.project)?).ok());
        let Some(project) = project else {
            let detail = format!("record {} has no project", cascade.record);
            return Err(store::Error::Corrupt { table: "lineage", detail }.into());
        };
        self.log_accepted(project, About::Record(cascade.record), (name, outcome), original, now)?;
        Ok(outcome)
    }

    fn take_rollback(
        &mut self,
        request: &RollbackRequest,
        plan: Option<RollbackPlan>,
        original: Original,
        now: Now,
    ) -> Result<Outcome, Failure> {
        let plan = match plan {
            Some(plan) => plan,
            // The writer has made sure that nothing of the group is uncommitted.
            None => RollbackPlan::new(&self.state.snapshot()?, request, &self.settings.router, false)?,
        };
        let rollback = self.rollback_commands().carry_out(request, plan, now)?;
        let project = rollback.checkpoint.project.clone();
        let (tasks, records) = (rollback.cancelled.len(), rollback.step.flags.len());
        let dry_run = request.dry_run;
        tracing::info!(%project, checkpoint = %request.checkpoint, dry_run, records, tasks, "rollback by an event");
        // A dry run has done what was asked for.
        let outcome = outcome(dry_run || rollback.is_change());
        self.log_accepted(project, About::Project, ("rollback.requested", outcome), original, now)?;
        Ok(outcome)
    }

    /// Whether an event can be accepted with its plan, or without one where it needs none. A
    /// rollback whose plan does not hold must be planned again, from what is committed.
    pub(super) fn holds(&mut self, event: &IncomingEvent, plan: Option<&EventPlan>) -> bool {
        match plan {
            Some(EventPlan::Rollback(plan)) => self.rollback_commands().validity(plan) != Validity::Gone,
            Some(EventPlan::Cascade(_)) | None => !event.is_rollback(),
        }
    }

    fn rollback_commands(&mut self) -> RollbackCommands<'_> {
        RollbackCommands { settings: self.settings, ids: self.ids, state: self.state }
    }

    fn log_accepted(
        &mut self,
        project: ProjectId,
        about: About,
        (name, outcome): (&str, Outcome),
        original: Original,
        now: Now,
    ) -> Stored<()> {
        let change = Change::Accepted { name: name.to_owned(), outcome };
        let Original { text, on_bus } = original;
        let (at, observed) = (now.wall, now.observed);
        let entry = LogEntry { at, project, about, change, event: Some(text), on_bus, observed };
        self.state.log.append(&mut self.state.group.batch, entry)
    }
}

fn hash_of(event: &IncomingEvent) -> Option<EventHash> {
    event.identity.as_ref().map(|(source, id)| event_hash(source, id))
}

const fn outcome(has_changed: bool) -> Outcome {
    if has_changed { Outcome::Applied } else { Outcome::Stale(Stale::AlreadySo) }
}
