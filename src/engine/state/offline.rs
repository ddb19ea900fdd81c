//! Work on a store that no service has open.

use std::sync::Arc;

use super::failure::Stored;
use super::machine::Machine;
use crate::engine::api::{Begun, Settings};
use crate::engine::shared::Shared;
use crate::store::Store;
use crate::task::{Moment, Now, TaskId};

/// Most tasks in one commit.
const ROUND: usize = 256;

fn open(store: &Store, settings: Settings) -> Stored<Machine> {
    let shared = Shared::new(settings.hot_bytes);
    Machine::recovered(Arc::new(settings), store.clone(), store.recover()?, shared)
}

fn commit(machine: &mut Machine, store: &Store, now: Now) -> Stored<()> {
    let (batch, _) = machine.finish(now)?;
    batch.commit(store, now)
}

/// Removes the finished tasks of a store that no service has open and that ended before
/// `before`. Returns how many.
pub fn prune(store: &Store, settings: Settings, before: Moment, now: Now) -> Stored<u64> {
    let mut machine = open(store, settings)?;
    let mut removed = 0;
    loop {
        let (count, has_more) = machine.remove_ended_before(before)?;
        commit(&mut machine, store, now)?;
        removed += u64::try_from(count).unwrap_or(u64::MAX);
        if !has_more {
            return Ok(removed);
        }
    }
}

/// Brings the tasks of a store that was made from a copy into agreement: attempts that ran
/// begin again, and tasks learn of ends that they missed.
pub fn begin_again(store: &Store, settings: Settings, now: Now) -> Stored<Begun> {
    let mut machine = open(store, settings)?;
    let tasks = machine.open_tasks();
    let mut begun = Begun { open: u64::try_from(tasks.len()).unwrap_or(u64::MAX), ..Begun::default() };
    for round in tasks.chunks(ROUND) {
        for id in round {
            begun.attempts += u64::from(machine.begin_again(*id, now)?);
            begun.notified += machine.catch_up(*id, now)?;
        }
        commit(&mut machine, store, now)?;
    }
    store.checkpoint()?;
    Ok(begun)
}

/// Moves tasks that the configured bus does not have in their phase into one that it has:
/// after a start on another bus, or an upgrade. It runs at a start, before anything else sees
/// the store.
pub(crate) fn change_bus(machine: &mut Machine, now: Now) -> Stored<()> {
    let tasks: Vec<TaskId> = machine.take_tasks_of_other_bus();
    if tasks.is_empty() {
        return Ok(());
    }
    tracing::info!(tasks = tasks.len(), "moving waiting tasks to the configured bus");
    let store = machine.store().clone();
    // The oldest first: events tell of them in this order.
    for round in tasks.chunks(ROUND) {
        for id in round {
            machine.change_bus(*id, now)?;
        }
        commit(machine, &store, now)?;
    }
    Ok(())
}
