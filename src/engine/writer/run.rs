//! The writer's loop.

use std::sync::Arc;
use std::time::Duration;

use super::apply::apply;
use super::command::Command;
use super::commit::{Committer, was_set};
use super::growth::Growth;
use super::held::Held;
use super::queue::{CommandQueue, Taken};
use super::workers::WorkerQueue;
use crate::clock::{Clock, Stopwatch};
use crate::engine::read::ReadSide;
use crate::engine::shared::Activity;
use crate::engine::state::{Machine, Stored, unless_refused};
use crate::store::{self, guarded};
use crate::task::{Moment, Now};

/// Longest sleep, after which the writer looks for due timers and old rows.
const IDLE: Duration = Duration::from_millis(500);
/// Longer than any worker waits.
const FOREVER: Duration = Duration::from_hours(24 * 365);
/// How often the writer looks for room on a full disk.
const NO_ROOM: Duration = Duration::from_millis(100);
/// Most timers, and most admissions, in one commit beside the commands.
const STEPS: usize = 1024;

/// Logs that a stop has left something to the next start.
fn warn_of_missing_room(error: &store::Error) {
    tracing::warn!(%error, "the disk has no room for the last checkpoint; the next start applies the journal again");
}

/// The writer's side of the engine.
pub(in crate::engine) struct Writer {
    committer: Committer,
    commands: CommandQueue,
    workers: WorkerQueue,
    clock: Clock,
    /// Submissions that were queued before the stop and are still to be taken; `None`: the
    /// writer was not told to stop.
    before_stop: Option<usize>,
    next_housekeeping: Moment,
    /// The clocks in the last group.
    clocks_seen: Now,
    /// Whether the disk is full, so that nothing may be written.
    pub(super) is_out_of_room: bool,
}

impl Writer {
    /// `clocks_found` are the clocks as they were last stored before the start.
    pub(in crate::engine) fn new(
        machine: Machine,
        commands: CommandQueue,
        read: Arc<ReadSide>,
        clock: Clock,
        clocks_found: Now,
    ) -> Stored<Self> {
        let clocks = clock.now();
        let clocks_kept = if clocks_found == Now::default() { clocks } else { clocks_found };
        Ok(Self {
            committer: Committer::new(machine, read, clocks_kept)?,
            commands,
            workers: WorkerQueue::default(),
            clock,
            before_stop: None,
            next_housekeeping: clocks.observed,
            clocks_seen: clocks,
            is_out_of_room: false,
        })
    }

    /// Runs until it is told to stop. An error of the store ends it at once.
    pub(in crate::engine) fn run(mut self) -> Stored<()> {
        store::wait_for_room_on_this_thread();
        // A panic leaves the state in memory half changed, but nothing of it on disk: the
        // thread ends as with any error of the store.
        let result = guarded(|| self.run_to_end());
        let committer = &mut self.committer;
        if result.is_err() {
            committer.held.drain(..).for_each(Held::report_unknown);
        }
        committer.read.stop();
        // The commands that are still queued have had no effect. A closed channel keeps its
        // messages as long as there are senders, and callers would wait for ever: dropping a
        // command tells its caller. A command that is sent from here on is refused by its
        // sender, which checks whether the writer has stopped.
        self.commands.drain();
        match committer.tables.finish() {
            // The stop has ended the wait for room; the journal has what the tables lack.
            Err(error) if error.is_no_room() && !committer.machine.room().may_pause() => {
                warn_of_missing_room(&error);
                result.or_else(|error| if matches!(error, store::Error::TablesBehind) { Ok(()) } else { Err(error) })
            }
            // The error that ended the thread of the tables is why the writer could not go on.
            finished => finished.and(result),
        }
    }

    fn run_to_end(&mut self) -> Stored<()> {
        loop {
            self.committer.enter(Activity::Idle);
            let first = self.sleep();
            self.committer.enter(Activity::Deciding);
            if self.committer.tables.has_failed() {
                return Err(store::Error::TablesBehind);
            }
            let now = self.clock.now();
            let started = Stopwatch::start();
            self.is_out_of_room = self.look_for_room();
            let taken = self.take(first, now)?;
            let is_last = self.before_stop == Some(0);
            if self.is_out_of_room {
                self.stand_still(now);
            } else {
                self.settle(is_last, now)?;
            }
            self.committer.commit(is_last, now)?;
            self.flush_if_wanted()?;
            let took = started.elapsed();
            self.commands.observe(&taken, took);
            let committing = self.committer.take_committing();
            self.committer.read.activity.record_group(taken.commands, took, committing);
            if is_last {
                return self.finish();
            }
        }
    }

    /// Lets the tables take everything, and makes them durable as far as there is room. The
    /// journal has what they lack.
    fn finish(&mut self) -> Stored<()> {
        self.committer.enter(Activity::HandingOver);
        self.committer.tables.finish()?;
        self.committer.enter(Activity::Committing);
        match self.committer.machine.store().checkpoint() {
            Err(error) if error.is_no_room() => {
                warn_of_missing_room(&error);
                Ok(())
            }
            finished => finished,
        }
    }

    /// Whether nothing may be written.
    fn look_for_room(&self) -> bool {
        let room = self.committer.machine.room();
        if room.state().stands_still() {
            room.look();
        }
        room.state().stands_still()
    }

    /// Does what continues while nothing may be written: waits of workers end.
    fn stand_still(&mut self, now: Now) {
        self.workers.prune();
        self.committer.held.extend(self.workers.answer_expired(now.observed));
    }

    /// Makes a checkpoint where that would show that there is room, so that what the tables
    /// have in memory is not counted twice.
    fn flush_if_wanted(&self) -> Stored<()> {
        if self.committer.machine.room().take_flush_wanted() {
            self.committer.enter(Activity::Committing);
            self.committer.machine.store().checkpoint()?;
        }
        Ok(())
    }

    /// Waits for a command, for the next timer, or for more of the work at hand.
    fn sleep(&self) -> Option<Command> {
        if self.is_out_of_room && self.before_stop.is_none() {
            return self.commands.wait(NO_ROOM);
        }
        if self.before_stop.is_some() {
            return self.commands.wait(Duration::ZERO);
        }
        let Committer { machine, read, unclaimed, .. } = &self.committer;
        if read.is_halted() {
            // Timers that are due stay due: a wait until then would not end.
            return self.commands.wait(IDLE);
        }
        let now = self.clock.now();
        let moments = [Some(self.next_housekeeping), self.workers.next_end()];
        let until = moments.into_iter().flatten().map(|moment| moment.since(now.observed));
        let until = until.chain(machine.next_due(now)).min().unwrap_or_default();
        let is_busy = !unclaimed.is_empty() || machine.has_work(|tier| self.workers.wait_for(tier));
        let wait = if is_busy { Duration::ZERO } else { until.min(IDLE) };
        self.commands.wait(wait)
    }

    /// Applies the first command and those queued behind it, at most a group. Returns how much
    /// was taken.
    fn take(&mut self, first: Option<Command>, now: Now) -> Stored<Taken> {
        let max = u64::try_from(self.committer.machine.settings().group_max).unwrap_or(u64::MAX);
        let stopping = self.before_stop;
        let mut taken = Taken::default();
        if let Some(first) = &first {
            CommandQueue::count(&mut taken, first);
        }
        let mut next = first;
        while let Some(command) = next {
            if matches!(command, Command::Stop) {
                self.before_stop = Some(self.commands.waiting_bulk());
                break;
            }
            self.apply(command, now)?;
            next = self.commands.next(&mut taken, max);
        }
        if let Some(left) = stopping {
            self.before_stop = Some(left.saturating_sub(taken.bulk_commands));
        }
        Ok(taken)
    }

    /// Applies a command, unless it would write and nothing may be written.
    pub(super) fn apply(&mut self, command: Command, now: Now) -> Stored<()> {
        let committer = &mut self.committer;
        committer.enter(Activity::Deciding);
        if self.is_out_of_room && Growth::of_command(&command) != Growth::None {
            // No worker would give this lease back again: it would run out, and count as lost.
            if let Command::Release { lease, delivered: false, .. } = command {
                committer.unclaimed.push(lease);
                return Ok(());
            }
            command.refuse(committer.machine.room().shortage().into());
            return Ok(());
        }
        apply(committer, &mut self.workers, command, now)
    }

    /// Does what follows without a command: timers fire, free slots go to waiting workers, and
    /// old rows leave.
    pub(super) fn settle(&mut self, is_last: bool, now: Now) -> Stored<()> {
        let Committer { machine, read, held, unclaimed, .. } = &mut self.committer;
        if read.is_halted() {
            // Workers that wait get nothing any more, and learn the reason with their next
            // request.
            held.extend(self.workers.answer_partly_served());
            held.extend(self.workers.answer_expired(now.after(FOREVER)));
            return if is_last { machine.keep_places(read.reader_positions.all()) } else { Ok(()) };
        }
        unclaimed.extend(self.commands.take_given_back());
        for lease in std::mem::take(unclaimed) {
            unless_refused(machine.release(lease, false, now))?;
        }
        if was_set(std::mem::replace(&mut self.clocks_seen, now), now) {
            machine.rerender_waiting();
            self.next_housekeeping = now.observed;
        }
        machine.do_what_is_due(STEPS, now)?;
        self.serve_waiting(now)?;
        if is_last || now.observed >= self.next_housekeeping {
            self.run_housekeeping(now)?;
        }
        Ok(())
    }

    fn run_housekeeping(&mut self, now: Now) -> Stored<()> {
        let Committer { machine, read, .. } = &mut self.committer;
        machine.keep_places(read.reader_positions.all())?;
        machine.trim_changes(read.copy.copied())?;
        let has_more = machine.run_housekeeping(now)?;
        self.next_housekeeping = if has_more { now.observed } else { now.after(Duration::from_secs(1)) };
        machine.room().look();
        machine.room().restore_ballast();
        Ok(())
    }

    /// Grants tasks to the workers that wait: the next free slot goes to the best task for
    /// which a worker waits, and the task to the worker that has waited longest.
    fn serve_waiting(&mut self, now: Now) -> Stored<()> {
        let Committer { machine, held, .. } = &mut self.committer;
        self.workers.prune();
        for _ in 0..STEPS {
            let workers = &self.workers;
            let Some((task, tier)) = machine.next_to_lease(|tier| workers.wait_for(tier), now) else {
                held.extend(self.workers.answer_partly_served());
                held.extend(self.workers.answer_expired(now.observed));
                return Ok(());
            };
            let Some(request) = self.workers.first(&tier) else { continue };
            if let Some(grant) = machine.grant(task, request, now)? {
                held.extend(self.workers.give(&tier, grant));
            }
        }
        // The others are served with the next group, which follows at once.
        held.extend(self.workers.answer_partly_served());
        Ok(())
    }
}

#[cfg(test)]
impl Writer {
    pub(super) const fn machine(&self) -> &Machine {
        &self.committer.machine
    }

    pub(super) fn unclaimed(&self) -> &[crate::task::LeaseId] {
        &self.committer.unclaimed
    }

    pub(super) fn commit(&mut self, now: Now) -> Stored<()> {
        self.committer.commit(false, now)
    }

    pub(super) fn finish_tables(&mut self) -> Stored<()> {
        self.committer.tables.finish()
    }
}
