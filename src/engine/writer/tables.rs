//! The thread that applies durable batches to the tables, so that answers need not wait for
//! them. Where commits come faster than the tables take them, several are applied in one step.
//! A checkpoint holds up only readers of the tables.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use crate::clock::Stopwatch;
use crate::engine::read::ReadSide;
use crate::engine::shared::Activity;
use crate::store::{self, Durable, Store, guarded, panic_message};

/// Most batches that wait. Beyond that the writer waits.
const MOST_WAITING: usize = 1024;
/// Rows after which batches are no longer gathered: a reader waits for all of them, about ten
/// milliseconds.
const MOST_ROWS: usize = 4096;
/// How long batches are gathered for which no reader waits, while a client follows the log
/// and should have its entries soon.
const GATHER: Duration = Duration::from_millis(3);
/// How long they are gathered while no client follows the log: rows that change again meanwhile
/// are written once, and so are pages of the tables that many batches change.
const GATHER_UNFOLLOWED: Duration = Duration::from_millis(100);
/// How often a thread that waits for room looks for it.
const ROOM: Duration = Duration::from_millis(100);
/// How often the thread looks for further batches while it gathers.
const STEP: Duration = Duration::from_millis(5);

/// The thread, and the queue of its batches.
#[derive(Debug)]
pub(super) struct TablesThread {
    queue: Option<Sender<Durable>>,
    thread: Option<JoinHandle<Result<(), store::Error>>>,
}

impl TablesThread {
    pub(super) fn start(read: Arc<ReadSide>) -> Result<Self, store::Error> {
        let (queue, batches) = crossbeam_channel::bounded(MOST_WAITING);
        let spawned = |source| store::Error::Io { action: "start the thread", path: "dats-tables".into(), source };
        let run = move || guard(&read.store, || follow(&batches, &read));
        let thread = thread::Builder::new().name("dats-tables".to_owned()).spawn(run).map_err(spawned)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands over a batch, in the order of commits. Fails if the thread has ended with an error,
    /// which [`Self::finish`] returns.
    pub(super) fn take(&self, durable: Durable) -> Result<(), store::Error> {
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(durable).is_ok());
        if sent { Ok(()) } else { Err(store::Error::TablesBehind) }
    }

    /// Whether the thread has ended by itself, which it does only after an error.
    pub(super) fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Lets the thread apply what waits, and joins it.
    pub(super) fn finish(&mut self) -> Result<(), store::Error> {
        self.queue = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|panic| Err(store::Error::Panicked(panic_message(&*panic))))
    }
}

/// Runs the thread. If it ends with an error, all that wait for the tables learn of it: also
/// the writer, which can wait for a checkpoint although the tables have all its batches.
fn guard(store: &Store, work: impl FnOnce() -> Result<(), store::Error>) -> Result<(), store::Error> {
    guarded(work).inspect_err(|_| store.fail_tables())
}

fn follow(batches: &Receiver<Durable>, read: &ReadSide) -> Result<(), store::Error> {
    store::wait_for_room_on_this_thread();
    let track = &read.progress.tables;
    track.enter(Activity::Idle);
    while let Ok(first) = batches.recv() {
        track.enter(Activity::Applying);
        let gathered = gather(first, batches, read);
        track.enter(Activity::Applying);
        read.store.apply(gathered)?;
        read.publish_tables();
        settle(batches, read)?;
        track.enter(Activity::Idle);
    }
    Ok(())
}

/// Waits until the last checkpoint is durable, for which the disk may have no room. Batches
/// that come meanwhile are applied in memory: the writer stands still as soon as it sees that
/// this thread waits.
fn settle(batches: &Receiver<Durable>, read: &ReadSide) -> Result<(), store::Error> {
    if read.store.is_settled() {
        return Ok(());
    }
    let mut waits = read.store.begin_wait();
    while !read.store.settle()? {
        waits.go_on()?;
        match batches.recv_timeout(ROOM) {
            Ok(batch) => {
                read.store.apply([batch])?;
                read.publish_tables();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(ROOM),
        }
    }
    Ok(())
}

/// Returns the batches to apply in one step: those that come until a reader waits for the
/// tables, there are enough of them, or the first has waited long enough.
fn gather(first: Durable, batches: &Receiver<Durable>, read: &ReadSide) -> Vec<Durable> {
    let waiting = Stopwatch::start();
    let mut rows = first.rows();
    let mut gathered = vec![first];
    let mut is_last_look = false;
    loop {
        while rows < MOST_ROWS && gathered.len() < MOST_WAITING {
            match batches.try_recv() {
                Ok(next) => {
                    rows += next.rows();
                    gathered.push(next);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return gathered,
            }
        }
        if is_last_look || rows >= MOST_ROWS || gathered.len() >= MOST_WAITING {
            return gathered;
        }
        let at_most = if read.is_followed() { GATHER } else { GATHER_UNFOLLOWED };
        let left = at_most.saturating_sub(waiting.elapsed());
        // The batch that a reader waits for was handed over before it began to wait, or is being
        // handed over now: one more look finds it.
        is_last_look = left.is_zero() || read.store.wait_for_reader(left.min(STEP));
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::{Batch, Error};
    use crate::task::{Now, Timestamp};

    /// A record with so many bytes takes more than half of what a half of the journal holds.
    const CONTENT_BYTES: usize = 4 * 4096;
    const JOURNAL_BYTES: u64 = 2 * 8 * 4096;

    fn durable(store: &Store) -> Result<Durable, Error> {
        let mut batch = Batch::default();
        batch.put_content([1; 32], vec![1; CONTENT_BYTES]);
        batch.make_durable(store, Now::aligned(Timestamp::from_micros(1)))
    }

    #[test]
    fn a_writer_that_waits_for_a_checkpoint_learns_that_the_thread_has_ended() {
        let store =
            Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), JOURNAL_BYTES, 1 << 20).unwrap();
        let (sender, batches) = crossbeam_channel::bounded(3);
        let writer = thread::spawn({
            let store = store.clone();
            move || (0..3).try_for_each(|_| durable(&store).map(|durable| sender.send(durable).unwrap()))
        });
        let both_halves = [batches.recv().unwrap(), batches.recv().unwrap()];
        thread::sleep(Duration::from_millis(20));
        assert!(!writer.is_finished(), "it took a half of the journal that is still needed");
        let ended = guard(&store, || Err(Error::NoRoom));
        assert!(matches!(ended, Err(Error::NoRoom)));
        assert!(matches!(writer.join().unwrap(), Err(Error::TablesBehind)));
        drop(both_halves);
    }
}
