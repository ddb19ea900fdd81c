//! The HTTP edge: from sockets to calls of the engine, and back.
//!
//! [`serve`] accepts connections within limits; each request is routed
//! by one table (`routes`), answered by the file of its resource, and
//! leaves with its request id and its measurements (`edge`). Status codes
//! exist in this module alone, and problems are made in `problem` alone.
//!
//! Everything has a limit: connections (in all and by address), headers,
//! bodies (size and time), writes to clients that do not read, pages,
//! buffers of streams. Over a limit the answer is a problem, never memory.
//!
//! Reading the status of a task is the hot path: it takes no task, no box
//! and no lock of its own, only a look-up in the engine's map.

mod accept;
mod app;
mod artifacts;
mod asyncapi;
mod auth;
mod body;
mod cascades;
mod checkpoints;
mod connections;
mod cursor;
mod dead_letters;
mod decoding;
mod docs;
mod edge;
mod entries;
mod events_in;
mod events_out;
mod exchange;
mod export;
mod feed;
mod figures;
mod guard;
mod headers;
mod health;
mod history;
mod leases;
mod lineage;
mod media_type;
mod metrics;
mod openapi;
mod path;
mod patient;
mod places;
mod probe;
mod problem;
mod projects;
mod provenance;
mod query;
mod range;
mod reads;
mod records;
mod reply;
mod request;
mod rollbacks;
mod routes;
mod settings;
mod socket;
mod spans;
mod sse;
mod submission;
mod taint_events;
mod task_list;
mod tasks;
mod timer;
mod transfer;
mod tree;
mod undo;
mod walks;
mod wanted;

pub use app::{App, Others};
pub use connections::serve;
pub use openapi::openapi_text;
pub use settings::{ApiKey, Limits, Settings};
