//! What each commit has changed, by key: what a copy elsewhere follows.
//!
//! The list is made from the batch itself, in the transaction that applies
//! it, so no table can be written without its rows being named here. It is
//! kept only while somebody follows it, and trimmed up to where they are.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::Error;
use super::codec::encode;
use super::tables::{self, CHANGES_FROM_KEY, CHANGES_KEY};
use crate::task::{CheckpointId, Moment, ProjectId, RecordId, Seq, TaskId, Tier};

/// The number of a commit that changed something that is copied: one
/// sequence, which grows as long as the store lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitNumber(pub u64);

impl CommitNumber {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The keys of the rows that one commit has written or removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changed {
    /// When it was made.
    pub at: Moment,
    /// Projects.
    pub projects: Vec<ProjectId>,
    /// Tiers that were paused or resumed.
    pub tiers: Vec<Tier>,
    /// Tasks that changed or were removed.
    pub tasks: Vec<TaskId>,
    /// Provenance records whose row, links or fact changed. Those whose flag
    /// changed are named by `cascades`: every change of a flag is.
    pub records: Vec<RecordId>,
    /// Steps of the audit trail.
    pub cascades: Vec<Seq>,
    /// Checkpoints that changed or were removed.
    pub checkpoints: Vec<CheckpointId>,
    /// Contents, by their SHA-256.
    pub contents: Vec<[u8; 32]>,
    /// Entries of other audit trails that were imported, by their number.
    pub imported_events: Vec<u64>,
}

impl Changed {
    /// Puts each list in order, every key once.
    pub(super) fn sort(&mut self) {
        let Self { at: _, projects, tiers, tasks, records, cascades, checkpoints, contents, imported_events } = self;
        sort(projects);
        sort(tiers);
        sort(tasks);
        sort(records);
        sort(cascades);
        sort(checkpoints);
        sort(contents);
        sort(imported_events);
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { at: _, projects, tiers, tasks, records, cascades, checkpoints, contents, imported_events } = self;
        projects.is_empty()
            && tiers.is_empty()
            && tasks.is_empty()
            && records.is_empty()
            && cascades.is_empty()
            && checkpoints.is_empty()
            && contents.is_empty()
            && imported_events.is_empty()
    }
}

/// What a batch does to the list itself.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Listing {
    /// Whether it is kept from now on.
    pub(super) list: Option<bool>,
    /// Up to where it is trimmed.
    pub(super) trim: Option<CommitNumber>,
    /// Behind which numbers this store begins.
    pub(super) begin_after: Option<(CommitNumber, Seq)>,
}

impl Listing {
    pub(super) const fn is_empty(&self) -> bool {
        let Self { list, trim, begin_after } = self;
        list.is_none() && trim.is_none() && begin_after.is_none()
    }
}

/// Lists what an upgrade has changed, if a list is kept.
pub(super) fn list_upgraded(transaction: &WriteTransaction, changed: &Changed) -> Result<(), Error> {
    let mut meta = transaction.open_table(tables::META)?;
    let is_listed = meta.get(CHANGES_FROM_KEY)?.is_some();
    if !is_listed || changed.is_empty() {
        return Ok(());
    }
    let last = meta.get(CHANGES_KEY)?.and_then(|value| number(&value)).unwrap_or(0) + 1;
    meta.insert(CHANGES_KEY, &last.to_le_bytes()[..])?;
    transaction.open_table(tables::CHANGES)?.insert(last, &encode("changes", changed)?[..])?;
    Ok(())
}

fn sort<T: Ord>(keys: &mut Vec<T>) {
    keys.sort_unstable();
    keys.dedup();
}

pub(super) fn number_at(value: Option<redb::AccessGuard<'_, tables::Bytes>>) -> Option<u64> {
    value.and_then(|value| number(&value))
}

pub(super) fn number(value: &redb::AccessGuard<'_, tables::Bytes>) -> Option<u64> {
    value.value().try_into().ok().map(u64::from_le_bytes)
}
