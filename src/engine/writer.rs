//! The writer: one named thread that orders everything. It drains what is
//! queued, applies it, commits it in one transaction, publishes it to the
//! read side, and only then releases the answers.

mod planned;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::api::{Answer, EventOutcome, LeaseRequest, Prepared, Refusal};
use super::command::{Command, EventAnswers, Held, Reply, hold};
use super::machine::Machine;
use super::plan::EventPlan;
use super::progress::Doing;
use super::queue::{CommandQueue, Taken};
use super::read::ReadSide;
use super::room::Growth;
use super::tables::TablesThread;
use super::turns::Grant;
use super::workers::Workers;
use crate::clock::{Clock, LARGE_STEP, Stopwatch};
use crate::store::{self, Look, guarded};
use crate::task::{Input, LeaseId, Moment, Now, TaskId, Timestamp};

/// Longest sleep: how often timers of the past and old rows are looked for.
const IDLE: Duration = Duration::from_millis(500);
/// Longer than any worker waits.
const FOREVER: Duration = Duration::from_hours(24 * 365);
/// How often what the clocks show is kept while nothing changes.
const LOOK: Duration = Duration::from_mins(10);
/// The same at an orderly stop: one soon after a commit need not write again.
const STOP_LOOK: Duration = Duration::from_secs(1);
/// How often it is looked for room on a full disk.
const NO_ROOM: Duration = Duration::from_millis(100);
/// Timers and admissions in one commit beside the commands.
const STEPS: usize = 1024;

type Stored<T> = Result<T, store::Error>;

/// Whether the wall clock was set between two times.
fn was_set(before: Now, now: Now) -> bool {
    let shown = before.calendar(now.observed);
    now.wall.since(shown).max(shown.since(now.wall)) > LARGE_STEP
}

/// Says that a stop has left something to the next start.
fn without_room(error: &store::Error) {
    tracing::warn!(%error, "the disk has no room for the last checkpoint: the next start applies the journal again");
}

/// The writer's side of the engine.
pub(super) struct Writer {
    machine: Machine,
    commands: CommandQueue,
    read: Arc<ReadSide>,
    tables: TablesThread,
    clock: Clock,
    /// Submissions that were queued before the stop and are still to be taken;
    /// `None`: no stop was asked for.
    before_stop: Option<usize>,
    held: Vec<Box<dyn Held>>,
    workers: Workers,
    /// Leases whose worker was gone when they were given.
    unclaimed: Vec<LeaseId>,
    events: [u64; 4],
    next_housekeeping: Moment,
    /// What the clocks showed when they were last kept.
    clocks_kept: Now,
    /// The same in the last group.
    clocks_seen: Now,
    /// Nothing may be written: the disk is full.
    is_out_of_room: bool,
    /// What of the group under way went by until its commits were durable.
    committing: Duration,
}

impl Writer {
    pub(super) fn new(machine: Machine, commands: CommandQueue, read: Arc<ReadSide>, clock: Clock) -> Stored<Self> {
        let (clocks, found) = (clock.now(), machine.clocks_found);
        let next_housekeeping = clocks.observed;
        let tables = TablesThread::start(read.clone())?;
        Ok(Self {
            machine,
            commands,
            read,
            tables,
            clock,
            before_stop: None,
            held: Vec::new(),
            workers: Workers::default(),
            unclaimed: Vec::new(),
            events: [0; 4],
            next_housekeeping,
            clocks_kept: if found == Now::default() { clocks } else { found },
            clocks_seen: clocks,
            is_out_of_room: false,
            committing: Duration::ZERO,
        })
    }

    /// Runs until it is told to stop; an error of the store ends it at once.
    pub(super) fn run(mut self) -> Stored<()> {
        store::wait_for_room_on_this_thread();
        // What panics has left the state in memory half changed, but nothing
        // of it on disk: the thread ends as with any error of the store.
        let result = guarded(|| self.run_to_end());
        if result.is_err() {
            self.held.drain(..).for_each(Held::unknown);
        }
        self.read.stop();
        // What is still queued has had no effect. A closed channel keeps its
        // messages as long as there are senders, and callers would wait for
        // ever: dropping a command tells its caller. One that is sent from
        // here on is refused by its sender, who asks whether we have stopped.
        self.commands.drain();
        match self.tables.finish() {
            // The stop has ended its wait; the journal has what it could not take.
            Err(error) if error.is_no_room() && !self.machine.store.room().may_pause() => {
                without_room(&error);
                result.or_else(|error| if matches!(error, store::Error::TablesBehind) { Ok(()) } else { Err(error) })
            }
            // What ended the thread of the tables is why the writer could not go on.
            finished => finished.and(result),
        }
    }

    fn run_to_end(&mut self) -> Stored<()> {
        loop {
            self.read.progress.writer.enter(Doing::Idle);
            let first = self.sleep();
            self.read.progress.writer.enter(Doing::Deciding);
            if self.tables.has_failed() {
                return Err(store::Error::TablesBehind);
            }
            let now = self.clock.now();
            let started = Stopwatch::start();
            self.is_out_of_room = self.look_for_room();
            let (taken, stop) = self.take(first, now)?;
            if self.is_out_of_room {
                self.stand_still(now);
            } else {
                self.settle(now, stop)?;
            }
            self.commit(now)?;
            self.flush_if_wanted()?;
            let took = started.elapsed();
            self.commands.observe(&taken, took);
            self.read.note_group(taken.commands, took, std::mem::take(&mut self.committing));
            if stop {
                return self.finish();
            }
        }
    }

    /// Lets the tables take everything, and makes them durable, as far as there
    /// is room: what they lack is in the journal.
    fn finish(&mut self) -> Stored<()> {
        self.read.progress.writer.enter(Doing::HandingOver);
        self.tables.finish()?;
        self.read.progress.writer.enter(Doing::Committing);
        match self.machine.store.checkpoint() {
            Err(error) if error.is_no_room() => {
                without_room(&error);
                Ok(())
            }
            finished => finished,
        }
    }

    /// Whether nothing may be written; makes a checkpoint where that would show
    /// that there is room.
    fn look_for_room(&self) -> bool {
        let room = self.machine.store.room();
        if room.state().stands_still() {
            room.look();
        }
        room.state().stands_still()
    }

    /// What goes on while nothing may be written: waits of workers end.
    fn stand_still(&mut self, now: Now) {
        self.workers.prune();
        self.held.extend(self.workers.answer_expired(now.observed));
    }

    /// Makes a checkpoint where that would show that there is room, so that what
    /// the tables have in memory is not counted twice.
    fn flush_if_wanted(&self) -> Stored<()> {
        if self.machine.store.room().take_flush_wanted() {
            self.read.progress.writer.enter(Doing::Committing);
            self.machine.store.checkpoint()?;
        }
        Ok(())
    }

    /// Waits for a command, the next timer, or more of the work at hand.
    fn sleep(&self) -> Option<Command> {
        if self.is_out_of_room && self.before_stop.is_none() {
            return self.commands.wait(NO_ROOM);
        }
        if self.before_stop.is_some() {
            return self.commands.wait(Duration::ZERO);
        }
        if self.read.is_halted() {
            // What is due stays due: waiting until then would not end.
            return self.commands.wait(IDLE);
        }
        let now = self.clock.now();
        let lines = &self.machine.lines;
        let moments = [Some(self.next_housekeeping), self.workers.next_end(), lines.routing.next_wake()];
        let until = moments.into_iter().flatten().map(|moment| moment.since(now.observed));
        let until = until.chain(lines.next_timer(now)).min().unwrap_or_default();
        let has_work = lines.has_next_to_dispatch() || lines.has_next_to_lease(|tier| self.workers.wait_for(tier));
        let busy = has_work || lines.routing.has_unserved() || !self.unclaimed.is_empty();
        let wait = if busy { Duration::ZERO } else { until.min(IDLE) };
        self.commands.wait(wait)
    }

    /// Applies the first command and what is queued behind it, at most a
    /// group; how much, and whether to stop: then what was queued before is done.
    fn take(&mut self, first: Option<Command>, now: Now) -> Stored<(Taken, bool)> {
        let max = u64::try_from(self.machine.settings.group_max).unwrap_or(u64::MAX);
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
        Ok((taken, self.before_stop == Some(0)))
    }

    /// What follows by itself: timers, free slots, waiting workers, old rows.
    fn settle(&mut self, now: Now, stop: bool) -> Stored<()> {
        if self.read.is_halted() {
            // Waiting workers get nothing any more, and learn the reason with their next request.
            self.held.extend(self.workers.answer_partly_served());
            self.held.extend(self.workers.answer_expired(now.after(FOREVER)));
            return if stop { self.machine.keep_places(self.read.places.all()) } else { Ok(()) };
        }
        self.unclaimed.extend(self.commands.take_given_back());
        for lease in std::mem::take(&mut self.unclaimed) {
            self.release(lease, false, now)?.ok();
        }
        if was_set(std::mem::replace(&mut self.clocks_seen, now), now) {
            self.machine.show_again_from = Some(Moment::default());
            self.next_housekeeping = now.observed;
        }
        self.machine.tick(STEPS, now)?;
        self.machine.give_up_parked(now)?;
        self.machine.settle_routing(STEPS, now)?;
        self.machine.dispatch(STEPS, now)?;
        self.serve_waiting(now)?;
        if stop || now.observed >= self.next_housekeeping {
            self.machine.keep_places(self.read.places.all())?;
            self.machine.trim_changes(self.read.copied.load(Ordering::Acquire))?;
            let more = self.machine.keep_house(now)?;
            self.next_housekeeping = if more { now.observed } else { now.after(Duration::from_secs(1)) };
            let room = self.machine.store.room();
            room.look();
            room.restore_ballast();
        }
        Ok(())
    }

    fn commit(&mut self, now: Now) -> Stored<()> {
        let (mut batch, publication) = self.machine.finish(now)?;
        if batch.is_empty() && self.is_look_due(now) {
            batch.keep_clocks(Look::Idle);
        }
        let wrote = !batch.is_empty();
        if wrote {
            self.clocks_kept = now;
        }
        let stopwatch = Stopwatch::start();
        self.read.progress.writer.enter(Doing::Committing);
        let durable = batch.make_durable(&self.machine.store, now)?;
        self.committing += stopwatch.elapsed();
        self.read.note_committed(now.observed);
        self.machine.recent.keep(&self.machine.store, &durable);
        // Answers leave before the tables have what they tell of, since who asks
        // the tables waits for it. Nothing up to `take` may open a view here.
        if wrote || publication.has_routing_work || publication.is_visible() || !self.held.is_empty() {
            self.read.publish(publication, self.events, wrote);
        }
        for held in self.held.drain(..) {
            self.unclaimed.extend(held.release(durable.committed()));
        }
        self.read.note_commit(stopwatch.elapsed());
        self.read.progress.writer.enter(Doing::HandingOver);
        let taken = if wrote { self.tables.take(durable) } else { Ok(()) };
        // A group can commit before it is at its end.
        self.read.progress.writer.enter(Doing::Deciding);
        taken
    }

    /// Whether what the clocks show is to be kept although nothing has changed:
    /// now and then, so that time in which nothing happens counts also after a
    /// crash; when the wall clock was set, since a stop is counted by it; and
    /// before a stop.
    fn is_look_due(&self, now: Now) -> bool {
        let since = now.since(self.clocks_kept.observed);
        since >= LOOK || (self.before_stop == Some(0) && since >= STOP_LOOK) || was_set(self.clocks_kept, now)
    }

    fn apply(&mut self, command: Command, now: Now) -> Stored<()> {
        self.read.progress.writer.enter(Doing::Deciding);
        if self.is_out_of_room && Growth::of_command(&command) != Growth::None {
            // Nobody would give it back again: it would run out, and count as lost.
            if let Command::Release { lease, delivered: false, .. } = command {
                self.unclaimed.push(lease);
                return Ok(());
            }
            command.refuse(self.machine.store.room().shortage().into());
            return Ok(());
        }
        let machine = &mut self.machine;
        let held = match command {
            Command::Submit { submissions, key, reply } => hold(reply, machine.submit(submissions, key, now)?),
            Command::Cancel { task, reason, reply } => hold(reply, self.cancel(task, reason, now)?),
            Command::Accept { events, plan, reply } => return self.accept_all((events, plan), reply, now),
            Command::Requeue { dead_letter, event, plan, reply } => {
                let plan = self.settle_plan(&event, plan, now)?;
                let outcome = self.machine.requeue(dead_letter, (*event, plan), now)?;
                self.note_event(&outcome);
                hold(reply, outcome)
            }
            Command::Lease { request, reply } => {
                self.lease(request, reply, now);
                return Ok(());
            }
            Command::Renew { lease, duration, reply } => hold(reply, self.renew(lease, now.after(duration), now)?),
            Command::Release { lease, delivered, reply } => hold(reply, self.release(lease, delivered, now)?),
            Command::TakeRouting { max, reply } => hold(reply, Ok::<_, Refusal>(machine.take_routing(max, now)?)),
            Command::Route { task, step, finding, reply } => hold(reply, machine.route(task, step, *finding, now)?),
            Command::ReturnRouting { task, until, reply } => {
                hold(reply, Ok::<_, Refusal>(machine.return_routing(task, until)?))
            }
            Command::Bury { letters, reply } => hold(reply, Ok::<_, Refusal>(machine.bury(letters, now)?)),
            Command::Discard { numbers, reply } => hold(reply, Ok::<_, Refusal>(machine.discard(numbers, now)?)),
            Command::ReportQueue { report, reply } => {
                hold(reply, Ok::<_, Refusal>(machine.report_queue(&report, now)?))
            }
            Command::Cascade { request, plan, is_last, reply } => {
                let done = machine.try_cascade(*request, *plan, is_last, now)?;
                hold(reply, done)
            }
            Command::Import { items, reply } => hold(reply, Ok::<_, Refusal>(machine.import(&items, now)?)),
            Command::Rollback { request, plan, is_last, reply } => {
                hold(reply, self.roll_back(&request, *plan, is_last, now)?)
            }
            Command::Undo { request, plan, is_last, reply } => hold(reply, self.undo(&request, *plan, is_last, now)?),
            Command::CreateCheckpoint { project, new, reply } => {
                hold(reply, machine.create_checkpoint(&project, new, now)?)
            }
            Command::CreateProject { project, reply } => hold(reply, machine.create_project(project, now)?),
            Command::UpdateProject { project, patch, if_version, reply } => {
                hold(reply, machine.update_project(&project, patch, if_version, now)?)
            }
            Command::DeleteProject { project, if_version, reply } => {
                hold(reply, machine.delete_project(&project, if_version, now)?)
            }
            Command::PauseProject { project, pause, reply } => {
                hold(reply, machine.pause_project(&project, pause, now)?)
            }
            Command::PauseTier { tier, pause, reply } => hold(reply, machine.pause_tier(&tier, pause, now)?),
            Command::Stop => return Ok(()),
        };
        self.held.push(held);
        Ok(())
    }

    fn accept_all(
        &mut self,
        (events, mut plan): (Vec<Prepared>, Option<(usize, EventPlan)>),
        reply: Reply<EventAnswers>,
        now: Now,
    ) -> Stored<()> {
        let mut answers = Vec::with_capacity(events.len());
        let mut accepted = Ok(());
        for (place, event) in events.into_iter().enumerate() {
            let plan = plan.take_if(|(of, _)| *of == place).map(|(_, plan)| plan);
            match self.accept(event, plan, now) {
                Ok(answer) => answers.push(answer),
                // A rollback among them has made a commit, which may be what
                // failed: then nobody knows about those before it.
                Err(error) => {
                    accepted = Err(error);
                    break;
                }
            }
        }
        self.held.push(hold(reply, Ok::<_, Refusal>(answers)));
        accepted
    }

    fn accept(&mut self, event: Prepared, plan: Option<EventPlan>, now: Now) -> Stored<Result<EventOutcome, Refusal>> {
        let plan = self.settle_plan(&event, plan, now)?;
        let outcome = self.machine.accept(event, plan, now)?;
        self.note_event(&outcome);
        Ok(outcome)
    }

    fn note_event(&mut self, outcome: &Result<EventOutcome, Refusal>) {
        use crate::task::Outcome::{Applied, Parked, Stale, Unchanged};
        use EventOutcome::{Duplicate, Taken};
        let place = match outcome {
            Ok(Taken(Applied | Unchanged)) => Some(0),
            Ok(Taken(Stale(_))) => Some(1),
            Ok(Taken(Parked)) => Some(2),
            Ok(Duplicate) => Some(3),
            Err(_) => None,
        };
        if let Some(count) = place.and_then(|place: usize| self.events.get_mut(place)) {
            *count += 1;
        }
    }

    fn cancel(&mut self, task: TaskId, reason: Option<String>, now: Now) -> Stored<Result<Answer, Refusal>> {
        match self.machine.apply(task, Input::Cancel { reason }, None, now)? {
            Ok(_) => Ok(self.machine.answer(task, now)?.ok_or(Refusal::TaskNotFound(task))),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn renew(&mut self, lease: LeaseId, until: Moment, now: Now) -> Stored<Result<Timestamp, Refusal>> {
        let Some(task) = self.machine.lines.leased_task(lease) else { return Ok(Err(Refusal::LeaseLost(lease))) };
        let outcome = self.machine.apply(task, Input::Renew { id: lease, until }, None, now)?;
        Ok(outcome.map(|_| now.calendar(until)))
    }

    fn release(&mut self, lease: LeaseId, delivered: bool, now: Now) -> Stored<Result<(), Refusal>> {
        let Some(task) = self.machine.lines.leased_task(lease) else { return Ok(Err(Refusal::LeaseLost(lease))) };
        let outcome = self.machine.apply(task, Input::Release { id: lease, delivered }, None, now)?;
        Ok(outcome.map(|_| ()))
    }

    fn lease(&mut self, request: LeaseRequest, reply: Reply<Vec<Grant>>, now: Now) {
        if !self.machine.lines.ready.contains_key(&request.tier) {
            self.held.push(hold(reply, Err(Refusal::TierNotFound(request.tier))));
            return;
        }
        // First come, first served: it is served with those that wait already.
        if let Err(reply) = self.workers.join(request, reply, now) {
            self.held.push(hold(reply, Err::<Vec<Grant>, _>(super::api::Error::Overloaded)));
        }
    }

    /// Gives tasks to the workers that wait: the next free slot goes to the
    /// best task for which a worker waits, and the task to the worker that has
    /// waited longest.
    fn serve_waiting(&mut self, now: Now) -> Stored<()> {
        self.workers.prune();
        for _ in 0..STEPS {
            let workers = &self.workers;
            let Some((task, tier)) = self.machine.lines.next_to_lease(|tier| workers.wait_for(tier), now) else {
                self.held.extend(self.workers.answer_partly_served());
                self.held.extend(self.workers.answer_expired(now.observed));
                return Ok(());
            };
            let Some(request) = self.workers.first(&tier) else { continue };
            if let Some(grant) = self.machine.grant(task, request, now)? {
                self.held.extend(self.workers.give(&tier, grant));
            }
        }
        // The others are served with the next group, which follows at once.
        self.held.extend(self.workers.answer_partly_served());
        Ok(())
    }
}
