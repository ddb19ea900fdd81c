//! Checkpoints of projects and rollbacks to them.

pub(in crate::http) mod describe;
pub(in crate::http) mod resource;
pub(in crate::http) mod rollbacks;
