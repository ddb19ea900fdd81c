//! The integration tests, one module for each promise.

mod datadir;
mod disk;
mod engine;
mod support;
