//! Messages that the broker refuses for themselves: each waits, is told of, and
//! holds up no other task.

use super::{Post, Publisher};
use crate::amqp::broker::{LinkState, Side};
use crate::amqp::outbox::Event;
use crate::amqp::outgoing::Message;
use crate::amqp::wave::Wave;

impl Publisher {
    /// The broker refuses one message of a wave. Where it is known which, that one
    /// waits, and the others go on.
    pub(super) async fn refused(&mut self, wave: Wave, posts: Vec<Post>, reason: &str) {
        let next = std::mem::take(&mut self.next);
        self.all_again(&next.events);
        if !self.search.refused(wave.len() + posts.len()) {
            self.all_again(&wave.events);
            self.posts.extend(posts);
            return;
        }
        let waiting = self.engine.still_waiting(wave.events.iter().map(|event| event.position).collect()).await.ok();
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

    /// Has an event wait whose message can't be published.
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
                "the broker refuses a message; it waits, and others go on"
            );
        }
        self.broker.note_error(Side::Publisher, LinkState::Connected, what);
        self.broker.count(|figures| figures.refused += 1);
        self.outbox.refused(event, self.clock.observed());
    }
}
