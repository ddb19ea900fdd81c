//! Counts the work queues: the engine learns how many tasks wait in each and
//! whether workers are there. What has gone although no worker can have taken it
//! is published again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::sleep;

use super::broker::{Broker, Lost, Waiting};
use super::connection::{Error, Link};
use super::settings::Settings;
use super::topology;
use crate::clock::Clock;
use crate::engine::{self, Counted, Engine, QueueReport};
use crate::task::{Moment, Seq, TaskId, Tier};

/// How often the queues are counted.
const EVERY: Duration = Duration::from_secs(1);
/// The same, in rounds, for a tier of which nothing is at the broker.
const IDLE_ROUNDS: u64 = 5;
/// How often a task that has gone from its queue is published again, at most.
const AGAIN: Duration = Duration::from_mins(1);
/// How often it is noted how far publishing is, for waits that nothing observes.
const NOTE: Duration = Duration::from_secs(10);

/// What is known of the queue of a tier between two counts.
#[derive(Debug, Default)]
struct Known {
    /// Everything dispatched before was at the broker at the count before: a
    /// message that is just being enqueued need not be counted yet.
    published_before: Option<Moment>,
    /// When it was noted up to which dispatch everything is at the broker.
    notes: VecDeque<(Moment, Moment)>,
}

impl Known {
    /// Notes how far publishing is; the dispatches before which time have been
    /// at the broker for `wait`.
    fn unobserved_before(&mut self, now: Moment, published: Option<Moment>, wait: Duration) -> Option<Moment> {
        let published = published?;
        // What was there before the first note was confirmed by an earlier
        // connection or run, soon after its dispatch.
        let earlier = self.notes.front().map_or(published, |(_, first)| *first).min(now.before(wait));
        if self.notes.back().is_none_or(|(at, _)| now.since(*at) >= NOTE) {
            self.notes.push_back((now, published));
        }
        while self.notes.get(1).is_some_and(|(at, _)| now.since(*at) >= wait) {
            self.notes.pop_front();
        }
        let noted = self.notes.front().filter(|(at, _)| now.since(*at) >= wait).map(|(_, published)| *published);
        Some(noted.map_or(earlier, |noted| noted.max(earlier)))
    }
}

/// Counts until the connection fails.
pub(super) async fn watch(
    link: &Link,
    engine: &Engine,
    settings: &Settings,
    broker: &Broker,
    clock: &Clock,
) -> Result<(), Error> {
    let mut channel = None;
    let mut known: HashMap<Tier, Known> = HashMap::new();
    let mut again: HashMap<TaskId, Moment> = HashMap::new();
    for round in 0_u64.. {
        sleep(EVERY).await;
        let now = clock.observed();
        again.retain(|_, at| now.since(*at) < AGAIN);
        let queues = engine.figures().queues;
        let is_due = |queue: &engine::Queue| queue.depth > 0 || round.is_multiple_of(IDLE_ROUNDS);
        for tier in queues.into_iter().filter(is_due).map(|queue| queue.tier) {
            let published = broker.published_before(&tier);
            let counting = match channel.take() {
                Some(channel) => channel,
                None => link.channel().await?,
            };
            let found = topology::look(&counting, &settings.work_queues.of(&tier)).await?;
            let found = found.map(|queue| Waiting { ready: queue.message_count(), consumers: queue.consumer_count() });
            if found.is_none() && settings.work_queues.declare {
                broker.note_missing_queue();
            }
            if counting.status().connected() {
                channel = Some(counting);
            }
            note(broker, &tier, found);
            let known = known.entry(tier.clone()).or_default();
            let unobserved_before = known.unobserved_before(now, published, settings.unobserved_wait);
            let published_before = std::mem::replace(&mut known.published_before, published);
            let report = QueueReport {
                tier: tier.clone(),
                counted: found.map(counted),
                published_before,
                unobserved_before,
                rule: settings.work_queues.require_consumer,
            };
            match engine.broker().report_queue(report).await {
                Ok(missing) => {
                    let missing = missing.into_iter().filter(|task| !again.contains_key(task)).collect();
                    publish_again(engine, broker, &tier, missing, &mut again, now).await?;
                }
                // The next count tells the same.
                Err(engine::Error::Overloaded | engine::Error::DiskFull { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Has tasks published again, each under its id, that have gone from their queue.
async fn publish_again(
    engine: &Engine,
    broker: &Broker,
    tier: &Tier,
    missing: Vec<TaskId>,
    again: &mut HashMap<TaskId, Moment>,
    now: Moment,
) -> Result<(), Error> {
    if missing.is_empty() {
        return Ok(());
    }
    again.extend(missing.iter().map(|task| (*task, now)));
    let missing = missing.into_iter().map(|task| (task, Seq(u64::MAX))).collect();
    let newest: Vec<_> = engine.broker().newest_dispatches(missing).await?.into_iter().flatten().collect();
    let waiting = engine.broker().still_waiting(newest.iter().map(|(position, _)| *position).collect()).await?;
    let lost = newest.into_iter().filter_map(|(position, tier)| {
        let at = waiting.get(&position).copied()?;
        Some(Lost { position, tier, at })
    });
    let lost: Vec<Lost> = lost.collect();
    tracing::warn!(count = lost.len(), %tier, "tasks have gone from a work queue without a worker; they are published again");
    broker.publish_again(lost);
    Ok(())
}

fn counted(found: Waiting) -> Counted {
    Counted { ready: usize::try_from(found.ready).unwrap_or(usize::MAX), consumers: found.consumers }
}

fn note(broker: &Broker, tier: &Tier, found: Option<Waiting>) {
    broker.count(|figures| match found {
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
    fn a_wait_that_nothing_observes_counts_from_the_confirm() {
        let (mut known, wait) = (Known::default(), Duration::from_secs(100));
        assert_eq!(known.unobserved_before(at(1000), None, wait), None);
        // What an earlier run has dispatched counts from its dispatch.
        assert_eq!(known.unobserved_before(at(1000), Some(at(950)), wait), Some(at(900)));
        // The broker was away: what was dispatched long ago is confirmed only now.
        assert_eq!(known.unobserved_before(at(1200), Some(at(950)), wait), Some(at(950)));
        assert_eq!(known.unobserved_before(at(1210), Some(at(1209)), wait), Some(at(950)));
        assert_eq!(known.unobserved_before(at(1309), Some(at(1300)), wait), Some(at(950)));
        assert_eq!(known.unobserved_before(at(1310), Some(at(1300)), wait), Some(at(1209)));
    }
}
