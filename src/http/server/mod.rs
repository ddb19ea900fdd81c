//! The HTTP server below the endpoints: connections and their limits, checks before a
//! handler, requests and their parameters, replies, problems and event streams.
//!
//! The server names no endpoint. It gets the application as a table of [`Endpoint`]s,
//! and the state that their handlers share as a type parameter.
//!
//! [`Endpoint`]: endpoint::Endpoint

mod accept;
mod auth;
pub(in crate::http) mod body;
pub(in crate::http) mod body_reader;
mod connection_limiter;
mod connection_timer;
pub(in crate::http) mod connections;
pub(in crate::http) mod content_type;
pub(in crate::http) mod cursor;
mod edge;
pub(in crate::http) mod endpoint;
pub(in crate::http) mod entries;
pub(in crate::http) mod exchange;
mod guard;
pub(in crate::http) mod headers;
pub(in crate::http) mod idempotency;
mod metrics;
mod probe;
pub(in crate::http) mod problem;
pub(in crate::http) mod query;
pub(in crate::http) mod ranges;
pub(in crate::http) mod read_pool;
pub(in crate::http) mod reply;
pub(in crate::http) mod request;
pub(in crate::http) mod router;
pub(in crate::http) mod settings;
mod socket;
mod spans;
pub(in crate::http) mod sse;
pub(in crate::http) mod state;
mod trace_context;
mod write_timeout;
