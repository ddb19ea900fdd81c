//! What every endpoint needs and what knows no endpoint: connections and their
//! limits, the checks before a handler, requests, replies, problems, parameters
//! and streams.

mod accept;
mod auth;
pub(super) mod body;
pub(super) mod connections;
pub(super) mod cursor;
pub(super) mod decoding;
mod edge;
pub(super) mod entries;
pub(super) mod exchange;
pub(super) mod guard;
pub(super) mod headers;
mod patient;
mod places;
mod probe;
pub(super) mod problem;
pub(super) mod query;
pub(super) mod range;
pub(super) mod reads;
pub(super) mod reply;
pub(super) mod request;
mod socket;
mod spans;
pub(super) mod sse;
mod timer;
