//! Events of other services: known ones are told apart, the others have
//! their effect on the task they are about.

use super::api::{EventOutcome, Incoming, Refusal};
use super::machine::Machine;
use super::memory::event_hash;
use crate::store;
use crate::task::{EventHash, Input, RecordId, Timestamp};

/// An accepted event as it came.
#[derive(Debug)]
pub(super) struct Original {
    /// A structured `CloudEvent` in JSON.
    pub(super) text: String,
    /// Whether it was on the bus before.
    pub(super) on_bus: bool,
}

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Takes an event of another service.
    pub(super) fn accept(&mut self, incoming: Incoming, now: Timestamp) -> Stored<Result<EventOutcome, Refusal>> {
        let hash = incoming.identity.as_ref().map(|(source, id)| event_hash(source, id));
        if hash.is_some_and(|hash| self.taken.contains(hash)) {
            return Ok(Ok(EventOutcome::Duplicate));
        }
        self.take(incoming, hash, now)
    }

    /// Takes a dead letter again as the event that it holds.
    pub(super) fn requeue(
        &mut self,
        number: u64,
        incoming: Incoming,
        now: Timestamp,
    ) -> Stored<Result<EventOutcome, Refusal>> {
        let gone = self.group.requeued.contains(&number) || self.store.view()?.dead_letter(number)?.is_none();
        if gone {
            return Ok(Err(Refusal::DeadLetterNotFound(number)));
        }
        let hash = incoming.identity.as_ref().map(|(source, id)| event_hash(source, id));
        // The other services have it since it came first.
        let incoming = Incoming { on_bus: true, ..incoming };
        // Its producer may have sent it again meanwhile: then that one counts.
        let outcome = if hash.is_some_and(|hash| self.taken.contains(hash)) {
            Ok(EventOutcome::Duplicate)
        } else {
            self.take(incoming, hash, now)?
        };
        if outcome.is_ok() {
            self.group.requeued.insert(number);
            self.group.batch.remove_dead_letter(number);
            self.dead_letters.1 = self.dead_letters.1.saturating_sub(1);
        }
        Ok(outcome)
    }

    fn take(
        &mut self,
        incoming: Incoming,
        hash: Option<EventHash>,
        now: Timestamp,
    ) -> Stored<Result<EventOutcome, Refusal>> {
        let Some(task) = self.lines.correlate(&incoming.correlation) else {
            return Ok(Err(Refusal::NothingCorrelates));
        };
        let record = RecordId::new(self.mint(now));
        let Incoming { report, raw, on_bus, .. } = incoming;
        let input = Input::Report { report, record, raw: raw.clone(), event: hash };
        // Before its effect: it may become a dead letter at once, which is
        // forgotten again.
        if let Some(hash) = hash {
            self.taken.insert(hash);
        }
        let outcome = self.apply(task, input, Some(Original { text: raw, on_bus }), now)?;
        if let (Err(_), Some(hash)) = (&outcome, hash) {
            self.taken.withdraw(hash);
        }
        Ok(outcome.map(EventOutcome::Taken))
    }
}
