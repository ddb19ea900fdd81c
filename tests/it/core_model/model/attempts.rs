//! What ends an attempt besides its output: failures and deadlines, and who
//! has it.

use dats::task::{Phase, Timestamp};

use super::Entry;

impl Entry {
    pub(super) fn failed(&mut self, attempt: Option<u32>, again: bool, now: Timestamp) -> &'static str {
        let number = attempt.unwrap_or(self.attempt);
        if self.ended() || (attempt.is_none() && self.attempt == 0) {
            return "stale";
        }
        if !(1..=self.attempt).contains(&number) {
            return "refused";
        }
        if number < self.attempt || !self.running() {
            return "stale";
        }
        let rejection = self.open_output();
        self.close(again, rejection, now);
        self.version += 1;
        "applied"
    }

    pub(super) fn started(&mut self, attempt: Option<u32>, now: Timestamp) -> &'static str {
        let number = attempt.unwrap_or(self.attempt);
        if self.ended() {
            return "stale";
        }
        if !(1..=self.attempt).contains(&number) {
            return "refused";
        }
        if number < self.attempt || !self.running() {
            return "stale";
        }
        if self.take_without_lease(now) { "applied" } else { "unchanged" }
    }

    pub(super) fn take_without_lease(&mut self, now: Timestamp) -> bool {
        let takes = self.phase == Phase::Dispatched && self.taken.is_none();
        if takes {
            self.taken = Some(now);
            self.version += 1;
        }
        takes
    }

    pub(super) fn overdue(&self) -> Option<Timestamp> {
        let since = self.lease.map(|(_, since, _)| since).or(self.taken);
        since.map(|since| since.after(self.timeout.saturating_sub(self.used)))
    }

    /// Whether the phase changed.
    pub(super) fn timer(&mut self, now: Timestamp) -> bool {
        let due = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
        match (self.phase, self.lease) {
            (Phase::Scheduled, _) if due(self.until) => {
                self.phase = if self.waits.is_empty() { Phase::Queued } else { Phase::Blocked };
                self.since = now;
            }
            (Phase::Backoff, _) if due(self.until) => {
                self.phase = Phase::Queued;
                self.since = now;
            }
            (Phase::Leased, Some((_, since, until))) if Some(until) < self.overdue() => {
                if until > now {
                    return false;
                }
                self.used += until.since(since);
                self.lease = None;
                self.phase = Phase::Dispatched;
            }
            (Phase::Leased | Phase::Dispatched, _) if due(self.overdue()) => self.close(true, false, now),
            (Phase::Validating | Phase::Reviewing, _) if due(self.due) => self.close(true, false, now),
            _ => return false,
        }
        true
    }
}
