//! Links of all records at once, for a graph that is built from rows.
//!
//! Record by record, each link is an insertion into the middle of pages. Here everything is known
//! before the first link is made, so links are counted and then put in their places, and pages are
//! filled from front to back.

use std::sync::Arc;

use super::choice;
use super::cycle;
use super::graph::Graph;
use super::lists::{List, Lists};
use super::pages::{PAGE, place};
use super::record::{Link, Node};
use super::rows::Producers;
use super::rows::{ArtifactPage, DependentPage, Input};

/// Lists of any length, one after another.
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

    /// The same lists, each sorted by `sort`.
    fn sorted(mut self, sort: impl Fn(&mut [T])) -> Self {
        for at in 0..self.ends.len() {
            let bounds = self.bounds(at);
            sort(&mut self.items[bounds]);
        }
        self
    }

    fn pages(&self) -> usize {
        self.ends.len().div_ceil(PAGE)
    }
}

/// Groups pairs by their first half: for each of `count` keys its values in the order of the pairs,
/// which are visited twice.
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
    // Each list is full now, so the place of its next item is its end.
    Flat { items, ends: next }
}

/// Gives the records, which are sorted by age and have no inputs and outputs yet, their inputs and
/// outputs, and links all inputs except those for which `is_held` returns true.
pub(super) fn link_all(
    graph: &mut Graph,
    mut inputs: Flat<Input>,
    outputs: &Flat<u32>,
    is_held: impl Fn(u32, u32) -> bool,
) {
    let makers = producers_by_artifact(graph, outputs).sorted(|list| choice::sort_producers(graph, list));
    let by_project = producers_by_artifact(graph, outputs).sorted(|list| choice::sort_by_project(graph, list));
    for consumer in 0..graph.records.len {
        for at in inputs.bounds(place(consumer)) {
            let input = &mut inputs.items[at];
            if is_held(consumer, input.artifact()) {
                continue;
            }
            let artifact = place(input.artifact());
            let [all, by_project] = [&makers, &by_project].map(|lists| List::Short(lists.get(artifact)));
            let producer = choice::choose(graph, consumer, Producers { by_project, all });
            *input = input.linked(producer.map_or(Link::Waiting, |node| Link::Bound(Node(node))));
            let Some(producer) = producer else { continue };
            graph.links.edges += 1;
            // Sorted by age, so a larger number is a younger record.
            if producer > consumer {
                cycle::cross(graph, consumer, producer);
                Arc::make_mut(&mut graph.links.cover).add_edge();
            }
        }
    }
    fill_artifacts(graph, &makers, &by_project, &inputs);
    fill_dependents(graph, &inputs);
    for page in 0..outputs.pages() {
        *graph.links.outputs.get_mut(page) = Lists::of(outputs.page(page));
        graph.links.inputs.get_mut(page).lists = Lists::of(inputs.page(page));
    }
}

/// For each artifact, the records that name it as output.
fn producers_by_artifact(graph: &Graph, outputs: &Flat<u32>) -> Flat<u32> {
    let pairs = || (0..graph.records.len).flat_map(|node| outputs.get(place(node)).iter().map(move |of| (*of, node)));
    grouped(place(graph.artifacts.names.len()), pairs)
}

fn fill_artifacts(graph: &mut Graph, makers: &Flat<u32>, by_project: &Flat<u32>, inputs: &Flat<Input>) {
    let users = |is_one: &dyn Fn(u32, &Input) -> bool| {
        grouped(place(graph.artifacts.names.len()), || {
            let of = |node| {
                let ones = inputs.get(place(node)).iter().filter(move |input| is_one(node, input));
                ones.map(move |input| (input.artifact(), node))
            };
            (0..graph.records.len).flat_map(of)
        })
    };
    let waiting = users(&|_, input| input.bound().is_none() && !input.is_new());
    let late = users(&|node, input| input.bound().is_some_and(|producer| !choice::is_before(graph, producer, node)));
    for page in 0..makers.pages() {
        graph.artifacts.pages.reach(page);
        *graph.artifacts.pages.get_mut(page) = ArtifactPage {
            producers: Lists::of(makers.page(page)),
            by_project: Lists::of(by_project.page(page)),
            waiting: Lists::of(waiting.page(page)),
            late: Lists::of(late.page(page)),
        };
    }
}

fn fill_dependents(graph: &mut Graph, inputs: &Flat<Input>) {
    let dependents = grouped(place(graph.records.len), || {
        let of = |node| inputs.get(place(node)).iter().filter_map(|input| input.bound()).map(move |to| (to, node));
        (0..graph.records.len).flat_map(of)
    });
    for page in 0..dependents.pages() {
        let mut filled = DependentPage::of(Lists::of(dependents.page(page)));
        for (slot, list) in dependents.page(page).enumerate() {
            if filled.lists.get(slot).is_long() {
                let latest = list.iter().map(|node| graph.row(*node).started_at).max();
                filled.set_latest_start(slot, latest.unwrap_or_default());
            }
        }
        *graph.links.dependents.get_mut(page) = filled;
    }
}
