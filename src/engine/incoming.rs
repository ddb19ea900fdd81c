//! Events of other services: known ones are told apart, the others have
//! their effect on the task, the record or the project they are about.

use super::api::{EventOutcome, Incoming, Message, Refusal};
use super::cascade::CascadeRequest;
use super::machine::Machine;
use super::memory::event_hash;
use super::rollback::RollbackRequest;
use crate::store::{self, About, LogEntry};
use crate::task::{Change, Correlation, EventHash, Input, Outcome, ProjectId, RecordId, Report, Stale, Timestamp};

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Takes an event of another service.
    pub(super) fn accept(&mut self, incoming: Incoming, now: Timestamp) -> Stored<Result<EventOutcome, Refusal>> {
        let hash = incoming.identity.as_ref().map(|(source, id)| event_hash(source, id));
        if hash.is_some_and(|hash| self.taken.contains(hash)) {
            return Ok(Ok(EventOutcome::Duplicate));
        }
        self.take(incoming, hash, now)
    }

    /// Takes a dead letter again as the event that it holds.
    pub(super) fn requeue(
        &mut self,
        number: u64,
        incoming: Incoming,
        now: Timestamp,
    ) -> Stored<Result<EventOutcome, Refusal>> {
        let gone = self.group.requeued.contains(&number) || self.store.view()?.dead_letter(number)?.is_none();
        if gone {
            return Ok(Err(Refusal::DeadLetterNotFound(number)));
        }
        let hash = incoming.identity.as_ref().map(|(source, id)| event_hash(source, id));
        // Its producer may have sent it again meanwhile: then that one counts.
        let outcome = if hash.is_some_and(|hash| self.taken.contains(hash)) {
            Ok(EventOutcome::Duplicate)
        } else {
            self.take(incoming, hash, now)?
        };
        if outcome.is_ok() {
            self.group.requeued.insert(number);
            self.group.batch.remove_dead_letter(number);
            self.dead_letters.1 = self.dead_letters.1.saturating_sub(1);
        }
        Ok(outcome)
    }

    fn take(
        &mut self,
        incoming: Incoming,
        hash: Option<EventHash>,
        now: Timestamp,
    ) -> Stored<Result<EventOutcome, Refusal>> {
        // Before its effect: it may become a dead letter at once, which is
        // forgotten again.
        if let Some(hash) = hash {
            self.taken.insert(hash);
        }
        let Incoming { message, raw, .. } = incoming;
        let outcome = match message {
            Message::Report { correlation, report } => self.take_report(&correlation, report, raw, hash, now)?,
            Message::Cascade { name, request } => self.take_cascade(name, *request, raw, now)?,
            Message::Rollback(request) => self.take_rollback(&request, raw, now)?,
        };
        if let (Err(_), Some(hash)) = (&outcome, hash) {
            self.taken.withdraw(hash);
        }
        Ok(outcome.map(EventOutcome::Taken))
    }

    fn take_report(
        &mut self,
        correlation: &Correlation,
        report: Report,
        raw: String,
        hash: Option<EventHash>,
        now: Timestamp,
    ) -> Stored<Result<Outcome, Refusal>> {
        let Some(task) = self.lines.correlate(correlation) else {
            return Ok(Err(Refusal::NothingCorrelates));
        };
        let record = RecordId::new(self.mint(now));
        let input = Input::Report { report, record, raw: raw.clone(), event: hash };
        self.apply(task, input, Some(raw), now)
    }

    fn take_cascade(
        &mut self,
        name: &str,
        request: CascadeRequest,
        raw: String,
        now: Timestamp,
    ) -> Stored<Result<Outcome, Refusal>> {
        let cascade = match self.cascade(request, now)? {
            Ok(cascade) => cascade,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let outcome = outcome(!cascade.step.facts.is_empty());
        let known = cascade.graph.find(cascade.record).and_then(|node| cascade.graph.record(node));
        let project = known.and_then(|known| ProjectId::new(cascade.graph.project_id(known.project)?).ok());
        let Some(project) = project else {
            let detail = format!("record {} has no project", cascade.record);
            return Err(store::Error::Corrupt { table: "lineage", detail });
        };
        self.log_accepted(project, About::Record(cascade.record), (name, outcome), raw, now)?;
        Ok(Ok(outcome))
    }

    fn take_rollback(
        &mut self,
        request: &RollbackRequest,
        raw: String,
        now: Timestamp,
    ) -> Stored<Result<Outcome, Refusal>> {
        let rollback = match self.rollback(request, now)? {
            Ok(rollback) => rollback,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let project = rollback.checkpoint.project.clone();
        let (tasks, records) = (rollback.cancelled.len(), rollback.step.flags.len());
        let dry_run = request.dry_run;
        tracing::info!(%project, checkpoint = %request.checkpoint, dry_run, records, tasks, "rollback by an event");
        // A dry run has done what it was to do.
        let outcome = outcome(dry_run || rollback.is_change());
        self.log_accepted(project, About::Project, ("rollback.requested", outcome), raw, now)?;
        Ok(Ok(outcome))
    }

    fn log_accepted(
        &mut self,
        project: ProjectId,
        about: About,
        (name, outcome): (&str, Outcome),
        event: String,
        now: Timestamp,
    ) -> Stored<()> {
        let change = Change::Accepted { name: name.to_owned(), outcome };
        self.append(LogEntry { at: now, project, about, change, event: Some(event) })
    }
}

const fn outcome(has_changed: bool) -> Outcome {
    if has_changed { Outcome::Applied } else { Outcome::Stale(Stale::AlreadySo) }
}
