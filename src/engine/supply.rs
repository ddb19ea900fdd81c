//! What is known of the workers of a tier behind a broker: from its work queue
//! and from what they report.

use super::api::{Counted, RequireConsumer};
use crate::store::TierPause;

/// What is known of the workers of a tier behind a broker.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "observations that do not depend on each other")]
pub(super) struct Supply {
    rule: RequireConsumer,
    /// The work queue as it was last counted; `None`: it can't be counted.
    counted: Option<Counted>,
    /// Whether its queue had no consumer when it was counted before.
    was_without: bool,
    /// Whether its queue ever had a consumer.
    had_consumer: bool,
    /// Whether its workers take tasks from queues of their own.
    uses_own_queues: bool,
    /// Whether its workers say when they begin.
    tells_starts: bool,
}

impl Supply {
    /// What a start knows from the store.
    pub(super) fn recover(&mut self, pause: TierPause) {
        self.had_consumer |= pause.had_consumer;
        self.tells_starts |= pause.tells_starts;
    }

    /// The queue was counted, or could not be. Whether it has its first consumer.
    pub(super) fn count(&mut self, counted: Option<Counted>, rule: RequireConsumer) -> bool {
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

    /// A worker has reported on a task that was only known to be dispatched.
    /// Whether that shows for the first time that workers use queues of their own.
    pub(super) fn heard_of_worker(&mut self) -> bool {
        let is_new = self.is_without() && !self.uses_own_queues;
        self.uses_own_queues |= is_new;
        is_new
    }

    /// A worker has said that it begins. Whether it is the first one.
    pub(super) const fn heard_of_start(&mut self) -> bool {
        !std::mem::replace(&mut self.tells_starts, true)
    }

    /// Whether its workers say when they begin: then what leaves the queue is
    /// not taken to have begun.
    pub(super) const fn tells_starts(&self) -> bool {
        self.tells_starts
    }

    fn has_consumer(&self) -> bool {
        self.counted.is_some_and(|counted| counted.consumers > 0)
    }

    fn is_without(&self) -> bool {
        self.counted.is_some_and(|counted| counted.consumers == 0)
    }

    /// Whether only one task at a time is dispatched, since no worker is there.
    pub(super) fn is_held(&self) -> bool {
        match self.rule {
            RequireConsumer::Never => false,
            RequireConsumer::Always => !self.has_consumer(),
            RequireConsumer::Auto => self.had_consumer && self.is_without() && !self.uses_own_queues,
        }
    }

    /// How many tasks wait in the queue, if workers take tasks from it now.
    pub(super) fn waiting_beside_consumers(&self) -> Option<usize> {
        self.counted.filter(|counted| counted.consumers > 0).map(|counted| counted.ready)
    }

    /// How many tasks wait in the queue, if nobody can have taken one since it
    /// was counted before.
    pub(super) fn waiting_untouched(&self) -> Option<usize> {
        let untouched = self.was_without && self.is_without() && !self.uses_own_queues;
        self.counted.filter(|_| untouched).map(|counted| counted.ready)
    }

    /// Whether nothing says when a task leaves the queue.
    pub(super) const fn is_unobserved(&self) -> bool {
        self.counted.is_none() || !self.had_consumer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counted(ready: usize, consumers: u32) -> Counted {
        Counted { ready, consumers }
    }

    #[test]
    fn without_its_consumers_a_tier_gets_one_task_at_a_time() {
        let mut supply = Supply::default();
        assert!(!supply.is_held() && supply.is_unobserved());
        supply.count(Some(counted(3, 0)), RequireConsumer::Auto);
        assert!(!supply.is_held(), "it never had a consumer");
        assert!(supply.count(Some(counted(0, 2)), RequireConsumer::Auto), "its first consumer");
        assert!(!supply.count(Some(counted(0, 1)), RequireConsumer::Auto) && !supply.is_held());
        supply.count(Some(counted(0, 0)), RequireConsumer::Auto);
        assert!(supply.is_held() && !supply.is_unobserved());
        supply.count(None, RequireConsumer::Auto);
        assert!(!supply.is_held(), "nothing is known of its queue");
    }

    #[test]
    fn workers_on_queues_of_their_own_are_never_held_up() {
        let mut supply = Supply::default();
        supply.count(Some(counted(0, 1)), RequireConsumer::Auto);
        assert!(!supply.heard_of_worker(), "it has a consumer");
        supply.count(Some(counted(4, 0)), RequireConsumer::Auto);
        assert!(supply.heard_of_worker() && !supply.heard_of_worker());
        supply.count(Some(counted(4, 0)), RequireConsumer::Auto);
        assert!(!supply.is_held());
        assert_eq!(supply.waiting_untouched(), None);
        supply.count(Some(counted(4, 1)), RequireConsumer::Auto);
        supply.count(Some(counted(4, 0)), RequireConsumer::Auto);
        assert!(supply.is_held(), "its own queue is in use again");
    }

    #[test]
    fn the_rule_can_be_set() {
        let mut supply = Supply::default();
        supply.count(None, RequireConsumer::Always);
        assert!(supply.is_held());
        supply.count(Some(counted(0, 1)), RequireConsumer::Always);
        assert!(!supply.is_held());
        supply.count(Some(counted(0, 0)), RequireConsumer::Never);
        assert!(!supply.is_held());
    }

    #[test]
    fn a_queue_is_untouched_when_it_had_no_consumer_twice() {
        let mut supply = Supply::default();
        supply.count(Some(counted(5, 0)), RequireConsumer::Auto);
        assert_eq!(supply.waiting_untouched(), None);
        supply.count(Some(counted(2, 0)), RequireConsumer::Auto);
        assert_eq!(supply.waiting_untouched(), Some(2));
        supply.count(Some(counted(2, 1)), RequireConsumer::Auto);
        assert_eq!((supply.waiting_untouched(), supply.waiting_beside_consumers()), (None, Some(2)));
    }
}
