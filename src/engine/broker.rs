//! What a broker between this service and the others needs of the engine:
//! events to publish, and how many tasks wait for workers there.

use super::api::{PauseChange, QueueReport};
use super::machine::Machine;
use crate::store::{self, TierPause};
use crate::task::{Bus, Input, Now, Phase, TaskId, Tier};

/// Tasks that one count of waiting ones can tell to be taken.
const MAX_TAKEN: usize = 1024;

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Learns how the work queue of a tier is.
    pub(super) fn report_queue(&mut self, report: &QueueReport, now: Now) -> Stored<Vec<TaskId>> {
        let QueueReport { tier, counted, published_before, unobserved_before, rule } = report;
        let was_held = self.lines.supply(tier).is_held();
        if self.lines.supply(tier).count(*counted, *rule) {
            self.keep_of_tier(tier, |pause| pause.had_consumer = true)?;
        }
        self.tell_held(tier, was_held);
        let supply = *self.lines.supply(tier);
        let gone = |waiting, before| match *published_before {
            Some(known) => self.lines.not_waiting(tier, waiting, (known, before), MAX_TAKEN),
            None => Vec::new(),
        };
        let mut taken = Vec::new();
        if let Some(waiting) = supply.waiting_beside_consumers() {
            // Workers that say when they begin may keep a task for long before.
            let before = if supply.tells_starts() { *unobserved_before } else { *published_before };
            taken = before.map(|before| gone(waiting, before)).unwrap_or_default();
        } else if let Some(before) = unobserved_before.filter(|_| supply.is_unobserved()) {
            taken = self.lines.not_waiting(tier, 0, (before, before), MAX_TAKEN);
        }
        let missing = match (supply.waiting_untouched(), *published_before) {
            (Some(waiting), Some(before)) => gone(waiting, before),
            _ => Vec::new(),
        };
        for task in taken {
            // One that has moved on in this group is not taken, but done.
            let _ = self.apply(task, Input::Take, None, now)?;
        }
        Ok(missing)
    }

    /// Keeps for the next start what was learnt of the workers of a tier.
    fn keep_of_tier(&mut self, tier: &Tier, learn: impl FnOnce(&mut TierPause)) -> Stored<()> {
        let Some(ready) = self.lines.ready.get_mut(tier) else { return Ok(()) };
        learn(&mut ready.pause);
        self.group.batch.put_tier_pause(tier, ready.pause)
    }

    /// Tells readers when tasks of a tier begin to wait for its workers, or end to.
    fn tell_held(&mut self, tier: &Tier, was_held: bool) {
        let is_held = self.lines.supply(tier).is_held();
        if is_held != was_held {
            tracing::info!(%tier, is_held, "the work queue of a tier has lost its consumers, or has some again");
            self.group.pauses.push(PauseChange::Consumers { tier: tier.clone(), are_missing: is_held });
        }
    }

    /// A report of a worker was applied to a task that stood in `before`: what
    /// it shows of the workers of the tier.
    pub(super) fn learn_of_workers(&mut self, tier: &Tier, before: Phase, report: &str) -> Stored<()> {
        if self.settings.policy.bus != Bus::Broker {
            return Ok(());
        }
        let was_held = self.lines.supply(tier).is_held();
        if report == "task.started" && self.lines.supply(tier).heard_of_start() {
            self.keep_of_tier(tier, |pause| pause.tells_starts = true)?;
        }
        if before == Phase::Dispatched && self.lines.supply(tier).heard_of_worker() {
            tracing::info!(%tier, "workers of a tier use queues of their own; its work queue has no consumer");
        }
        self.tell_held(tier, was_held);
        Ok(())
    }
}
