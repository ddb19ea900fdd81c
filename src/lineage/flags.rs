//! Taint, marks and clears, and the suspicion that follows from them.
//!
//! What is kept for each record besides its own fact is its *exposure*: the
//! position of the newest path from a tainted ancestor. Whatever is new, a
//! taint or an edge, has the highest position of all, so everything below it
//! gets that position in one breadth-first pass, and a clear is void exactly
//! where that pass goes. What goes away, by a clear or by an edge that is
//! bound elsewhere, makes the records below it compute their exposure from
//! their inputs once more, dependencies first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use fixedbitset::FixedBitSet;
use serde::{Deserialize, Serialize};

use super::cancellation::{Endless, Pace, STRIDE};
use super::graph::Graph;
use super::pages::place;
use super::queries::Questions;
use super::record::{Edge, Error, Fact, Flag, FlagChange, Node, Step};
use crate::planted::{self, Fault};
use crate::task::{RecordId, Seq};

/// What is said about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is bad. One that is tainted already is tainted anew: what was
    /// cleared below it since is suspect again.
    Taint,
    /// It may be bad. One that is tainted or marked already stays as it is.
    Mark,
    /// It is good. A taint is withdrawn, and what stands above the record
    /// still counts; suspicion is lifted, whatever stands above it until now;
    /// a clean one stays as it is.
    Clear,
}

/// Where a change of flags has come to.
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

/// Sets the facts of these records and brings all flags up to date.
pub(super) fn restate(graph: &mut Graph, facts: Vec<(u32, Option<Fact>)>) -> Step {
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
    // What has no exposure until now can get one from a taint that is back.
    let Ok(()) = settle(graph, below, grows, &mut step.flags, &Endless);
    step.join();
    step.flags.sort_by_key(|change| change.depth);
    step
}

pub(super) fn apply_to<P: Pace>(
    graph: &mut Graph,
    action: Action,
    nodes: &[u32],
    seq: Seq,
    limit: Option<u32>,
    pace: &P,
) -> Result<Step, P::Stopped> {
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
            spread(graph, reached, seq.0, limit, &mut step.flags, pace)?;
        }
        Action::Mark => {}
        Action::Clear => {
            let withdrawn = changed.iter().filter(|(_, before)| matches!(before, Some(Fact::Tainted(_))));
            let below: Vec<_> = withdrawn.flat_map(|(reached, _)| dependents_below(graph, *reached)).collect();
            settle(graph, below, false, &mut step.flags, pace)?;
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

/// New edges bring what their dependencies pass on.
pub(super) fn raise(graph: &mut Graph, seq: Seq, step: &mut Step) {
    let mut reached = Vec::new();
    for edge in &step.bound {
        let (node, through) = (edge.dependent.0, edge.dependency.0);
        if graph.marks.passed_on(through) > 0 && graph.marks.exposure(node) != seq.0 {
            let dependent = Reached { node, depth: 1, through: Some(through) };
            step.flags.extend(dependent.change(graph.marks.set_exposure(node, seq.0)));
            reached.push(dependent);
        }
    }
    let Ok(()) = spread(graph, reached, seq.0, None, &mut step.flags, &Endless);
}

/// Edges that are gone bring nothing any more.
pub(super) fn lower(graph: &mut Graph, gone: &[Edge], flags: &mut Vec<FlagChange>) {
    let brought = gone.iter().filter(|edge| graph.marks.passed_on(edge.dependency.0) > 0);
    let of = |edge: &Edge| Reached { node: edge.dependent.0, depth: 1, through: Some(edge.dependency.0) };
    let reached = brought.map(of).collect();
    let Ok(()) = settle(graph, reached, false, flags, &Endless);
}

/// Gives everything below an exposure: the newest position, or none where
/// nothing is tainted any more. First all is found, as any walk finds it;
/// then it is changed in the order in which it lies in memory.
fn spread<P: Pace>(
    graph: &mut Graph,
    mut queue: Vec<Reached>,
    exposure: u64,
    limit: Option<u32>,
    flags: &mut Vec<FlagChange>,
    pace: &P,
) -> Result<(), P::Stopped> {
    if queue.is_empty() {
        return Ok(());
    }
    let mut seen = FixedBitSet::with_capacity(place(graph.records.len));
    // What has it already was told of before. A start that has not is one
    // like the others, where it is also below another start.
    let has = queue.iter().map(|start| start.node).filter(|node| graph.marks.exposure(*node) == exposure);
    seen.extend(has.map(place));
    let starts = queue.len();
    let mut next = 0;
    while let Some(&reached) = queue.get(next) {
        if next.is_multiple_of(STRIDE) {
            pace.go_on()?;
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

/// Computes exposures again, of the given records and all below them;
/// `everything`: also of those that have none until now.
fn settle<P: Pace>(
    graph: &mut Graph,
    starts: Vec<Reached>,
    everything: bool,
    flags: &mut Vec<FlagChange>,
    pace: &P,
) -> Result<(), P::Stopped> {
    if starts.is_empty() {
        return Ok(());
    }
    if graph.tainted == 0 {
        return spread_none(graph, starts, flags, pace);
    }
    let Region { reached, places, mut pending } = region(graph, starts, everything, pace)?;
    let mut ready: Vec<usize> = (0..reached.len()).filter(|at| pending[*at] == 0).collect();
    let mut settled = 0_usize;
    while let Some(at) = ready.pop() {
        settled += 1;
        if settled.is_multiple_of(STRIDE) {
            pace.go_on()?;
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

/// Takes their exposure from these records and all below them: nothing is
/// tainted any more.
fn spread_none<P: Pace>(
    graph: &mut Graph,
    mut starts: Vec<Reached>,
    flags: &mut Vec<FlagChange>,
    pace: &P,
) -> Result<(), P::Stopped> {
    starts.retain(|start| {
        let exposed = graph.marks.exposure(start.node) > 0;
        if exposed {
            flags.extend(start.change(graph.marks.set_exposure(start.node, 0)));
        }
        exposed
    });
    spread(graph, starts, 0, None, flags, pace)
}

/// The records whose exposure may change, nearest first.
fn region<P: Pace>(graph: &Graph, starts: Vec<Reached>, everything: bool, pace: &P) -> Result<Region, P::Stopped> {
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
            pace.go_on()?;
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

/// A record's exposure, from what its dependencies pass on.
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
    let Ok(()) = settle(graph, below, true, &mut Vec::new(), &Endless);
}

impl<P: Pace> Questions<'_, P> {
    /// See [`Graph::preview`].
    pub fn preview(
        &self,
        action: Action,
        ids: &[RecordId],
        limit: Option<u32>,
    ) -> Result<Result<Step, Error>, P::Stopped> {
        let nodes = match self.graph.each_once(ids) {
            Ok(nodes) => nodes,
            Err(error) => return Ok(Err(error)),
        };
        let seq = self.graph.newest.next();
        let mut step = apply_to(&mut self.graph.clone(), action, &nodes, seq, limit, &self.pace)?;
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
    /// For each record of the graph its place in `reached`, from one; zero: it is not there.
    places: Vec<u32>,
    /// For each place the edges from records that are there too.
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
    /// Makes one change of several for the same record: what the first one
    /// says, up to where the last one ends.
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
