//! Events of other services: known ones are told apart, the others have
//! their effect on the task, the record or the project they are about.

use super::api::{CascadeRequest, EventOutcome, Incoming, Message, Prepared, Refusal, RollbackRequest, Subject};
use super::machine::Machine;
use super::memory::event_hash;
use super::plan::EventPlan;
use super::rollback_plan::RollbackPlan;
use super::taint::CascadePlan;
use crate::store::{self, About, LogEntry};
use crate::task::{Change, Correlation, EventHash, Input, Now, Outcome, ProjectId, RecordId, Report, Stale};

/// An accepted event as it came.
#[derive(Debug)]
pub(super) struct Original {
    /// A structured `CloudEvent` in JSON.
    pub(super) text: String,
    /// Whether it was on the bus before.
    pub(super) on_bus: bool,
}

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Takes an event of another service.
    pub(super) fn accept(
        &mut self,
        incoming: Prepared,
        plan: Option<EventPlan>,
        now: Now,
    ) -> Stored<Result<EventOutcome, Refusal>> {
        let hash = incoming.event.identity.as_ref().map(|(source, id)| event_hash(source, id));
        if hash.is_some_and(|hash| self.taken.contains(hash)) {
            return Ok(Ok(EventOutcome::Duplicate));
        }
        self.take(incoming, plan, hash, now)
    }

    /// Takes a dead letter again as the event that it holds.
    pub(super) fn requeue(
        &mut self,
        number: u64,
        (incoming, plan): (Prepared, Option<EventPlan>),
        now: Now,
    ) -> Stored<Result<EventOutcome, Refusal>> {
        if !self.dead_letters.contains(number) {
            return Ok(Err(Refusal::DeadLetterNotFound(number)));
        }
        let hash = incoming.event.identity.as_ref().map(|(source, id)| event_hash(source, id));
        // The other services have it since it came first.
        let incoming = Prepared { event: Incoming { on_bus: true, ..incoming.event }, ..incoming };
        // Its producer may have sent it again meanwhile: then that one counts.
        let outcome = if hash.is_some_and(|hash| self.taken.contains(hash)) {
            Ok(EventOutcome::Duplicate)
        } else {
            self.take(incoming, plan, hash, now)?
        };
        if outcome.is_ok() {
            self.requeued(number, now)?;
        }
        Ok(outcome)
    }

    fn take(
        &mut self,
        Prepared { event, files }: Prepared,
        plan: Option<EventPlan>,
        hash: Option<EventHash>,
        now: Now,
    ) -> Stored<Result<EventOutcome, Refusal>> {
        // Before its effect: it may become a dead letter at once, which is
        // forgotten again.
        if let Some(hash) = hash {
            self.taken.insert(hash);
        }
        let Incoming { message, raw, on_bus, .. } = event;
        let original = Original { text: raw, on_bus };
        self.group.files = files;
        let outcome = match message {
            Message::Report { correlation, report } => self.take_report(&correlation, report, original, hash, now)?,
            Message::Cascade { name, request } => {
                let plan = plan.and_then(EventPlan::into_cascade);
                self.take_cascade(name, (*request, plan), original, now)?
            }
            Message::Rollback(request) => {
                let plan = plan.and_then(EventPlan::into_rollback);
                self.take_rollback(&request, plan, original, now)?
            }
        };
        self.group.files.clear();
        if let (Err(_), Some(hash)) = (&outcome, hash) {
            self.taken.withdraw(hash);
        }
        Ok(outcome.map(EventOutcome::Taken))
    }

    fn take_report(
        &mut self,
        correlation: &Correlation,
        report: Report,
        original: Original,
        hash: Option<EventHash>,
        now: Now,
    ) -> Stored<Result<Outcome, Refusal>> {
        let Some(task) = self.lines.correlate(correlation) else {
            return Ok(Err(Refusal::NothingCorrelates));
        };
        let record = RecordId::new(self.mint(now));
        let name = report.name();
        let shows_worker = matches!(report, Report::Started(_) | Report::Output(_));
        let before = if shows_worker { self.find_open(task)? } else { None };
        let before = before.map(|task| (task.tier.clone(), task.phase()));
        let input = Input::Report { report, record, raw: original.text.clone(), event: hash };
        let outcome = self.apply(task, input, Some(original), now)?;
        if let (Some((tier, phase)), Ok(Outcome::Applied)) = (before, &outcome) {
            self.learn_of_workers(&tier, phase, name)?;
        }
        Ok(outcome)
    }

    fn take_cascade(
        &mut self,
        name: &str,
        (request, plan): (CascadeRequest, Option<CascadePlan>),
        original: Original,
        now: Now,
    ) -> Stored<Result<Outcome, Refusal>> {
        let is_unknown = |source: &&String| Subject::find(self.provenance.graph(), source).is_none();
        if let Some(source) = request.source.as_ref().filter(is_unknown) {
            return Ok(Err(Refusal::SourceNotFound(source.clone())));
        }
        let cascade = match self.cascade(request, plan, now)? {
            Ok(cascade) => cascade,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let outcome = outcome(cascade.is_change);
        let known = cascade.graph.find(cascade.record).and_then(|node| cascade.graph.record(node));
        let project = known.and_then(|known| ProjectId::new(cascade.graph.project_id(known.project)?).ok());
        let Some(project) = project else {
            let detail = format!("record {} has no project", cascade.record);
            return Err(store::Error::Corrupt { table: "lineage", detail });
        };
        self.log_accepted(project, About::Record(cascade.record), (name, outcome), original, now)?;
        Ok(Ok(outcome))
    }

    fn take_rollback(
        &mut self,
        request: &RollbackRequest,
        plan: Option<RollbackPlan>,
        original: Original,
        now: Now,
    ) -> Stored<Result<Outcome, Refusal>> {
        let plan = match plan {
            Some(plan) => plan,
            // Its caller has made sure that nothing of the group is uncommitted.
            None => match RollbackPlan::new(&self.snapshot()?, request, &self.settings.router, false)? {
                Ok(plan) => plan,
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let rollback = self.rollback(request, plan, now)?;
        let project = rollback.checkpoint.project.clone();
        let (tasks, records) = (rollback.cancelled.len(), rollback.step.flags.len());
        let dry_run = request.dry_run;
        tracing::info!(%project, checkpoint = %request.checkpoint, dry_run, records, tasks, "rollback by an event");
        // A dry run has done what it was to do.
        let outcome = outcome(dry_run || rollback.is_change());
        self.log_accepted(project, About::Project, ("rollback.requested", outcome), original, now)?;
        Ok(Ok(outcome))
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
        let Original { text, on_bus, .. } = original;
        let (at, observed) = (now.wall, now.observed);
        self.append(LogEntry { at, project, about, change, event: Some(text), on_bus, observed })
    }
}

const fn outcome(has_changed: bool) -> Outcome {
    if has_changed { Outcome::Applied } else { Outcome::Stale(Stale::AlreadySo) }
}
