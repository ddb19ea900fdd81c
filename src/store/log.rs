//! The log: all changes in order, several entries to a row.
//!
//! The entries of a commit are adjacent, so most of the cost of a row in a tree of the tables is
//! shared by many of them. The key of a row is the position of its last entry, so that the first
//! row at or after a position is the one to read from.
//!
//! There are two forms of a row, distinguished by the first byte. Form 1 is one entry, in the form
//! of [`codec`](super::codec), followed by the moment of its commit, which the oldest rows lack.
//! Form 2 is written now: the byte 2, the moment of the commit (i64 microseconds of observed time),
//! and for each entry its position (u64), its length in bytes (u32) and the entry in the form of
//! `codec`. Numbers are little-endian.

use redb::{ReadableTable as _, WriteTransaction};

use super::batch::Batch;
use super::codec::{decode, decode_with_rest};
use super::rows::LogEntry;
use super::{Error, tables};
use crate::task::{Moment, Seq};

/// First byte of a row of several entries.
const SEVERAL: u8 = 2;
/// Largest number of entries in a row.
const ROW_ENTRIES: usize = 64;
/// Size after which a row gets no further entry: a page of the tables has room for it.
const ROW_BYTES: usize = 3072;
/// Bytes in front of the entries of a row, and in front of each entry.
const HEAD: usize = 1 + size_of::<i64>();
const ENTRY_HEAD: usize = size_of::<u64>() + size_of::<u32>();

/// Appends the entries of several batches to the log.
pub(super) fn append(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    if run.iter().all(|batch| batch.log.is_empty()) {
        return Ok(());
    }
    let mut table = transaction.open_table(tables::LOG)?;
    for batch in run {
        let mut rest = &batch.log[..];
        while let Some(first) = rest.first() {
            let mut row = Vec::with_capacity(ROW_BYTES);
            row.push(SEVERAL);
            row.extend_from_slice(&batch.present().observed.as_micros().to_le_bytes());
            let (mut last, mut count) = (first.seq, 0);
            for entry in rest.iter().take(ROW_ENTRIES) {
                if count > 0 && row.len() + ENTRY_HEAD + entry.bytes.len() > ROW_BYTES {
                    break;
                }
                let length = u32::try_from(entry.bytes.len()).map_err(|_| corrupt("an entry of over 4 GiB"))?;
                row.extend_from_slice(&entry.seq.0.to_le_bytes());
                row.extend_from_slice(&length.to_le_bytes());
                row.extend_from_slice(&entry.bytes);
                (last, count) = (entry.seq, count + 1);
            }
            table.insert(last.0, &row[..])?;
            rest = &rest[count..];
        }
    }
    Ok(())
}

/// Removes the entries before a position. The row that contains the position is cut.
pub(super) fn trim(transaction: &WriteTransaction, until: Seq) -> Result<(), Error> {
    let mut table = transaction.open_table(tables::LOG)?;
    table.retain_in(..until.0, |_, _| false)?;
    let first = table.first()?.map(|(key, row)| (key.value(), row.value().to_vec()));
    let Some((key, row)) = first.filter(|(_, row)| row.first() == Some(&SEVERAL)) else { return Ok(()) };
    let mut at = HEAD;
    while let Some((seq, bytes)) = row.get(at..).and_then(first_entry)
        && seq < until
    {
        at += ENTRY_HEAD + bytes.len();
    }
    if let (Some(head), Some(rest)) = (row.get(..HEAD), row.get(at..).filter(|_| at > HEAD)) {
        table.insert(key, &[head, rest].concat()[..])?;
    }
    Ok(())
}

fn corrupt(detail: &str) -> Error {
    Error::Corrupt { table: "log", detail: detail.to_owned() }
}

/// The entries of a row of several that follow a position, decoded one by one.
pub(super) struct Entries {
    row: Vec<u8>,
    moment: Moment,
    at: usize,
    after: Seq,
}

/// The entries of a row that follow a position.
pub(super) enum Row {
    One(Option<Result<(Seq, LogEntry), Error>>),
    Several(Entries),
}

impl Row {
    /// Reads a row with its key.
    pub(super) fn read(key: u64, row: &[u8], after: Seq) -> Result<Self, Error> {
        if row.first() == Some(&SEVERAL) {
            let moment = row.get(1..HEAD).and_then(|bytes| bytes.try_into().ok());
            let moment = Moment::from_micros(i64::from_le_bytes(moment.ok_or_else(|| corrupt("a row is cut"))?));
            return Ok(Self::Several(Entries { row: row.to_vec(), moment, at: HEAD, after }));
        }
        let (mut entry, rest): (LogEntry, _) = decode_with_rest("log", row)?;
        entry.observed =
            rest.try_into().map_or(Moment::default(), |bytes| Moment::from_micros(i64::from_le_bytes(bytes)));
        Ok(Self::One(Some(Ok((Seq(key), entry)))))
    }
}

impl Iterator for Row {
    type Item = Result<(Seq, LogEntry), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(entry) => entry.take(),
            Self::Several(entries) => entries.next(),
        }
    }
}

impl Iterator for Entries {
    type Item = Result<(Seq, LogEntry), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.row.get(self.at..)?;
            if rest.is_empty() {
                return None;
            }
            let Some((seq, bytes)) = first_entry(rest) else {
                self.at = self.row.len();
                return Some(Err(corrupt("a row is cut")));
            };
            self.at += ENTRY_HEAD + bytes.len();
            if seq > self.after {
                let entry = decode("log", bytes);
                return Some(entry.map(|entry| (seq, LogEntry { observed: self.moment, ..entry })));
            }
        }
    }
}

/// Position and bytes of the first entry in a slice of a row.
fn first_entry(rest: &[u8]) -> Option<(Seq, &[u8])> {
    let (seq, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some((Seq(u64::from_le_bytes(*seq)), rest.get(..length)?))
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::codec::encode;
    use crate::store::{About, Store, View};
    use crate::task::{Change, Now, ProjectId, Timestamp};

    fn entry(event: Option<String>) -> LogEntry {
        LogEntry {
            at: Timestamp::from_micros(1_795_000_000_000_000),
            project: ProjectId::new("p").unwrap(),
            about: About::Project,
            change: Change::Queued,
            event,
            on_bus: false,
            observed: Moment::default(),
        }
    }

    fn store() -> Store {
        Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 22, 1 << 20).unwrap()
    }

    /// Commits entries of these sizes from a position on, at a second.
    fn commit(store: &Store, first: u64, second: i64, sizes: &[usize]) {
        let mut batch = Batch::default();
        for (seq, size) in (first..).zip(sizes) {
            batch.append(Seq(seq), entry((*size > 0).then(|| "e".repeat(*size)))).unwrap();
        }
        batch.commit(store, Now::aligned(Timestamp::from_micros(second * 1_000_000))).unwrap();
    }

    fn positions(view: &View, after: u64, limit: usize) -> Vec<u64> {
        view.log(Seq(after), limit).unwrap().map(|entry| entry.unwrap().0.0).collect()
    }

    #[test]
    fn every_position_can_be_read_from_whatever_the_sizes() {
        let store = store();
        commit(&store, 1, 1, &[0; 200]);
        commit(&store, 201, 2, &[0, 5000, 0, 0, 3000, 3000, 900_000, 0]);
        commit(&store, 209, 3, &[0]);
        let view = store.view().unwrap();
        for after in 0..=210 {
            let expected: Vec<u64> = (after + 1..=209).collect();
            assert_eq!(positions(&view, after, usize::MAX), expected);
            for limit in [0, 1, 3, 70] {
                assert_eq!(positions(&view, after, limit), expected[..limit.min(expected.len())]);
            }
        }
        assert_eq!((view.log_head().unwrap(), view.log_tail().unwrap()), (Seq(209), Some(Seq(1))));
        let sizes = view.log(Seq(200), 8).unwrap().map(|entry| entry.unwrap().1.event.map_or(0, |event| event.len()));
        assert!(sizes.eq([0, 5000, 0, 0, 3000, 3000, 900_000, 0]));
        let rows = view.sizes().unwrap().log;
        assert!(rows < 20, "{rows} rows");
    }

    #[test]
    fn an_entry_has_the_moment_of_its_commit_and_is_trimmed_by_it() {
        let store = store();
        commit(&store, 1, 1, &[0; 100]);
        commit(&store, 101, 5, &[0; 100]);
        let view = store.view().unwrap();
        let moment = |second: i64| Now::aligned(Timestamp::from_micros(second * 1_000_000)).observed;
        let moments: Vec<_> = view.log(Seq(99), 2).unwrap().map(|entry| entry.unwrap().1.moment()).collect();
        assert_eq!(moments, [moment(1), moment(5)]);
        let until = view.log_older_than(moment(5), 1000).unwrap();
        assert_eq!(until, Some(Seq(101)));
        drop(view);
        let mut batch = Batch::default();
        batch.trim(crate::store::Trim { log: until, ..crate::store::Trim::default() });
        batch.commit(&store, Now::aligned(Timestamp::from_micros(6_000_000))).unwrap();
        let view = store.view().unwrap();
        assert_eq!(view.log_tail().unwrap(), Some(Seq(101)));
        assert_eq!(positions(&view, 0, 2), [101, 102]);
    }

    #[test]
    fn a_row_that_has_the_position_of_a_trim_inside_is_cut() {
        let store = store();
        commit(&store, 1, 1, &[0; 10]);
        let mut batch = Batch::default();
        batch.trim(crate::store::Trim { log: Some(Seq(5)), ..crate::store::Trim::default() });
        batch.commit(&store, Now::aligned(Timestamp::from_micros(6_000_000))).unwrap();
        let view = store.view().unwrap();
        assert_eq!((positions(&view, 0, 100), view.log_tail().unwrap()), ((5..=10).collect(), Some(Seq(5))));
    }

    #[test]
    fn rows_of_one_entry_are_read_too() {
        let row = [encode("log", &entry(None)).unwrap(), 7_i64.to_le_bytes().to_vec()].concat();
        let mut entries = Row::read(3, &row, Seq(0)).unwrap();
        let (seq, read) = entries.next().unwrap().unwrap();
        assert_eq!((seq, read.observed), (Seq(3), Moment::from_micros(7)));
        assert!(entries.next().is_none());
        let oldest = encode("log", &entry(None)).unwrap();
        let (_, read) = Row::read(3, &oldest, Seq(0)).unwrap().next().unwrap().unwrap();
        assert_eq!(read, entry(None));
    }

    #[test]
    fn a_row_that_is_cut_is_an_error() {
        let store = store();
        commit(&store, 1, 1, &[0; 3]);
        let view = store.view().unwrap();
        let row = view.table(tables::LOG).unwrap().get(3).unwrap().unwrap().value().to_vec();
        for length in 1..row.len() {
            let read = Row::read(3, &row[..length], Seq(0)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            assert!(read.map_or(true, |entries| entries.len() < 3), "{length} of {} bytes", row.len());
        }
    }
}
