//! Attempts that wait for workers behind a broker, and the events that announce them.

use std::collections::HashMap;

use super::log;
use crate::engine::api::{Dispatch, EventPosition, LoggedEvent};
use crate::store::{self, Store, View};
use crate::task::{Change, Moment, Pending, Seq, State, Task, TaskId, Tier};

/// Bytes of events after which [`events_at`] ends.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;
/// Open tasks that [`all`] looks at in one view.
const PORTION: usize = 4096;

/// Returns the events at some positions, until they are large.
pub(in crate::engine) fn events_at(
    view: &View,
    positions: Vec<EventPosition>,
) -> Result<Vec<Option<LoggedEvent>>, store::Error> {
    let mut found = Vec::with_capacity(positions.len());
    let mut bytes = 0;
    for position in positions {
        let logged = log::logged_at(view, position)?;
        bytes += logged.as_ref().map_or(0, log::size);
        found.push(logged);
        if bytes >= MAX_EVENT_BYTES {
            break;
        }
    }
    Ok(found)
}

/// Returns the newest attempt of every task that waits for a worker, in order.
///
/// Open tasks are read in portions, each in a view of its own: the file grows for as
/// long as a view is open.
pub(in crate::engine) fn all(store: &Store) -> Result<Vec<Dispatch>, store::Error> {
    let (mut dispatched, mut after) = (Vec::new(), None);
    loop {
        let view = store.view()?;
        let portion = view.open_tasks_after(after, PORTION)?;
        for Task { id, tier, state, .. } in &portion {
            let State::Pending(Pending::Dispatched { at, .. }) = state else { continue };
            if let Some(seq) = view.newest_dispatch(*id, Seq(u64::MAX))? {
                let position = EventPosition { seq, task: Some(*id) };
                dispatched.push(Dispatch { position, tier: tier.clone(), at: *at });
            }
        }
        after = portion.last().map(|task| task.id);
        if portion.len() < PORTION {
            break;
        }
    }
    dispatched.sort_unstable();
    Ok(dispatched)
}

/// Returns the newest `task.ready` of each task before a position, with its tier.
pub(in crate::engine) fn newest_before(
    view: &View,
    tasks: Vec<(TaskId, Seq)>,
) -> Result<Vec<Option<(EventPosition, Tier)>>, store::Error> {
    let newest = tasks.into_iter().map(|(task, before)| {
        let Some(seq) = view.newest_dispatch(task, before)? else { return Ok(None) };
        let entry = view.history_entry(task, seq)?;
        let Some(Change::Ready { tier, .. }) = entry.map(|entry| entry.change) else { return Ok(None) };
        Ok(Some((EventPosition { seq, task: Some(task) }, tier)))
    });
    newest.collect()
}

/// Returns those of some attempts that still wait for a worker, each with the time of
/// its dispatch.
pub(in crate::engine) fn still_waiting(
    view: &View,
    positions: Vec<EventPosition>,
) -> Result<HashMap<EventPosition, Moment>, store::Error> {
    let mut waiting = HashMap::with_capacity(positions.len());
    for position in positions {
        let Some(task) = position.task else { continue };
        let state = view.task(task)?.map(|task| task.state);
        let Some(State::Pending(Pending::Dispatched { at, .. })) = state else { continue };
        if view.newest_dispatch(task, Seq(u64::MAX))? == Some(position.seq) {
            waiting.insert(position, at);
        }
    }
    Ok(waiting)
}
