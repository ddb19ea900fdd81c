//! `RabbitMQ`: events of the log go out to it, events of the other services
//! come in from it.
//!
//! ```text
//! log ─ reader `amqp` ─▶ Outbox ─ waves ─▶ publisher ═▶ exchanges ─▶ work queues, other services
//!                                            ▲ letters
//! engine ◀─ accept, bury ─ consumer ◀════════╪═ queue of this service
//!        ◀─ report_queue ─ depths  ◀═════════╧═ counts of the work queues
//! ```
//!
//! [`Driver`] runs both sides, each on a connection of its own: a broker that
//! is short of memory stops reading from connections that publish, and that
//! must not hold up acknowledgements. Both declare what they need, reconnect
//! for ever with growing pauses, and recover nothing inside the client library:
//! a connection that fails is dropped, and everything begins anew from what is
//! durable. [`Broker`] is what the rest of the service sees of it.
//!
//! What holds: an event is published until the broker has confirmed it, always
//! under the same id; those of a task in their order, since a task has no more
//! than one event under way; what comes in is acknowledged after its effect is
//! on disk.

mod asyncapi;
mod broker;
mod connection;
mod consumer;
mod depths;
mod driver;
mod fault;
mod incoming;
mod metrics;
mod outbox;
mod outgoing;
mod publisher;
mod search;
mod settings;
mod topology;
mod wave;

pub use crate::engine::RequireConsumer;
pub use asyncapi::{asyncapi_text, document};
pub use broker::{Broker, Figures, LinkFigures, LinkState};
pub use driver::{Driver, READER};
pub use metrics::Metrics;
pub use settings::{Credentials, Exchanges, QueueType, Settings, WorkQueues};
