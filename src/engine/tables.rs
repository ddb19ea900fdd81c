//! The thread that brings the tables up to the writer: what is durable is
//! answered without waiting for them. Where commits come faster than the tables
//! take them, several go in one step; a checkpoint holds up nobody but who
//! wants to read from the tables.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::read::ReadSide;
use crate::store::{self, Durable, guarded, panic_message};

/// Most batches that wait; then the writer does.
const MOST_WAITING: usize = 1024;
/// Most batches in one step: who reads waits for all of it.
const MOST_AT_ONCE: usize = 64;
/// How long batches gather that nobody has asked for.
const GATHER: Duration = Duration::from_millis(3);

/// The thread, and the way to it.
#[derive(Debug)]
pub(super) struct TablesThread {
    queue: Option<Sender<Durable>>,
    thread: Option<JoinHandle<Result<(), store::Error>>>,
}

impl TablesThread {
    pub(super) fn start(read: Arc<ReadSide>) -> Result<Self, store::Error> {
        let (queue, batches) = crossbeam_channel::bounded(MOST_WAITING);
        let spawned = |source| store::Error::Io { action: "start the thread", path: "dats-tables".into(), source };
        let run = move || guarded(|| follow(&batches, &read));
        let thread = thread::Builder::new().name("dats-tables".to_owned()).spawn(run).map_err(spawned)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands over a batch, in the order of commits. An error: the thread has
    /// ended by one, which [`Self::finish`] has.
    pub(super) fn take(&self, durable: Durable) -> Result<(), store::Error> {
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(durable).is_ok());
        if sent { Ok(()) } else { Err(store::Error::TablesBehind) }
    }

    /// Whether it has ended by itself, which only an error makes it do.
    pub(super) fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Lets it finish what waits, and waits for it.
    pub(super) fn finish(&mut self) -> Result<(), store::Error> {
        self.queue = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|panic| Err(store::Error::Panicked(panic_message(&*panic))))
    }
}

fn follow(batches: &Receiver<Durable>, read: &ReadSide) -> Result<(), store::Error> {
    while let Ok(first) = batches.recv() {
        read.store.wait_for_reader(GATHER);
        read.store.apply(std::iter::once(first).chain(batches.try_iter().take(MOST_AT_ONCE - 1)))?;
        read.publish_tables();
    }
    Ok(())
}
