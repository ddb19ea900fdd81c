//! Stand-in until the service is merged.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// A service.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings.
    #[error("{0}")]
    Config(String),
    /// Store.
    #[error("{0}")]
    Store(String),
    /// Address.
    #[error("can't listen: {0}")]
    Bind(std::io::Error),
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[error("the store failed")]
pub struct StoreFailed;

impl Service {
    /// Binds.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let listener = TcpListener::bind(config.server.listen).await.map_err(StartError::Bind)?;
        let address = listener.local_addr().map_err(StartError::Bind)?;
        Ok(Self { listener, address })
    }

    /// Where.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreFailed> {
        shutdown.cancelled().await;
        drop(self.listener);
        Ok(())
    }
}

/// What was removed.
#[derive(Debug)]
pub struct PruneReport(u64);

impl fmt::Display for PruneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tasks removed", self.0)
    }
}

/// Removes.
pub fn prune(_config: &Config, _older_than: Option<Duration>) -> anyhow::Result<PruneReport> {
    Ok(PruneReport(0))
}
