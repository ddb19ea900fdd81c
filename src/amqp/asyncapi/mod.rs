//! The messages on the broker as an `AsyncAPI` document: made from the declared
//! objects (`topology`), the catalogue of events, the structs of their data, and
//! the settings, whose names appear in the document.

mod channels;
mod document;
mod messages;
mod operations;
mod parts;
mod properties;

pub use document::{asyncapi_text, document};
