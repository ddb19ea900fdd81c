//! Counts the messages and consumers of the work queues for the engine. Tasks that
//! have gone from a queue although no worker can have taken them are published
//! again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::sleep;

use super::broker::{Broker, LostDispatch, Waiting};
use super::connection::{Error, Link};
use super::settings::Settings;
use super::topology;
use crate::clock::Clock;
use crate::engine::{self, Engine, QueueCount, QueueReport};
use crate::task::{Moment, Seq, TaskId, Tier};

/// The interval of the counts.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// The number of counts between two counts of a tier without tasks at the broker.
const IDLE_ROUNDS: u64 = 5;
/// The shortest time between two publications of a task that has gone from its queue.
const REPUBLISH_INTERVAL: Duration = Duration::from_mins(1);
/// The interval at which progress is recorded for waits that no count observes.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The state of the queue of a tier between two counts.
#[derive(Debug, Default)]
struct QueueHistory {
    /// The time before which all dispatches were at the broker at the previous count. A message
    /// that is being enqueued may be missing from the count.
    published_before: Option<Moment>,
    /// Records of publishing, the oldest first.
    progress: VecDeque<Progress>,
}

/// A record of how far publishing had come.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// The time of the record.
    at: Moment,
    /// The time before which all dispatches were at the broker.
    published_before: Moment,
}

impl QueueHistory {
    /// Records how far publishing has come. Returns the time before which all dispatches have been
    /// at the broker for `wait`.
    fn unobserved_before(&mut self, now: Moment, published: Option<Moment>, wait: Duration) -> Option<Moment> {
        let published = published?;
        // Dispatches before the first record were confirmed by an earlier connection or run, soon
        // after they were made.
        let first = self.progress.front().map_or(published, |first| first.published_before);
        let earlier = first.min(now.before(wait));
        if self.progress.back().is_none_or(|last| now.since(last.at) >= PROGRESS_INTERVAL) {
            self.progress.push_back(Progress { at: now, published_before: published });
        }
        while self.progress.get(1).is_some_and(|second| now.since(second.at) >= wait) {
            self.progress.pop_front();
        }
        let recorded = self.progress.front().filter(|first| now.since(first.at) >= wait);
        Some(recorded.map_or(earlier, |recorded| recorded.published_before.max(earlier)))
    }
}

/// Counts the queues and reports them to the engine until the connection fails.
pub(super) async fn count_queues(
    link: &Link,
    engine: &Engine,
    settings: &Settings,
    broker: &Broker,
    clock: &Clock,
) -> Result<(), Error> {
    let mut channel = None;
    let mut histories: HashMap<Tier, QueueHistory> = HashMap::new();
    let mut republished: HashMap<TaskId, Moment> = HashMap::new();
    for round in 0_u64.. {
        sleep(COUNT_INTERVAL).await;
        let now = clock.observed();
        republished.retain(|_, at| now.since(*at) < REPUBLISH_INTERVAL);
        let queues = engine.figures().queues;
        let is_due = |queue: &engine::WorkQueue| queue.depth > 0 || round.is_multiple_of(IDLE_ROUNDS);
        for tier in queues.into_iter().filter(is_due).map(|queue| queue.tier) {
            let published = broker.published_before(&tier);
            let counting = match channel.take() {
                Some(channel) => channel,
                None => link.channel().await?,
            };
            let found = topology::inspect_queue(&counting, &settings.work_queues.queue_name(&tier)).await?;
            let found = found.map(|queue| Waiting { ready: queue.message_count(), consumers: queue.consumer_count() });
            if found.is_none() && settings.work_queues.declare {
                broker.record_missing_queue();
            }
            if counting.status().connected() {
                channel = Some(counting);
            }
            record_waiting(broker, &tier, found);
            let history = histories.entry(tier.clone()).or_default();
            let unobserved_before = history.unobserved_before(now, published, settings.unobserved_wait);
            let published_before = std::mem::replace(&mut history.published_before, published);
            let report = QueueReport {
                tier: tier.clone(),
                counted: found.map(counted),
                published_before,
                unobserved_before,
                rule: settings.work_queues.require_consumer,
            };
            match engine.broker().report_queue(report).await {
                Ok(missing) => {
                    let missing = missing.into_iter().filter(|task| !republished.contains_key(task)).collect();
                    publish_again(engine, broker, &tier, missing, &mut republished, now).await?;
                }
                // The next count reports the same.
                Err(engine::Error::Overloaded | engine::Error::DiskFull { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Lets the publisher publish tasks again, each under its id, that have gone from their queue.
async fn publish_again(
    engine: &Engine,
    broker: &Broker,
    tier: &Tier,
    missing: Vec<TaskId>,
    republished: &mut HashMap<TaskId, Moment>,
    now: Moment,
) -> Result<(), Error> {
    if missing.is_empty() {
        return Ok(());
    }
    republished.extend(missing.iter().map(|task| (*task, now)));
    let missing = missing.into_iter().map(|task| (task, Seq(u64::MAX))).collect();
    let newest: Vec<_> = engine.broker().newest_dispatches(missing).await?.into_iter().flatten().collect();
    let waiting = engine.broker().still_waiting(newest.iter().map(|(position, _)| *position).collect()).await?;
    let lost = newest.into_iter().filter_map(|(position, tier)| {
        let at = waiting.get(&position).copied()?;
        Some(LostDispatch { position, tier, at })
    });
    let lost: Vec<LostDispatch> = lost.collect();
    tracing::warn!(count = lost.len(), %tier, "tasks have gone from a work queue without a worker; they are published again");
    broker.add_lost(lost);
    Ok(())
}

fn counted(found: Waiting) -> QueueCount {
    QueueCount { ready: usize::try_from(found.ready).unwrap_or(usize::MAX), consumers: found.consumers }
}

fn record_waiting(broker: &Broker, tier: &Tier, found: Option<Waiting>) {
    broker.update_figures(|figures| match found {
        Some(waiting) => drop(figures.waiting.insert(tier.clone(), waiting)),
        None => drop(figures.waiting.remove(tier)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    #[test]
    fn an_unobserved_wait_begins_at_the_confirm() {
        let (mut history, wait) = (QueueHistory::default(), Duration::from_secs(100));
        assert_eq!(history.unobserved_before(at(1000), None, wait), None);
        // The wait of a task of an earlier run begins at its dispatch.
        assert_eq!(history.unobserved_before(at(1000), Some(at(950)), wait), Some(at(900)));
        // The broker was away: an old dispatch is confirmed only now.
        assert_eq!(history.unobserved_before(at(1200), Some(at(950)), wait), Some(at(950)));
        assert_eq!(history.unobserved_before(at(1210), Some(at(1209)), wait), Some(at(950)));
        assert_eq!(history.unobserved_before(at(1309), Some(at(1300)), wait), Some(at(950)));
        assert_eq!(history.unobserved_before(at(1310), Some(at(1300)), wait), Some(at(1209)));
    }
}
