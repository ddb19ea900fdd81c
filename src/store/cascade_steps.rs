//! The steps of each cascade, found by its id.
//!
//! The audit trail is in the order of steps. A second table lists the steps under their cascades,
//! so that showing a cascade costs as much as the cascade has, and not as much as the trail has.
//! Versions without this table have left steps out of it: a row of `meta` says up to which step it
//! is complete, and opening a store adds the others.

use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};

use super::Error;
use super::cascades::{CascadeRow, Cause};
use super::codec::decode;
use super::tables::{self, CASCADES_INDEXED_KEY};
use crate::task::Seq;

/// Steps that one transaction adds.
const PORTION: usize = 16_384;

/// Lists steps, which must come in order, under their cascades.
pub(super) fn index(
    transaction: &WriteTransaction,
    rows: impl Iterator<Item = Result<(Seq, CascadeRow), Error>>,
) -> Result<(), Error> {
    let mut steps = transaction.open_table(tables::CASCADE_STEPS)?;
    let mut last = None;
    for row in rows {
        let (step, row) = row?;
        last = last.max(Some(step));
        // Imports have one id in common, which is never looked up.
        if !matches!(row.cause, Cause::Import(_)) {
            steps.insert((row.cascade_id.as_str(), step.0), ())?;
        }
    }
    if let Some(last) = last {
        let mut meta = transaction.open_table(tables::META)?;
        let indexed = number(meta.get(CASCADES_INDEXED_KEY)?.map(|value| value.value().to_vec()).as_deref());
        meta.insert(CASCADES_INDEXED_KEY, &last.0.max(indexed).to_le_bytes()[..])?;
    }
    Ok(())
}

fn number(value: Option<&[u8]>) -> u64 {
    value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Adds the steps that an earlier version has left out. They become durable with the next
/// checkpoint; after a crash before it, the next start adds them.
pub(super) fn index_missing(database: &Database) -> Result<(), Error> {
    let mut added = 0;
    loop {
        let read = database.begin_read()?;
        let cascades = read.open_table(tables::CASCADES)?;
        let value = read.open_table(tables::META)?.get(CASCADES_INDEXED_KEY)?;
        let indexed = number(value.as_ref().map(redb::AccessGuard::value));
        let left_out = cascades.range(indexed.saturating_add(1)..)?.take(PORTION);
        let rows = left_out.map(|row| {
            let (step, row) = row?;
            Ok((Seq(step.value()), decode("cascades", row.value())?))
        });
        let rows: Vec<(Seq, CascadeRow)> = rows.collect::<Result<_, Error>>()?;
        if rows.is_empty() {
            if added > 0 {
                tracing::info!(steps = added, "audit trail indexed by cascade");
            }
            return Ok(());
        }
        added += rows.len();
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::None)?;
        index(&transaction, rows.into_iter().map(Ok))?;
        transaction.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::{Batch, FlagChanges, Store, View};
    use crate::task::{Now, RecordId, Timestamp};

    fn said(cascade_id: &str, cause: Cause) -> CascadeRow {
        let (at, reason) = (Timestamp::from_micros(1), String::new());
        CascadeRow { at, cascade_id: cascade_id.to_owned(), cause, reason, source: None }
    }

    fn store() -> Store {
        let store = Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 20, 1 << 20).unwrap();
        let mut batch = Batch::default();
        let record = RecordId::from_bytes([1; 16]);
        let rows = [
            said("a", Cause::Undo),
            said("ab", Cause::Upgrade),
            said("a", Cause::Import(record)),
            said("a", Cause::Arrival(record)),
            said("b", Cause::Undo),
        ];
        for (step, row) in (1..).zip(&rows) {
            batch.put_cascade(Seq(step), row, FlagChanges::default()).unwrap();
        }
        batch.commit(&store, Now::aligned(Timestamp::from_micros(1))).unwrap();
        store
    }

    #[test]
    fn the_steps_of_a_cascade_are_found_by_its_id() {
        let store = store();
        let view = store.view().unwrap();
        assert_eq!(view.cascade_steps("a", Seq(0)).unwrap(), [Seq(1), Seq(4)]);
        assert_eq!(view.cascade_steps("a", Seq(1)).unwrap(), [Seq(4)]);
        assert_eq!(view.cascade_steps("ab", Seq(0)).unwrap(), [Seq(2)]);
        assert_eq!(view.cascade_steps("", Seq(0)).unwrap(), []);
    }

    #[test]
    fn steps_missing_from_the_index_are_added() {
        let database = redb::Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
        crate::store::directory::initialize(&database).unwrap();
        let write = |step: u64, row: &CascadeRow| {
            let bytes = crate::store::codec::encode("cascades", row).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(tables::CASCADES).unwrap().insert(step, &bytes[..]).unwrap();
            transaction.delete_table(tables::CASCADE_STEPS).unwrap();
            transaction.commit().unwrap();
        };
        let steps = |id: &str| View::new(database.begin_read().unwrap(), None).cascade_steps(id, Seq(0)).unwrap();
        write(1, &said("a", Cause::Undo));
        assert_eq!(steps("a"), []);
        index_missing(&database).unwrap();
        assert_eq!(steps("a"), [Seq(1)]);
        // An earlier version continues with the store, then this version again.
        let bytes = crate::store::codec::encode("cascades", &said("a", Cause::Upgrade)).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(tables::CASCADES).unwrap().insert(2, &bytes[..]).unwrap();
        transaction.commit().unwrap();
        index_missing(&database).unwrap();
        assert_eq!(steps("a"), [Seq(1), Seq(2)]);
    }
}
