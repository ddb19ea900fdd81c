//! The store.
mod rows;
pub use rows::*;
/// placeholder
#[derive(Debug, thiserror::Error)]
#[error("store")]
pub struct Error;
