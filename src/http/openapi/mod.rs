//! Builders and schemas for the `OpenAPI` document of the HTTP interface. The descriptions of the endpoints stand beside
//! the endpoints, and `api/openapi.rs` makes the document.

pub(in crate::http) mod cloud_event;
pub(in crate::http) mod limits;
pub(in crate::http) mod operation;
pub(in crate::http) mod parts;
pub(in crate::http) mod words;
