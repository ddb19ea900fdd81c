//! Queries that follow edges: dependents, dependencies, impact, root causes, and paths between two
//! records.
//!
//! All are breadth-first over one version of the graph, so depths are shortest distances, and
//! nothing recurses. A depth limit is part of the query.

use std::collections::BTreeSet;

use fixedbitset::FixedBitSet;
use petgraph::Direction;

use super::cancellation::{Cancellation, STRIDE};
use super::choice;
use super::graph::Graph;
use super::lists::List;
use super::pages::place;
use super::queries::Queries;
use super::record::Artifact;
use super::record::{Flag, Node, Project};
use super::rows::Input;
use crate::task::TaskId;

/// A record found by a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkEntry {
    /// The record that was reached.
    pub record: Node,
    /// Distance from the nearest start.
    pub depth: u32,
    /// The record through which it was found, one step nearer. [`Graph::between`] gives the
    /// artifacts between the two.
    pub through: Node,
}

/// The records found by a walk, nearest first: 12 bytes for each record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    visits: Vec<Visit>,
    starts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Visit {
    node: u32,
    /// Index of the visit from which this one was found.
    parent: u32,
    depth: u32,
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl Walk {
    /// Number of records found, without the starts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.visits.len() - self.starts
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Distance of the farthest record.
    #[must_use]
    pub fn max_depth(&self) -> u32 {
        self.visits.last().map_or(0, |visit| visit.depth)
    }

    /// The entry at an index.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<WalkEntry> {
        let visit = self.visits.get(self.starts.saturating_add(at))?;
        let through = self.visits.get(place(visit.parent))?;
        Some(WalkEntry { record: Node(visit.node), depth: visit.depth, through: Node(through.node) })
    }

    /// All entries, nearest first.
    pub fn iter(&self) -> impl Iterator<Item = WalkEntry> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// The records from the visit at an index back to its start.
    fn back_from(&self, at: usize) -> Vec<Node> {
        let mut path = Vec::new();
        let mut at = Some(at);
        while let Some(visit) = at.and_then(|at| self.visits.get(at)) {
            path.push(Node(visit.node));
            at = (visit.depth > 0).then(|| place(visit.parent));
        }
        path
    }
}

/// The reach of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impact {
    /// The records that depend on it.
    pub walk: Walk,
    /// Their tasks, each once, sorted.
    pub tasks: Vec<TaskId>,
    /// Their projects, each once.
    pub projects: Vec<Project>,
}

/// The origins of the suspicion or taint of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootCauses {
    walk: Walk,
    roots: Vec<usize>,
}

impl RootCauses {
    /// Number of root causes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether there are no root causes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The tainted records without a tainted ancestor, with their distances, nearest first.
    pub fn iter(&self) -> impl Iterator<Item = (Node, u32)> {
        let visits = self.roots.iter().filter_map(|at| self.walk.visits.get(*at));
        visits.map(|visit| (Node(visit.node), visit.depth))
    }

    /// A shortest path from the cause at an index of [`Self::iter`] down to the record of the
    /// query.
    #[must_use]
    pub fn path(&self, at: usize) -> Vec<Node> {
        self.roots.get(at).map(|at| self.walk.back_from(*at)).unwrap_or_default()
    }
}

impl Graph {
    /// The records that depend on any of these, directly or indirectly.
    #[must_use]
    pub fn dependents(&self, of: &[Node], limit: Option<u32>) -> Walk {
        let Ok(walk) = self.queries().dependents(of, limit);
        walk
    }

    /// The records that any of these depends on, directly or indirectly.
    #[must_use]
    pub fn dependencies(&self, of: &[Node], limit: Option<u32>) -> Walk {
        let Ok(walk) = self.queries().dependencies(of, limit);
        walk
    }

    /// The dependents, with their tasks and projects.
    #[must_use]
    pub fn impact(&self, of: &[Node], limit: Option<u32>) -> Impact {
        let Ok(impact) = self.queries().impact(of, limit);
        impact
    }

    /// The tainted ancestors of a record that have no tainted ancestor themselves; the record
    /// itself if it is such a one.
    #[must_use]
    pub fn root_causes(&self, of: Node, limit: Option<u32>) -> RootCauses {
        let Ok(causes) = self.queries().root_causes(of, limit);
        causes
    }

    /// The tainted records that a record depends on, nearest first. Visits only records that are
    /// tainted or below a tainted one.
    #[must_use]
    pub fn tainted_dependencies(&self, of: Node) -> Vec<Node> {
        let Ok(found) = self.queries().tainted_dependencies(of);
        found
    }

    /// A shortest path from a record down to one that depends on it, both included, by a search
    /// from both ends. `None` if there is none of at most `limit` edges.
    #[must_use]
    pub fn path(&self, from: Node, to: Node, limit: Option<u32>) -> Option<Vec<Node>> {
        let Ok(path) = self.queries().path(from, to, limit);
        path
    }

    /// The record that made an artifact: of several the newest that has not failed, else the
    /// newest.
    #[must_use]
    pub fn producer_of(&self, artifact: Artifact) -> Option<Node> {
        let known = (artifact.0 < self.artifacts.names.len()).then(|| self.producers_of(artifact.0))?;
        choice::newest_of(self, known).map(Node)
    }

    /// A shortest path from a record down to one that depends on it, if an edge back would close a
    /// cycle. Visits only records that such a cycle can contain.
    #[must_use]
    pub fn path_in_cycle(&self, from: Node, to: Node) -> Option<Vec<Node>> {
        let Ok(path) = self.queries().path_in_cycle(from, to);
        path
    }
}

impl<C: Cancellation> Queries<'_, C> {
    /// See [`Graph::dependents`].
    pub fn dependents(&self, of: &[Node], limit: Option<u32>) -> Result<Walk, C::Cancelled> {
        self.walk(of, Direction::Incoming, limit, |_| true)
    }

    /// See [`Graph::dependencies`].
    pub fn dependencies(&self, of: &[Node], limit: Option<u32>) -> Result<Walk, C::Cancelled> {
        self.walk(of, Direction::Outgoing, limit, |_| true)
    }

    /// See [`Graph::impact`].
    pub fn impact(&self, of: &[Node], limit: Option<u32>) -> Result<Impact, C::Cancelled> {
        let walk = self.dependents(of, limit)?;
        let found = || walk.visits.iter().skip(walk.starts).map(|visit| visit.node);
        let mut tasks: Vec<TaskId> = found().map(|node| self.graph.row(node).task).collect();
        self.cancellation.check()?;
        tasks.sort_unstable();
        tasks.dedup();
        let projects: BTreeSet<u32> = found().map(|node| self.graph.project(node)).collect();
        Ok(Impact { tasks, projects: projects.into_iter().map(Project).collect(), walk })
    }

    /// See [`Graph::root_causes`].
    pub fn root_causes(&self, of: Node, limit: Option<u32>) -> Result<RootCauses, C::Cancelled> {
        let marks = &self.graph.marks;
        let walk = self.walk_to_taints(of, limit)?;
        let is_root = |visit: &Visit| marks.flag(visit.node) == Flag::Tainted && marks.exposure(visit.node) == 0;
        let roots = walk.visits.iter().enumerate().filter(|(_, visit)| is_root(visit)).map(|(at, _)| at).collect();
        Ok(RootCauses { walk, roots })
    }

    /// See [`Graph::tainted_dependencies`].
    pub fn tainted_dependencies(&self, of: Node) -> Result<Vec<Node>, C::Cancelled> {
        let walk = self.walk_to_taints(of, None)?;
        let found = walk.iter().map(|found| found.record);
        Ok(found.filter(|node| self.graph.marks.flag(node.0) == Flag::Tainted).collect())
    }

    /// A walk up that visits only records that are tainted or below a tainted one.
    fn walk_to_taints(&self, of: Node, limit: Option<u32>) -> Result<Walk, C::Cancelled> {
        let is_on_the_way = |node| self.graph.marks.passed_on(node) > 0;
        self.walk(&[of], Direction::Outgoing, limit, is_on_the_way)
    }

    /// See [`Graph::path`].
    pub fn path(&self, from: Node, to: Node, limit: Option<u32>) -> Result<Option<Vec<Node>>, C::Cancelled> {
        self.path_through(from, to, limit, |_| true)
    }

    /// As [`Self::path`], through the records for which `enter` returns true.
    pub(super) fn path_through(
        &self,
        from: Node,
        to: Node,
        limit: Option<u32>,
        enter: impl Fn(u32) -> bool,
    ) -> Result<Option<Vec<Node>>, C::Cancelled> {
        if !self.graph.holds(from) || !self.graph.holds(to) {
            return Ok(None);
        }
        if from == to {
            return Ok(Some(vec![from]));
        }
        let mut down = Search::new(self.graph, &[from], Direction::Incoming);
        let mut up = Search::new(self.graph, &[to], Direction::Outgoing);
        while limit.is_none_or(|limit| down.depth + up.depth < limit) {
            let down_is_smaller = down.edge().len() <= up.edge().len();
            let (front, other) = if down_is_smaller { (&mut down, &up) } else { (&mut up, &down) };
            if front.edge().is_empty() {
                return Ok(None);
            }
            front.advance(&enter, &self.cancellation)?;
            if let Some((at, met)) = front.meets(other) {
                let (above, below) = if down_is_smaller { (at, met) } else { (met, at) };
                let mut path = down.walk.back_from(above);
                path.reverse();
                path.extend(up.walk.back_from(below).into_iter().skip(1));
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn walk(
        &self,
        of: &[Node],
        direction: Direction,
        limit: Option<u32>,
        enter: impl Fn(u32) -> bool,
    ) -> Result<Walk, C::Cancelled> {
        let mut search = Search::new(self.graph, of, direction);
        while !search.edge().is_empty() && limit.is_none_or(|limit| search.depth < limit) {
            search.advance(&enter, &self.cancellation)?;
        }
        Ok(search.walk)
    }
}

/// A breadth-first search, level by level.
struct Search<'a> {
    graph: &'a Graph,
    direction: Direction,
    walk: Walk,
    seen: FixedBitSet,
    /// Index at which the last level begins.
    level: usize,
    depth: u32,
}

impl<'a> Search<'a> {
    fn new(graph: &'a Graph, starts: &[Node], direction: Direction) -> Self {
        let mut seen = FixedBitSet::with_capacity(place(graph.len()));
        let new = starts.iter().filter(|node| graph.holds(**node) && !seen.put(place(node.0)));
        let visits: Vec<_> = new.map(|node| Visit { node: node.0, parent: 0, depth: 0 }).collect();
        let walk = Walk { starts: visits.len(), visits };
        Self { graph, direction, walk, seen, level: 0, depth: 0 }
    }

    /// The records of the last level.
    fn edge(&self) -> &[Visit] {
        &self.walk.visits[self.level..]
    }

    /// Advances one level.
    fn advance<C: Cancellation>(&mut self, enter: impl Fn(u32) -> bool, cancellation: &C) -> Result<(), C::Cancelled> {
        let Self { graph, walk: Walk { visits, .. }, seen, depth, .. } = self;
        *depth = depth.saturating_add(1);
        let end = visits.len();
        for parent in self.level..end {
            if parent.is_multiple_of(STRIDE) {
                cancellation.check()?;
            }
            let node = visits[parent].node;
            let mut visit = |node: u32| {
                if !seen.put(place(node)) && enter(node) {
                    visits.push(Visit { node, parent: number(parent), depth: *depth });
                }
            };
            match self.direction {
                Direction::Incoming => match graph.dependents_of(node) {
                    // Nearly all lists are short, and iterating over a slice is fastest.
                    List::Short(dependents) => dependents.iter().for_each(|node| visit(*node)),
                    dependents @ List::Long(_) => dependents.iter().for_each(visit),
                },
                Direction::Outgoing => graph.inputs_of(node).iter().filter_map(Input::bound).for_each(visit),
            }
        }
        self.level = end;
        Ok(())
    }

    /// An index in the last level that the other search has also visited, and the index there.
    fn meets(&self, other: &Self) -> Option<(usize, usize)> {
        let at = self.level + self.edge().iter().position(|visit| other.seen.contains(place(visit.node)))?;
        let node = self.walk.visits[at].node;
        // Only the other's last level can have it: an earlier level would have met sooner.
        other.walk.visits.iter().rposition(|visit| visit.node == node).map(|there| (at, there))
    }
}
