//! The feed of the publisher: reads the log into the outbox, adds tasks that
//! have gone from their work queues, and reports how far publishing has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::broker::Broker;
use super::connection::Error;
use super::outbox::{Outbox, PendingEvent};
use crate::engine::{Dispatch, Engine, EventPosition, LogReader};
use crate::store::LogEntry;
use crate::task::{Change, Moment, Seq, Tier};

/// Log entries that are read at once.
const PAGE: usize = 1024;

/// The events of the log that are not published yet, and the reader that fetches them.
pub(super) struct Feed {
    engine: Engine,
    reader: LogReader,
    broker: Arc<Broker>,
    pub(super) outbox: Outbox,
    /// The number of unpublished dispatches from before the reader joined the log; `None` until
    /// they are looked up.
    earlier_unpublished: Option<usize>,
    /// The time of the last entry that was read, or of the commit up to which the log was read.
    read_at: Option<Moment>,
}

impl Feed {
    pub(super) fn new(engine: Engine, reader: LogReader, broker: Arc<Broker>) -> Self {
        let place = reader.position();
        Self {
            outbox: Outbox::new(place.read_to),
            earlier_unpublished: place.begun.then_some(0),
            engine,
            reader,
            broker,
            read_at: None,
        }
    }

    /// Reads the log until a wave of `window` events is due or the log ends.
    pub(super) async fn read_log(&mut self, window: usize) -> Result<(), Error> {
        if self.earlier_unpublished.is_none() {
            let joined = self.reader.position().joined;
            let mut earlier = self.engine.broker().dispatched().await?;
            earlier.retain(|dispatch| dispatch.position.seq <= joined);
            self.earlier_unpublished = Some(earlier.len());
            for Dispatch { position, tier, at } in earlier {
                self.outbox.push(PendingEvent::new(joined, position, Some((tier, at))));
            }
        }
        while self.outbox.has_room(window) {
            // Read before the page: a group that is open now may commit after the page was read.
            let committed_at = self.engine.broker().committed_at();
            let page = self.reader.page(self.outbox.read_to(), PAGE).await?;
            if page.entries.is_empty() {
                self.outbox.set_read_to(page.read_to);
                self.read_at = Some(committed_at).max(self.read_at);
                return Ok(());
            }
            self.read_at = page.entries.last().map(|(_, entry)| entry.moment()).max(self.read_at);
            // The `task.ready` of such a dispatch was announced before, by a run whose workers
            // leased tasks.
            let dispatches = page.entries.iter().filter(|(_, entry)| matches!(entry.change, Change::Dispatched));
            let dispatches = dispatches.filter_map(|(seq, entry)| Some((entry.task()?, *seq))).collect();
            let announced = self.engine.broker().newest_dispatches(dispatches).await?;
            let mut announced = announced.into_iter();
            for (seq, entry) in &page.entries {
                let is_dispatch = matches!(entry.change, Change::Dispatched) && entry.task().is_some();
                let before = if is_dispatch { announced.next().flatten() } else { None };
                if let Some(event) = event_of(*seq, entry, before) {
                    self.outbox.push(event);
                }
                self.outbox.set_read_to(*seq);
            }
        }
        Ok(())
    }

    /// Adds the dispatched tasks of tiers whose work queues were missing, because the messages in
    /// such a queue are lost. Only tasks that no worker is known to have are added, under their ids.
    pub(super) async fn add_tasks_of_missing_queues(&mut self, tiers: &mut BTreeSet<Tier>) -> Result<(), Error> {
        if tiers.is_empty() {
            return Ok(());
        }
        let mut count = 0;
        for Dispatch { position, tier, at } in self.engine.broker().dispatched().await? {
            if position.seq > self.outbox.read_to() || !tiers.contains(&tier) {
                continue;
            }
            count += usize::from(self.push_again(position, tier, at));
        }
        tiers.clear();
        if count > 0 {
            tracing::warn!(count, "a work queue was missing; its tasks are published again");
        }
        Ok(())
    }

    /// Adds single tasks that have gone from their work queues, by a purge or a policy of the
    /// broker, as long as they still wait. If the engine can't look them up, the next call does.
    pub(super) async fn add_lost_dispatches(&mut self) {
        let lost = self.broker.lost_dispatches();
        if lost.is_empty() {
            return;
        }
        let positions = lost.iter().map(|lost| lost.position).collect();
        let Ok(waiting) = self.engine.broker().still_waiting(positions).await else { return };
        for lost in lost.iter().filter(|lost| waiting.contains_key(&lost.position)) {
            // With the time of its dispatch, so that its deadline does not begin before it is published.
            self.push_again(lost.position, lost.tier.clone(), lost.at);
        }
        self.report();
        self.broker.remove_lost(&lost);
    }

    /// Adds a dispatched task to the outbox. Returns whether it was not there.
    fn push_again(&mut self, position: EventPosition, tier: Tier, at: Moment) -> bool {
        let joined = self.reader.position().joined;
        let is_new = self.outbox.push(PendingEvent::new(position.seq.max(joined), position, Some((tier, at))));
        if is_new && position.seq <= joined {
            self.earlier_unpublished = self.earlier_unpublished.map(|left| left.saturating_add(1));
        }
        is_new
    }

    /// Removes an event that the broker has confirmed.
    pub(super) fn record_published(&mut self, event: &PendingEvent) {
        self.outbox.remove_published(event);
        if event.order == self.reader.position().joined
            && let Some(left) = &mut self.earlier_unpublished
        {
            *left = left.saturating_sub(1);
        }
    }

    /// Reports to the log and to the broker's state how far publishing has come.
    pub(super) fn report(&self) {
        if self.earlier_unpublished == Some(0) {
            self.reader.begin();
        }
        self.reader.move_to(self.outbox.published_to());
        self.broker.set_frontier(self.outbox.frontier(self.read_at));
    }
}

/// Returns the event to publish for a log entry, if there is one. `announced` is the position and
/// the tier of the `task.ready` that belongs to a dispatch.
fn event_of(seq: Seq, entry: &LogEntry, announced: Option<(EventPosition, Tier)>) -> Option<PendingEvent> {
    let own = EventPosition { seq, task: entry.task() };
    let (position, tier) = match &entry.change {
        Change::Dispatched => announced.map(|(position, tier)| (position, Some(tier)))?,
        Change::Ready { tier, .. } => (own, Some(tier.clone())),
        Change::Accepted { .. } if !entry.on_bus => (own, None),
        change if change.is_published() => (own, None),
        _ => return None,
    };
    Some(PendingEvent::new(seq, position, tier.map(|tier| (tier, entry.moment()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{About, Standing};
    use crate::task::{Phase, ProjectId, Status, TaskId, Timestamp};

    /// A task was announced to workers that lease, and is dispatched after the switch to the broker:
    /// its deadline must not begin before the broker has it.
    #[test]
    fn a_dispatch_that_was_announced_before_counts_as_unpublished() {
        let (task, tier) = (TaskId::from_bytes([1; 16]), Tier::new("small").unwrap());
        let observed = Moment::from_micros(5);
        let entry = LogEntry {
            at: Timestamp::from_micros(5),
            project: ProjectId::new("p").unwrap(),
            about: About::Task(Standing {
                task,
                version: 2,
                status: Status::Pending,
                phase: Phase::Dispatched,
                attempt: 1,
            }),
            change: Change::Dispatched,
            event: None,
            on_bus: false,
            observed,
        };
        let announced = EventPosition { seq: Seq(3), task: Some(task) };
        let event = event_of(Seq(9), &entry, Some((announced, tier.clone()))).unwrap();
        assert_eq!(event, PendingEvent::new(Seq(9), announced, Some((tier.clone(), observed))));
        let mut outbox = Outbox::new(Seq(8));
        outbox.push(event);
        assert_eq!(outbox.frontier(Some(observed)).oldest_unpublished.get(&tier), Some(&observed));
        assert_eq!(event_of(Seq(9), &entry, None), None);
    }
}
