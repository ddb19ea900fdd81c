//! Links of all records at once, for a graph that is built from rows.
//!
//! Record by record, each link is an insertion into pages that have it in
//! their middle. Here everything is known before the first link is made, so
//! links are counted, then put where they belong, and pages are filled from
//! the front to the back.

use std::sync::Arc;

use super::graph::Graph;
use super::lists::Lists;
use super::pages::{PAGE, place};
use super::record::{Link, Node};
use super::rows::{ArtifactPage, DependentPage, Input};
use crate::task::{RecordStatus, Timestamp};

/// Lists of any length, one behind another.
#[derive(Debug)]
pub(super) struct Flat<T> {
    items: Vec<T>,
    ends: Vec<usize>,
}

impl<T> Default for Flat<T> {
    fn default() -> Self {
        Self { items: Vec::new(), ends: Vec::new() }
    }
}

impl<T: Copy> Flat<T> {
    pub(super) fn push(&mut self, list: impl IntoIterator<Item = T>) {
        self.items.extend(list);
        self.ends.push(self.items.len());
    }

    fn bounds(&self, at: usize) -> std::ops::Range<usize> {
        at.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[at]
    }

    pub(super) fn get(&self, at: usize) -> &[T] {
        &self.items[self.bounds(at)]
    }

    /// The same lists in another order.
    pub(super) fn in_order(self, order: &[u32]) -> Self {
        let mut ordered = Self { items: Vec::with_capacity(self.items.len()), ends: Vec::with_capacity(order.len()) };
        for at in order {
            ordered.push(self.get(place(*at)).iter().copied());
        }
        ordered
    }

    /// The lists of a page.
    fn page(&self, page: usize) -> impl Iterator<Item = &[T]> + Clone {
        let from = (page * PAGE).min(self.ends.len());
        (from..(from + PAGE).min(self.ends.len())).map(|at| self.get(at))
    }

    fn pages(&self) -> usize {
        self.ends.len().div_ceil(PAGE)
    }
}

/// Pairs by their first half: for each of `count` keys the values that it
/// has, in the order in which they come. The pairs are gone over twice.
fn grouped<I: Iterator<Item = (u32, u32)>>(count: usize, pairs: impl Fn() -> I) -> Flat<u32> {
    let mut next = vec![0_usize; count];
    for (key, _) in pairs() {
        next[place(key)] += 1;
    }
    let mut from = 0;
    for next in &mut next {
        from += std::mem::replace(next, from);
    }
    let mut items = vec![0; from];
    for (key, value) in pairs() {
        let at = &mut next[place(key)];
        items[*at] = value;
        *at += 1;
    }
    // Each list is full now: where its next item would be, it ends.
    Flat { items, ends: next }
}

impl Graph {
    /// Gives the records, which came sorted by age and have none yet, their
    /// inputs and outputs, and links all inputs but those that `is_held` names.
    pub(super) fn link_all(
        &mut self,
        mut inputs: Flat<Input>,
        outputs: &Flat<u32>,
        is_held: impl Fn(u32, u32) -> bool,
    ) {
        let producers = self.producers_of(outputs, |status| status != RecordStatus::Failed);
        let mut later = 0;
        for consumer in 0..self.len {
            let started_at = self.row(consumer).started_at;
            later = self.first_later(started_at, later.max(consumer));
            for at in inputs.bounds(place(consumer)) {
                let input = &mut inputs.items[at];
                if is_held(consumer, input.artifact()) {
                    continue;
                }
                let producer = newest_before(producers.get(place(input.artifact())), later, consumer);
                *input = input.linked(producer.map_or(Link::Waiting, |node| Link::Bound(Node(node))));
                let Some(producer) = producer else { continue };
                self.edges += 1;
                // Sorted by age: a larger number is a younger record.
                if producer > consumer {
                    self.cross(consumer, producer);
                    Arc::make_mut(&mut self.cover).add_edge();
                }
            }
        }
        self.fill_artifacts(&producers, outputs, &inputs);
        self.fill_dependents(&inputs);
        for page in 0..outputs.pages() {
            *self.outputs.get_mut(page) = Lists::of(outputs.page(page));
            self.inputs.get_mut(page).lists = Lists::of(inputs.page(page));
        }
    }

    /// For each artifact the records that name it as output.
    fn producers_of(&self, outputs: &Flat<u32>, is_one: impl Fn(RecordStatus) -> bool + Copy) -> Flat<u32> {
        let ones = move || (0..self.len).filter(move |node| is_one(self.marks.status(*node)));
        let pairs = || ones().flat_map(|node| outputs.get(place(node)).iter().map(move |artifact| (*artifact, node)));
        grouped(place(self.names.len()), pairs)
    }

    /// The first record that was made after a time, looked for from a place
    /// on, and before it if need be.
    fn first_later(&self, time: Timestamp, near: u32) -> u32 {
        let is_later = |node: u32| self.row(node).created_at > time;
        let (mut from, mut to, mut step) = (near.min(self.len), near.min(self.len), 1);
        while to < self.len && !is_later(to) {
            from = to + 1;
            to = to.saturating_add(step).min(self.len);
            step = step.saturating_mul(2);
        }
        step = 1;
        while from > 0 && is_later(from - 1) {
            to = from - 1;
            from = from.saturating_sub(step);
            step = step.saturating_mul(2);
        }
        while from < to {
            let middle = from.midpoint(to);
            if is_later(middle) { to = middle } else { from = middle + 1 }
        }
        from
    }

    fn fill_artifacts(&mut self, producers: &Flat<u32>, outputs: &Flat<u32>, inputs: &Flat<Input>) {
        let failed = self.producers_of(outputs, |status| status == RecordStatus::Failed);
        let waits = |input: &&Input| input.bound().is_none() && !input.is_new();
        let waiting = grouped(place(self.names.len()), || {
            let of = |node| inputs.get(place(node)).iter().filter(waits).map(move |input| (input.artifact(), node));
            (0..self.len).flat_map(of)
        });
        for page in 0..producers.pages() {
            self.artifacts.reach(page);
            *self.artifacts.get_mut(page) = ArtifactPage {
                producers: Lists::of(producers.page(page)),
                failed: Lists::of(failed.page(page)),
                waiting: Lists::of(waiting.page(page)),
            };
        }
    }

    fn fill_dependents(&mut self, inputs: &Flat<Input>) {
        let dependents = grouped(place(self.len), || {
            let of = |node| inputs.get(place(node)).iter().filter_map(|input| input.bound()).map(move |to| (to, node));
            (0..self.len).flat_map(of)
        });
        for page in 0..dependents.pages() {
            let mut filled = DependentPage::of(Lists::of(dependents.page(page)));
            for (slot, list) in dependents.page(page).enumerate() {
                if filled.lists.get(slot).is_long() {
                    let latest = list.iter().map(|node| self.row(*node).started_at).max();
                    filled.set_latest_start(slot, latest.unwrap_or_default());
                }
            }
            *self.dependents.get_mut(page) = filled;
        }
    }
}

/// The rule of [`Graph::wish`], where numbers are ages: of the producers, all
/// from `later` on were made after the consumer started.
fn newest_before(producers: &[u32], later: u32, consumer: u32) -> Option<u32> {
    let split = producers.partition_point(|producer| *producer < later);
    let (before, after) = producers.split_at(split);
    before.iter().rev().chain(after).find(|producer| **producer != consumer).copied()
}
