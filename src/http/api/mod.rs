//! The endpoints, by topic. Each topic has a table of its endpoints in its `mod.rs` and their descriptions in
//! `describe.rs`.

pub(in crate::http) mod app;
pub(in crate::http) mod backends;
pub(in crate::http) mod checkpoints;
pub(in crate::http) mod events;
mod fields;
pub(in crate::http) mod openapi;
mod problems;
pub(in crate::http) mod projects;
pub(in crate::http) mod provenance;
pub(in crate::http) mod row;
pub(in crate::http) mod service;
pub(in crate::http) mod settings;
pub(in crate::http) mod tables;
pub(in crate::http) mod tasks;
pub(in crate::http) mod work;
