//! Conversion from format 5 to the format of this version: one function for each table whose rows
//! or keys have changed.
//!
//! **To change a row**: copy its struct as of format 5 into this file (`TaskV5` and so on, with
//! everything in it that changes), write `impl From<TaskV5> for Task`, and call [`rewrite`] on its
//! table in a function that [`convert`] calls. A row that only gains fields at its end, which are
//! read from older rows as zero, empty or `None`, needs no copy: decode it with [`decode_grown`]
//! and encode it again. New variants of an enum go to its end, and then nothing is needed here.
//!
//! **To change the values of rows** (a phase, a deadline): do it between decoding and encoding,
//! raise the row's `version`, and push its id to [`Converted::changed`], so that the replica in
//! Postgres gets it.
//!
//! **To change a part of a batch** see `v5_journal.rs`: the records of the old journal are in the
//! tables when [`convert`] is called.
//!
//! Counters, and the index of tasks by project and status, are always built again from the
//! converted tasks.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};

use super::super::codec::decode_grown;
use super::super::codec::{decode, encode};
use super::super::rows::{Counters, TierPause};
use super::super::{ChangedKeys, Error, changes, tables};
use super::rewrite::rewrite;
use super::v5_lineage;
use super::v5_tasks::TaskV5;
use crate::task::{ProjectId, Task, TaskId};

/// The result of an upgrade.
#[derive(Debug, Default)]
pub(super) struct Converted {
    /// Number of tasks.
    pub(super) tasks: u64,
    /// Tasks whose rows have changed: all of them, because the form of a task has changed.
    pub(super) changed: Vec<TaskId>,
}

/// Converts every table.
pub(super) fn convert(transaction: &WriteTransaction) -> Result<Converted, Error> {
    let mut converted = Converted::default();
    open_tasks(transaction, &mut converted)?;
    finished_tasks(transaction, &mut converted)?;
    tier_pauses(transaction)?;
    index_tasks(transaction, &mut converted)?;
    v5_lineage::convert(transaction)?;
    changes::list_upgraded(transaction, &ChangedKeys { tasks: converted.changed.clone(), ..ChangedKeys::default() })?;
    Ok(converted)
}

fn open_tasks(transaction: &WriteTransaction, converted: &mut Converted) -> Result<(), Error> {
    let mut parked = transaction.open_table(tables::PARKED)?;
    rewrite(transaction, tables::OPEN_TASKS, |_, row| {
        let old: TaskV5 = decode("open_tasks", row)?;
        let mut task = Task::from(old);
        converted.changed.push(task.id);
        let waiting = std::mem::take(&mut task.parked);
        if !waiting.is_empty() {
            parked.insert(&task.id.to_bytes(), &encode("parked", &waiting)?[..])?;
        }
        encode("open_tasks", &task)
    })
}

fn finished_tasks(transaction: &WriteTransaction, converted: &mut Converted) -> Result<(), Error> {
    rewrite(transaction, tables::FINISHED_TASKS, |_, row| {
        let task = Task::from(decode::<TaskV5>("finished_tasks", row)?);
        converted.changed.push(task.id);
        encode("finished_tasks", &task)
    })
}

/// Adds to each tier whether its work queue ever had a consumer.
fn tier_pauses(transaction: &WriteTransaction) -> Result<(), Error> {
    rewrite(transaction, tables::TIER_PAUSES, |_, row| {
        let pause: TierPause = decode_grown("tier_pauses", row)?;
        encode("tier_pauses", &pause)
    })
}

/// Builds the index of tasks by project and the counters again.
fn index_tasks(transaction: &WriteTransaction, converted: &mut Converted) -> Result<(), Error> {
    let mut counters: BTreeMap<ProjectId, Counters> = BTreeMap::new();
    for row in transaction.open_table(tables::COUNTERS)?.iter()? {
        // Projects that never had a task have none.
        let project = ProjectId::new(row?.0.value());
        let corrupt = |error: crate::task::InvalidId| Error::Corrupt { table: "counters", detail: error.to_string() };
        counters.insert(project.map_err(corrupt)?, Counters::default());
    }
    transaction.delete_table(tables::TASKS_BY_PROJECT)?;
    let mut by_project = transaction.open_table(tables::TASKS_BY_PROJECT)?;
    for table in [tables::OPEN_TASKS, tables::FINISHED_TASKS] {
        for row in transaction.open_table(table)?.iter()? {
            let (id, row) = row?;
            let task: Task = decode("tasks", row.value())?;
            by_project.insert((task.project.as_str(), task.status().code(), id.value()), ())?;
            counters.entry(task.project.clone()).or_default().moved(None, Some(task.phase()));
            converted.tasks += 1;
        }
    }
    let mut table = transaction.open_table(tables::COUNTERS)?;
    for (project, counters) in &counters {
        table.insert(project.as_str(), &encode("counters", counters)?[..])?;
    }
    Ok(())
}
