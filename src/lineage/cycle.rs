//! Whether a new edge would close a cycle.
//!
//! Records are ordered by age. An edge normally points from a record to an older one, and such
//! edges alone close no cycle. So only *backward* edges, to a younger record, are remembered, as
//! the span of ages that they cross, and overlapping spans are joined
//! ([`Cover`](super::cover::Cover)). Every cycle climbs by backward edges over all the ages that it
//! falls back through, so all of it lies inside one joined span. An edge whose ends are not in the
//! same span is made without a search, and otherwise the search is limited to records of that span.
//!
//! When a backward edge is removed, its span stays until the last one is removed: a span that is
//! too large makes a search longer, never wrong.

use std::collections::HashSet;
use std::sync::Arc;

use petgraph::Direction;

use super::cancellation::Cancellation;
use super::cover::Age;
use super::graph::Graph;
use super::pages::place;
use super::queries::Queries;
use super::record::Node;
use super::rows::Input;
use super::rows::InputKey;
use super::visit::Neighbors;

/// Whether an edge between these records points to the younger one.
pub(super) fn is_backward(graph: &Graph, dependent: u32, dependency: u32) -> bool {
    graph.row(dependency).age() > graph.row(dependent).age()
}

/// Remembers the ages that an edge crosses if it is a backward edge.
pub(super) fn cross(graph: &mut Graph, dependent: u32, dependency: u32) {
    let (low, high) = (graph.row(dependent).age(), graph.row(dependency).age());
    if low < high {
        Arc::make_mut(&mut graph.links.cover).cross(low, high);
    }
}

/// Whether `dependency` already depends on `dependent`.
pub(super) fn closes_cycle(graph: &mut Graph, dependent: u32, dependency: u32) -> bool {
    cross(graph, dependent, dependency);
    if graph.dependents_of(dependent).is_empty() {
        return false;
    }
    let span = graph.links.cover.around(graph.row(dependent).age(), graph.row(dependency).age());
    span.is_some_and(|span| depends_within(graph, dependency, dependent, span))
}

/// Finds the edges between records that are in a cycle or below one, in one pass over the graph.
/// For many edges that were made without a check.
pub(super) fn edges_in_cycles(graph: &Graph) -> Vec<InputKey> {
    if graph.links.cover.is_empty() {
        return Vec::new();
    }
    let mut pending: Vec<usize> =
        (0..graph.records.len).map(|node| graph.inputs_of(node).iter().filter_map(Input::bound).count()).collect();
    let mut ready: Vec<u32> = (0..graph.records.len).filter(|node| pending[place(*node)] == 0).collect();
    while let Some(node) = ready.pop() {
        for dependent in graph.dependents_of(node).iter() {
            pending[place(dependent)] -= 1;
            if pending[place(dependent)] == 0 {
                ready.push(dependent);
            }
        }
    }
    let left = (0..graph.records.len).filter(|node| pending[place(*node)] > 0);
    let bound = left.flat_map(|node| graph.inputs_of(node).iter().map(move |input| (node, input)));
    let among = bound.filter(|(_, input)| input.bound().is_some_and(|above| pending[place(above)] > 0));
    among.map(|(node, input)| (node, input.artifact())).collect()
}

/// Whether `from` depends on `to` through records whose ages are in `span`: a search from both ends
/// that continues at the smaller one.
fn depends_within(graph: &Graph, from: u32, to: u32, span: (Age, Age)) -> bool {
    let mut up = Front::new(from, Direction::Outgoing);
    let mut down = Front::new(to, Direction::Incoming);
    loop {
        let (front, other) = if up.edge.len() <= down.edge.len() { (&mut up, &down) } else { (&mut down, &up) };
        if front.edge.is_empty() {
            return false;
        }
        if front.advance(graph, span, other) {
            return true;
        }
    }
}

impl<C: Cancellation> Queries<'_, C> {
    /// See [`Graph::path_in_cycle`].
    pub fn path_in_cycle(&self, from: Node, to: Node) -> Result<Option<Vec<Node>>, C::Cancelled> {
        if !self.graph.holds(from) || !self.graph.holds(to) {
            return Ok(None);
        }
        let age = |node| self.graph.row(node).age();
        // Spans are dropped with the last backward edge. Then any record may be on the path.
        let span = self.graph.links.cover.around(age(from.0), age(to.0));
        self.path_through(from, to, None, |node| span.is_none_or(|span| (span.0..=span.1).contains(&age(node))))
    }
}

/// One side of a search.
struct Front {
    direction: Direction,
    edge: Vec<u32>,
    seen: HashSet<u32>,
}

impl Front {
    fn new(start: u32, direction: Direction) -> Self {
        Self { direction, edge: vec![start], seen: HashSet::from([start]) }
    }

    /// Advances one level. Returns true when it meets the other side.
    fn advance(&mut self, graph: &Graph, span: (Age, Age), other: &Self) -> bool {
        for node in std::mem::take(&mut self.edge) {
            for Node(next) in Neighbors::of(graph, Node(node), self.direction) {
                if other.seen.contains(&next) {
                    return true;
                }
                let age = graph.row(next).age();
                if (span.0..=span.1).contains(&age) && self.seen.insert(next) {
                    self.edge.push(next);
                }
            }
        }
        false
    }
}
