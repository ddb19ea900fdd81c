//! Tasks that have gone from their work queues without a worker: they are
//! published again.

use super::Publisher;
use crate::amqp::connection::Error;
use crate::amqp::outbox::Event;
use crate::engine::Dispatch;

impl Publisher {
    /// What waited in a queue that is gone is lost. Where no worker is known to
    /// have taken an attempt it is published again, under its id.
    pub(super) async fn replace_lost(&mut self) -> Result<(), Error> {
        if self.emptied.is_empty() {
            return Ok(());
        }
        let (joined, mut count) = (self.reader.place().joined, 0);
        for Dispatch { position, tier, at } in self.engine.broker().dispatched().await? {
            if position.seq > self.outbox.read_to() || !self.emptied.contains(&tier) {
                continue;
            }
            let event = Event::new(position.seq.max(joined), position, Some((tier, at)));
            if self.outbox.push(event) {
                count += 1;
                if position.seq <= joined {
                    self.earlier = self.earlier.map(|left| left.saturating_add(1));
                }
            }
        }
        self.emptied.clear();
        if count > 0 {
            tracing::warn!(count, "a work queue was gone; the tasks that waited for workers are published again");
        }
        Ok(())
    }

    /// Single tasks that have gone from their queues, by a purge or a policy of
    /// the broker, are published again under their ids, while they still wait.
    pub(super) async fn publish_lost_again(&mut self) {
        let lost = self.broker.lost();
        if lost.is_empty() {
            return;
        }
        let positions = lost.iter().map(|lost| lost.position).collect();
        // Where that can't be looked up now, it is later.
        let Ok(waiting) = self.engine.broker().still_waiting(positions).await else { return };
        for lost in lost.iter().filter(|lost| waiting.contains_key(&lost.position)) {
            let (position, joined) = (lost.position, self.reader.place().joined);
            // Until it is out its deadline must not run, so it has the time of its dispatch.
            let event = Event::new(position.seq.max(joined), position, Some((lost.tier.clone(), lost.at)));
            if self.outbox.push(event) && position.seq <= joined {
                self.earlier = self.earlier.map(|left| left.saturating_add(1));
            }
        }
        self.report();
        self.broker.forget_lost(&lost);
    }
}
