//! Projects: settings, pauses and status.

pub(in crate::http) mod resource;
