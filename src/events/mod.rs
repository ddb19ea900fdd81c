//! `CloudEvents` 1.0: what goes out to the other services, what comes in
//! from them, and the catalogue of names.
//!
//! * [`Envelope`] wraps an entry of the log as an event.
//! * [`read`] takes an event in structured mode, [`structured`] turns one in
//!   binary mode into that.
//! * [`TypeFilter`] says which events a reader wants.
//!
//! Nothing here knows whether an event travels over HTTP or AMQP.

mod cascades;
mod catalogue;
mod contents;
mod data;
mod envelope;
mod incoming;

pub use catalogue::{ACCEPTED, PUBLISHED, TypeFilter, UnknownType, all_names, bare_name, routing_key};
pub use envelope::Envelope;
pub use incoming::{InvalidEvent, MAX_EVENT_BYTES, Received, read, structured};
