//! The DATS orchestration service.
pub mod cli;
pub mod config;
pub mod service;
pub mod task;
