//! Reading whole tables a page at a time, in the order of their keys: for
//! copies elsewhere. Each page is read from a view of its own, since the file
//! grows under one that is kept.

use std::ops::Bound;

use redb::{ReadOnlyTable, ReadableTable, Value};

use super::codec::{decode, decode_added};
use super::lineage::{CascadeRow, LineageRow};
use super::rows::{Project, TierPause, task_of_row};
use super::{Error, View, tables};
use crate::task::{ProjectId, RecordId, Seq, Task, TaskId, Tier};

impl View {
    /// What the graph is built from of a record.
    pub fn lineage(&self, id: RecordId) -> Result<Option<LineageRow>, Error> {
        let row = self.table(tables::LINEAGE)?.get(&id.to_bytes())?;
        row.map(|row| decode("lineage", row.value())).transpose()
    }

    /// Whether a tier is paused, if it ever was.
    pub fn tier_pause(&self, tier: &Tier) -> Result<Option<TierPause>, Error> {
        let row = self.table(tables::TIER_PAUSES)?.get(tier.as_str())?;
        row.map(|row| decode_tier_pause(row.value())).transpose()
    }

    /// Tasks after one of them, by id.
    pub fn tasks_after(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<TaskId>, Error> {
        let ids = ids_after(&self.table(tables::SUBMISSIONS)?, after.map(TaskId::to_bytes), limit)?;
        Ok(ids.into_iter().map(TaskId::from_bytes).collect())
    }

    /// Tasks that have not ended after one of them, by id.
    pub fn open_tasks_after(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Task>, Error> {
        let (table, after) = (self.table(tables::OPEN_TASKS)?, after.map(TaskId::to_bytes));
        let rows = match &after {
            Some(after) => table.range::<&[u8; 16]>((Bound::Excluded(after), Bound::Unbounded))?,
            None => table.iter()?,
        };
        rows.take(limit).map(|row| task_of_row("open_tasks", row?.1.value())).collect()
    }

    /// The ids of provenance records after one of them.
    pub fn record_ids_after(&self, after: Option<RecordId>, limit: usize) -> Result<Vec<RecordId>, Error> {
        let ids = ids_after(&self.table(tables::RECORDS)?, after.map(RecordId::to_bytes), limit)?;
        Ok(ids.into_iter().map(RecordId::from_bytes).collect())
    }

    /// Contents after one of them, by their SHA-256: rows and files.
    pub fn contents_after(&self, after: Option<[u8; 32]>, limit: usize) -> Result<Vec<[u8; 32]>, Error> {
        let mut hashes = hashes_after(&self.table(tables::CONTENTS)?, after, limit)?;
        hashes.extend(hashes_after(&self.table(tables::CONTENT_FILES)?, after, limit)?);
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(limit);
        Ok(hashes)
    }

    /// Steps of the audit trail after one of them, oldest first, without what
    /// each has changed.
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

    /// Projects after one of them, by id, deleted ones too.
    pub fn projects_after(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Project>, Error> {
        let table = self.table(tables::PROJECTS)?;
        let rows = match after.map(ProjectId::as_str) {
            Some(after) => table.range::<&str>((Bound::Excluded(after), Bound::Unbounded))?,
            None => table.iter()?,
        };
        rows.take(limit).map(|row| decode("projects", row?.1.value())).collect()
    }

    /// Tiers that are or were paused.
    pub fn tier_pauses(&self) -> Result<Vec<(Tier, TierPause)>, Error> {
        let corrupt =
            |error: crate::task::InvalidId| Error::Corrupt { table: "tier_pauses", detail: error.to_string() };
        let mut pauses = Vec::new();
        for row in self.table(tables::TIER_PAUSES)?.iter()? {
            let (key, value) = row?;
            pauses.push((Tier::new(key.value()).map_err(corrupt)?, decode_tier_pause(value.value())?));
        }
        Ok(pauses)
    }
}

fn ids_after<V: Value + 'static>(
    table: &ReadOnlyTable<tables::Id, V>,
    after: Option<[u8; 16]>,
    limit: usize,
) -> Result<Vec<[u8; 16]>, Error> {
    let rows = match &after {
        Some(after) => table.range::<&[u8; 16]>((Bound::Excluded(after), Bound::Unbounded))?,
        None => table.iter()?,
    };
    rows.take(limit).map(|row| Ok(*row?.0.value())).collect()
}

fn hashes_after<V: Value + 'static>(
    table: &ReadOnlyTable<&'static [u8; 32], V>,
    after: Option<[u8; 32]>,
    limit: usize,
) -> Result<Vec<[u8; 32]>, Error> {
    let rows = match &after {
        Some(after) => table.range::<&[u8; 32]>((Bound::Excluded(after), Bound::Unbounded))?,
        None => table.iter()?,
    };
    rows.take(limit).map(|row| Ok(*row?.0.value())).collect()
}

/// A row that may end before `tells_starts`.
fn decode_tier_pause(row: &[u8]) -> Result<TierPause, Error> {
    decode_added("tier_pauses", row, 1)
}
