//! The queue of the writer: two lanes of commands.
//!
//! Leases, renewals, events, cancels and all other small commands go in the first lane,
//! submissions and imports in the second. The writer takes from the first lane first, but
//! leaves a share of each group to the second.
//!
//! The second lane is counted in tasks and bytes. A submission is refused if the commands
//! before it would make it wait too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError};
use tokio::sync::oneshot;

use super::command::{Command, Weight};
use crate::engine::api::Error;
use crate::task::LeaseId;

/// A submission is refused if it would wait longer than this.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// A submission is refused if more bytes than this would wait with it.
const MAX_WAITING_BYTES: u64 = 64 * 1024 * 1024;
/// Groups of fewer tasks tell only how fast the writer is at least, because the sync dominates
/// their time: they lower the estimate and never raise it.
const MIN_OBSERVED_TASKS: u64 = 32;
/// Time that the writer takes for a task, until it was observed.
const FIRST_NANOS_PER_TASK: u64 = 50_000;
/// Tasks of a group after which it takes no further command.
const GROUP_TASKS: u64 = 512;
/// Bytes of a group after which it takes no further command.
const GROUP_BYTES: u64 = 4 * 1024 * 1024;

/// How often the writer yields to other threads before it sleeps. Under load commands come
/// meanwhile, which saves a wake-up for each group.
const YIELDS: usize = 8;

/// What waits in the second lane, and how fast the writer is.
#[derive(Debug)]
struct Load {
    tasks: AtomicU64,
    bytes: AtomicU64,
    nanos_per_task: AtomicU64,
}

impl Load {
    fn add(&self, weight: Weight) {
        self.tasks.fetch_add(weight.tasks, Ordering::AcqRel);
        self.bytes.fetch_add(weight.bytes, Ordering::AcqRel);
    }

    fn remove(&self, weight: Weight) {
        self.tasks.fetch_sub(weight.tasks, Ordering::AcqRel);
        self.bytes.fetch_sub(weight.bytes, Ordering::AcqRel);
    }

    /// How long a command that is queued now would wait.
    fn wait(&self) -> Duration {
        let nanos = self.nanos_per_task.load(Ordering::Relaxed);
        Duration::from_nanos(self.tasks.load(Ordering::Acquire).saturating_mul(nanos))
    }
}

/// Leases that never reached their worker, and for which the first lane had no room: at most as
/// many as there are.
type GivenBack = Arc<Mutex<Vec<LeaseId>>>;

/// Sends commands to the writer. Clones share the lanes.
#[derive(Debug, Clone)]
pub(in crate::engine) struct CommandSender {
    first: Sender<Command>,
    second: Sender<Command>,
    load: Arc<Load>,
    given_back: GivenBack,
}

/// The writer's end of the lanes.
#[derive(Debug)]
pub(in crate::engine) struct CommandQueue {
    first: Receiver<Command>,
    second: Receiver<Command>,
    load: Arc<Load>,
    given_back: GivenBack,
}

/// How much a group has taken.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Taken {
    /// Commands of both lanes.
    pub(super) commands: u64,
    /// Commands of the second lane.
    pub(super) bulk_commands: usize,
    /// Tasks and bytes of the second lane.
    bulk: Weight,
    /// Tasks, events and bytes of both lanes.
    all: Weight,
}

impl Taken {
    fn is_full(&self, max_commands: u64) -> bool {
        self.commands >= max_commands || self.all.tasks >= GROUP_TASKS || self.all.bytes >= GROUP_BYTES
    }
}

/// Makes the lanes, each with room for `capacity` commands.
pub(in crate::engine) fn lanes(capacity: usize) -> (CommandSender, CommandQueue) {
    let (first_sender, first) = crossbeam_channel::bounded(capacity);
    let (second_sender, second) = crossbeam_channel::bounded(capacity);
    let load = Arc::new(Load {
        tasks: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        nanos_per_task: AtomicU64::new(FIRST_NANOS_PER_TASK),
    });
    let given_back = GivenBack::default();
    let (for_writer, of_writer) = (load.clone(), given_back.clone());
    let sender = CommandSender { first: first_sender, second: second_sender, load, given_back };
    (sender, CommandQueue { first, second, load: for_writer, given_back: of_writer })
}

impl CommandSender {
    /// Queues a command. Fails at once if its lane is full, or if a submission would wait too
    /// long.
    pub(in crate::engine) fn send(&self, command: Command) -> Result<(), Error> {
        let full = |error| match error {
            TrySendError::Full(_) => Error::Overloaded,
            TrySendError::Disconnected(_) => Error::ShuttingDown,
        };
        let Some(weight) = command.bulk() else { return self.first.try_send(command).map_err(full) };
        if !self.second.is_empty() {
            let (wait, bytes) = (self.load.wait(), self.load.bytes.load(Ordering::Acquire));
            if wait > MAX_WAIT || bytes.saturating_add(weight.bytes) > MAX_WAITING_BYTES {
                return Err(Error::Overloaded);
            }
        }
        self.load.add(weight);
        self.second.try_send(command).map_err(|error| {
            self.load.remove(weight);
            full(error)
        })
    }

    /// Gives a lease back that never reached its worker. It is never refused, because the lease
    /// would run out and count as lost.
    pub(in crate::engine) fn give_back(&self, lease: LeaseId) {
        let (reply, _) = oneshot::channel();
        if let Err(TrySendError::Full(_)) = self.first.try_send(Command::Release { lease, delivered: false, reply }) {
            self.given_back.lock().unwrap_or_else(PoisonError::into_inner).push(lease);
        }
    }

    /// Tells the writer to finish what is queued and stop. Blocks while the lane is full.
    pub(in crate::engine) fn stop(&self) {
        // A full lane empties, and a writer that has ended needs no stop.
        let _ = self.first.send(Command::Stop);
    }

    /// How many commands wait.
    pub(in crate::engine) fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }
}

impl CommandQueue {
    /// Waits for a command. Returns `None` if none came in this time.
    pub(super) fn wait(&self, at_most: Duration) -> Option<Command> {
        for _ in 0..YIELDS {
            if let Some(command) = self.take_first().or_else(|| self.take_second()) {
                return Some(command);
            }
            if at_most.is_zero() {
                return None;
            }
            thread::yield_now();
        }
        let ended = |error| if error == RecvTimeoutError::Timeout { None } else { Some(Command::Stop) };
        crossbeam_channel::select_biased! {
            recv(self.first) -> command => command.map_or_else(|_| ended(RecvTimeoutError::Disconnected), Some),
            recv(self.second) -> command => match command {
                Ok(command) => Some(self.received(command)),
                Err(_) => ended(RecvTimeoutError::Disconnected),
            },
            default(at_most) => None,
        }
    }

    /// Returns and counts the next command of a group of at most `max` commands.
    pub(super) fn next(&self, taken: &mut Taken, max: u64) -> Option<Command> {
        if taken.is_full(max) {
            return None;
        }
        // A quarter of a group is left to the second lane, so that no stream of
        // small commands stops it.
        let bulk = u64::try_from(taken.bulk_commands).unwrap_or(u64::MAX);
        let share = taken.commands.saturating_sub(bulk) >= max.saturating_mul(3) / 4;
        let (first, second) = (|| self.take_first(), || self.take_second());
        let command = if share { second().or_else(first) } else { first().or_else(second) }?;
        Self::count(taken, &command);
        Some(command)
    }

    /// Counts a command that [`Self::wait`] has returned.
    pub(super) fn count(taken: &mut Taken, command: &Command) {
        taken.commands += 1;
        taken.all.add(command.weight());
        if let Some(weight) = command.bulk() {
            taken.bulk_commands += 1;
            taken.bulk.add(weight);
        }
    }

    /// Returns the leases that never reached their worker, and for which the first lane had no
    /// room.
    pub(super) fn take_given_back(&self) -> Vec<LeaseId> {
        std::mem::take(&mut *self.given_back.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many commands wait in the second lane.
    pub(super) fn waiting_bulk(&self) -> usize {
        self.second.len()
    }

    /// Updates the estimate with the time that the writer took for a group.
    pub(super) fn observe(&self, taken: &Taken, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let Some(new) = took.checked_div(taken.bulk.tasks) else { return };
        let old = self.load.nanos_per_task.load(Ordering::Relaxed);
        if taken.bulk.tasks < MIN_OBSERVED_TASKS && new >= old {
            return;
        }
        self.load.nanos_per_task.store(old - old / 8 + new / 8, Ordering::Relaxed);
    }

    /// Drops what is queued. Each caller learns that the writer has ended.
    pub(super) fn drain(&self) {
        while self.take_first().or_else(|| self.take_second()).is_some() {}
    }

    fn take_first(&self) -> Option<Command> {
        self.first.try_recv().ok()
    }

    fn take_second(&self) -> Option<Command> {
        match self.second.try_recv() {
            Ok(command) => Some(self.received(command)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    fn received(&self, command: Command) -> Command {
        if let Some(weight) = command.bulk() {
            self.load.remove(weight);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::Routed;
    use crate::task::{Domain, ExecutionMode, Options, ProjectId, Submission, Tier};

    const MAX: u64 = 256;

    fn batch(tasks: usize, description: &str) -> Command {
        let submission = Submission {
            description: description.to_owned(),
            project: ProjectId::new("p").unwrap(),
            priority: None,
            options: Options::default(),
            metadata: None,
            execution_mode: ExecutionMode::Autonomous,
            constitution_override: None,
            traceparent: None,
            rerun_of: None,
        };
        let routed = || Routed {
            submission: submission.clone(),
            domain: Domain::new("d").unwrap(),
            tier: Tier::new("small").unwrap(),
        };
        let submissions = (0..tasks).map(|_| routed()).collect();
        Command::Submit { submissions, key: None, reply: oneshot::channel().0 }
    }

    fn renewal() -> Command {
        let (lease, duration) = (LeaseId::new(uuid::Uuid::nil()), Duration::ZERO);
        Command::Renew { lease, duration, reply: oneshot::channel().0 }
    }

    fn group(queue: &CommandQueue) -> (u64, u64) {
        let mut taken = Taken::default();
        let (mut first, mut second) = (0, 0);
        while let Some(command) = queue.next(&mut taken, MAX) {
            *(if command.bulk().is_some() { &mut second } else { &mut first }) += 1;
        }
        (first, second)
    }

    #[test]
    fn a_renewal_passes_a_thousand_batches_and_a_group_takes_few_of_them() {
        let (sender, queue) = lanes(2048);
        queue.load.nanos_per_task.store(1, Ordering::Relaxed);
        for _ in 0..1000 {
            sender.send(batch(100, "d")).unwrap();
        }
        sender.send(renewal()).unwrap();
        assert!(matches!(queue.wait(Duration::ZERO), Some(Command::Renew { .. })));
        assert_eq!(group(&queue), (0, 6), "a group ends after {GROUP_TASKS} tasks");
    }

    #[test]
    fn renewals_leave_a_share_to_submissions() {
        let (sender, queue) = lanes(2048);
        for _ in 0..1000 {
            sender.send(renewal()).unwrap();
            sender.send(batch(1, "d")).unwrap();
        }
        assert_eq!(group(&queue), (192, 64));
    }

    #[test]
    fn a_lease_that_never_reached_its_worker_is_given_back_however_full_the_lane_is() {
        let (sender, queue) = lanes(1);
        let leases: Vec<_> = (1..=3).map(|number| LeaseId::new(uuid::Uuid::from_u128(number))).collect();
        for lease in &leases {
            sender.give_back(*lease);
        }
        let first = queue.wait(Duration::ZERO);
        assert!(matches!(first, Some(Command::Release { lease, delivered: false, .. }) if lease == leases[0]));
        assert_eq!((queue.take_given_back(), queue.take_given_back()), (leases[1..].to_vec(), Vec::new()));
    }

    #[test]
    fn a_submission_that_would_wait_too_long_is_refused() {
        let (sender, queue) = lanes(2048);
        queue.load.nanos_per_task.store(1_000_000, Ordering::Relaxed);
        let mut sent = 0;
        let refused = loop {
            match sender.send(batch(100, "d")) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((sent, matches!(refused, Error::Overloaded)), (21, true), "2000 tasks a millisecond each wait 2 s");
        sender.send(renewal()).unwrap();
        while queue.wait(Duration::ZERO).is_some() {}
        sender.send(batch(100, "d")).unwrap();
    }

    #[test]
    fn bytes_that_wait_have_a_bound_but_one_submission_always_passes() {
        let (sender, queue) = lanes(2048);
        let large = "d".repeat(40 * 1024 * 1024);
        sender.send(batch(2, &large)).unwrap();
        assert!(matches!(sender.send(batch(1, "d")), Err(Error::Overloaded)));
        assert!(queue.wait(Duration::ZERO).is_some());
        sender.send(batch(1, "d")).unwrap();
        assert_eq!(queue.load.tasks.load(Ordering::Acquire), 1);
    }

    #[test]
    fn the_pace_is_learnt_from_large_groups_and_small_ones_lower_it() {
        let (_sender, queue) = lanes(1);
        let observe = |tasks| {
            let bulk = Weight { tasks, bytes: 0 };
            queue.observe(&Taken { bulk, ..Taken::default() }, Duration::from_millis(100));
            queue.load.nanos_per_task.load(Ordering::Relaxed)
        };
        assert_eq!(observe(1), FIRST_NANOS_PER_TASK);
        let learnt = (0..40).fold(0, |_, _| observe(100));
        assert!((900_000..=1_000_000).contains(&learnt), "{learnt}");
        // One slow group must not make an idle service refuse submissions for good.
        queue.load.nanos_per_task.store(1_000_000_000, Ordering::Relaxed);
        let lowered = (0..60).fold(0, |_, _| observe(1));
        assert!((100_000_000..=110_000_000).contains(&lowered), "{lowered}");
        assert_eq!(observe(0), lowered);
    }
}
