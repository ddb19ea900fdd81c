//! What each commit has changed, by key: what a copy elsewhere follows.
//!
//! The list is made from the batch itself, in the transaction that applies
//! it, so no table can be written without its rows being named here. It is
//! kept only while somebody follows it, and trimmed up to where they are.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::codec::{decode, encode};
use super::tables::{self, CHANGES_FROM_KEY, CHANGES_KEY};
use super::{Batch, Error, Store, View};
use crate::task::{CheckpointId, Moment, Now, ProjectId, RecordId, Seq, TaskId, Tier};

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
    fn sort(&mut self) {
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

    fn is_empty(&self) -> bool {
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
    list: Option<bool>,
    /// Up to where it is trimmed.
    trim: Option<CommitNumber>,
    /// Behind which numbers this store begins.
    begin_after: Option<(CommitNumber, Seq)>,
}

impl Listing {
    pub(super) const fn is_empty(&self) -> bool {
        let Self { list, trim, begin_after } = self;
        list.is_none() && trim.is_none() && begin_after.is_none()
    }
}

impl Store {
    /// Lists from now on what commits change, or no longer. What was changed
    /// before the list began is not in it.
    pub fn list_changes(&self, list: bool, now: Now) -> Result<(), Error> {
        if self.view()?.changes_from()?.is_some() == list {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.listing.list = Some(list);
        batch.commit(self, now)
    }
}

impl Batch {
    /// Takes commits up to here from the list of changes.
    pub fn trim_changes(&mut self, until: CommitNumber) {
        self.listing.trim = Some(until);
    }

    /// Begins the numbers of commits and the positions of the log behind
    /// others, which another store has used up.
    pub fn begin_after(&mut self, commit: CommitNumber, log: Seq) {
        self.listing.begin_after = Some((commit, log));
    }

    /// Adds the keys of its rows to the list of what a run of batches changed.
    fn add_changed(&self, changed: &mut Changed) {
        let tasks = self.submissions.iter().chain(&self.findings).map(|(id, _)| *id);
        let tasks = tasks.chain(self.tasks.iter().map(|row| row.id)).chain(self.removed_tasks.iter().map(|row| row.id));
        let records = self.records.iter().map(|(id, _)| *id).chain(self.lineage.iter().map(|(id, ..)| *id));
        let records = records.chain(self.statements.records());
        changed.at = self.present().observed;
        changed.projects.extend(self.projects.iter().map(|(id, _)| id.clone()));
        changed.tiers.extend(self.tier_pauses.iter().map(|(tier, _)| tier.clone()));
        changed.tasks.extend(tasks);
        changed.records.extend(records);
        changed.cascades.extend(self.cascades.steps().chain(self.statements.steps()));
        changed.checkpoints.extend(self.checkpoints.ids().cloned());
        changed.contents.extend(self.contents.keys());
        changed.imported_events.extend(self.record_rows.event_numbers());
    }

    /// What it does to the list of changes itself, and the number after that.
    fn write_listing(&self, transaction: &WriteTransaction) -> Result<(u64, bool), Error> {
        let mut meta = transaction.open_table(tables::META)?;
        let mut last = number_at(meta.get(CHANGES_KEY)?).unwrap_or(0);
        let mut listed = number_at(meta.get(CHANGES_FROM_KEY)?).is_some();
        if let Some((commit, log)) = self.listing.begin_after {
            last = last.max(commit.0);
            meta.insert(CHANGES_KEY, &last.to_le_bytes()[..])?;
            meta.insert(tables::LOG_BEGIN_KEY, &log.0.to_le_bytes()[..])?;
        }
        if let Some(list) = self.listing.list {
            // One number is left out: who had followed to the last one must
            // not take what happened in between for nothing.
            last += 1;
            listed = list;
            meta.insert(CHANGES_KEY, &last.to_le_bytes()[..])?;
            if list {
                meta.insert(CHANGES_FROM_KEY, &last.to_le_bytes()[..])?;
            } else {
                meta.remove(CHANGES_FROM_KEY)?;
                transaction.open_table(tables::CHANGES)?.retain(|_, _| false)?;
            }
        }
        Ok((last, listed))
    }

    fn trim_listed(&self, last: u64, transaction: &WriteTransaction) -> Result<(), Error> {
        if let Some(until) = self.listing.trim {
            let mut meta = transaction.open_table(tables::META)?;
            let from = number_at(meta.get(CHANGES_FROM_KEY)?).unwrap_or(0).max(until.0.min(last));
            meta.insert(CHANGES_FROM_KEY, &from.to_le_bytes()[..])?;
            transaction.open_table(tables::CHANGES)?.retain_in(..=from, |_, _| false)?;
        }
        Ok(())
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

fn number_at(value: Option<redb::AccessGuard<'_, tables::Bytes>>) -> Option<u64> {
    value.and_then(|value| number(&value))
}

/// Adds what a run of batches changes to the list, if one is kept. Several
/// batches have one row, under the number of the last of them: however they
/// are gathered when they are applied again after a crash, a number names
/// at least the changes that it named before.
pub(super) fn write_changes(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    let Some(first) = run.first() else { return Ok(()) };
    // Only a batch that is written alone does something to the list itself.
    let (mut last, listed) = first.write_listing(transaction)?;
    if !listed {
        return Ok(());
    }
    let mut changed = Changed::default();
    let mut count = 0;
    for batch in run {
        let mut own = Changed::default();
        batch.add_changed(&mut own);
        if !own.is_empty() {
            count += 1;
            batch.add_changed(&mut changed);
        }
    }
    if count > 0 {
        changed.sort();
        last += count;
        transaction.open_table(tables::META)?.insert(CHANGES_KEY, &last.to_le_bytes()[..])?;
        transaction.open_table(tables::CHANGES)?.insert(last, &encode("changes", &changed)?[..])?;
    }
    first.trim_listed(last, transaction)
}

fn number(value: &redb::AccessGuard<'_, tables::Bytes>) -> Option<u64> {
    value.value().try_into().ok().map(u64::from_le_bytes)
}

impl View {
    fn meta_number(&self, key: &str) -> Result<Option<u64>, Error> {
        Ok(self.table(tables::META)?.get(key)?.and_then(|value| number(&value)))
    }

    /// The number of the last commit that changed something.
    pub fn commit_number(&self) -> Result<CommitNumber, Error> {
        Ok(CommitNumber(self.meta_number(CHANGES_KEY)?.unwrap_or(0)))
    }

    /// The list has every commit after this one; `None`: there is no list.
    pub fn changes_from(&self) -> Result<Option<CommitNumber>, Error> {
        Ok(self.meta_number(CHANGES_FROM_KEY)?.map(CommitNumber))
    }

    /// Positions of the log up to this one are of an earlier store.
    pub(super) fn log_begin(&self) -> Result<Seq, Error> {
        Ok(Seq(self.meta_number(tables::LOG_BEGIN_KEY)?.unwrap_or(0)))
    }

    /// What was changed after a commit, in order.
    pub fn changes(
        &self,
        after: CommitNumber,
    ) -> Result<impl Iterator<Item = Result<(CommitNumber, Changed), Error>> + use<>, Error> {
        let rows = self.table(tables::CHANGES)?.range(after.next().0..)?;
        Ok(rows.map(|row| {
            let (key, value) = row?;
            Ok((CommitNumber(key.value()), decode("changes", value.value())?))
        }))
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::Trim;
    use crate::task::Timestamp;

    fn store() -> Store {
        Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 20, 1 << 20).unwrap()
    }

    fn commit(store: &Store, fill: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::default();
        fill(&mut batch);
        batch.commit(store, Now::aligned(Timestamp::from_micros(1))).unwrap();
    }

    fn listed(store: &Store) -> Vec<u64> {
        store.view().unwrap().changes(CommitNumber(0)).unwrap().map(|row| row.unwrap().0.0).collect()
    }

    #[test]
    fn only_while_it_is_kept_and_with_a_gap_where_it_was_not() {
        let store = store();
        let now = Now::aligned(Timestamp::from_micros(1));
        let content = |n: u8| move |batch: &mut Batch| batch.put_content([n; 32], vec![n]);
        commit(&store, content(1));
        assert_eq!((listed(&store), store.view().unwrap().commit_number().unwrap()), (vec![], CommitNumber(0)));
        store.list_changes(true, now).unwrap();
        commit(&store, content(2));
        commit(&store, |batch| batch.trim(Trim { log: Some(Seq(1)), ..Trim::default() }));
        commit(&store, content(3));
        assert_eq!(listed(&store), [2, 3]);
        assert_eq!(store.view().unwrap().changes_from().unwrap(), Some(CommitNumber(1)));
        commit(&store, |batch| batch.trim_changes(CommitNumber(2)));
        assert_eq!(listed(&store), [3]);
        assert_eq!(store.view().unwrap().changes_from().unwrap(), Some(CommitNumber(2)));
        store.list_changes(false, now).unwrap();
        commit(&store, content(4));
        store.list_changes(true, now).unwrap();
        let view = store.view().unwrap();
        assert!(listed(&store).is_empty());
        assert!(view.changes_from().unwrap().unwrap() > CommitNumber(3), "who was at 3 has missed something");
    }
}
