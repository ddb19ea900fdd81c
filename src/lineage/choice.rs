//! The rule that selects the record an input is bound to.
//!
//! An input is bound to an *other* record that names the artifact as output, by the first rule that
//! matches:
//!
//! 1. of the consumer's project, no later than the consumer started: the newest that has not
//!    failed, else the newest that has;
//! 2. of other projects, no later than the consumer started: likewise;
//! 3. later records: of the consumer's project before others, those that have not failed before
//!    those that have, and of these the earliest.
//!
//! Earlier and later mean the order of arrival among records made here. If one of the two was
//! imported, or the consumer does not say at which step its work began, their times decide. The
//! time of a record made here counts as no earlier than that of the records before it: a clock that
//! was set back does not change their order.
//!
//! The producers of an artifact are in two lists, one of them by project. In each, failed records
//! come first, and of these the imported ones, by their times; then those made here, by arrival. So
//! a choice is a few searches however many producers there are, and a new record is appended.

use super::graph::Graph;
use super::lists::List;
use super::pages::split;
use super::record::WorkStart;
use super::rows::Input;
use super::rows::InputKey;
use super::rows::Producers;
use crate::task::{RecordId, RecordStatus, Timestamp};

/// Rank of a producer in a list: whether it has not failed, whether it was made here, and its age
/// among its kind.
type ProducerRank = (bool, bool, i64, RecordId);

/// The producers next to one in a part of a list.
struct Neighborhood {
    before: Option<u32>,
    after: Option<u32>,
}

/// A part of a list.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    list: List<'a, u32>,
    from: usize,
    to: usize,
}

impl Part<'_> {
    /// The first index after the items for which `is_front` holds, in a part sorted by it.
    fn boundary(self, mut is_front: impl FnMut(u32) -> bool) -> usize {
        let (mut from, mut to) = (self.from, self.to);
        while from < to {
            let middle = from.midpoint(to);
            if self.list.get(middle).is_some_and(&mut is_front) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    fn places(self) -> impl DoubleEndedIterator<Item = u32> {
        (self.from..self.to).filter_map(move |at| self.list.get(at))
    }

    /// The items for which `is_front` holds, and the others.
    fn split(self, is_front: impl FnMut(u32) -> bool) -> (Self, Self) {
        let at = self.boundary(is_front);
        (Self { to: at, ..self }, Self { from: at, ..self })
    }
}

/// The record that an input should be bound to.
pub(super) fn resolve(graph: &Graph, consumer: u32, artifact: u32) -> Option<u32> {
    choose(graph, consumer, graph.producers_of(artifact))
}

/// Applies the rule to a set of producers.
pub(super) fn choose(graph: &Graph, consumer: u32, producers: Producers<'_>) -> Option<u32> {
    let all = Part { list: producers.all, from: 0, to: producers.all.len() };
    if all.to <= 1 {
        return all.list.get(0).filter(|only| *only != consumer);
    }
    let own = part_of_project(graph, producers.by_project, graph.project(consumer));
    // If the search continues with all producers, none of the own project is left to be met there.
    let earlier = [own, all].into_iter().flat_map(|part| by_verdict(graph, part));
    let later = [own, all].into_iter().flat_map(|part| by_verdict(graph, part));
    let newest = { earlier }.find_map(|part| newest_before(graph, consumer, part));
    newest.or_else(|| { later }.find_map(|part| earliest_after(graph, consumer, part)))
}

/// The newest producer that has not failed, else the newest one.
pub(super) fn newest_of(graph: &Graph, producers: Producers<'_>) -> Option<u32> {
    let all = Part { list: producers.all, from: 0, to: producers.all.len() };
    by_verdict(graph, all).into_iter().find_map(|part| {
        let (imported, own) = part.split(|node| graph.row(node).began() == WorkStart::Elsewhere);
        let newest = [imported, own].map(|part| part.places().next_back());
        newest.into_iter().flatten().max_by_key(|node| time_order(graph, *node))
    })
}

fn part_of_project<'a>(graph: &Graph, by_project: List<'a, u32>, project: u32) -> Part<'a> {
    let whole = Part { list: by_project, from: 0, to: by_project.len() };
    let (_, rest) = whole.split(|node| graph.project(node) < project);
    rest.split(|node| graph.project(node) == project).0
}

/// The producers that have not failed, then those that have.
fn by_verdict<'a>(graph: &Graph, part: Part<'a>) -> [Part<'a>; 2] {
    let (failed, sound) = part.split(|node| has_failed(graph, node));
    [sound, failed]
}

fn has_failed(graph: &Graph, node: u32) -> bool {
    graph.marks.status(node) == RecordStatus::Failed
}

/// Whether a producer is no later than the start of a consumer.
pub(super) fn is_before(graph: &Graph, producer: u32, consumer: u32) -> bool {
    let (made, used) = (graph.row(producer), graph.row(consumer));
    match (made.began(), used.began()) {
        (WorkStart::After(_) | WorkStart::Unknown, WorkStart::After(step)) => graph.seq(producer) <= step,
        _ => made.created_at <= used.started_at,
    }
}

fn newest_before(graph: &Graph, consumer: u32, part: Part<'_>) -> Option<u32> {
    let is_one = |node: &u32| *node != consumer;
    let (imported, own) = part.split(|node| graph.row(node).began() == WorkStart::Elsewhere);
    let before = [imported, own].map(|part| part.split(|node| is_before(graph, node, consumer)).0);
    let newest = before.map(|part| part.places().rev().find(is_one));
    newest.into_iter().flatten().max_by_key(|node| time_order(graph, *node))
}

fn earliest_after(graph: &Graph, consumer: u32, part: Part<'_>) -> Option<u32> {
    let is_one = |node: &u32| *node != consumer;
    let (imported, own) = part.split(|node| graph.row(node).began() == WorkStart::Elsewhere);
    let after = [imported, own].map(|part| part.split(|node| is_before(graph, node, consumer)).1);
    let earliest = after.map(|part| part.places().find(is_one));
    earliest.into_iter().flatten().min_by_key(|node| time_order(graph, *node))
}

/// Orders records of both kinds. The times of records made here never fall (see
/// [`Graph::place_in_time`]), so for them it is the order of arrival.
fn time_order(graph: &Graph, node: u32) -> (Timestamp, bool, u64, RecordId) {
    let row = graph.row(node);
    let is_own = row.began() != WorkStart::Elsewhere;
    (row.created_at, is_own, if is_own { graph.seq(node).0 } else { 0 }, row.id)
}

fn rank(graph: &Graph, node: u32) -> ProducerRank {
    let row = graph.row(node);
    let is_own = row.began() != WorkStart::Elsewhere;
    let age = if is_own { i64::try_from(graph.seq(node).0).unwrap_or(i64::MAX) } else { row.created_at.as_micros() };
    (!has_failed(graph, node), is_own, age, row.id)
}

/// Sorts producers like the list of all producers of an artifact.
pub(super) fn sort_producers(graph: &Graph, producers: &mut [u32]) {
    if producers.len() > 1 {
        producers.sort_by_cached_key(|node| rank(graph, *node));
    }
}

/// Sorts producers like the list by project.
pub(super) fn sort_by_project(graph: &Graph, producers: &mut [u32]) {
    if producers.len() > 1 {
        producers.sort_by_cached_key(|node| (graph.project(*node), rank(graph, *node)));
    }
}

/// Adds a record to the producers of an artifact.
pub(super) fn insert_producer(graph: &mut Graph, node: u32, artifact: u32) {
    let (page, slot) = split(artifact);
    let key = (graph.project(node), rank(graph, node));
    let lists = graph.producers_of(artifact);
    let all = lists.all.partition_point(|other| rank(graph, other) < key.1);
    let by_project = lists.by_project.partition_point(|other| (graph.project(other), rank(graph, other)) < key);
    let page = graph.artifacts.pages.get_mut(page);
    page.producers.insert(slot, all, node);
    page.by_project.insert(slot, by_project, node);
}

/// Removes a record from the producers of an artifact.
pub(super) fn remove_producer(graph: &mut Graph, node: u32, artifact: u32) {
    let (page, slot) = split(artifact);
    let page = graph.artifacts.pages.get_mut(page);
    page.producers.retain(slot, |other| other != node);
    page.by_project.retain(slot, |other| other != node);
}

/// Adds a record to the producers of an artifact, and collects the inputs that may be bound to it
/// now: those that wait, and those that it may win.
pub(super) fn add_producer(graph: &mut Graph, node: u32, artifact: u32, affected: &mut Vec<InputKey>) {
    insert_producer(graph, node, artifact);
    let (page, slot) = split(artifact);
    affected.extend(graph.artifacts.pages.get(page).waiting.get(slot).iter().map(|waiting| (waiting, artifact)));
    let producers = graph.producers_of(artifact);
    let (sound, is_own, ..) = rank(graph, node);
    let of_class = |part| by_verdict(graph, part)[usize::from(!sound)];
    let own = of_class(part_of_project(graph, producers.by_project, graph.project(node)));
    let all = of_class(Part { list: producers.all, from: 0, to: producers.all.len() });
    let neighbors = neighbors_in(graph, own, node).zip(neighbors_in(graph, all, node));
    let Some((in_project, among_all)) = neighbors else { return };
    if is_latest(graph, node) {
        // It is later than the start of all consumers, so it wins only if nothing is earlier and no
        // other producer is of its class.
        match in_project.before {
            Some(before) => affected.extend(graph.input(before, artifact).map(|_| (before, artifact))),
            None => affected.extend(graph.artifacts.pages.get(page).late.get(slot).iter().map(|late| (late, artifact))),
        }
        return;
    }
    let is_plain = is_of_one_kind(graph, producers, is_own);
    match (in_project.before, among_all.before) {
        (Some(one), Some(other)) if is_plain => {
            collect_from(graph, one, node, artifact, affected);
            collect_from(graph, other, node, artifact, affected);
        }
        // All producers are of its class, so the inputs that it wins are bound to the next one.
        (None, _) if is_plain && own.to - own.from == producers.all.len() => {
            let after = in_project.after;
            let after = after.into_iter().flat_map(|after| {
                let own = graph.input(after, artifact).map(|_| (after, artifact));
                own.into_iter().chain(bound_to(graph, after, Some(artifact)))
            });
            affected.extend(after);
        }
        _ => {
            for other in producers.all.iter().filter(|other| *other != node) {
                affected.extend(graph.input(other, artifact).map(|_| (other, artifact)));
                affected.extend(bound_to(graph, other, Some(artifact)));
            }
        }
    }
}

/// Collects the inputs bound to a producer older than a new one, unless the new one is known to
/// have been made after all of them started.
fn collect_from(graph: &Graph, older: u32, node: u32, artifact: u32, affected: &mut Vec<InputKey>) {
    affected.extend(graph.input(older, artifact).map(|_| (older, artifact)));
    let (page, slot) = split(older);
    let latest_start = graph.links.dependents.get(page).latest_start(slot);
    let by_times = graph.row(node).began() == WorkStart::Elsewhere;
    let is_after_all = latest_start.is_some_and(|latest| graph.row(node).created_at > latest);
    if !by_times || !is_after_all {
        affected.extend(bound_to(graph, older, Some(artifact)));
    }
}

fn neighbors_in(graph: &Graph, part: Part<'_>, node: u32) -> Option<Neighborhood> {
    let key = rank(graph, node);
    let at = part.boundary(|other| rank(graph, other) < key);
    let get = |at: Option<usize>| at.filter(|at| (part.from..part.to).contains(at)).and_then(|at| part.list.get(at));
    (get(Some(at)) == Some(node))
        .then(|| Neighborhood { before: get(at.checked_sub(1)), after: get(at.checked_add(1)) })
}

/// Whether a record came last of all, and after the start of all work whose order is known by times
/// alone.
fn is_latest(graph: &Graph, node: u32) -> bool {
    let row = graph.row(node);
    row.began() != WorkStart::Elsewhere
        && graph.seq(node) == graph.newest
        && graph.records.timed_until.is_none_or(|until| row.created_at > until)
}

/// Whether all producers were made here, or all imported.
fn is_of_one_kind(graph: &Graph, producers: Producers<'_>, own: bool) -> bool {
    let whole = Part { list: producers.all, from: 0, to: producers.all.len() };
    by_verdict(graph, whole).into_iter().all(|part| {
        let (imported, made_here) = part.split(|node| graph.row(node).began() == WorkStart::Elsewhere);
        let others = if own { imported } else { made_here };
        others.from == others.to
    })
}

/// The inputs bound to a record, through one artifact or through any.
pub(super) fn bound_to(graph: &Graph, node: u32, by: Option<u32>) -> Vec<InputKey> {
    let mut dependents: Vec<u32> = graph.dependents_of(node).iter().collect();
    dependents.sort_unstable();
    dependents.dedup();
    let mut bound = Vec::with_capacity(dependents.len());
    for dependent in dependents {
        let mut add =
            |input: Input| bound.extend((input.bound() == Some(node)).then_some((dependent, input.artifact())));
        match by {
            Some(artifact) => graph.input(dependent, artifact).into_iter().for_each(|(_, input)| add(input)),
            None => graph.inputs_of(dependent).iter().for_each(add),
        }
    }
    bound
}

/// The inputs that wait for an artifact, including those whose edge was refused.
pub(super) fn waiting_for(graph: &Graph, artifact: u32) -> impl Iterator<Item = InputKey> {
    let (page, slot) = split(artifact);
    graph.artifacts.pages.get(page).waiting.get(slot).iter().map(move |waiting| (waiting, artifact))
}
