//! The integration tests, one module for each promise.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broker;
mod clock;
mod contents;
mod contract;
mod core_families;
mod core_fixtures;
mod core_model;
mod core_table;
mod crash;
mod datadir;
mod day;
mod disk;
mod docs;
mod edge;
mod engine;
mod estimates;
mod full_disk;
mod imports;
mod interop;
mod journey;
mod legacy;
mod lineage;
mod lost_files;
mod reads;
mod replication;
mod routing;
mod support;
mod tidy;
mod traces;
mod upgrade;
