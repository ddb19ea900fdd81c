//! What ends an attempt besides its output: failures, deadlines and lost
//! leases, and which worker has it.

use dats::task::{Failure, Holder, Moment, Phase, Started, Timestamp};

use super::Entry;

impl Entry {
    /// The number that a report means, or what becomes of one that means none.
    fn attempt_of(&self, given: Option<u32>, brokered: bool) -> Result<(), &'static str> {
        let announced = self.phase == Phase::Queued && !self.open && !brokered;
        let newest = self.attempt + u32::from(announced);
        let is_queued = self.phase == Phase::Queued;
        match given {
            Some(given) if !(1..=newest).contains(&given) => Err("refused"),
            Some(given) if given < newest => Err("stale"),
            None if newest == 0 && !is_queued => Err("refused"),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn failed(&mut self, failure: &Failure, brokered: bool, now: Moment) -> &'static str {
        let announced = self.attempt > 0 || (self.phase == Phase::Queued && !brokered);
        if self.ended() || (failure.attempt.is_none() && !announced) {
            return "stale";
        }
        if let Err(answer) = self.attempt_of(failure.attempt, brokered) {
            return answer;
        }
        let is_rejection = self.open_output();
        match self.phase {
            Phase::Dispatched => {}
            Phase::Started | Phase::Leased | Phase::Validating | Phase::Reviewing => {
                let by_qa = failure.from_qa && is_rejection;
                if !by_qa && !self.counts_as_holder(&failure.sender) {
                    return "stale";
                }
            }
            _ => return "stale",
        }
        self.close(failure.retryable, is_rejection, now);
        self.version += 1;
        "applied"
    }

    pub(super) fn started(&mut self, started: &Started, brokered: bool, now: Moment) -> &'static str {
        if self.ended() {
            return "stale";
        }
        if let Err(answer) = self.attempt_of(started.attempt, brokered) {
            return answer;
        }
        match self.phase {
            Phase::Dispatched => {}
            Phase::Started => {
                let inferred = self.taken.is_some_and(|(_, said)| !said);
                if self.taken == Some((now, true)) && self.holder.worker == started.sender.worker {
                    return "unchanged";
                }
                if inferred || self.holder.worker == started.sender.worker {
                    self.holders = self.holders.saturating_sub(1);
                }
            }
            Phase::Leased | Phase::Validating | Phase::Reviewing => {
                return if self.counts_as_holder(&started.sender) { "unchanged" } else { "stale" };
            }
            _ => return "stale",
        }
        self.holders += 1;
        self.begin(now);
        self.holder = Holder { lease: None, worker: started.sender.worker.clone() };
        self.taken = Some((now, true));
        self.phase = Phase::Started;
        self.version += 1;
        "applied"
    }

    /// Whether a sender is the holder, where both have said who they are.
    pub(super) fn is(&self, sender: &Holder) -> Option<bool> {
        let lease = sender.lease.zip(self.holder.lease).map(|(sender, holder)| sender == holder);
        let worker = sender.worker.as_ref().zip(self.holder.worker.as_ref()).map(|(sender, holder)| sender == holder);
        lease.or(worker)
    }

    fn counts_as_holder(&self, sender: &Holder) -> bool {
        let says_something = sender.lease.is_some() || sender.worker.is_some();
        self.is(sender).unwrap_or(says_something || self.holders < 2)
    }

    pub(super) fn overdue(&self) -> Option<Moment> {
        let leased = self.lease.map(|(_, since, _)| since.after(self.timeout.saturating_sub(self.used)));
        leased.or(self.taken.map(|(since, _)| since.after(self.timeout)))
    }

    /// A worker has it, or had it when its output came.
    pub(super) fn begin(&mut self, now: Moment) {
        self.started = self.started.or(Some((now, self.attempt)));
    }

    /// Its worker never got it: as if it had not been leased.
    pub(super) fn take_back(&mut self) {
        self.leave();
        (self.phase, self.slot, self.until) = (Phase::Queued, false, None);
        self.holders -= 1;
        if self.holders > 0 {
            return;
        }
        self.started = self.started.filter(|(_, attempt)| *attempt != self.attempt);
        if self.foreign.is_empty() {
            self.open = false;
            self.attempt -= 1;
        }
    }

    /// Back to the line, with the age that it had.
    pub(super) fn wait_again(&mut self, since: Moment, end: Moment) {
        self.used += end.since(since);
        self.leave();
        self.slot = false;
        self.until = None;
        self.phase = Phase::Queued;
    }

    /// Whether something visible changed.
    pub(super) fn timer(&mut self, now: Moment, wall: Timestamp) -> bool {
        const MOST_LOST: u32 = 3;
        let due = |time: Option<Moment>| time.is_some_and(|time| time <= now);
        match (self.phase, self.lease) {
            (Phase::Scheduled, _) if self.scheduled.is_some_and(|time| time <= wall) => {
                self.phase = if self.waits.is_empty() { Phase::Queued } else { Phase::Blocked };
                self.scheduled = None;
                self.since = now;
            }
            (Phase::Backoff, _) if due(self.until) => {
                self.phase = Phase::Queued;
                self.until = None;
                self.since = now;
            }
            (Phase::Queued, _) if due(self.until) => self.until = None,
            (Phase::Leased, Some((_, since, until))) if Some(until) < self.overdue() => {
                if until > now {
                    return false;
                }
                self.lost += 1;
                if self.lost < MOST_LOST {
                    self.wait_again(since, until);
                } else {
                    self.close(true, false, now);
                }
            }
            (Phase::Leased | Phase::Started, _) if due(self.overdue()) => self.close(true, false, now),
            (Phase::Validating | Phase::Reviewing, _) if due(self.due) => self.close(true, false, now),
            _ => return false,
        }
        true
    }
}
