//! Histories of tasks, each of bounded length, so that a worker that reports the same failure for
//! days cannot grow one without limit.
//!
//! A row is the entry followed by its ordinal: its place among all entries that the task ever had,
//! from 0, as four bytes in little-endian order. Rows of earlier versions have no ordinal, and take
//! the place that a count gives. Missing ordinals between two rows mean that entries were left out.

use redb::{ReadableTable as _, Table, WriteTransaction};

use super::Error;
use super::batch::Batch;
use super::batch_rows::TaskRow;
use super::codec::decode_with_rest;
use super::rows::LogEntry;
use super::tables::{self, Bytes, IdSeq, id_then};
use crate::task::{Change, Seq};

/// Entries at the beginning that always stay.
const FIRST_KEPT: usize = 100;
/// Newest entries that stay.
const NEWEST_KEPT: usize = 9_900;
const KEPT: usize = FIRST_KEPT + NEWEST_KEPT;

/// An entry of a task's history.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// Its position in the log.
    pub seq: Seq,
    /// Number of entries left out between the previous entry and this one.
    pub left_out: u64,
    /// The entry of the log, without its event.
    pub entry: LogEntry,
}

/// Appends the entries of several batches to the histories.
pub(super) fn append(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    let rows = run.iter().flat_map(|batch| &batch.log);
    let entries = rows.filter_map(|row| Some((row.task?, row.seq, row.without_event.as_ref().unwrap_or(&row.bytes))));
    let mut entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        return Ok(());
    }
    entries.sort_unstable_by_key(|(task, seq, _)| (*task, *seq));
    let is_new = |row: &&TaskRow| row.before.is_none();
    let mut new: Vec<_> = run.iter().flat_map(|batch| &batch.tasks).filter(is_new).map(|row| row.id).collect();
    new.sort_unstable();
    let mut table = transaction.open_table(tables::HISTORY)?;
    let mut row = Vec::new();
    for entries in entries.chunk_by(|(one, ..), (next, ..)| one == next) {
        let Some(&(task, ..)) = entries.first() else { continue };
        let is_new = new.binary_search(&task).is_ok();
        let task = task.to_bytes();
        let mut ordinal = if is_new { 0 } else { next_ordinal(&table, task)? };
        for (_, seq, bytes) in entries {
            row.clear();
            row.extend_from_slice(bytes);
            row.extend_from_slice(&ordinal.to_le_bytes());
            table.insert(&id_then(task, seq.0), &row[..])?;
            if usize::try_from(ordinal).unwrap_or(usize::MAX) >= KEPT {
                remove_oldest_unneeded(&mut table, task)?;
            }
            ordinal = ordinal.saturating_add(1);
        }
    }
    Ok(())
}

/// The ordinal of the next entry of a history.
fn next_ordinal(table: &Table<'_, IdSeq, Bytes>, task: [u8; 16]) -> Result<u32, Error> {
    let (first, last) = (id_then(task, 0), id_then(task, u64::MAX));
    let mut rows = table.range::<&[u8; 24]>(&first..=&last)?;
    let Some(newest) = rows.next_back().transpose()? else { return Ok(0) };
    let ordinal = read(newest.1.value())?.1;
    Ok(match ordinal {
        Some(ordinal) => ordinal.saturating_add(1),
        None => u32::try_from(rows.count()).unwrap_or(u32::MAX).saturating_add(1),
    })
}

/// Removes the oldest entry after the first ones that is not needed.
fn remove_oldest_unneeded(table: &mut Table<'_, IdSeq, Bytes>, task: [u8; 16]) -> Result<(), Error> {
    let (first, last) = (id_then(task, 0), id_then(task, u64::MAX));
    let mut oldest = None;
    for row in table.range::<&[u8; 24]>(&first..=&last)?.skip(FIRST_KEPT) {
        let (key, value) = row?;
        if !is_needed(&read(value.value())?.0.change) {
            oldest = Some(*key.value());
            break;
        }
    }
    if let Some(oldest) = oldest {
        table.remove(&oldest)?;
    }
    Ok(())
}

/// Whether an entry must stay: a history must show the end of its task, and the broker's events are
/// read from it (`wire/events.rs`). A task has few of either.
const fn is_needed(change: &Change) -> bool {
    matches!(change, Change::Ready { .. } | Change::Finished { .. } | Change::Cancelled { .. })
}

/// Decodes an entry and its ordinal.
pub(super) fn read(row: &[u8]) -> Result<(LogEntry, Option<u32>), Error> {
    let (entry, rest) = decode_with_rest("history", row)?;
    Ok((entry, rest.try_into().ok().map(u32::from_le_bytes)))
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::PageBudget;
    use crate::store::codec::encode;
    use crate::store::tables::number_after_id;
    use crate::store::{About, Standing, Store};
    use crate::task::{Moment, Now, Outcome, Phase, ProjectId, Stale, Status, TaskError, TaskId, Timestamp};

    const TASK: TaskId = TaskId::from_bytes([7; 16]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(1_795_000_000_000_000 + second * 1_000_000)
    }

    fn entry(change: Change) -> LogEntry {
        let standing = Standing { task: TASK, version: 1, status: Status::Running, phase: Phase::Started, attempt: 1 };
        let project = ProjectId::new("p").unwrap();
        LogEntry {
            at: at(0),
            project,
            about: About::Task(standing),
            change,
            event: None,
            on_bus: false,
            observed: Moment::default(),
        }
    }

    fn stale() -> Change {
        Change::Accepted { name: "task.failed".to_owned(), outcome: Outcome::Stale(Stale::NotHolder) }
    }

    fn store() -> Store {
        Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 20, 1 << 20).unwrap()
    }

    fn append_all(store: &Store, first: u64, changes: impl Iterator<Item = Change>) {
        let mut batch = Batch::default();
        for (seq, change) in (first..).zip(changes) {
            batch.append(Seq(seq), entry(change)).unwrap();
        }
        batch.commit(store, Now::aligned(at(1))).unwrap();
    }

    fn whole(store: &Store) -> Vec<HistoryEntry> {
        store.view().unwrap().history(TASK, Seq(0), PageBudget::UNLIMITED).unwrap().entries
    }

    fn finished() -> Change {
        let error: Option<TaskError> = None;
        Change::Finished { status: Status::Failed, error, record: None }
    }

    #[test]
    fn a_history_keeps_its_first_and_newest_entries_and_its_end() {
        let store = store();
        append_all(&store, 1, std::iter::repeat_with(stale).take(150).chain([finished()]));
        // In batches, as reports come.
        for batch in 0..30 {
            append_all(&store, 152 + batch * 500, std::iter::repeat_with(stale).take(500));
        }
        let newest = 151 + 30 * 500;
        let kept = whole(&store);
        assert_eq!(kept.len(), KEPT);
        assert!((1..=100).eq(kept[..100].iter().map(|entry| entry.seq.0)));
        assert_eq!((kept[100].seq, kept[100].left_out), (Seq(151), 50));
        let rest = 9_899;
        assert!((newest - rest + 1..=newest).eq(kept[101..].iter().map(|entry| entry.seq.0)));
        assert_eq!(kept.iter().map(|entry| entry.left_out).sum::<u64>(), newest - u64::try_from(KEPT).unwrap());
        assert!(kept[102..].iter().all(|entry| entry.left_out == 0));
    }

    #[test]
    fn a_page_says_what_was_left_out_before_its_first_entry() {
        let store = store();
        append_all(&store, 1, std::iter::repeat_with(stale).take(KEPT + 7));
        let view = store.view().unwrap();
        let page = view.history(TASK, Seq(100), PageBudget::new(2)).unwrap();
        assert_eq!((page.entries[0].seq, page.entries[0].left_out), (Seq(108), 7));
        assert_eq!(page.entries[1].left_out, 0);
        assert!(page.has_more);
    }

    #[test]
    fn entries_without_an_ordinal_are_counted() {
        let database = redb::Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut batch = Batch::default();
        {
            let mut table = transaction.open_table(tables::HISTORY).unwrap();
            for seq in 1..=10_000 {
                let row = encode("history", &entry(stale())).unwrap();
                table.insert(&id_then(TASK.to_bytes(), seq), &row[..]).unwrap();
            }
        }
        for seq in [10_001, 10_002] {
            batch.append(Seq(seq), entry(stale())).unwrap();
        }
        append(&[&batch], &transaction).unwrap();
        let table = transaction.open_table(tables::HISTORY).unwrap();
        let rows = table.iter().unwrap().map(|row| {
            let (key, value) = row.unwrap();
            (number_after_id(key.value()), read(value.value()).unwrap().1)
        });
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), KEPT);
        assert_eq!(rows[99..101], [(100, None), (103, None)]);
        assert_eq!(rows[KEPT - 2..], [(10_001, Some(10_000)), (10_002, Some(10_001))]);
    }
}
