//! A wave of messages: sent together, and confirmed together.

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
use super::outbox::PendingEvent;
use super::outgoing::Message;

/// The interval of checks on an idle connection.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time for which a stop waits for the current wave.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Events and their messages, in the same order.
#[derive(Debug, Default)]
pub(super) struct Wave {
    pub(super) events: Vec<PendingEvent>,
    pub(super) messages: Vec<Message>,
}

impl Wave {
    pub(super) const fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn push(&mut self, event: PendingEvent, message: Message) {
        self.events.push(event);
        self.messages.push(message);
    }
}

/// The outcome of a message.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum SendOutcome {
    Confirmed,
    Returned,
    Nacked,
}

/// The time limit for the confirms of a wave.
pub(super) struct ConfirmDeadline {
    broker: Arc<Broker>,
    confirm_timeout: Duration,
    stop: CancellationToken,
}

impl ConfirmDeadline {
    pub(super) fn new(broker: &Arc<Broker>, confirm_timeout: Duration, stop: &CancellationToken) -> Self {
        Self { broker: Arc::clone(broker), confirm_timeout, stop: stop.clone() }
    }

    /// Waits until the wave is sent and confirmed. The time does not run while the broker blocks
    /// the connection.
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
                () = sleep(POLL_INTERVAL.min(left)) => {}
            }
            self.broker.set_state(Side::Publisher, state_of(link));
            if !link.is_connected() {
                return Err(Error::Away("the connection was lost".to_owned()));
            }
            if self.stop.is_cancelled() {
                left = left.min(STOP_TIMEOUT);
            }
            if !link.is_blocked() || self.stop.is_cancelled() {
                left = left.saturating_sub(POLL_INTERVAL);
            }
            if left.is_zero() {
                let seconds = self.confirm_timeout.as_secs();
                return Err(Error::Away(format!("the broker has not confirmed a wave of messages within {seconds} s")));
            }
        }
    }
}

/// Returns the state of an established connection.
pub(super) fn state_of(link: &Link) -> LinkState {
    if link.is_blocked() { LinkState::Blocked } else { LinkState::Connected }
}

/// Sends messages and waits for all confirms. Returns the outcome of each message.
pub(super) async fn send_and_confirm(
    channel: &Channel,
    messages: impl Iterator<Item = &Message>,
) -> Result<Vec<SendOutcome>, Error> {
    let mut sending = Vec::new();
    for message in messages {
        let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
        let (exchange, key) = (name(&message.exchange)?, name(&message.routing_key)?);
        let publishing = channel.basic_publish(exchange, key, options, &message.payload, message.properties.clone());
        sending.push((message, Box::pin(publishing), None));
    }
    // The first poll of a publish queues its message. All messages are queued before the first one
    // is awaited, so that a wave makes few writes to the connection and to the broker's disk.
    let first_polls = poll_fn(|context| {
        for (_, publishing, sent) in &mut sending {
            if let Poll::Ready(result) = publishing.as_mut().poll(context) {
                *sent = Some(result);
            }
        }
        Poll::Ready(())
    });
    first_polls.await;
    let mut confirms = Vec::with_capacity(sending.len());
    let mut failure = None;
    for (message, publishing, sent) in sending {
        let confirm = match sent {
            Some(result) => result,
            None => publishing.await,
        };
        match confirm {
            Ok(confirm) => confirms.push((message.id.as_str(), message.mandatory, confirm)),
            Err(error) => failure = Some(most_specific(failure, error)),
        }
    }
    let (mut acked, mut returned) = (Vec::with_capacity(confirms.len()), HashSet::new());
    for (id, mandatory, confirm) in confirms {
        let confirmation = match confirm.await {
            Ok(confirmation) => confirmation,
            Err(error) => {
                failure = Some(most_specific(failure, error));
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
        true if mandatory && returned.contains(id) => SendOutcome::Returned,
        true => SendOutcome::Confirmed,
        false => SendOutcome::Nacked,
    });
    Ok(sent.collect())
}

/// Returns the most specific error of a wave. Messages behind a refused one only fail because the
/// broker has closed the channel.
fn most_specific(known: Option<Error>, error: lapin::Error) -> Error {
    match known {
        Some(known @ Error::Message(_)) => known,
        Some(known) => match Error::of_message(error) {
            refused @ Error::Message(_) => refused,
            _ => known,
        },
        None => Error::of_message(error),
    }
}
