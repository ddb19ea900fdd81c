//! Why a workload stopped.

use crate::client;

/// A workload stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed that the workload can't do without.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// An argument can't be used with this server or with another argument.
    #[error("{0}")]
    Usage(String),
    /// The workload itself could not go on.
    #[error("{0}")]
    Failed(String),
}
