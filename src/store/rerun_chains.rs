//! Chains of re-runs: tasks that repeat the same work.
//!
//! A re-run names the task that it repeats. Each re-run is listed under the first task of its
//! chain, so the later re-runs of any task are a range of one table, however long the chain is. The
//! entries of a chain stay as long as its re-runs, even after its first task was removed.

use redb::{ReadableTable, WriteTransaction};

use super::{Error, tables};
use crate::task::TaskId;

/// Lists a re-run under the first task of its chain. Re-runs must come after the tasks that they
/// repeat.
pub(super) fn insert(transaction: &WriteTransaction, reruns: &[(TaskId, TaskId)]) -> Result<(), Error> {
    if reruns.is_empty() {
        return Ok(());
    }
    let mut firsts = transaction.open_table(tables::RERUN_CHAIN)?;
    let mut chains = transaction.open_table(tables::CHAIN_RERUNS)?;
    for (rerun, repeated) in reruns {
        let (rerun, repeated) = (rerun.to_bytes(), repeated.to_bytes());
        let first = firsts.get(&repeated)?.map_or(repeated, |first| *first.value());
        firsts.insert(&rerun, &first)?;
        chains.insert((&first, &rerun), ())?;
    }
    Ok(())
}

/// Removes re-runs from their chains.
pub(super) fn remove(transaction: &WriteTransaction, tasks: impl Iterator<Item = TaskId>) -> Result<(), Error> {
    let mut firsts = transaction.open_table(tables::RERUN_CHAIN)?;
    let mut chains = transaction.open_table(tables::CHAIN_RERUNS)?;
    for task in tasks {
        let task = task.to_bytes();
        let first = firsts.remove(&task)?.map(|first| *first.value());
        if let Some(first) = first {
            chains.remove((&first, &task))?;
        }
    }
    Ok(())
}
