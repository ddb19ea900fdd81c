//! `CloudEvents` 1.0: the events that the service publishes, the events that it
//! accepts, and the catalogue of their names.
//!
//! * [`Envelope`] wraps an entry of the log as an event.
//! * [`read`] reads an event in structured mode; [`to_structured`] converts one in
//!   binary mode.
//! * [`TypeFilter`] selects events by type.
//! * `described` describes the data of all events for the `AsyncAPI` document.
//!
//! The module does not depend on the transport, which is HTTP or AMQP.

mod attributes;
mod catalogue;
mod data;
mod described;
mod envelope;
mod incoming;
mod uri;

pub use catalogue::{ACCEPTED, PUBLISHED, TypeFilter, UnknownType, all_names, bare_name, ready_key, routing_key};
pub(crate) use described::{Described, accepted, envelopes, published};
pub use envelope::Envelope;
pub(crate) use envelope::SOURCE as OWN_SOURCE;
pub use incoming::{InvalidEvent, MAX_EVENT_BYTES, Received, read, to_structured};
