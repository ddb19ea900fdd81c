//! Errors of the start and of the running service.

use std::io;
use std::net::SocketAddr;

use crate::replica;
use crate::store;

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting can't be used.
    #[error("{0}")]
    Config(String),
    /// The store can't be opened or read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The system can't start a thread.
    #[error("failed to start a thread: {0}")]
    Threads(io::Error),
    /// The data directory was restored, and the copy in the database can't be taken over.
    #[error("the data directory was restored and can't take over the copy in the database: {0}")]
    NotOwner(replica::Error),
    /// The service can't listen on its address.
    #[error("failed to listen on {address}: {source}")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
}

/// The store failed while the service ran.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreFailed(#[from] store::Error);
