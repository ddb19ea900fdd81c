//! Workers that wait for tasks, by tier: first come, first served.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::command::Reply;
use super::held::{Held, hold_grants};
use crate::engine::api::{Grant, LeaseRequest};
use crate::task::{Moment, Now, Tier};

/// Most workers that wait for a task.
const MAX_WAITING: usize = 16_384;

/// Workers that a full queue checks for disconnected ones when another one joins.
const SWEPT: usize = 256;

/// Workers that wait for tasks. The cost of every call is the number of tiers times the
/// logarithm of the number of workers.
#[derive(Default)]
pub(super) struct WorkerQueue {
    /// By tier, in the order in which they joined. No tier is empty.
    tiers: BTreeMap<Tier, BTreeMap<u64, Waiting>>,
    /// When the wait of each ends.
    ends: BTreeSet<(Moment, Tier, u64)>,
    next: u64,
    /// Up to where disconnected workers were last looked for.
    swept: Option<(Moment, Tier, u64)>,
}

/// A worker that waits, and what it was granted in this group.
struct Waiting {
    request: LeaseRequest,
    until: Moment,
    reply: Reply<Vec<Grant>>,
    grants: Vec<Grant>,
}

impl WorkerQueue {
    /// Adds a worker. Returns its reply if too many wait.
    pub(super) fn join(
        &mut self,
        request: LeaseRequest,
        reply: Reply<Vec<Grant>>,
        now: Now,
    ) -> Result<(), Reply<Vec<Grant>>> {
        if self.ends.len() >= MAX_WAITING {
            self.sweep();
        }
        if self.ends.len() >= MAX_WAITING {
            return Err(reply);
        }
        let until = now.after(request.wait);
        let tier = request.tier.clone();
        self.next += 1;
        self.ends.insert((until, tier.clone(), self.next));
        let waiting = Waiting { request, until, reply, grants: Vec::new() };
        self.tiers.entry(tier).or_default().insert(self.next, waiting);
        Ok(())
    }

    /// Drops disconnected workers, of the next few.
    fn sweep(&mut self) {
        let from = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<_> = self.ends.range((from, Bound::Unbounded)).take(SWEPT).cloned().collect();
        // After the last worker it starts over.
        self.swept = next.last().filter(|_| next.len() == SWEPT).cloned();
        for end in next {
            let (_, tier, number) = &end;
            let Some(all) = self.tiers.get_mut(tier) else { continue };
            if all.get(number).is_some_and(|waiting| waiting.reply.is_closed()) {
                all.remove(number);
                if all.is_empty() {
                    self.tiers.remove(tier);
                }
                self.ends.remove(&end);
            }
        }
    }

    /// Drops disconnected workers at the heads of their queues.
    pub(super) fn prune(&mut self) {
        let tiers: Vec<Tier> = self.tiers.keys().cloned().collect();
        for tier in tiers {
            self.prune_tier(&tier);
        }
    }

    fn prune_tier(&mut self, tier: &Tier) {
        let Some(all) = self.tiers.get_mut(tier) else { return };
        while let Some(entry) = all.first_entry().filter(|entry| entry.get().reply.is_closed()) {
            // A worker that was granted something stays: whether it is gone shows when the
            // answer is sent.
            if !entry.get().grants.is_empty() {
                return;
            }
            let (number, waiting) = entry.remove_entry();
            self.ends.remove(&(waiting.until, tier.clone(), number));
        }
        if all.is_empty() {
            self.tiers.remove(tier);
        }
    }

    /// Whether a worker waits for this tier.
    pub(super) fn wait_for(&self, tier: &Tier) -> bool {
        self.tiers.contains_key(tier)
    }

    /// The request of the next worker of a tier.
    pub(super) fn first(&self, tier: &Tier) -> Option<&LeaseRequest> {
        Some(&self.tiers.get(tier)?.first_key_value()?.1.request)
    }

    /// Gives a task to the next worker of a tier. Returns its answer if it has all that it asked
    /// for.
    pub(super) fn give(&mut self, tier: &Tier, grant: Grant) -> Option<Box<dyn Held>> {
        let mut entry = self.tiers.get_mut(tier)?.first_entry()?;
        let waiting = entry.get_mut();
        waiting.grants.push(grant);
        if waiting.grants.len() < waiting.request.max {
            return None;
        }
        let answer = self.answer(tier);
        self.prune_tier(tier);
        answer
    }

    fn answer(&mut self, tier: &Tier) -> Option<Box<dyn Held>> {
        let all = self.tiers.get_mut(tier)?;
        let (number, waiting) = all.pop_first()?;
        if all.is_empty() {
            self.tiers.remove(tier);
        }
        self.ends.remove(&(waiting.until, tier.clone(), number));
        Some(hold_grants(waiting.reply, waiting.grants))
    }

    /// Returns the answers of workers that were granted less than they asked for.
    pub(super) fn answer_partly_served(&mut self) -> Vec<Box<dyn Held>> {
        let served = self
            .tiers
            .iter()
            .filter(|(_, all)| all.first_key_value().is_some_and(|(_, waiting)| !waiting.grants.is_empty()));
        let served: Vec<Tier> = served.map(|(tier, _)| tier.clone()).collect();
        served.iter().filter_map(|tier| self.answer(tier)).collect()
    }

    /// Returns the answers of workers whose wait has ended.
    pub(super) fn answer_expired(&mut self, now: Moment) -> Vec<Box<dyn Held>> {
        let mut answers = Vec::new();
        while let Some((until, tier, number)) = self.ends.first().filter(|(until, ..)| *until <= now).cloned() {
            self.ends.remove(&(until, tier.clone(), number));
            let Some(all) = self.tiers.get_mut(&tier) else { continue };
            if let Some(waiting) = all.remove(&number) {
                answers.push(hold_grants(waiting.reply, waiting.grants));
            }
            if all.is_empty() {
                self.tiers.remove(&tier);
            }
        }
        answers
    }

    /// When the next wait ends.
    pub(super) fn next_end(&self) -> Option<Moment> {
        self.ends.first().map(|(until, ..)| *until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::task::{Timestamp, WorkerId};

    #[test]
    fn a_full_queue_checks_a_few_workers_for_disconnected_ones() {
        let (mut workers, now) = (WorkerQueue::default(), Now::aligned(Timestamp::from_micros(1)));
        let join = |workers: &mut WorkerQueue| {
            let (reply, answer) = oneshot::channel();
            let (tier, worker) = (Tier::new("small").unwrap(), WorkerId::new("w").unwrap());
            let wait = Duration::from_secs(30);
            let request = LeaseRequest { tier, worker, max: 1, lease: wait, wait };
            workers.join(request, reply, now).ok().map(|()| answer)
        };
        // The first of them are still connected.
        let there: Vec<_> = (0..=2 * SWEPT).map(|_| join(&mut workers).unwrap()).collect();
        (there.len()..MAX_WAITING).for_each(|_| drop(join(&mut workers).unwrap()));
        assert!(
            join(&mut workers).is_none() && join(&mut workers).is_none(),
            "the workers that it has checked are all connected"
        );
        let last = join(&mut workers).expect("the next are disconnected");
        assert_eq!(workers.ends.len(), MAX_WAITING - (SWEPT - 1) + 1);
        // What it has dropped is in neither map, and each worker that waits is in both.
        let listed: usize = workers.tiers.values().map(BTreeMap::len).sum();
        assert_eq!(listed, workers.ends.len());
        drop((there, last));
        while workers.ends.len() > SWEPT {
            workers.sweep();
        }
    }
}
