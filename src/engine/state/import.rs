//! Records, events, checkpoints and marks that are imported, with all that was known of them
//! where they come from. Imported records are no tasks: what is imported is provenance only.

use std::collections::HashMap;

use super::checkpoints::Checkpoints;
use super::failure::Stored;
use super::group::Group;
use super::lines::Lines;
use super::projects::Projects;
use super::provenance::Provenance;
use super::storage::Storage;
use crate::engine::api::{IMPORT_CASCADE, Import, ImportOutcome, ImportRefusal, ImportResult, ManualMark};
use crate::lineage::{Action, Fact, Flag, FlagChange, RecordState, StatementKind, Step, since_last_clear};
use crate::store::{CascadeRow, Cause, Checkpoint, FlagChanges, ImportedEvent, Record};
use crate::task::{Now, RecordId, Seq, Timestamp};

/// The imported events of one group.
#[derive(Debug, Default)]
pub(super) struct ImportedEvents {
    /// The digests of the events, by id.
    digests: HashMap<String, [u8; 32]>,
    /// The number of the last event, once the group has one.
    last: Option<u64>,
}

/// What an import may change.
#[derive(Debug)]
pub(super) struct ImportCommands<'a> {
    pub(super) storage: &'a Storage,
    pub(super) projects: &'a mut Projects,
    pub(super) lines: &'a mut Lines,
    pub(super) provenance: &'a mut Provenance,
    pub(super) checkpoints: &'a mut Checkpoints,
    pub(super) events: &'a mut ImportedEvents,
    pub(super) group: &'a mut Group,
}

impl ImportCommands<'_> {
    /// Imports one item after the other.
    pub(super) fn import(&mut self, items: &[Import], now: Now) -> Stored<Vec<ImportResult>> {
        items
            .iter()
            .map(|item| match item {
                Import::Record(record) => self.import_record(record, now),
                Import::Event(event) => self.import_event(event).map(ImportResult::from),
                Import::Checkpoint(checkpoint) => self.import_checkpoint(checkpoint, now).map(ImportResult::from),
                Import::ManualMark(mark) => self.import_mark(mark).map(|applied| {
                    let outcome = if applied { ImportOutcome::Updated } else { ImportOutcome::Unchanged };
                    outcome.into()
                }),
            })
            .collect()
    }

    fn import_record(&mut self, record: &Record, now: Now) -> Stored<ImportResult> {
        let before = self.provenance.find_record(self.storage, record.id)?;
        let Some(imported) = &record.imported else {
            return Ok(ImportOutcome::Refused(ImportRefusal::NoOrigin).into());
        };
        match before.as_ref().map(|before| before.imported.as_deref()) {
            Some(None) => return Ok(ImportOutcome::Refused(ImportRefusal::MadeHere(record.id)).into()),
            Some(Some(before)) if before.digest == imported.digest => return Ok(ImportOutcome::Unchanged.into()),
            Some(Some(_)) | None => {}
        }
        if let Err(refusal) = self.projects.admit([&record.project]) {
            return Ok(ImportOutcome::Refused(ImportRefusal::TooManyProjects(refusal)).into());
        }
        let mut step = match self.provenance.import(record)? {
            Ok(step) => step,
            Err(cycle) => return Ok(ImportOutcome::Refused(ImportRefusal::Cycle(cycle)).into()),
        };
        self.projects.make_if_missing(&record.project, self.lines, self.group, now)?;
        let mut record = record.clone();
        self.import_taint(&mut record, before.as_ref(), &mut step, now)?;
        let outcome = if before.is_some() { ImportOutcome::Updated } else { ImportOutcome::Created };
        self.provenance.records.put_imported(record, before);
        Ok(ImportResult { outcome, newly_suspect: self.newly_suspect(&step.flags)? })
    }

    /// Makes a fact of the taint that a record came with, and takes back the taint that it
    /// came with before and no longer has. A taint that was stated here stays.
    fn import_taint(&mut self, record: &mut Record, before: Option<&Record>, step: &mut Step, now: Now) -> Stored<()> {
        let Some(imported) = &mut record.imported else { return Ok(()) };
        let statements = self.provenance.statements(self.storage, record.id)?;
        let standing = since_last_clear(&statements).iter().filter(|statement| statement.kind == StatementKind::Taint);
        let standing: Vec<Seq> = standing.map(|statement| statement.step).collect();
        let stated_before = before.and_then(|before| before.imported.as_ref()?.tainted_in);
        let stated_before = stated_before.filter(|step| standing.contains(step));
        let taint = imported.taint.clone();
        let (seq, said) = match (&taint, stated_before) {
            (Some(_), said) if said.is_some() || !standing.is_empty() => {
                imported.tainted_in = said;
                return Ok(());
            }
            (Some(_), _) => {
                let said =
                    self.provenance.make_statements(self.storage, Action::Taint, &[record.id], IMPORT_CASCADE)?;
                imported.tainted_in = Some(said.seq);
                (said.seq, said.step)
            }
            (None, Some(said)) => {
                imported.tainted_in = None;
                self.provenance.retract(self.storage, record.id, said)?
            }
            (None, None) => return Ok(()),
        };
        let at = taint.as_ref().and_then(|taint| taint.at).unwrap_or(now.wall);
        let (reason, source) = taint.map_or((None, None), |taint| (taint.reason, taint.by));
        let row = CascadeRow {
            at,
            cascade_id: IMPORT_CASCADE.to_owned(),
            cause: Cause::Import(record.id),
            reason: reason.unwrap_or_else(|| "it came so with an import".to_owned()),
            source,
        };
        let changes = FlagChanges::of(self.provenance.graph(), &said.flags);
        self.group.batch.put_cascade(seq, &row, changes)?;
        step.flags.extend(said.flags);
        step.join();
        Ok(())
    }

    /// Returns the records that became suspect and were not suspect where they come from.
    fn newly_suspect(&self, flags: &[FlagChange]) -> Stored<Vec<RecordId>> {
        let graph = self.provenance.graph();
        let suspect = flags.iter().filter(|change| change.from == Flag::Clean && change.to == Flag::Suspect);
        let ids: Vec<RecordId> =
            suspect.filter_map(|change| graph.record(change.record)).map(|known| known.id).collect();
        let mut new = Vec::new();
        if ids.is_empty() {
            return Ok(new);
        }
        let view = self.storage.view()?;
        for id in ids {
            let was_suspect = |record: &Record| record.imported.as_ref().is_some_and(|imported| imported.was_suspect);
            let is_known = match self.provenance.records.changed(id) {
                Some(record) => was_suspect(record),
                None => view.record(id)?.as_ref().is_some_and(was_suspect),
            };
            if !is_known {
                new.push(id);
            }
        }
        new.sort_unstable();
        Ok(new)
    }

    /// Keeps a checkpoint, unless there is one with its id. Its project is made if need be, as
    /// for a task.
    fn import_checkpoint(&mut self, checkpoint: &Checkpoint, now: Now) -> Stored<ImportOutcome> {
        Ok(match self.checkpoints.find(self.storage, &checkpoint.id)? {
            Some(known) if known.original == checkpoint.original => ImportOutcome::Unchanged,
            Some(_) => ImportOutcome::Refused(ImportRefusal::OtherCheckpoint(checkpoint.id.clone())),
            None => {
                self.projects.make_if_missing(&checkpoint.project, self.lines, self.group, now)?;
                self.checkpoints.put(checkpoint.clone(), self.group.version);
                ImportOutcome::Created
            }
        })
    }

    fn import_event(&mut self, event: &ImportedEvent) -> Stored<ImportOutcome> {
        let known = match self.events.digests.get(&event.id) {
            Some(digest) => Some(*digest),
            None => self.storage.view()?.imported_event(&event.id)?.map(|known| known.digest),
        };
        match known {
            Some(digest) if digest == event.digest => return Ok(ImportOutcome::Unchanged),
            Some(_) => return Ok(ImportOutcome::Refused(ImportRefusal::OtherEvent(event.id.clone()))),
            None => {}
        }
        let last = match self.events.last {
            Some(last) => last,
            None => self.storage.view()?.last_imported_event()?,
        };
        self.group.batch.put_imported_event(last + 1, event)?;
        self.events.last = Some(last + 1);
        self.events.digests.insert(event.id.clone(), event.digest);
        Ok(ImportOutcome::Created)
    }

    /// Applies a mark or a clear that was made by hand where an imported record comes from.
    /// Returns whether that has changed anything.
    ///
    /// It counts as far as the record agrees with it, and nothing newer contradicts it. A
    /// clear counts if all tainted records above were tainted before it: what is tainted later
    /// makes the record suspect again.
    fn import_mark(&mut self, mark: &ManualMark) -> Stored<bool> {
        let graph = self.provenance.graph();
        let Some(node) = graph.find(mark.record) else { return Ok(false) };
        let (Some(known), Some(record)) = (graph.record(node), self.provenance.find_record(self.storage, mark.record)?)
        else {
            return Ok(false);
        };
        let Some(imported) = &record.imported else { return Ok(false) };
        let action = match (mark.is_good, imported.was_suspect, known.flag) {
            (true, false, Flag::Suspect) => Action::Clear,
            (false, true, Flag::Clean | Flag::Suspect) => Action::Mark,
            _ => return Ok(false),
        };
        if !self.was_stated_by(&known, mark.at)? {
            return Ok(false);
        }
        if action == Action::Clear {
            for above in graph.tainted_dependencies(node).into_iter().filter_map(|node| graph.record(node)) {
                if !self.was_stated_by(&above, mark.at)? {
                    return Ok(false);
                }
            }
        }
        let said = self.provenance.make_statements(self.storage, action, &[mark.record], IMPORT_CASCADE)?;
        if said.named.is_empty() {
            return Ok(false);
        }
        let row = CascadeRow {
            at: mark.at,
            cascade_id: IMPORT_CASCADE.to_owned(),
            cause: Cause::Import(mark.record),
            reason: mark.reason.clone(),
            source: None,
        };
        let changes = said.changes(self.provenance.graph());
        self.group.batch.put_cascade(said.seq, &row, changes)?;
        Ok(true)
    }

    /// Whether the newest statement about a record was made by a time, if there is one.
    fn was_stated_by(&self, known: &RecordState, time: Timestamp) -> Stored<bool> {
        let Some(Fact::Tainted(step) | Fact::Marked(step) | Fact::Cleared(step)) = known.fact else {
            return Ok(true);
        };
        if self.storage.view()?.cascade(step)?.is_some_and(|row| row.at <= time) {
            return Ok(true);
        }
        let record = self.provenance.find_record(self.storage, known.id)?;
        Ok(record.is_some_and(|record| is_of_unknown_time(&record, step)))
    }
}

/// Whether a record came with the taint of a step, and it is not known since when.
fn is_of_unknown_time(record: &Record, step: Seq) -> bool {
    record.taint_brought_in(step).is_some_and(|taint| taint.at.is_none())
}
