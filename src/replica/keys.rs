//! Iterates over the store's rows table by table in key order, for the comparison with the copy.

use std::cmp::Ordering;

use super::portion::{Limits, Portion, Reader};
use super::position::{Phase, Position};
use super::row_key::Key;
use super::tables::{Cell, Row, Table};
use crate::lineage::Graph;
use crate::store::{self, View};
use crate::task::{CheckpointId, ProjectId, RecordId, Seq, TaskId, Tier};

/// Rows read per page.
pub(super) const PAGE: usize = 1000;

/// Returns the rows of a table after a key, in key order. An empty page is the end.
pub(super) fn page(
    view: &View,
    graph: &Graph,
    table: Table,
    after: Option<&Row>,
    contents: bool,
) -> Result<Vec<Row>, store::Error> {
    let limits = Limits { rows: usize::MAX, contents };
    let keys = match table {
        Table::Facts => facts_after(view, after)?,
        Table::Audit => audit_after(view, after)?,
        Table::Projects
        | Table::TierPauses
        | Table::Tasks
        | Table::Records
        | Table::ImportedEvents
        | Table::Checkpoints
        | Table::Contents => {
            let after = after.and_then(|row| row.first()).map(Cell::to_text);
            let found = phase(table).keys_after(view, after.as_deref(), PAGE, contents)?;
            found.into_iter().map(|(key, _)| key).collect()
        }
    };
    let Portion { mut rows, .. } = Reader::new(view, graph, limits)?.rows(keys, &Position::default())?;
    Ok(rows.remove(&table).unwrap_or_default())
}

const fn phase(table: Table) -> Phase {
    match table {
        Table::Projects => Phase::Projects,
        Table::TierPauses => Phase::Tiers,
        Table::Tasks => Phase::Tasks,
        Table::Records => Phase::Records,
        Table::Facts | Table::Audit => Phase::Facts,
        Table::ImportedEvents => Phase::ImportedEvents,
        Table::Checkpoints => Phase::Checkpoints,
        Table::Contents => Phase::Contents,
    }
}

fn step_of(row: Option<&Row>) -> Seq {
    let step = row.and_then(|row| row.first()).and_then(super::cells::as_int);
    Seq(step.and_then(|step| u64::try_from(step).ok()).unwrap_or(0))
}

fn facts_after(view: &View, after: Option<&Row>) -> Result<Vec<Key>, store::Error> {
    let steps = view.cascade_heads_after(step_of(after))?.take(PAGE);
    steps.map(|row| Ok(Key::Fact(row?.0))).collect()
}

fn audit_after(view: &View, after: Option<&Row>) -> Result<Vec<Key>, store::Error> {
    // A page ends at a step boundary, so that the next page begins with another step.
    let mut keys = Vec::new();
    for row in view.cascade_heads_after(step_of(after))? {
        let (step, _) = row?;
        keys.extend((0..view.step_changes(step)?.len()).map(|place| Key::Audit(step, place)));
        if keys.len() >= PAGE {
            break;
        }
    }
    Ok(keys)
}

/// Converts the key columns of a row to a [`Key`]; `None` if no row of the store can have that key.
pub(super) fn key_of(table: Table, row: &Row) -> Option<Key> {
    let text = row.first().map(Cell::to_text)?;
    Some(match table {
        Table::Projects => Key::Project(ProjectId::new(&text).ok()?),
        Table::TierPauses => Key::Tier(Tier::new(&text).ok()?),
        Table::Tasks => Key::Task(text.parse::<TaskId>().ok()?),
        Table::Records => Key::Record(text.parse::<RecordId>().ok()?),
        Table::Facts => Key::Fact(step_of(Some(row))),
        Table::Audit => {
            let place = row.get(1).and_then(super::cells::as_int)?;
            Key::Audit(step_of(Some(row)), usize::try_from(place).ok()?)
        }
        Table::ImportedEvents => Key::ImportedEvent(text.parse().ok()?),
        Table::Checkpoints => Key::Checkpoint(CheckpointId::new(&text).ok()?),
        Table::Contents => Key::Content(super::cells::as_bytes(row.first()?)?.try_into().ok()?),
    })
}

/// Compares two rows by key, in the same order that the database uses.
pub(super) fn compare(table: Table, one: &Row, other: &Row) -> Ordering {
    let pairs = one.iter().zip(other).take(table.key_columns());
    pairs.map(|(one, other)| compare_cells(one, other)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn compare_cells(one: &Cell, other: &Cell) -> Ordering {
    match (one, other) {
        (Cell::Uuid(one), Cell::Uuid(other)) => one.cmp(other),
        (Cell::Int(one), Cell::Int(other)) => one.cmp(other),
        (Cell::Text(one), Cell::Text(other)) => one.cmp(other),
        (Cell::Bytes(one), Cell::Bytes(other)) => one.cmp(other),
        // Keys of one table always have the same type.
        (_, _) => Ordering::Equal,
    }
}
