//! The service itself: health, metrics and the description of the API.

pub(in crate::http) mod asyncapi;
pub(in crate::http) mod describe;
pub(in crate::http) mod docs;
pub(in crate::http) mod figures;
pub(in crate::http) mod health;
pub(in crate::http) mod registry;
