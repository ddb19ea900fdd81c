//! Taints, marks and clears, and the suspicion that follows from them.
//!
//! For each record, its *exposure* is stored beside its own fact: the position of the newest path
//! from a tainted ancestor. A new taint or edge has the highest position of all, so everything
//! below it gets that position in one breadth-first pass, and a clear is void exactly where that
//! pass goes. After a clear or the removal of an edge, the records below compute their exposure
//! from their inputs again, dependencies first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use fixedbitset::FixedBitSet;
use serde::{Deserialize, Serialize};

use super::cancellation::{Cancellation, NeverCancelled, STRIDE};
use super::graph::Graph;
use super::pages::place;
use super::queries::Queries;
use super::record::{Edge, Error, Fact, Flag, FlagChange, Node, Step};
use crate::planted::{self, Fault};
use crate::task::{RecordId, Seq};

/// A statement about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The record is bad. A tainted record is tainted anew: records below it that were cleared
    /// since are suspect again.
    Taint,
    /// The record may be bad. A tainted or marked record stays as it is.
    Mark,
    /// The record is good. A taint is withdrawn, and taints above the record still count; suspicion
    /// is lifted, whatever is above it until now; a clean record stays as it is.
    Clear,
}

/// A record that a change of flags has reached.
#[derive(Debug, Clone, Copy)]
struct Reached {
    node: u32,
    depth: u32,
    through: Option<u32>,
}

impl Reached {
    fn change(self, (from, to): (Flag, Flag)) -> Option<FlagChange> {
        let (record, depth, through) = (Node(self.node), self.depth, self.through.map(Node));
        (from != to).then_some(FlagChange { record, from, to, depth, through })
    }

    fn below(self, node: u32) -> Self {
        Self { node, depth: self.depth.saturating_add(1), through: Some(self.node) }
    }
}

/// Sets the facts of these records and updates all flags.
pub(super) fn set_facts(graph: &mut Graph, facts: Vec<(u32, Option<Fact>)>) -> Step {
    let mut step = Step::default();
    let (mut below, mut grows) = (Vec::new(), false);
    for (node, fact) in facts {
        let before = graph.marks.fact(node);
        if fact == before {
            continue;
        }
        let (reached, brought) = (Reached { node, depth: 0, through: None }, graph.marks.passed_on(node));
        step.flags.extend(reached.change(graph.marks.set_fact(node, fact)));
        graph.tainted = graph.tainted - is_taint(before) + is_taint(fact);
        step.facts.push((Node(node), fact));
        let brings = graph.marks.passed_on(node);
        if brings != brought {
            grows |= brings > brought;
            below.extend(dependents_below(graph, reached));
        }
    }
    // Records without an exposure can get one from a restored taint.
    let Ok(()) = recompute(graph, below, grows, &mut step.flags, &NeverCancelled);
    step.join();
    step.flags.sort_by_key(|change| change.depth);
    step
}

pub(super) fn apply_to<C: Cancellation>(
    graph: &mut Graph,
    action: Action,
    nodes: &[u32],
    seq: Seq,
    limit: Option<u32>,
    cancellation: &C,
) -> Result<Step, C::Cancelled> {
    let mut step = Step::default();
    let mut changed = Vec::new();
    for &node in nodes {
        let before = graph.marks.fact(node);
        let fact = next_fact(action, before, graph.marks.flag(node), seq);
        if fact == before {
            continue;
        }
        let reached = Reached { node, depth: 0, through: None };
        step.flags.extend(reached.change(graph.marks.set_fact(node, fact)));
        graph.tainted = graph.tainted - is_taint(before) + is_taint(fact);
        step.facts.push((Node(node), fact));
        changed.push((reached, before));
    }
    match action {
        Action::Taint => {
            let reached = changed.into_iter().map(|(reached, _)| reached).collect();
            propagate(graph, reached, seq.0, limit, &mut step.flags, cancellation)?;
        }
        Action::Mark => {}
        Action::Clear => {
            let withdrawn = changed.iter().filter(|(_, before)| matches!(before, Some(Fact::Tainted(_))));
            let below: Vec<_> = withdrawn.flat_map(|(reached, _)| dependents_below(graph, *reached)).collect();
            recompute(graph, below, false, &mut step.flags, cancellation)?;
            if nodes.len() > 1 {
                step.join();
            }
            step.flags.sort_by_key(|change| change.depth);
        }
    }
    Ok(step)
}

fn dependents_below(graph: &Graph, reached: Reached) -> impl Iterator<Item = Reached> {
    graph.dependents_of(reached.node).iter().map(move |dependent| reached.below(dependent))
}

/// Gives the dependents of new edges the exposure that their dependencies pass on.
pub(super) fn propagate_bound(graph: &mut Graph, seq: Seq, step: &mut Step) {
    let mut reached = Vec::new();
    for edge in &step.bound {
        let (node, through) = (edge.dependent.0, edge.dependency.0);
        if graph.marks.passed_on(through) > 0 && graph.marks.exposure(node) != seq.0 {
            let dependent = Reached { node, depth: 1, through: Some(through) };
            step.flags.extend(dependent.change(graph.marks.set_exposure(node, seq.0)));
            reached.push(dependent);
        }
    }
    let Ok(()) = propagate(graph, reached, seq.0, None, &mut step.flags, &NeverCancelled);
}

/// Recomputes the exposures below removed edges.
pub(super) fn propagate_unbound(graph: &mut Graph, gone: &[Edge], flags: &mut Vec<FlagChange>) {
    let brought = gone.iter().filter(|edge| graph.marks.passed_on(edge.dependency.0) > 0);
    let of = |edge: &Edge| Reached { node: edge.dependent.0, depth: 1, through: Some(edge.dependency.0) };
    let reached = brought.map(of).collect();
    let Ok(()) = recompute(graph, reached, false, flags, &NeverCancelled);
}

/// Sets the exposure of everything below: the newest position, or none if nothing is tainted any
/// more. First all records are found, as in any walk; then they are changed in memory order.
fn propagate<C: Cancellation>(
    graph: &mut Graph,
    mut queue: Vec<Reached>,
    exposure: u64,
    limit: Option<u32>,
    flags: &mut Vec<FlagChange>,
    cancellation: &C,
) -> Result<(), C::Cancelled> {
    if queue.is_empty() {
        return Ok(());
    }
    let mut seen = FixedBitSet::with_capacity(place(graph.records.len));
    // Records that already have it were reported before. A start that does not have it is like any
    // other record if it is also below another start.
    let has = queue.iter().map(|start| start.node).filter(|node| graph.marks.exposure(*node) == exposure);
    seen.extend(has.map(place));
    let starts = queue.len();
    let mut next = 0;
    while let Some(&reached) = queue.get(next) {
        if next.is_multiple_of(STRIDE) {
            cancellation.check()?;
        }
        next += 1;
        let is_planted = planted::is(Fault::TaintStopsEarly) && reached.depth >= 2;
        if is_planted || limit.is_some_and(|limit| reached.depth >= limit) {
            break;
        }
        for &node in graph.dependents_of(reached.node).chunks().flatten() {
            if !seen.put(place(node)) {
                queue.push(reached.below(node));
            }
        }
    }
    let before = graph.marks.clone();
    graph.marks.set_exposures(&seen, exposure);
    let flag_of = |node| (before.flag(node), graph.marks.flag(node));
    flags.extend(queue[starts..].iter().filter_map(|reached| reached.change(flag_of(reached.node))));
    Ok(())
}

/// Recomputes the exposures of the given records and all below them. With `everything`, also of
/// those that have none.
fn recompute<C: Cancellation>(
    graph: &mut Graph,
    starts: Vec<Reached>,
    everything: bool,
    flags: &mut Vec<FlagChange>,
    cancellation: &C,
) -> Result<(), C::Cancelled> {
    if starts.is_empty() {
        return Ok(());
    }
    if graph.tainted == 0 {
        return clear_exposures(graph, starts, flags, cancellation);
    }
    let Region { reached, places, mut pending } = region(graph, starts, everything, cancellation)?;
    let mut ready: Vec<usize> = (0..reached.len()).filter(|at| pending[*at] == 0).collect();
    let mut settled = 0_usize;
    while let Some(at) = ready.pop() {
        settled += 1;
        if settled.is_multiple_of(STRIDE) {
            cancellation.check()?;
        }
        let node = reached[at].node;
        let exposure = derive_exposure(graph, node);
        if exposure != graph.marks.exposure(node) {
            flags.extend(reached[at].change(graph.marks.set_exposure(node, exposure)));
        }
        for dependent in graph.dependents_of(node).iter() {
            if let Some(at) = place(places[place(dependent)]).checked_sub(1) {
                pending[at] -= 1;
                if pending[at] == 0 {
                    ready.push(at);
                }
            }
        }
    }
    Ok(())
}

/// Clears the exposures of these records and all below them, because nothing is tainted any more.
fn clear_exposures<C: Cancellation>(
    graph: &mut Graph,
    mut starts: Vec<Reached>,
    flags: &mut Vec<FlagChange>,
    cancellation: &C,
) -> Result<(), C::Cancelled> {
    starts.retain(|start| {
        let exposed = graph.marks.exposure(start.node) > 0;
        if exposed {
            flags.extend(start.change(graph.marks.set_exposure(start.node, 0)));
        }
        exposed
    });
    propagate(graph, starts, 0, None, flags, cancellation)
}

/// The records whose exposure may change, nearest first.
fn region<C: Cancellation>(
    graph: &Graph,
    starts: Vec<Reached>,
    everything: bool,
    cancellation: &C,
) -> Result<Region, C::Cancelled> {
    let mut places = vec![0; place(graph.records.len)];
    let (mut reached, mut pending) = (Vec::new(), Vec::new());
    let mut add = |it: Reached, reached: &mut Vec<Reached>, pending: &mut Vec<u32>| {
        let known = &mut places[place(it.node)];
        if *known == 0 && (everything || graph.marks.exposure(it.node) > 0) {
            reached.push(it);
            pending.push(0);
            *known = u32::try_from(reached.len()).unwrap_or(u32::MAX);
        }
        place(*known).checked_sub(1)
    };
    for start in starts {
        add(start, &mut reached, &mut pending);
    }
    let mut next = 0;
    while let Some(&it) = reached.get(next) {
        if next.is_multiple_of(STRIDE) {
            cancellation.check()?;
        }
        next += 1;
        for below in dependents_below(graph, it) {
            if let Some(at) = add(below, &mut reached, &mut pending) {
                pending[at] += 1;
            }
        }
    }
    Ok(Region { reached, places, pending })
}

/// The exposure of a record, from what its dependencies pass on.
fn derive_exposure(graph: &Graph, node: u32) -> u64 {
    let mut exposure = 0;
    for input in graph.inputs_of(node).iter() {
        let Some(producer) = input.bound() else { continue };
        let passed_on = graph.marks.passed_on(producer);
        if passed_on > 0 {
            exposure = exposure.max(passed_on).max(graph.bound_at(node, input.artifact(), producer).0);
        }
    }
    exposure
}

/// Derives all flags from facts and edges.
pub(super) fn derive_flags(graph: &mut Graph, tainted: &[u32]) {
    let reached = tainted.iter().map(|&node| Reached { node, depth: 0, through: None });
    let below = reached.flat_map(|reached| dependents_below(graph, reached)).collect();
    let Ok(()) = recompute(graph, below, true, &mut Vec::new(), &NeverCancelled);
}

impl<C: Cancellation> Queries<'_, C> {
    /// See [`Graph::preview`].
    pub fn preview(
        &self,
        action: Action,
        ids: &[RecordId],
        limit: Option<u32>,
    ) -> Result<Result<Step, Error>, C::Cancelled> {
        let nodes = match self.graph.require_all(ids) {
            Ok(nodes) => nodes,
            Err(error) => return Ok(Err(error)),
        };
        let seq = self.graph.newest.next();
        let mut step = apply_to(&mut self.graph.clone(), action, &nodes, seq, limit, &self.cancellation)?;
        step.flags.retain(|change| limit.is_none_or(|limit| change.depth <= limit));
        Ok(Ok(step))
    }
}

fn is_taint(fact: Option<Fact>) -> u32 {
    u32::from(matches!(fact, Some(Fact::Tainted(_))))
}

/// Records in the order in which they were reached.
struct Region {
    reached: Vec<Reached>,
    /// For each record of the graph its place in `reached`, from one; zero if it is not there.
    places: Vec<u32>,
    /// For each place the number of edges from records in the region.
    pending: Vec<u32>,
}

/// The fact after an action.
fn next_fact(action: Action, fact: Option<Fact>, flag: Flag, seq: Seq) -> Option<Fact> {
    match (action, fact, flag) {
        (Action::Mark, Some(Fact::Tainted(_) | Fact::Marked(_)), _) | (Action::Clear, _, Flag::Clean) => fact,
        (Action::Taint, _, _) => Some(Fact::Tainted(seq)),
        (Action::Mark, _, _) => Some(Fact::Marked(seq)),
        (Action::Clear, _, Flag::Tainted) => None,
        (Action::Clear, _, Flag::Suspect) => Some(Fact::Cleared(seq)),
    }
}

impl Step {
    /// Joins several changes of the same record into one, from the first flag to the last.
    pub fn join(&mut self) {
        let mut first = HashMap::with_capacity(self.flags.len());
        let mut joined: Vec<FlagChange> = Vec::with_capacity(self.flags.len());
        for change in self.flags.drain(..) {
            match first.entry(change.record) {
                Entry::Vacant(place) => {
                    place.insert(joined.len());
                    joined.push(change);
                }
                Entry::Occupied(place) => joined[*place.get()].to = change.to,
            }
        }
        joined.retain(|change| change.from != change.to);
        self.flags = joined;
    }
}
