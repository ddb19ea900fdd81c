//! The store of a stopped service, for commands that need no server. Its engine runs in this
//! process until the command ends.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;

use super::exit::Failure;
use super::serve::{self, start_failure};
use crate::client::Error;
use crate::client::{Lines, split_lines};
use crate::config::Config;
use crate::engine::{Engine, WriterThread};
use crate::{service, transfer};

/// Chunks that may wait, in each direction.
const MAX_WAITING_CHUNKS: usize = 8;

/// Selects a store instead of a server.
#[derive(Debug, Default, Args)]
pub(super) struct StoreArguments {
    /// Use the data directory of a stopped service instead of a server.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file of that service.
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    config: Option<PathBuf>,
}

/// An engine in this process.
#[derive(Debug)]
pub(super) struct LocalEngine {
    engine: Engine,
    writer: WriterThread,
}

impl StoreArguments {
    /// Opens the store; `None` if no directory is given. With `may_create`, a missing store is
    /// created.
    pub(super) fn open(&self, may_create: bool) -> Result<Option<LocalEngine>, Failure> {
        let Some(data_dir) = self.data_dir.clone() else { return Ok(None) };
        let settings = serve::Settings { config: self.config.clone(), data_dir: Some(data_dir) };
        let config = Config::load(&settings.sources())?;
        if !may_create {
            service::require_store(&config).map_err(|error| Failure::Usage(error.to_string()))?;
        }
        let (engine, writer) = service::open(&config).map_err(start_failure)?;
        Ok(Some(LocalEngine { engine, writer }))
    }
}

impl LocalEngine {
    /// Imports chunks of lines and returns the results as they arrive.
    pub(super) fn import(&self, mut chunks: mpsc::Receiver<Bytes>) -> Lines {
        let (sender, checked) = mpsc::channel(MAX_WAITING_CHUNKS);
        tokio::spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
        });
        let (results, answer) = mpsc::channel(MAX_WAITING_CHUNKS);
        let engine = self.engine.clone();
        tokio::spawn(
            async move { transfer::import(&engine, &transfer::ImportBudget::default(), checked, results).await },
        );
        lines(answer, Ok)
    }

    /// Exports all provenance.
    pub(super) fn export(&self) -> Lines {
        let (sender, chunks) = mpsc::channel(MAX_WAITING_CHUNKS);
        let engine = self.engine.clone();
        tokio::spawn(async move { transfer::export(&engine, None, sender).await });
        lines(chunks, |chunk| chunk.map_err(|broken| Error::Protocol(broken.to_string())))
    }

    /// Finishes the work under way and closes the store.
    pub(super) async fn close(self) -> Result<(), Failure> {
        let Self { engine, writer } = self;
        drop(engine);
        let stopped = tokio::task::spawn_blocking(|| writer.stop()).await;
        let stopped = stopped.map_err(|error| Failure::Store(error.to_string()))?;
        stopped.map_err(|error| Failure::Store(error.to_string()))
    }
}

/// Splits chunks into lines.
fn lines<T: Send + 'static>(
    mut chunks: mpsc::Receiver<T>,
    check: impl Fn(T) -> Result<Bytes, Error> + Send + 'static,
) -> Lines {
    let (sender, checked) = mpsc::channel(MAX_WAITING_CHUNKS);
    tokio::spawn(async move {
        while let Some(chunk) = chunks.recv().await {
            if sender.send(check(chunk)).await.is_err() {
                return;
            }
        }
    });
    split_lines(checked)
}
