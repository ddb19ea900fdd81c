//! How many tasks wait at the broker: what is not among them any more, a
//! worker has taken, and its time counts.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::sleep;

use super::broker::{Broker, Waiting};
use super::connection::{Error, Link};
use super::settings::Settings;
use super::topology;
use crate::engine::{self, Engine};
use crate::task::{Tier, Timestamp};

/// How often the queues are counted.
const EVERY: Duration = Duration::from_secs(1);

/// Counts until the connection fails.
pub(super) async fn watch(link: &Link, engine: &Engine, settings: &Settings, broker: &Broker) -> Result<(), Error> {
    let mut channel = None;
    // Only what was at the broker at the count before: a message that is just
    // being enqueued need not be counted yet.
    let mut known: HashMap<Tier, Timestamp> = HashMap::new();
    loop {
        sleep(EVERY).await;
        let busy: Vec<Tier> =
            engine.figures().queues.into_iter().filter(|queue| queue.depth > 0).map(|queue| queue.tier).collect();
        known.retain(|tier, _| busy.contains(tier));
        for tier in busy {
            let published_before = broker.published_before(&tier);
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
            let before = published_before.and_then(|before| known.insert(tier.clone(), before));
            // Without a consumer nobody can have taken anything.
            if let (Some(waiting), Some(before)) = (found.filter(|waiting| waiting.consumers > 0), before) {
                let ready = usize::try_from(waiting.ready).unwrap_or(usize::MAX);
                match engine.note_waiting(tier, ready, before).await {
                    // The next count tells the same.
                    Ok(_) | Err(engine::Error::Overloaded) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

fn note(broker: &Broker, tier: &Tier, found: Option<Waiting>) {
    broker.count(|figures| match found {
        Some(waiting) => drop(figures.waiting.insert(tier.clone(), waiting)),
        None => drop(figures.waiting.remove(tier)),
    });
}
