//! What is known of the workers of a tier behind a broker, from its work queue and from
//! their reports.

use crate::engine::api::{QueueCount, RequireConsumer};
use crate::store::TierPause;

/// What is known of the workers of a tier behind a broker.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "observations that are independent of each other")]
pub(in crate::engine::state) struct Supply {
    rule: RequireConsumer,
    /// The last count of the work queue; `None`: it can't be counted.
    counted: Option<QueueCount>,
    /// Whether the work queue had no consumer at the count before.
    was_without: bool,
    /// Whether the work queue ever had a consumer.
    had_consumer: bool,
    /// Whether the workers take tasks from queues of their own.
    uses_own_queues: bool,
    /// Whether the workers report when they begin.
    reports_starts: bool,
}

impl Supply {
    /// Restores what the store keeps of the workers.
    pub(in crate::engine::state) fn recover(&mut self, pause: TierPause) {
        self.had_consumer |= pause.had_consumer;
        self.reports_starts |= pause.tells_starts;
    }

    /// Records a count of the work queue; `None`: it could not be counted. Returns whether
    /// this is the first consumer it ever had.
    pub(in crate::engine::state) fn record_count(
        &mut self,
        counted: Option<QueueCount>,
        rule: RequireConsumer,
    ) -> bool {
        self.was_without = self.is_without();
        self.rule = rule;
        self.counted = counted;
        let is_first = self.has_consumer() && !self.had_consumer;
        if self.has_consumer() {
            self.had_consumer = true;
            self.uses_own_queues = false;
        }
        is_first
    }

    /// Records that a worker has reported on a task that was only known to be dispatched.
    /// Returns whether that shows for the first time that workers use queues of their own.
    pub(in crate::engine::state) fn record_worker(&mut self) -> bool {
        let is_new = self.is_without() && !self.uses_own_queues;
        self.uses_own_queues |= is_new;
        is_new
    }

    /// Records that a worker has reported that it begins. Returns whether it is the first.
    pub(in crate::engine::state) const fn record_start(&mut self) -> bool {
        !std::mem::replace(&mut self.reports_starts, true)
    }

    /// Whether the workers report when they begin. Then a task that has left the queue does
    /// not count as begun.
    pub(in crate::engine::state) const fn reports_starts(&self) -> bool {
        self.reports_starts
    }

    fn has_consumer(&self) -> bool {
        self.counted.is_some_and(|counted| counted.consumers > 0)
    }

    fn is_without(&self) -> bool {
        self.counted.is_some_and(|counted| counted.consumers == 0)
    }

    /// Whether only one task at a time is dispatched, because no worker is there.
    pub(in crate::engine::state) fn is_held(&self) -> bool {
        match self.rule {
            RequireConsumer::Never => false,
            RequireConsumer::Always => !self.has_consumer(),
            RequireConsumer::Auto => self.had_consumer && self.is_without() && !self.uses_own_queues,
        }
    }

    /// How many tasks wait in the queue, if workers take tasks from it at present.
    pub(in crate::engine::state) fn waiting_beside_consumers(&self) -> Option<usize> {
        self.counted.filter(|counted| counted.consumers > 0).map(|counted| counted.ready)
    }

    /// How many tasks wait in the queue, if no worker can have taken one since the count
    /// before.
    pub(in crate::engine::state) fn waiting_untouched(&self) -> Option<usize> {
        let untouched = self.was_without && self.is_without() && !self.uses_own_queues;
        self.counted.filter(|_| untouched).map(|counted| counted.ready)
    }

    /// Whether there is no way to learn when a task leaves the queue.
    pub(in crate::engine::state) const fn is_unobserved(&self) -> bool {
        self.counted.is_none() || !self.had_consumer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counted(ready: usize, consumers: u32) -> QueueCount {
        QueueCount { ready, consumers }
    }

    #[test]
    fn without_its_consumers_a_tier_gets_one_task_at_a_time() {
        let mut supply = Supply::default();
        assert!(!supply.is_held() && supply.is_unobserved());
        supply.record_count(Some(counted(3, 0)), RequireConsumer::Auto);
        assert!(!supply.is_held(), "it never had a consumer");
        assert!(supply.record_count(Some(counted(0, 2)), RequireConsumer::Auto), "its first consumer");
        assert!(!supply.record_count(Some(counted(0, 1)), RequireConsumer::Auto) && !supply.is_held());
        supply.record_count(Some(counted(0, 0)), RequireConsumer::Auto);
        assert!(supply.is_held() && !supply.is_unobserved());
        supply.record_count(None, RequireConsumer::Auto);
        assert!(!supply.is_held(), "nothing is known of its queue");
    }

    #[test]
    fn workers_with_queues_of_their_own_are_never_held_up() {
        let mut supply = Supply::default();
        supply.record_count(Some(counted(0, 1)), RequireConsumer::Auto);
        assert!(!supply.record_worker(), "it has a consumer");
        supply.record_count(Some(counted(4, 0)), RequireConsumer::Auto);
        assert!(supply.record_worker() && !supply.record_worker());
        supply.record_count(Some(counted(4, 0)), RequireConsumer::Auto);
        assert!(!supply.is_held());
        assert_eq!(supply.waiting_untouched(), None);
        supply.record_count(Some(counted(4, 1)), RequireConsumer::Auto);
        supply.record_count(Some(counted(4, 0)), RequireConsumer::Auto);
        assert!(supply.is_held(), "its own queue is in use again");
    }

    #[test]
    fn the_rule_can_be_set() {
        let mut supply = Supply::default();
        supply.record_count(None, RequireConsumer::Always);
        assert!(supply.is_held());
        supply.record_count(Some(counted(0, 1)), RequireConsumer::Always);
        assert!(!supply.is_held());
        supply.record_count(Some(counted(0, 0)), RequireConsumer::Never);
        assert!(!supply.is_held());
    }

    #[test]
    fn a_queue_is_untouched_when_it_had_no_consumer_twice() {
        let mut supply = Supply::default();
        supply.record_count(Some(counted(5, 0)), RequireConsumer::Auto);
        assert_eq!(supply.waiting_untouched(), None);
        supply.record_count(Some(counted(2, 0)), RequireConsumer::Auto);
        assert_eq!(supply.waiting_untouched(), Some(2));
        supply.record_count(Some(counted(2, 1)), RequireConsumer::Auto);
        assert_eq!((supply.waiting_untouched(), supply.waiting_beside_consumers()), (None, Some(2)));
    }
}
