//! The DATS orchestration service: tasks from submission to end, on one
//! durable writer, one log and many readers.
//!
#![doc = include_str!("ARCHITECTURE.md")]
#![deny(missing_docs)]

// In the order of a task's journey, from the core outwards. The blank lines keep the
// formatter from sorting the modules.

// Tasks: states, transitions and routing rules.
pub mod task;

// The provenance graph.
pub mod lineage;

// Storage.
pub mod store;

// Types that are serialized.
pub mod wire;

// Orders and commits changes, and serves reads.
pub mod engine;

// Events of this and of other services.
pub mod events;

// The broker.
pub mod amqp;

// Clients of Agent and RAG.
pub mod routing;

// The canonical copy in Postgres.
pub mod replica;

// The HTTP interface.
pub mod http;

// Files of the old program.
pub mod legacy;

// Import and export of those files.
pub mod transfer;

// A client of the HTTP interface.
pub mod client;

// Settings.
pub mod config;

// Starts and stops the parts.
pub mod service;

// Commands of the user.
pub mod cli;

// Synthetic work for demos, benches and tests.
pub mod workload;

// Planted faults, with which the tests are tested.
mod planted;

// Used by the others: clocks, logs and traces, JSON from outside, schemas of ids, trusted
// certificates, addresses of services.
pub mod clock;

pub mod telemetry;

pub mod json;

mod schema;

pub mod tls;

pub mod address;
