//! The keys that each commit has changed, which the replica follows.
//!
//! The list is derived from the batch itself, in the transaction that applies it, so no table can
//! be written without its rows being named here. It is kept only while there is a replica, and
//! trimmed up to its position.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::Error;
use super::codec::encode;
use super::tables::{self, CHANGES_FROM_KEY, CHANGES_KEY};
use crate::task::{CheckpointId, Moment, ProjectId, RecordId, Seq, TaskId, Tier};

/// The number of a commit that changed replicated data: one sequence, which grows for as long as
/// the store lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitNumber(pub u64);

impl CommitNumber {
    /// The following number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Keys of the rows that one commit has written or removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChangedKeys {
    /// Observed time of the commit.
    pub at: Moment,
    /// Changed projects.
    pub projects: Vec<ProjectId>,
    /// Tiers that were paused or resumed.
    pub tiers: Vec<Tier>,
    /// Tasks that changed or were removed.
    pub tasks: Vec<TaskId>,
    /// Provenance records whose row, links or fact changed. Records whose flag changed are covered
    /// by `cascades`.
    pub records: Vec<RecordId>,
    /// Steps of the audit trail.
    pub cascades: Vec<Seq>,
    /// Checkpoints that changed or were removed.
    pub checkpoints: Vec<CheckpointId>,
    /// Contents, by SHA-256.
    pub contents: Vec<[u8; 32]>,
    /// Imported entries of other audit trails, by number.
    pub imported_events: Vec<u64>,
}

impl ChangedKeys {
    /// Sorts each list and removes repeated keys.
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

/// Changes of the list itself.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Listing {
    /// Whether the list is kept from now on.
    pub(super) list: Option<bool>,
    /// Up to which commit it is trimmed.
    pub(super) trim: Option<CommitNumber>,
    /// Numbers after which this store begins.
    pub(super) begin_after: Option<(CommitNumber, Seq)>,
}

impl Listing {
    pub(super) const fn is_empty(&self) -> bool {
        let Self { list, trim, begin_after } = self;
        list.is_none() && trim.is_none() && begin_after.is_none()
    }
}

/// Lists what an upgrade has changed, if there is a list.
pub(super) fn list_upgraded(transaction: &WriteTransaction, changed: &ChangedKeys) -> Result<(), Error> {
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
