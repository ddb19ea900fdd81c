//! Change signals by task. Only tasks that a client waits for have an entry: a change
//! wakes the clients that wait for its task and no others, and costs a lookup if there
//! are none.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::engine::shared::IdHash;
use crate::planted::{self, Fault};
use crate::task::TaskId;

/// Number of maps that hold the entries: a client and the writer seldom lock the same one.
const SHARDS: usize = 64;

type Shard = Mutex<HashMap<TaskId, Waiters, IdHash>>;

/// The signals of all tasks that clients wait for. There are at most as many entries as
/// waits, and each wait belongs to a connection.
#[derive(Debug)]
pub(in crate::engine) struct Signals {
    shards: Vec<Shard>,
}

/// The waits for one task.
#[derive(Debug)]
struct Waiters {
    notify: Arc<Notify>,
    count: usize,
}

/// Future that completes with the next change of a task after its creation.
#[derive(Debug)]
pub struct TaskChanged {
    signals: Arc<Signals>,
    task: TaskId,
    notified: Pin<Box<OwnedNotified>>,
}

impl Signals {
    pub(in crate::engine) fn new() -> Arc<Self> {
        Arc::new(Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() })
    }

    /// Locks the shard of a task. Always `Some`: every index has a shard.
    fn shard(&self, task: TaskId) -> Option<MutexGuard<'_, HashMap<TaskId, Waiters, IdHash>>> {
        // The last bytes of an id are random.
        let [.., last] = task.to_bytes();
        let shard = self.shards.get(usize::from(last) % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes all waits for a task.
    pub(in crate::engine) fn wake(&self, task: TaskId) {
        let notify = self.shard(task).and_then(|shard| shard.get(&task).map(|waiters| waiters.notify.clone()));
        if let Some(notify) = notify.filter(|_| !planted::is_now(Fault::WakeDropped)) {
            notify.notify_waiters();
        }
    }

    /// Wakes all waits for all tasks.
    pub(in crate::engine) fn wake_all(&self) {
        for shard in &self.shards {
            for waiters in shard.lock().unwrap_or_else(PoisonError::into_inner).values() {
                waiters.notify.notify_waiters();
            }
        }
    }

    /// Returns a future that completes with the next [`Self::wake`] of the task after this call.
    pub(in crate::engine) fn changed(self: &Arc<Self>, task: TaskId) -> TaskChanged {
        let notify = self.shard(task).map_or_else(Arc::default, |mut shard| {
            let waiters = shard.entry(task).or_insert_with(|| Waiters { notify: Arc::default(), count: 0 });
            waiters.count += 1;
            waiters.notify.clone()
        });
        // `notified_owned` receives every wake-up from now on, also before it is polled.
        TaskChanged { signals: self.clone(), task, notified: Box::pin(notify.notified_owned()) }
    }
}

impl Future for TaskChanged {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.notified.as_mut().poll(cx)
    }
}

impl Drop for TaskChanged {
    fn drop(&mut self) {
        let Some(mut shard) = self.signals.shard(self.task) else { return };
        if let Some(waiters) = shard.get_mut(&self.task) {
            waiters.count -= 1;
            if waiters.count == 0 {
                shard.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn task(number: u8) -> TaskId {
        TaskId::from_bytes([number; 16])
    }

    fn entries(signals: &Signals) -> usize {
        signals.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    async fn is_woken(changed: TaskChanged) -> bool {
        tokio::time::timeout(Duration::from_millis(5), changed).await.is_ok()
    }

    #[tokio::test]
    async fn a_change_wakes_those_who_wait_for_its_task_alone() {
        let signals = Signals::new();
        // Tasks 1 and 65 are in the same shard.
        let (one, again, other) = (signals.changed(task(1)), signals.changed(task(1)), signals.changed(task(65)));
        assert_eq!(entries(&signals), 2);
        signals.wake(task(1));
        assert!(is_woken(one).await && is_woken(again).await);
        assert!(!is_woken(other).await);
        assert_eq!(entries(&signals), 0, "a wait that has ended leaves nothing behind");
        let (one, other) = (signals.changed(task(1)), signals.changed(task(2)));
        signals.wake_all();
        assert!(is_woken(one).await && is_woken(other).await);
    }

    #[tokio::test]
    async fn a_wake_up_before_the_wait_counts_and_one_before_the_call_does_not() {
        let signals = Signals::new();
        signals.wake(task(1));
        assert!(!is_woken(signals.changed(task(1))).await);
    }
}
