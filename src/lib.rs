//! The DATS orchestration service.
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod events;
pub mod http;
pub mod json;
pub mod store;
pub mod task;
