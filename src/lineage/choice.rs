//! Which record an input is bound to.
//!
//! An input binds to an *other* record that names the artifact, first match of:
//!
//! 1. of the consumer's project, no later than the consumer started: the
//!    newest that has not failed, else the newest that has;
//! 2. of other projects, no later than the consumer started: likewise;
//! 3. later ones: of the consumer's project before others, those that have not
//!    failed before those that have, and of these the earliest.
//!
//! Earlier and later mean the order of arrival among records that were made
//! here. Where one of the two was imported, or the consumer does not say at
//! which step its work began, their times decide. The time of a record that was
//! made here counts as no earlier than that of those before it: a clock that was
//! set back does not change their order.
//!
//! The producers of an artifact stand in two lists, one by project. In each,
//! those that have failed come first, and of these the imported ones, by their
//! times; then those that were made here, by arrival. So a choice is a few
//! searches, however many producers there are, and a new record is appended.

use super::graph::Graph;
use super::link::Asked;
use super::lists::List;
use super::pages::split;
use super::record::Began;
use super::rows::{Input, Row};
use crate::task::{RecordId, RecordStatus, Timestamp};

/// The producers of one artifact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Producers<'a> {
    /// By project, then as in `all`.
    pub(super) by_project: List<'a, u32>,
    /// Those that have failed first, then imported ones, then by age.
    pub(super) all: List<'a, u32>,
}

/// Where a producer stands in a list: whether it has not failed, whether it was
/// made here, and its age among its kind.
type Standing = (bool, bool, i64, RecordId);

/// The producers beside one in a part of a list.
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
    /// The first place behind the items for which `is_front` holds, in a part
    /// that is sorted so.
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

impl Graph {
    pub(super) fn producers_of(&self, artifact: u32) -> Producers<'_> {
        let (page, slot) = split(artifact);
        let page = self.artifacts.get(page);
        Producers { by_project: page.by_project.get(slot), all: page.producers.get(slot) }
    }

    /// The record that an input should be bound to.
    pub(super) fn wish(&self, consumer: u32, artifact: u32) -> Option<u32> {
        self.choose(consumer, self.producers_of(artifact))
    }

    /// The rule.
    pub(super) fn choose(&self, consumer: u32, producers: Producers<'_>) -> Option<u32> {
        let all = Part { list: producers.all, from: 0, to: producers.all.len() };
        if all.to <= 1 {
            return all.list.get(0).filter(|only| *only != consumer);
        }
        let own = self.part_of_project(producers.by_project, self.project(consumer));
        // Where the search goes on to all, none of the own project is left to be met there.
        let earlier = [own, all].into_iter().flat_map(|part| self.by_verdict(part));
        let later = [own, all].into_iter().flat_map(|part| self.by_verdict(part));
        let newest = { earlier }.find_map(|part| self.newest_before(consumer, part));
        newest.or_else(|| { later }.find_map(|part| self.earliest_after(consumer, part)))
    }

    /// The newest of all producers that has not failed, else the newest.
    pub(super) fn newest_of(&self, producers: Producers<'_>) -> Option<u32> {
        let all = Part { list: producers.all, from: 0, to: producers.all.len() };
        self.by_verdict(all).into_iter().find_map(|part| {
            let (imported, own) = part.split(|node| self.row(node).began() == Began::Elsewhere);
            let newest = [imported, own].map(|part| part.places().next_back());
            newest.into_iter().flatten().max_by_key(|node| self.moment(*node))
        })
    }

    fn part_of_project<'a>(&self, by_project: List<'a, u32>, project: u32) -> Part<'a> {
        let whole = Part { list: by_project, from: 0, to: by_project.len() };
        let (_, rest) = whole.split(|node| self.project(node) < project);
        rest.split(|node| self.project(node) == project).0
    }

    /// Those that have not failed, then those that have.
    fn by_verdict<'a>(&self, part: Part<'a>) -> [Part<'a>; 2] {
        let (failed, sound) = part.split(|node| self.has_failed(node));
        [sound, failed]
    }

    fn has_failed(&self, node: u32) -> bool {
        self.marks.status(node) == RecordStatus::Failed
    }

    /// Whether a producer is no later than a consumer started.
    pub(super) fn is_before(&self, producer: u32, consumer: u32) -> bool {
        let (made, used) = (self.row(producer), self.row(consumer));
        match (made.began(), used.began()) {
            (Began::After(_) | Began::Unknown, Began::After(step)) => self.seq(producer) <= step,
            _ => made.created_at <= used.started_at,
        }
    }

    fn newest_before(&self, consumer: u32, part: Part<'_>) -> Option<u32> {
        let is_one = |node: &u32| *node != consumer;
        let (imported, own) = part.split(|node| self.row(node).began() == Began::Elsewhere);
        let before = [imported, own].map(|part| part.split(|node| self.is_before(node, consumer)).0);
        let newest = before.map(|part| part.places().rev().find(is_one));
        newest.into_iter().flatten().max_by_key(|node| self.moment(*node))
    }

    fn earliest_after(&self, consumer: u32, part: Part<'_>) -> Option<u32> {
        let is_one = |node: &u32| *node != consumer;
        let (imported, own) = part.split(|node| self.row(node).began() == Began::Elsewhere);
        let after = [imported, own].map(|part| part.split(|node| self.is_before(node, consumer)).1);
        let earliest = after.map(|part| part.places().find(is_one));
        earliest.into_iter().flatten().min_by_key(|node| self.moment(*node))
    }

    /// What orders records of both kinds. The times of those that were made
    /// here never fall (see [`Graph::place_in_time`]), so for them it is the
    /// order of arrival.
    fn moment(&self, node: u32) -> (Timestamp, bool, u64, RecordId) {
        let row = self.row(node);
        let is_own = row.began() != Began::Elsewhere;
        (row.created_at, is_own, if is_own { self.seq(node).0 } else { 0 }, row.id)
    }

    fn standing(&self, node: u32) -> Standing {
        let row = self.row(node);
        let is_own = row.began() != Began::Elsewhere;
        let age = if is_own { i64::try_from(self.seq(node).0).unwrap_or(i64::MAX) } else { row.created_at.as_micros() };
        (!self.has_failed(node), is_own, age, row.id)
    }

    /// Sorts producers as they stand in the list of all of an artifact.
    pub(super) fn sort_producers(&self, producers: &mut [u32]) {
        if producers.len() > 1 {
            producers.sort_by_cached_key(|node| self.standing(*node));
        }
    }

    /// Sorts producers as they stand in the list by project.
    pub(super) fn sort_by_project(&self, producers: &mut [u32]) {
        if producers.len() > 1 {
            producers.sort_by_cached_key(|node| (self.project(*node), self.standing(*node)));
        }
    }

    /// Adds a record to the producers of an artifact.
    pub(super) fn list(&mut self, node: u32, artifact: u32) {
        let (page, slot) = split(artifact);
        let key = (self.project(node), self.standing(node));
        let lists = self.producers_of(artifact);
        let all = lists.all.partition_point(|other| self.standing(other) < key.1);
        let by_project = lists.by_project.partition_point(|other| (self.project(other), self.standing(other)) < key);
        let page = self.artifacts.get_mut(page);
        page.producers.insert(slot, all, node);
        page.by_project.insert(slot, by_project, node);
    }

    /// Takes a record from the producers of an artifact.
    pub(super) fn withdraw(&mut self, node: u32, artifact: u32) {
        let (page, slot) = split(artifact);
        let page = self.artifacts.get_mut(page);
        page.producers.retain(slot, |other| other != node);
        page.by_project.retain(slot, |other| other != node);
    }

    /// Adds a record to the producers of an artifact, and collects the inputs
    /// that may be bound to it now: those that wait, and those whose choice it
    /// may win.
    pub(super) fn offer(&mut self, node: u32, artifact: u32, asked: &mut Vec<Asked>) {
        self.list(node, artifact);
        let (page, slot) = split(artifact);
        asked.extend(self.artifacts.get(page).waiting.get(slot).iter().map(|waiting| (waiting, artifact)));
        let producers = self.producers_of(artifact);
        let (sound, is_own, ..) = self.standing(node);
        let of_class = |part| self.by_verdict(part)[usize::from(!sound)];
        let own = of_class(self.part_of_project(producers.by_project, self.project(node)));
        let all = of_class(Part { list: producers.all, from: 0, to: producers.all.len() });
        let neighbors = self.neighbors_in(own, node).zip(self.neighbors_in(all, node));
        let Some((in_project, among_all)) = neighbors else { return };
        if self.is_latest(node) {
            // It is later than all have started: it wins where nothing is earlier,
            // nor any of its own class.
            match in_project.before {
                Some(before) => asked.extend(self.input(before, artifact).map(|_| (before, artifact))),
                None => asked.extend(self.artifacts.get(page).late.get(slot).iter().map(|late| (late, artifact))),
            }
            return;
        }
        let is_plain = self.is_of_one_kind(producers, is_own);
        match (in_project.before, among_all.before) {
            (Some(one), Some(other)) if is_plain => {
                self.collect_from(one, node, artifact, asked);
                self.collect_from(other, node, artifact, asked);
            }
            // All are of its class, so what it wins is bound to the next.
            (None, _) if is_plain && own.to - own.from == producers.all.len() => {
                let after = in_project.after;
                let after = after.into_iter().flat_map(|after| {
                    let own = self.input(after, artifact).map(|_| (after, artifact));
                    own.into_iter().chain(self.bound_to(after, Some(artifact)))
                });
                asked.extend(after);
            }
            _ => {
                for other in producers.all.iter().filter(|other| *other != node) {
                    asked.extend(self.input(other, artifact).map(|_| (other, artifact)));
                    asked.extend(self.bound_to(other, Some(artifact)));
                }
            }
        }
    }

    /// The inputs bound to a producer that is older than a new one, unless
    /// that is known to have been made after all of them started.
    fn collect_from(&self, older: u32, node: u32, artifact: u32, asked: &mut Vec<Asked>) {
        asked.extend(self.input(older, artifact).map(|_| (older, artifact)));
        let (page, slot) = split(older);
        let latest_start = self.dependents.get(page).latest_start(slot);
        let by_times = self.row(node).began() == Began::Elsewhere;
        let is_after_all = latest_start.is_some_and(|latest| self.row(node).created_at > latest);
        if !by_times || !is_after_all {
            asked.extend(self.bound_to(older, Some(artifact)));
        }
    }

    fn neighbors_in(&self, part: Part<'_>, node: u32) -> Option<Neighborhood> {
        let key = self.standing(node);
        let at = part.boundary(|other| self.standing(other) < key);
        let get =
            |at: Option<usize>| at.filter(|at| (part.from..part.to).contains(at)).and_then(|at| part.list.get(at));
        (get(Some(at)) == Some(node))
            .then(|| Neighborhood { before: get(at.checked_sub(1)), after: get(at.checked_add(1)) })
    }

    /// Whether a record came last of all, and after the start of every work
    /// whose order is known by times alone.
    fn is_latest(&self, node: u32) -> bool {
        let row = self.row(node);
        row.began() != Began::Elsewhere
            && self.seq(node) == self.newest
            && self.timed_until.is_none_or(|until| row.created_at > until)
    }

    /// Whether all producers were made here, or all imported.
    fn is_of_one_kind(&self, producers: Producers<'_>, own: bool) -> bool {
        let whole = Part { list: producers.all, from: 0, to: producers.all.len() };
        self.by_verdict(whole).into_iter().all(|part| {
            let (imported, made_here) = part.split(|node| self.row(node).began() == Began::Elsewhere);
            let others = if own { imported } else { made_here };
            others.from == others.to
        })
    }

    /// The inputs bound to a record, by one artifact or by any.
    pub(super) fn bound_to(&self, node: u32, by: Option<u32>) -> Vec<Asked> {
        let mut dependents: Vec<u32> = self.dependents_of(node).iter().collect();
        dependents.sort_unstable();
        dependents.dedup();
        let mut bound = Vec::with_capacity(dependents.len());
        for dependent in dependents {
            let mut add =
                |input: Input| bound.extend((input.bound() == Some(node)).then_some((dependent, input.artifact())));
            match by {
                Some(artifact) => self.input(dependent, artifact).into_iter().for_each(|(_, input)| add(input)),
                None => self.inputs_of(dependent).iter().for_each(add),
            }
        }
        bound
    }

    /// The inputs of an artifact that wait, also those whose edge was refused.
    pub(super) fn waiting_for(&self, artifact: u32) -> impl Iterator<Item = Asked> {
        let (page, slot) = split(artifact);
        self.artifacts.get(page).waiting.get(slot).iter().map(move |waiting| (waiting, artifact))
    }

    /// The time of a new record in the order of all. Those that were made here
    /// are later than all before them, also where the clock was set back.
    pub(super) fn place_in_time(&self, mut row: Row) -> Row {
        if row.began() != Began::Elsewhere {
            row.created_at = self.newest_own.map_or(row.created_at, |newest| newest.max(row.created_at));
        }
        row
    }

    /// Takes note of a record's times.
    pub(super) fn note_times(&mut self, row: &Row) {
        if row.began() != Began::Elsewhere {
            self.newest_own = self.newest_own.max(Some(row.created_at));
        }
        if !matches!(row.began(), Began::After(_)) {
            self.timed_until = self.timed_until.max(Some(row.started_at.max(row.created_at)));
        }
    }
}
