//! The store of a stopped service, for commands that need no server: its
//! engine runs in this process for as long as the command does.

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

/// Chunks that may wait on their way, in each direction.
const CHUNKS: usize = 8;

/// Which store, where it is not a server's.
#[derive(Debug, Default, Args)]
pub(super) struct Place {
    /// Work on the data directory of a stopped service instead of talking to a server.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// File with the settings of that service.
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    config: Option<PathBuf>,
}

/// An engine that runs in this process.
#[derive(Debug)]
pub(super) struct Local {
    engine: Engine,
    writer: WriterThread,
}

impl Place {
    /// Opens the store that is named, which `may_make` lets be new; `None`:
    /// none is named.
    pub(super) fn open(&self, may_make: bool) -> Result<Option<Local>, Failure> {
        let Some(data_dir) = self.data_dir.clone() else { return Ok(None) };
        let settings = serve::Settings { config: self.config.clone(), data_dir: Some(data_dir) };
        let config = Config::load(&settings.sources())?;
        if !may_make {
            service::require_store(&config).map_err(|error| Failure::Usage(error.to_string()))?;
        }
        let (engine, writer) = service::open(&config).map_err(start_failure)?;
        Ok(Some(Local { engine, writer }))
    }
}

impl Local {
    /// Imports chunks of lines; the results as they come.
    pub(super) fn import(&self, mut chunks: mpsc::Receiver<Bytes>) -> Lines {
        let (sender, checked) = mpsc::channel(CHUNKS);
        tokio::spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
        });
        let (results, answer) = mpsc::channel(CHUNKS);
        let engine = self.engine.clone();
        tokio::spawn(
            async move { transfer::import(&engine, &transfer::ImportBudget::default(), checked, results).await },
        );
        lines(answer, Ok)
    }

    /// Exports everything.
    pub(super) fn export(&self) -> Lines {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let engine = self.engine.clone();
        tokio::spawn(async move { transfer::export(&engine, None, sender).await });
        lines(chunks, |chunk| chunk.map_err(|broken| Error::Protocol(broken.to_string())))
    }

    /// Finishes what is under way and closes the store.
    pub(super) async fn close(self) -> Result<(), Failure> {
        let Self { engine, writer } = self;
        drop(engine);
        let stopped = tokio::task::spawn_blocking(|| writer.stop()).await;
        let stopped = stopped.map_err(|error| Failure::Store(error.to_string()))?;
        stopped.map_err(|error| Failure::Store(error.to_string()))
    }
}

/// Chunks of any kind as lines.
fn lines<T: Send + 'static>(
    mut chunks: mpsc::Receiver<T>,
    check: impl Fn(T) -> Result<Bytes, Error> + Send + 'static,
) -> Lines {
    let (sender, checked) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        while let Some(chunk) = chunks.recv().await {
            if sender.send(check(chunk)).await.is_err() {
                return;
            }
        }
    });
    split_lines(checked)
}
