//! Records and events that come from elsewhere, with all that was known of
//! them there. They are no tasks: what is imported is provenance alone.

use super::api::{IMPORT_CASCADE, Import, ImportOutcome, ImportRefusal, ImportResult};
use super::machine::Machine;
use crate::lineage::{Action, Flag, FlagChange, Saying, Step, live};
use crate::store::{self, CascadeRow, Cause, Changes, Checkpoint, ImportedEvent, Record};
use crate::task::{Now, RecordId, Seq};

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Imports one thing after the other.
    pub(super) fn import(&mut self, items: &[Import], now: Now) -> Stored<Vec<ImportResult>> {
        items
            .iter()
            .map(|item| match item {
                Import::Record(record) => self.import_record(record, now),
                Import::Event(event) => self.import_event(event).map(ImportResult::from),
                Import::Checkpoint(checkpoint) => self.import_checkpoint_again(checkpoint, now).map(ImportResult::from),
                Import::Word(word) => self.import_word(word).map(|applied| {
                    let outcome = if applied { ImportOutcome::Updated } else { ImportOutcome::Unchanged };
                    outcome.into()
                }),
            })
            .collect()
    }

    fn import_record(&mut self, record: &Record, now: Now) -> Stored<ImportResult> {
        let before = self.stored_record(record.id)?;
        let Some(imported) = &record.imported else {
            return Ok(ImportOutcome::Refused(ImportRefusal::NoOrigin).into());
        };
        match before.as_ref().map(|before| before.imported.as_deref()) {
            Some(None) => return Ok(ImportOutcome::Refused(ImportRefusal::MadeHere(record.id)).into()),
            Some(Some(before)) if before.digest == imported.digest => return Ok(ImportOutcome::Unchanged.into()),
            Some(Some(_)) | None => {}
        }
        if let Err(refusal) = self.admit_projects([&record.project]) {
            return Ok(ImportOutcome::Refused(ImportRefusal::TooManyProjects(refusal)).into());
        }
        let mut step = match self.provenance.import(record)? {
            Ok(step) => step,
            Err(cycle) => return Ok(ImportOutcome::Refused(ImportRefusal::Cycle(cycle)).into()),
        };
        self.use_project(&record.project, now)?;
        let mut record = record.clone();
        self.import_taint(&mut record, before.as_ref(), &mut step, now)?;
        let outcome = if before.is_some() { ImportOutcome::Updated } else { ImportOutcome::Created };
        if let Some(before) = before {
            self.group.unlisted.entry(record.id).or_insert(before);
        }
        self.group.records.insert(record.id, record);
        Ok(ImportResult { outcome, newly_suspect: self.newly_suspect(&step.flags)? })
    }

    /// A record as it is in this group or in the store, which is not changed.
    pub(super) fn stored_record(&self, id: RecordId) -> Stored<Option<Record>> {
        match self.group.records.get(&id) {
            Some(record) => Ok(Some(record.clone())),
            None if self.provenance.graph().find(id).is_none() => Ok(None),
            None => self.store.view()?.record(id),
        }
    }

    /// Makes a fact of the taint that a record came with; withdraws the one
    /// that it came with before and has no more. A taint of our own stays.
    fn import_taint(&mut self, record: &mut Record, before: Option<&Record>, step: &mut Step, now: Now) -> Stored<()> {
        let Some(imported) = &mut record.imported else { return Ok(()) };
        let statements = self.statements(record.id)?;
        let standing = live(&statements).iter().filter(|statement| statement.kind == Saying::Taint);
        let standing: Vec<Seq> = standing.map(|statement| statement.step).collect();
        let told_before = before.and_then(|before| before.imported.as_ref()?.tainted_in);
        let told_before = told_before.filter(|told| standing.contains(told));
        let taint = imported.taint.clone();
        let (seq, said) = match (&taint, told_before) {
            (Some(_), told) if told.is_some() || !standing.is_empty() => {
                imported.tainted_in = told;
                return Ok(());
            }
            (Some(_), _) => {
                let said = self.say(Action::Taint, &[record.id], IMPORT_CASCADE)?;
                imported.tainted_in = Some(said.seq);
                (said.seq, said.step)
            }
            (None, Some(told)) => {
                imported.tainted_in = None;
                self.retract(record.id, told)?
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
        let changes = Changes::of(self.provenance.graph(), &said.flags);
        self.group.batch.put_cascade(seq, &row, changes)?;
        step.flags.extend(said.flags);
        step.join();
        Ok(())
    }

    /// Of the records that became suspect, those that were not said to be.
    fn newly_suspect(&self, flags: &[FlagChange]) -> Stored<Vec<RecordId>> {
        let graph = self.provenance.graph();
        let suspect = flags.iter().filter(|change| change.from == Flag::Clean && change.to == Flag::Suspect);
        let ids: Vec<RecordId> =
            suspect.filter_map(|change| graph.record(change.record)).map(|known| known.id).collect();
        let mut new = Vec::new();
        if ids.is_empty() {
            return Ok(new);
        }
        let view = self.store.view()?;
        for id in ids {
            let was_suspect = |record: &Record| record.imported.as_ref().is_some_and(|imported| imported.was_suspect);
            let told = match self.group.records.get(&id) {
                Some(record) => was_suspect(record),
                None => view.record(id)?.as_ref().is_some_and(was_suspect),
            };
            if !told {
                new.push(id);
            }
        }
        new.sort_unstable();
        Ok(new)
    }

    /// Keeps a checkpoint, unless it is there already.
    fn import_checkpoint_again(&mut self, checkpoint: &Checkpoint, now: Now) -> Stored<ImportOutcome> {
        Ok(match self.checkpoint(&checkpoint.id)? {
            Some(known) if known.original == checkpoint.original => ImportOutcome::Unchanged,
            Some(_) => ImportOutcome::Refused(ImportRefusal::OtherCheckpoint(checkpoint.id.clone())),
            None => {
                self.import_checkpoint(checkpoint.clone(), now)?;
                ImportOutcome::Created
            }
        })
    }

    fn import_event(&mut self, event: &ImportedEvent) -> Stored<ImportOutcome> {
        let known = match self.group.events.0.get(&event.id) {
            Some(digest) => Some(*digest),
            None => self.store.view()?.imported_event(&event.id)?.map(|known| known.digest),
        };
        match known {
            Some(digest) if digest == event.digest => return Ok(ImportOutcome::Unchanged),
            Some(_) => return Ok(ImportOutcome::Refused(ImportRefusal::OtherEvent(event.id.clone()))),
            None => {}
        }
        let last = match self.group.events.1 {
            Some(last) => last,
            None => self.store.view()?.last_imported_event()?,
        };
        self.group.batch.put_imported_event(last + 1, event)?;
        self.group.events.1 = Some(last + 1);
        self.group.events.0.insert(event.id.clone(), event.digest);
        Ok(ImportOutcome::Created)
    }
}
