//! A wave of messages on its way: put in line together, waited for together.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, LinkState, Side};
use super::connection::{Error, Link, name};
use super::outbox::Event;
use super::outgoing::Message;

/// How often a connection on which nothing goes on is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// How long a stop waits for the wave that is under way.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Events and the message of each.
#[derive(Debug, Default)]
pub(super) struct Wave {
    pub(super) events: Vec<Event>,
    pub(super) messages: Vec<Message>,
}

impl Wave {
    pub(super) const fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn push(&mut self, event: Event, message: Message) {
        self.events.push(event);
        self.messages.push(message);
    }
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Sent {
    Confirmed,
    Returned,
    Nacked,
}

/// How long a wave is waited for.
pub(super) struct Patience {
    broker: Arc<Broker>,
    confirm_timeout: Duration,
    stop: CancellationToken,
}

impl Patience {
    pub(super) fn new(broker: &Arc<Broker>, confirm_timeout: Duration, stop: &CancellationToken) -> Self {
        Self { broker: Arc::clone(broker), confirm_timeout, stop: stop.clone() }
    }

    /// Waits for a wave. While the broker is blocked, which is no fault of
    /// the wave, its time does not count.
    pub(super) async fn wait<T>(
        &self,
        link: &Link,
        sending: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut sending = pin!(sending);
        let mut left = self.confirm_timeout;
        loop {
            tokio::select! {
                sent = &mut sending => return sent,
                () = sleep(LOOK.min(left)) => {}
            }
            self.broker.note_state(Side::Publisher, state_of(link));
            if !link.is_connected() {
                return Err(Error::Away("the connection was lost".to_owned()));
            }
            if self.stop.is_cancelled() {
                left = left.min(LAST_WAIT);
            }
            if !link.is_blocked() || self.stop.is_cancelled() {
                left = left.saturating_sub(LOOK);
            }
            if left.is_zero() {
                let seconds = self.confirm_timeout.as_secs();
                return Err(Error::Away(format!("the broker has not confirmed within {seconds} s")));
            }
        }
    }
}

pub(super) fn state_of(link: &Link) -> LinkState {
    if link.is_blocked() { LinkState::Blocked } else { LinkState::Connected }
}

/// Sends messages and waits for the confirm of each; what came of each.
pub(super) async fn transmit(channel: &Channel, messages: impl Iterator<Item = &Message>) -> Result<Vec<Sent>, Error> {
    let mut sending = Vec::new();
    for message in messages {
        let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
        let (exchange, key) = (name(&message.exchange)?, name(&message.routing_key)?);
        let publishing = channel.basic_publish(exchange, key, options, &message.payload, message.properties.clone());
        sending.push((message, Box::pin(publishing), None));
    }
    // The first turn of each puts it in line, and all have had it before one is
    // waited for. So a wave is a few writes to the connection and to the
    // broker's disk; one by one, each message would be both.
    let first_turns = poll_fn(|context| {
        for (_, publishing, sent) in &mut sending {
            if let Poll::Ready(result) = publishing.as_mut().poll(context) {
                *sent = Some(result);
            }
        }
        Poll::Ready(())
    });
    first_turns.await;
    let mut confirms = Vec::with_capacity(sending.len());
    let mut failure = None;
    for (message, publishing, sent) in sending {
        let confirm = match sent {
            Some(result) => result,
            None => publishing.await,
        };
        match confirm {
            Ok(confirm) => confirms.push((message.id.as_str(), message.mandatory, confirm)),
            Err(error) => failure = Some(telling(failure, error)),
        }
    }
    let (mut acked, mut returned) = (Vec::with_capacity(confirms.len()), HashSet::new());
    for (id, mandatory, confirm) in confirms {
        let confirmation = match confirm.await {
            Ok(confirmation) => confirmation,
            Err(error) => {
                failure = Some(telling(failure, error));
                continue;
            }
        };
        acked.push((id, mandatory, confirmation.is_ack()));
        if let Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message)) = confirmation {
            returned.extend(message.delivery.properties.message_id().as_ref().map(ToString::to_string));
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    let sent = acked.into_iter().map(|(id, mandatory, is_acked)| match is_acked {
        true if mandatory && returned.contains(id) => Sent::Returned,
        true => Sent::Confirmed,
        false => Sent::Nacked,
    });
    Ok(sent.collect())
}

/// Of the errors of a wave the one that says most: those that were sent behind a
/// message which the broker refuses only learn that their channel has gone.
fn telling(known: Option<Error>, error: lapin::Error) -> Error {
    match known {
        Some(known @ Error::Message(_)) => known,
        Some(known) => match Error::of_message(error) {
            refused @ Error::Message(_) => refused,
            _ => known,
        },
        None => Error::of_message(error),
    }
}
