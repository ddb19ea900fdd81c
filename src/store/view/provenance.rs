//! Provenance records, cascades and imported events, as one commit has them.

use std::collections::HashSet;
use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata};

use super::snapshot::View;
use crate::lineage::Statement;
use crate::planted::{self, Fault};
use crate::store::cascade_changes::{self, StepChange};
use crate::store::cascades::{CascadeRow, ChangeRow};
use crate::store::codec::decode;
use crate::store::error::Error;
use crate::store::lineage::LineageRow;
use crate::store::page::{Page, PageBudget, ids_after, read_page};
use crate::store::record_index::{RecordPlace, time_key};
use crate::store::rows::{ImportedEvent, Record};
use crate::store::statements::RollbackRow;
use crate::store::tables;
use crate::task::{ArtifactId, RecordId, Seq, TaskId, Timestamp};

/// Ratio of the range of steps to the number of records up to which the range is read as a whole:
/// reading the next row costs a tenth of finding one.
const NEAR: u64 = 10;

const NO_ID: [u8; 16] = [0; 16];
const LAST_ID: [u8; 16] = [0xff; 16];

impl View {
    /// Reads a provenance record.
    pub fn record(&self, id: RecordId) -> Result<Option<Record>, Error> {
        Ok(self.sized_record(id)?.map(|(record, _)| record))
    }

    /// A provenance record, and the size of its row in bytes.
    pub fn sized_record(&self, id: RecordId) -> Result<Option<(Record, usize)>, Error> {
        let row = self.table(tables::RECORDS)?.get(&id.to_bytes())?;
        row.map(|row| Ok((decode("records", row.value())?, row.value().len()))).transpose()
    }

    /// The record with the largest id that names the artifact as an output.
    pub fn record_of_artifact(&self, artifact: &ArtifactId) -> Result<Option<Record>, Error> {
        let name = artifact.as_str();
        let newest = {
            let table = self.table(tables::RECORDS_BY_ARTIFACT)?;
            let mut range = table.range((name, &[0; 16])..=(name, &LAST_ID))?;
            range.next_back().transpose()?.map(|(key, _)| RecordId::from_bytes(*key.value().1))
        };
        newest.map_or(Ok(None), |id| self.record(id))
    }

    /// The head of a step, without the flags that it changed, which can be many.
    pub fn cascade(&self, step: Seq) -> Result<Option<CascadeRow>, Error> {
        let row = self.table(tables::CASCADES)?.get(step.0)?;
        row.map(|row| decode("cascades", row.value())).transpose()
    }

    /// Heads of the steps that changed flags, newest first, before one of them.
    pub fn cascades(
        &self,
        before: Option<Seq>,
    ) -> Result<impl Iterator<Item = Result<(Seq, CascadeRow), Error>> + use<>, Error> {
        let rows = self.table(tables::CASCADES)?.range(..before.map_or(u64::MAX, |before| before.0))?;
        Ok(rows.rev().map(|row| {
            let (key, value) = row?;
            Ok((Seq(key.value()), decode("cascades", value.value())?))
        }))
    }

    /// All provenance records, by id.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Record, Error>> + use<>, Error> {
        let rows = self.table(tables::RECORDS)?.range::<&[u8; 16]>(..)?;
        Ok(rows.map(|row| decode("records", row?.1.value())))
    }

    /// The records that name the artifact as an output, oldest first.
    pub fn records_of_artifact(&self, artifact: &ArtifactId) -> Result<Vec<RecordId>, Error> {
        let name = artifact.as_str();
        let rows = self.table(tables::RECORDS_BY_ARTIFACT)?.range((name, &[0; 16])..=(name, &LAST_ID))?;
        rows.map(|row| Ok(RecordId::from_bytes(*row?.0.value().1))).collect()
    }

    /// The parts of a record from which the graph is built.
    pub fn lineage(&self, id: RecordId) -> Result<Option<LineageRow>, Error> {
        let row = self.table(tables::LINEAGE)?.get(&id.to_bytes())?;
        row.map(|row| decode("lineage", row.value())).transpose()
    }

    /// Ids of provenance records after one of them.
    pub fn record_ids_after(&self, after: Option<RecordId>, limit: usize) -> Result<Vec<RecordId>, Error> {
        let ids = ids_after(&self.table(tables::RECORDS)?, after.map(RecordId::to_bytes), limit)?;
        Ok(ids.into_iter().map(RecordId::from_bytes).collect())
    }

    /// Heads of the steps of the audit trail after one of them, oldest first.
    pub fn cascade_heads_after(
        &self,
        after: Seq,
    ) -> Result<impl Iterator<Item = Result<(Seq, CascadeRow), Error>> + use<>, Error> {
        let rows = self.table(tables::CASCADES)?.range(after.next().0..)?;
        Ok(rows.map(|row| {
            let (key, value) = row?;
            Ok((Seq(key.value()), decode("cascades", value.value())?))
        }))
    }

    /// Places of records made at `from` or later and before `until`, before one of them, newest
    /// first.
    pub fn records_by_time(
        &self,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
        before: Option<RecordPlace>,
    ) -> Result<impl Iterator<Item = Result<RecordPlace, Error>> + use<>, Error> {
        let first = from.map_or([0; 24], |from| time_key(from, NO_ID));
        let until = until.map(|until| time_key(until, NO_ID));
        let end = before.map(RecordPlace::to_bytes).map(planted_end).into_iter().chain(until).min();
        // Bounds that would cross give an empty range.
        let end = end.map(|end| end.max(first));
        let bounds = (Bound::Included(&first), end.as_ref().map_or(Bound::Unbounded, Bound::Excluded));
        let rows = self.table(tables::RECORDS_BY_TIME)?.range::<&[u8; 24]>(bounds)?;
        Ok(rows.rev().map(|row| Ok(RecordPlace::from_bytes(*row?.0.value()))))
    }

    /// The records of a task, largest id first.
    pub fn records_of_task(
        &self,
        task: TaskId,
    ) -> Result<impl Iterator<Item = Result<RecordId, Error>> + use<>, Error> {
        let task = task.to_bytes();
        let rows = self.table(tables::RECORDS_BY_TASK)?.range((&task, &NO_ID)..=(&task, &LAST_ID))?;
        Ok(rows.rev().map(|row| Ok(RecordId::from_bytes(*row?.0.value().1))))
    }

    /// A page of records after one of them, by id.
    pub fn records_after(&self, after: Option<RecordId>, budget: PageBudget) -> Result<Page<Record>, Error> {
        let after = after.map(RecordId::to_bytes);
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.table(tables::RECORDS)?.range::<&[u8; 16]>((start, Bound::Unbounded))?;
        read_page(rows, budget, |_, row| decode("records", row))
    }

    /// Up to `limit` steps after one of them, in order, each with its changes.
    pub fn cascades_after(&self, after: Seq, limit: usize) -> Result<Vec<(Seq, CascadeRow, Vec<ChangeRow>)>, Error> {
        let heads = self.cascade_heads_after(after)?.take(limit);
        heads
            .map(|head| {
                let (step, row) = head?;
                Ok((step, row, self.cascade_changes(step)?))
            })
            .collect()
    }

    /// An imported event by its id.
    pub fn imported_event(&self, id: &str) -> Result<Option<ImportedEvent>, Error> {
        let Some(number) = self.table(tables::IMPORTED_EVENT_IDS)?.get(id)?.map(|row| row.value()) else {
            return Ok(None);
        };
        self.imported_event_at(number)
    }

    /// An imported event by its number.
    pub fn imported_event_at(&self, number: u64) -> Result<Option<ImportedEvent>, Error> {
        let row = self.table(tables::IMPORTED_EVENTS)?.get(number)?;
        row.map(|row| decode("imported_events", row.value())).transpose()
    }

    /// Number of the newest imported event; zero if there is none.
    pub fn last_imported_event(&self) -> Result<u64, Error> {
        Ok(self.table(tables::IMPORTED_EVENTS)?.last()?.map_or(0, |(key, _)| key.value()))
    }

    /// A page of imported events after one of them, in the order of their arrival.
    pub fn imported_events_after(&self, after: u64, budget: PageBudget) -> Result<Page<(u64, ImportedEvent)>, Error> {
        let rows = self.table(tables::IMPORTED_EVENTS)?.range(after.saturating_add(1)..)?;
        read_page(rows, budget, |number, row| Ok((number, decode("imported_events", row)?)))
    }

    /// Up to `limit` numbers of imported events after one of them, in order.
    pub fn imported_event_numbers_after(&self, after: u64, limit: usize) -> Result<Vec<u64>, Error> {
        let rows = self.table(tables::IMPORTED_EVENTS)?.range(after.saturating_add(1)..)?;
        rows.take(limit).map(|row| Ok(row?.0.value())).collect()
    }

    /// Imported events from one of them back, newest first.
    pub fn imported_events_from(
        &self,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, ImportedEvent), Error>> + use<>, Error> {
        let rows = self.table(tables::IMPORTED_EVENTS)?.range(..=from)?;
        Ok(rows.rev().map(|row| {
            let (key, value) = row?;
            Ok((key.value(), decode("imported_events", value.value())?))
        }))
    }

    /// Number of rows in the lists of records by time and by task, and number of imported events by
    /// number and by id.
    pub fn list_sizes(&self) -> Result<[u64; 4], Error> {
        Ok([
            self.table(tables::RECORDS_BY_TIME)?.len()?,
            self.table(tables::RECORDS_BY_TASK)?.len()?,
            self.table(tables::IMPORTED_EVENTS)?.len()?,
            self.table(tables::IMPORTED_EVENT_IDS)?.len()?,
        ])
    }

    /// The flags that a step has changed; records are named by the steps that brought them.
    pub fn step_changes(&self, step: Seq) -> Result<Vec<StepChange>, Error> {
        let row = self.table(tables::CASCADE_CHANGES)?.get(step.0)?;
        row.map_or(Ok(Vec::new()), |row| cascade_changes::decode(row.value()))
    }

    /// The flags that a step has changed.
    pub fn cascade_changes(&self, step: Seq) -> Result<Vec<ChangeRow>, Error> {
        self.with_record_ids(&self.step_changes(step)?)
    }

    /// The same changes with the ids of their records.
    pub fn with_record_ids(&self, changes: &[StepChange]) -> Result<Vec<ChangeRow>, Error> {
        let mut steps: Vec<Seq> = changes.iter().flat_map(|it| [Some(it.record), it.through]).flatten().collect();
        steps.sort_unstable();
        steps.dedup();
        let ids = self.brought_by(&steps)?;
        let id =
            |step: Seq| steps.binary_search(&step).ok().and_then(|at| ids.get(at)).copied().ok_or_else(|| lost(step));
        let named = |it: &StepChange| {
            let through = it.through.map(id).transpose()?;
            Ok(ChangeRow { record: id(it.record)?, from: it.from, to: it.to, depth: it.depth, through })
        };
        changes.iter().map(named).collect()
    }

    /// The records that these steps have brought, in the order of the steps.
    fn brought_by(&self, steps: &[Seq]) -> Result<Vec<RecordId>, Error> {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Ok(Vec::new()) };
        let table = self.table(tables::RECORDS_BY_STEP)?;
        let mut ids = Vec::with_capacity(steps.len());
        if (last.0 - first.0) / NEAR > u64::try_from(steps.len()).unwrap_or(u64::MAX) {
            for step in steps {
                let id = table.get(step.0)?.ok_or_else(|| lost(*step))?;
                ids.push(RecordId::from_bytes(*id.value()));
            }
            return Ok(ids);
        }
        let mut wanted = steps.iter().peekable();
        for row in table.range(first.0..=last.0)? {
            let (step, id) = row?;
            if wanted.next_if(|wanted| wanted.0 == step.value()).is_some() {
                ids.push(RecordId::from_bytes(*id.value()));
            }
        }
        wanted.next().map_or(Ok(ids), |step| Err(lost(*step)))
    }

    /// The steps of a cascade after one of them, oldest first, without those of imports.
    pub fn cascade_steps(&self, cascade_id: &str, after: Seq) -> Result<Vec<Seq>, Error> {
        let Some(table) = self.table_if_made(tables::CASCADE_STEPS)? else { return Ok(Vec::new()) };
        let range = (cascade_id, after.next().0)..=(cascade_id, u64::MAX);
        table.range(range)?.map(|row| Ok(Seq(row?.0.value().1))).collect()
    }

    /// Statements about a record, oldest first; `None` if its fact says everything.
    pub fn statements(&self, id: RecordId) -> Result<Option<Vec<Statement>>, Error> {
        let Some(table) = self.table_if_made(tables::STATEMENTS)? else { return Ok(None) };
        table.get(&id.to_bytes())?.map(|row| decode("statements", row.value())).transpose()
    }

    /// Records about which their fact does not say everything.
    pub fn stated_records(&self) -> Result<HashSet<RecordId>, Error> {
        let Some(table) = self.table_if_made(tables::STATEMENTS)? else { return Ok(HashSet::new()) };
        table.iter()?.map(|row| Ok(RecordId::from_bytes(*row?.0.value()))).collect()
    }

    /// The effect of a rollback on checkpoints; `None` if an earlier version made it without
    /// storing it.
    pub fn rollback(&self, step: Seq) -> Result<Option<RollbackRow>, Error> {
        let Some(table) = self.table_if_made(tables::ROLLBACKS)? else { return Ok(None) };
        table.get(step.0)?.map(|row| decode("rollbacks", row.value())).transpose()
    }

    /// All rollbacks, in the order of their steps.
    pub fn rollbacks(&self) -> Result<Vec<(Seq, RollbackRow)>, Error> {
        let Some(table) = self.table_if_made(tables::ROLLBACKS)? else { return Ok(Vec::new()) };
        table
            .iter()?
            .map(|row| {
                let (step, row) = row?;
                Ok((Seq(step.value()), decode("rollbacks", row.value())?))
            })
            .collect()
    }
}

/// The end of a page that continues at a key: that key, unless a fault is planted.
fn planted_end(mut key: [u8; 24]) -> [u8; 24] {
    if planted::is(Fault::EqualTimesSkipped) {
        key[8..].fill(0);
    }
    key
}

fn lost(step: Seq) -> Error {
    Error::Corrupt { table: "records_by_step", detail: format!("no record came by step {step}") }
}
