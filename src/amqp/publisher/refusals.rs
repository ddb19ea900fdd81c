//! Messages that the broker refuses for themselves: each is reported and published
//! again much later, and delays no other task.

use super::{Post, Publisher};
use crate::amqp::broker::{LinkState, Side};
use crate::amqp::outbox::Event;
use crate::amqp::outgoing::Message;
use crate::amqp::wave::Wave;

impl Publisher {
    /// Settles a wave of which the broker refused one message: holds that message once
    /// the search has found it, and publishes the others again.
    pub(super) async fn settle_refused(&mut self, wave: Wave, posts: Vec<Post>, reason: &str) {
        let next = std::mem::take(&mut self.next);
        self.all_again(&next.events);
        if !self.search.refused(wave.len() + posts.len()) {
            self.all_again(&wave.events);
            self.posts.extend(posts);
            return;
        }
        let waiting =
            self.engine.broker().still_waiting(wave.events.iter().map(|event| event.position).collect()).await.ok();
        for (event, message) in wave.events.iter().zip(&wave.messages) {
            let is_needed = waiting.as_ref().is_none_or(|waiting| waiting.contains_key(&event.position));
            if event.is_refused && event.ready.is_some() && !is_needed {
                self.note_published(event);
            } else {
                self.hold(event, message, reason);
            }
        }
        for Post { message, confirmed } in posts {
            let bytes = message.payload.len();
            tracing::error!(
                bytes,
                reason,
                "the broker refuses a dead letter; it is in the table of dead letters alone"
            );
            // Its consumer may have gone with its connection.
            let _ = confirmed.send(());
        }
    }

    /// Delays an event whose message can't be published, and reports it.
    pub(super) fn hold(&mut self, event: &Event, message: &Message, reason: &str) {
        let (id, bytes, task) = (&message.id, message.payload.len(), event.position.task.map(|task| task.to_string()));
        let what = format!("event {id} of {bytes} bytes ({}) can't be published: {reason}", message.routing_key);
        if !event.is_refused {
            tracing::error!(
                id,
                task,
                bytes,
                key = message.routing_key,
                reason,
                "a message can't be published; it waits, and the others go on"
            );
        }
        self.broker.note_error(Side::Publisher, LinkState::Connected, what);
        self.outbox.hold(event, self.clock.observed());
        let held = u64::try_from(self.outbox.held()).unwrap_or(u64::MAX);
        self.broker.count(|figures| {
            figures.refused += 1;
            figures.held = held;
        });
    }
}
