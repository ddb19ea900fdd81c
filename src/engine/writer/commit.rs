//! Commits: what a group has changed becomes durable, is published, and its answers are
//! released.

use std::sync::Arc;
use std::time::Duration;

use super::command::Reply;
use super::held::{Held, hold};
use super::tables::TablesThread;
use crate::clock::{LARGE_STEP, Stopwatch};
use crate::engine::api::{Error, EventCounts, EventOutcome, Refusal};
use crate::engine::read::ReadSide;
use crate::engine::shared::Activity;
use crate::engine::state::{Failure, Machine, Stored, answer};
use crate::store::ClockUpdate;
use crate::task::{LeaseId, Now, Outcome};

/// How often the clocks are stored while nothing changes.
const LOOK: Duration = Duration::from_mins(10);
/// How long after a commit an orderly stop stores the clocks again.
const STOP_LOOK: Duration = Duration::from_secs(1);

/// Whether the wall clock was set between two times.
pub(super) fn was_set(before: Now, now: Now) -> bool {
    let expected = before.calendar(now.observed);
    now.wall.since(expected).max(expected.since(now.wall)) > LARGE_STEP
}

/// The state machine, and what is needed to commit its groups.
pub(super) struct Committer {
    pub(super) machine: Machine,
    pub(super) read: Arc<ReadSide>,
    pub(super) tables: TablesThread,
    /// Answers that wait for the commit.
    pub(super) held: Vec<Box<dyn Held>>,
    /// Leases whose worker was gone when they were granted.
    pub(super) unclaimed: Vec<LeaseId>,
    events: EventCounts,
    /// The clocks when they were last stored.
    clocks_kept: Now,
    /// How much of the time of the group under way its commits took until they were durable.
    committing: Duration,
}

impl Committer {
    pub(super) fn new(machine: Machine, read: Arc<ReadSide>, clocks_kept: Now) -> Stored<Self> {
        let tables = TablesThread::start(read.clone())?;
        Ok(Self {
            machine,
            read,
            tables,
            held: Vec::new(),
            unclaimed: Vec::new(),
            events: EventCounts::default(),
            clocks_kept,
            committing: Duration::ZERO,
        })
    }

    /// Records what the writer is about to do.
    pub(super) fn enter(&self, activity: Activity) {
        self.read.progress.writer.enter(activity);
    }

    /// Holds an answer back until the commit.
    pub(super) fn hold<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T, impl Into<Error>>) {
        self.held.push(hold(reply, answer));
    }

    /// Holds the result of a command back until the commit. Fails if the store has failed.
    pub(super) fn hold_result<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, Failure>) -> Stored<()> {
        let answer = answer(result)?;
        self.hold(reply, answer);
        Ok(())
    }

    /// Holds the result of a command that is never refused back until the commit.
    pub(super) fn hold_value<T: Send + 'static>(&mut self, reply: Reply<T>, result: Stored<T>) -> Stored<()> {
        self.hold(reply, Ok::<_, Refusal>(result?));
        Ok(())
    }

    /// Counts an event by its outcome.
    pub(super) fn count_event(&mut self, outcome: EventOutcome) {
        let count = match outcome {
            EventOutcome::Taken(Outcome::Applied | Outcome::Unchanged) => &mut self.events.applied,
            EventOutcome::Taken(Outcome::Stale(_)) => &mut self.events.stale,
            EventOutcome::Taken(Outcome::Parked) => &mut self.events.parked,
            EventOutcome::Duplicate => &mut self.events.duplicates,
        };
        *count += 1;
    }

    /// Commits what the group has changed so far, publishes it and releases the answers.
    /// `is_last` tells that the writer stops after this commit.
    pub(super) fn commit(&mut self, is_last: bool, now: Now) -> Stored<()> {
        let (mut batch, publication) = self.machine.finish(now)?;
        if batch.is_empty() && self.is_look_due(is_last, now) {
            batch.keep_clocks(ClockUpdate::Idle);
        }
        let wrote = !batch.is_empty();
        if wrote {
            self.clocks_kept = now;
        }
        let stopwatch = Stopwatch::start();
        self.enter(Activity::Committing);
        let durable = batch.make_durable(self.machine.store(), now)?;
        self.committing += stopwatch.elapsed();
        self.read.activity.record_committed(now.observed);
        self.machine.keep_recent(&durable);
        // Answers leave before the tables have what they tell of, because a client that reads
        // from the tables waits for them. From here to `take` no view may be opened.
        if wrote || publication.has_routing_work || publication.is_visible() || !self.held.is_empty() {
            self.read.publish(publication, self.events, wrote);
        }
        for held in self.held.drain(..) {
            self.unclaimed.extend(held.release(durable.committed()));
        }
        self.read.activity.record_commit_time(stopwatch.elapsed());
        self.enter(Activity::HandingOver);
        let taken = if wrote { self.tables.take(durable) } else { Ok(()) };
        // A group can commit before its end.
        self.enter(Activity::Deciding);
        taken
    }

    /// Returns how much of the time of the group its commits took until they were durable,
    /// and begins the next one.
    pub(super) fn take_committing(&mut self) -> Duration {
        std::mem::take(&mut self.committing)
    }

    /// Whether the clocks are to be stored although nothing has changed: from time to time, so
    /// that idle time counts also after a crash; when the wall clock was set, because the time
    /// of a stop is measured by it; and before a stop.
    fn is_look_due(&self, is_last: bool, now: Now) -> bool {
        let since = now.since(self.clocks_kept.observed);
        since >= LOOK || (is_last && since >= STOP_LOOK) || was_set(self.clocks_kept, now)
    }
}
