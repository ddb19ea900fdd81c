//! The DATS orchestration service: tasks from submission to end, on one
//! durable writer, one log and many readers.
//!
#![doc = include_str!("ARCHITECTURE.md")]
#![deny(missing_docs)]

// In the order of a task's journey, from the core outwards. The blank lines
// keep the formatter from sorting them.

// What a task is and how it moves.
pub mod task;

// Where things came from.
pub mod lineage;

// Where it is kept.
pub mod store;

// What of it goes over the wire.
pub mod wire;

// What orders, commits and shows it.
pub mod engine;

// How it speaks with other services.
pub mod events;

// The broker between it and them.
pub mod amqp;

// Whom it asks where a task belongs.
pub mod routing;

// Where its canonical copy goes.
pub mod replica;

// How the world reaches it.
pub mod http;

// What the program before it left behind.
pub mod legacy;

// How what it left goes in and out.
pub mod transfer;

// A client of its HTTP interface.
pub mod client;

// What can be chosen.
pub mod config;

// What puts the parts together.
pub mod service;

// What a person types.
pub mod cli;

// Work that nobody needs, for benches and tests.
pub mod workload;

// Faults for the tests of the tests.
mod planted;

// Leaves that others lean on: time, traces, documents from outside, how ids look to
// tools, whom encrypted connections believe, and addresses.
pub mod clock;

pub mod telemetry;

pub mod json;

mod schema;

pub mod tls;

pub mod address;
