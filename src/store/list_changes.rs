//! The list of changes: the keys that batches add to it, and changes of the list itself.

use redb::{ReadableTable, WriteTransaction};

use super::Error;
use super::batch::Batch;
use super::changes::{ChangedKeys, number_at};
use super::codec::encode;
use super::tables::{self, CHANGES_FROM_KEY, CHANGES_KEY};

impl Batch {
    /// Adds the keys of the batch's rows to those of several batches.
    fn add_changed(&self, changed: &mut ChangedKeys) {
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

    /// Changes the list itself. Returns the last number, and whether there is a list.
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
            // One number is skipped, so that a reader that had followed to the last one notices the
            // gap.
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

/// Adds the changes of several batches to the list, if there is one. They have one row, under the
/// number of the last batch: however batches are gathered when they are applied again after a
/// crash, a number covers at least the changes that it covered before.
pub(super) fn write_changes(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    let Some(first) = run.first() else { return Ok(()) };
    // Only a batch that is written alone changes the list itself.
    let (mut last, listed) = first.write_listing(transaction)?;
    if !listed {
        return Ok(());
    }
    let mut changed = ChangedKeys::default();
    let mut count = 0;
    for batch in run {
        let mut own = ChangedKeys::default();
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

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use crate::store::{Batch, CommitNumber, Store, Trim};
    use crate::task::{Now, Seq, Timestamp};

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
    fn changes_are_listed_only_while_the_list_is_kept() {
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
