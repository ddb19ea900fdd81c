//! Projects: settings, pauses and status.

pub(in crate::http) mod describe;
pub(in crate::http) mod resource;
