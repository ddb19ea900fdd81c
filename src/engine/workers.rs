//! Workers that wait for tasks: by tier, first come, first served.

use std::collections::{BTreeMap, BTreeSet};

use super::api::LeaseRequest;
use super::command::{Held, Reply, hold_grants};
use super::turns::Grant;
use crate::task::{Moment, Now, Tier};

/// Most workers that wait for a task.
const MAX_WAITING: usize = 16_384;

/// Workers that wait for tasks. Every call costs the logarithm of how many
/// wait, but [`Self::join`] at their limit.
#[derive(Default)]
pub(super) struct Workers {
    /// By tier, in the order in which they came. No tier is empty.
    tiers: BTreeMap<Tier, BTreeMap<u64, Waiting>>,
    /// When each has waited long enough.
    ends: BTreeSet<(Moment, Tier, u64)>,
    next: u64,
    /// When those that have gone were last looked for.
    swept_at: Option<Moment>,
}

/// A worker that waits, and what it has been given in this group.
struct Waiting {
    request: LeaseRequest,
    until: Moment,
    reply: Reply<Vec<Grant>>,
    grants: Vec<Grant>,
}

impl Workers {
    /// A worker joins; given back when too many wait.
    pub(super) fn join(
        &mut self,
        request: LeaseRequest,
        reply: Reply<Vec<Grant>>,
        now: Now,
    ) -> Result<(), Reply<Vec<Grant>>> {
        if self.ends.len() >= MAX_WAITING {
            self.sweep(now);
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

    /// Drops workers that have gone, at most once a second.
    fn sweep(&mut self, now: Now) {
        if self.swept_at.is_some_and(|at| now.since(at).as_secs() < 1) {
            return;
        }
        self.swept_at = Some(now.observed);
        let (tiers, ends) = (&mut self.tiers, &mut self.ends);
        tiers.retain(|tier, all| {
            all.retain(|number, waiting| {
                let stays = !waiting.reply.is_closed();
                if !stays {
                    ends.remove(&(waiting.until, tier.clone(), *number));
                }
                stays
            });
            !all.is_empty()
        });
    }

    /// The tiers for which a worker waits. Those at the heads of their lines
    /// that have gone are dropped.
    pub(super) fn prune(&mut self) {
        let tiers: Vec<Tier> = self.tiers.keys().cloned().collect();
        for tier in tiers {
            self.prune_tier(&tier);
        }
    }

    fn prune_tier(&mut self, tier: &Tier) {
        let Some(all) = self.tiers.get_mut(tier) else { return };
        while let Some(entry) = all.first_entry().filter(|entry| entry.get().reply.is_closed()) {
            // Nobody has gone that was given something: that is noticed when it is sent.
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

    /// The request of the worker that is next on a tier.
    pub(super) fn first(&self, tier: &Tier) -> Option<&LeaseRequest> {
        Some(&self.tiers.get(tier)?.first_key_value()?.1.request)
    }

    /// Gives the worker that is next a task; its answer, if it has all it asked for.
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

    /// The answers of those that were given less than they asked for.
    pub(super) fn answer_partly_served(&mut self) -> Vec<Box<dyn Held>> {
        let served = self
            .tiers
            .iter()
            .filter(|(_, all)| all.first_key_value().is_some_and(|(_, waiting)| !waiting.grants.is_empty()));
        let served: Vec<Tier> = served.map(|(tier, _)| tier.clone()).collect();
        served.iter().filter_map(|tier| self.answer(tier)).collect()
    }

    /// The empty answers of those that have waited long enough.
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

    /// When the next one has waited long enough.
    pub(super) fn next_end(&self) -> Option<Moment> {
        self.ends.first().map(|(until, ..)| *until)
    }
}
