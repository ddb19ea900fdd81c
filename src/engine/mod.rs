//! The engine.
mod api;
mod handle;
pub use api::*;
pub use handle::Engine;
