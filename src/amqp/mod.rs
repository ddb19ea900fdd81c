//! `RabbitMQ`: publishes the events of the log and consumes the events of the
//! other services.
//!
//! ```text
//! log ─ reader `amqp` ─▶ Outbox ─ waves ─▶ publisher ═▶ exchanges ─▶ work queues, other services
//!                                            ▲ dead letters
//! engine ◀─ accept, store ─ consumer ◀════════╪═ queue of this service
//!        ◀─ report_queue ─ depths  ◀═════════╧═ counts of the work queues
//! ```
//!
//! [`Driver`] runs the publisher and the consumer, each on its own connection,
//! because a broker that is short of memory stops reading from connections that
//! publish, which would delay acknowledgements. Both sides declare the exchanges
//! and queues that they need and reconnect until the service stops, with growing
//! pauses. The recovery of the client library is off: a connection that fails is
//! dropped, and the next one starts from durable state. [`Broker`] shows the
//! rest of the service the state of the connections.
//!
//! Guarantees:
//!
//! * The publisher repeats an event under the same id until the broker has
//!   confirmed it.
//! * The events of a task are published in their order, because a task has at
//!   most one unconfirmed event.
//! * The consumer acknowledges a message after its effect is on disk.

mod asyncapi;
mod broker;
mod connection;
mod consumer;
mod depths;
mod driver;
mod fault;
mod feed;
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
