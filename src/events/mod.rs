//! `CloudEvents` 1.0: what goes out to the other services, what comes in
//! from them, and the catalogue of names.
//!
//! * [`Envelope`] wraps an entry of the log as an event.
//! * [`read`] takes an event in structured mode, [`structured`] turns one in
//!   binary mode into that.
//! * [`TypeFilter`] says which events a reader wants.
//! * `described` says of all events, for tools, what their data is.
//!
//! Nothing here knows whether an event travels over HTTP or AMQP.

mod attributes;
mod cascades;
mod catalogue;
mod contents;
mod data;
mod described;
mod envelope;
mod incoming;
mod uri;

pub use catalogue::{ACCEPTED, PUBLISHED, TypeFilter, UnknownType, all_names, bare_name, ready_key, routing_key};
pub(crate) use described::{Described, accepted, envelopes, published};
pub use envelope::Envelope;
pub(crate) use envelope::SOURCE as OWN_SOURCE;
pub use incoming::{InvalidEvent, MAX_EVENT_BYTES, Received, read, structured};
