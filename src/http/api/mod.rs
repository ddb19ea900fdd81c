//! The endpoints, by topic.

pub(in crate::http) mod app;
pub(in crate::http) mod backends;
pub(in crate::http) mod checkpoints;
pub(in crate::http) mod endpoints;
pub(in crate::http) mod events;
mod problems;
pub(in crate::http) mod projects;
pub(in crate::http) mod provenance;
pub(in crate::http) mod service;
pub(in crate::http) mod settings;
pub(in crate::http) mod tasks;
pub(in crate::http) mod work;
