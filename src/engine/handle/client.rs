//! The way from the handles to the writer and the read side.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::reading;
use crate::engine::api::{Error, Settings};
use crate::engine::read::ReadSide;
use crate::engine::writer::{Command, CommandSender, Growth, Reply};
use crate::store::{self, RoomReservation, guarded, panic_message};

/// Sends commands to the writer and runs reads. Every handle borrows it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) commands: CommandSender,
    pub(super) read: Arc<ReadSide>,
    pub(super) settings: Arc<Settings>,
    /// Limits the plans that are made at once.
    pub(super) plans: Arc<Semaphore>,
}

impl Client {
    /// Sends a command to the writer and waits for its answer, which is released
    /// after the commit.
    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, mut answer) = oneshot::channel();
        let command = command(reply);
        if self.read.is_halted() && command.is_write() {
            return Err(Error::NotOwner);
        }
        let _room = self.admit(&command)?;
        self.commands.send(command)?;
        // A writer that stops sends its last answers, sets the flag, and drains the
        // queue once more. A command sent after that must not wait for an answer.
        if self.read.is_stopped() {
            return answer.try_recv().unwrap_or(Err(Error::ShuttingDown));
        }
        // Without an answer the writer has stopped before it reached the command.
        answer.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Runs a read that may take longer on a thread that it may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadSide) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        if reading::may_block() {
            return Ok(guarded(|| read(&self.read))?);
        }
        let side = self.read.clone();
        match tokio::task::spawn_blocking(move || read(&side)).await {
            Ok(result) => Ok(result?),
            Err(failed) => Err(failed
                .try_into_panic()
                .map_or(Error::ShuttingDown, |panic| store::Error::Panicked(panic_message(&*panic)).into())),
        }
    }

    /// Reserves disk space for a command until the returned value is dropped.
    pub(super) fn admit(&self, command: &Command) -> Result<Option<RoomReservation>, Error> {
        let room = self.read.store.room();
        match Growth::of_command(command) {
            Growth::None => Ok(None),
            Growth::Small => Ok(room.admit_small().map(|()| None)?),
            Growth::Large { items, bytes } => Ok(Some(room.admit(items, bytes)?)),
        }
    }
}
