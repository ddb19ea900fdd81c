//! Questions that follow edges: who depends on a record, on what it depends,
//! how far it reaches, where a taint came from, how two records are connected.
//!
//! All go breadth first over one version of the graph, so depths are shortest
//! distances, and nothing recurses. A depth limit is part of the question.

use std::collections::BTreeSet;

use fixedbitset::FixedBitSet;
use petgraph::Direction;

use super::cancellation::{Pace, STRIDE};
use super::choice;
use super::graph::Graph;
use super::lists::List;
use super::pages::place;
use super::queries::Questions;
use super::record::Artifact;
use super::record::{Flag, Node, Project};
use super::rows::Input;
use crate::task::TaskId;

/// A record that a walk has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The record.
    pub record: Node,
    /// Its distance from the nearest start.
    pub depth: u32,
    /// The record through which it was found, one step nearer. The artifacts
    /// are [`Graph::between`] the two.
    pub through: Node,
}

/// What a walk has found, nearest first: 12 bytes a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    visits: Vec<Visit>,
    starts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Visit {
    node: u32,
    /// The place of the visit from which this one was found.
    parent: u32,
    depth: u32,
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl Walk {
    /// How many records were found. The starts are not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.visits.len() - self.starts
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The distance of the record that is farthest away.
    #[must_use]
    pub fn max_depth(&self) -> u32 {
        self.visits.last().map_or(0, |visit| visit.depth)
    }

    /// What was found at a place.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Found> {
        let visit = self.visits.get(self.starts.saturating_add(at))?;
        let through = self.visits.get(place(visit.parent))?;
        Some(Found { record: Node(visit.node), depth: visit.depth, through: Node(through.node) })
    }

    /// All that was found, nearest first.
    pub fn iter(&self) -> impl Iterator<Item = Found> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// The records from what stands at a place of `visits` back to its start.
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

/// How far a record reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impact {
    /// The records that depend on it.
    pub walk: Walk,
    /// Their tasks, each once, sorted.
    pub tasks: Vec<TaskId>,
    /// Their projects, each once.
    pub projects: Vec<Project>,
}

/// Where the suspicion or taint of a record comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootCauses {
    walk: Walk,
    roots: Vec<usize>,
}

impl RootCauses {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The tainted records with nothing tainted above them, and their
    /// distances, nearest first.
    pub fn iter(&self) -> impl Iterator<Item = (Node, u32)> {
        let visits = self.roots.iter().filter_map(|at| self.walk.visits.get(*at));
        visits.map(|visit| (Node(visit.node), visit.depth))
    }

    /// A shortest path from a cause, by its place in [`Self::iter`], down to
    /// the record that was asked for.
    #[must_use]
    pub fn path(&self, at: usize) -> Vec<Node> {
        self.roots.get(at).map(|at| self.walk.back_from(*at)).unwrap_or_default()
    }
}

impl Graph {
    /// The records that depend on any of these, directly or not.
    #[must_use]
    pub fn dependents(&self, of: &[Node], limit: Option<u32>) -> Walk {
        let Ok(walk) = self.ask().dependents(of, limit);
        walk
    }

    /// The records that any of these depends on, directly or not.
    #[must_use]
    pub fn dependencies(&self, of: &[Node], limit: Option<u32>) -> Walk {
        let Ok(walk) = self.ask().dependencies(of, limit);
        walk
    }

    /// The dependents with the tasks and projects that they belong to.
    #[must_use]
    pub fn impact(&self, of: &[Node], limit: Option<u32>) -> Impact {
        let Ok(impact) = self.ask().impact(of, limit);
        impact
    }

    /// The tainted ancestors of a record that have no tainted ancestor
    /// themselves; the record itself, if it is such a one.
    #[must_use]
    pub fn root_causes(&self, of: Node, limit: Option<u32>) -> RootCauses {
        let Ok(causes) = self.ask().root_causes(of, limit);
        causes
    }

    /// The tainted records that a record depends on, nearest first. Looks only at
    /// those that are tainted or have something tainted above them.
    #[must_use]
    pub fn tainted_dependencies(&self, of: Node) -> Vec<Node> {
        let Ok(found) = self.ask().tainted_dependencies(of);
        found
    }

    /// A shortest path from a record down to one that depends on it, both
    /// included: a search from both ends. `None`: there is none of at most
    /// `limit` edges.
    #[must_use]
    pub fn path(&self, from: Node, to: Node, limit: Option<u32>) -> Option<Vec<Node>> {
        let Ok(path) = self.ask().path(from, to, limit);
        path
    }

    /// The record that made an artifact: of several the newest that has not
    /// failed, else the newest.
    #[must_use]
    pub fn maker(&self, artifact: Artifact) -> Option<Node> {
        let known = (artifact.0 < self.artifacts.names.len()).then(|| self.producers_of(artifact.0))?;
        choice::newest_of(self, known).map(Node)
    }

    /// A shortest path from a record down to one that depends on it, where an edge
    /// back would close a cycle. Looks only at records that such a cycle can have.
    #[must_use]
    pub fn path_in_cycle(&self, from: Node, to: Node) -> Option<Vec<Node>> {
        let Ok(path) = self.ask().path_in_cycle(from, to);
        path
    }
}

impl<P: Pace> Questions<'_, P> {
    /// See [`Graph::dependents`].
    pub fn dependents(&self, of: &[Node], limit: Option<u32>) -> Result<Walk, P::Stopped> {
        self.walk(of, Direction::Incoming, limit, |_| true)
    }

    /// See [`Graph::dependencies`].
    pub fn dependencies(&self, of: &[Node], limit: Option<u32>) -> Result<Walk, P::Stopped> {
        self.walk(of, Direction::Outgoing, limit, |_| true)
    }

    /// See [`Graph::impact`].
    pub fn impact(&self, of: &[Node], limit: Option<u32>) -> Result<Impact, P::Stopped> {
        let walk = self.dependents(of, limit)?;
        let found = || walk.visits.iter().skip(walk.starts).map(|visit| visit.node);
        let mut tasks: Vec<TaskId> = found().map(|node| self.graph.row(node).task).collect();
        self.pace.go_on()?;
        tasks.sort_unstable();
        tasks.dedup();
        let projects: BTreeSet<u32> = found().map(|node| self.graph.project(node)).collect();
        Ok(Impact { tasks, projects: projects.into_iter().map(Project).collect(), walk })
    }

    /// See [`Graph::root_causes`].
    pub fn root_causes(&self, of: Node, limit: Option<u32>) -> Result<RootCauses, P::Stopped> {
        let marks = &self.graph.marks;
        let walk = self.walk_to_taints(of, limit)?;
        let is_root = |visit: &Visit| marks.flag(visit.node) == Flag::Tainted && marks.exposure(visit.node) == 0;
        let roots = walk.visits.iter().enumerate().filter(|(_, visit)| is_root(visit)).map(|(at, _)| at).collect();
        Ok(RootCauses { walk, roots })
    }

    /// See [`Graph::tainted_dependencies`].
    pub fn tainted_dependencies(&self, of: Node) -> Result<Vec<Node>, P::Stopped> {
        let walk = self.walk_to_taints(of, None)?;
        let found = walk.iter().map(|found| found.record);
        Ok(found.filter(|node| self.graph.marks.flag(node.0) == Flag::Tainted).collect())
    }

    /// A walk up that enters only what is tainted or has something tainted above it.
    fn walk_to_taints(&self, of: Node, limit: Option<u32>) -> Result<Walk, P::Stopped> {
        let is_on_the_way = |node| self.graph.marks.passed_on(node) > 0;
        self.walk(&[of], Direction::Outgoing, limit, is_on_the_way)
    }

    /// See [`Graph::path`].
    pub fn path(&self, from: Node, to: Node, limit: Option<u32>) -> Result<Option<Vec<Node>>, P::Stopped> {
        self.path_through(from, to, limit, |_| true)
    }

    /// The same among the records that are to be entered.
    pub(super) fn path_through(
        &self,
        from: Node,
        to: Node,
        limit: Option<u32>,
        enter: impl Fn(u32) -> bool,
    ) -> Result<Option<Vec<Node>>, P::Stopped> {
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
            front.advance(&enter, &self.pace)?;
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
    ) -> Result<Walk, P::Stopped> {
        let mut search = Search::new(self.graph, of, direction);
        while !search.edge().is_empty() && limit.is_none_or(|limit| search.depth < limit) {
            search.advance(&enter, &self.pace)?;
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
    /// Where the last level begins.
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

    /// One level further.
    fn advance<P: Pace>(&mut self, enter: impl Fn(u32) -> bool, pace: &P) -> Result<(), P::Stopped> {
        let Self { graph, walk: Walk { visits, .. }, seen, depth, .. } = self;
        *depth = depth.saturating_add(1);
        let end = visits.len();
        for parent in self.level..end {
            if parent.is_multiple_of(STRIDE) {
                pace.go_on()?;
            }
            let node = visits[parent].node;
            let mut visit = |node: u32| {
                if !seen.put(place(node)) && enter(node) {
                    visits.push(Visit { node, parent: number(parent), depth: *depth });
                }
            };
            match self.direction {
                Direction::Incoming => match graph.dependents_of(node) {
                    // Nearly all lists are short, and a slice is the fastest to go over.
                    List::Short(dependents) => dependents.iter().for_each(|node| visit(*node)),
                    dependents @ List::Long(_) => dependents.iter().for_each(visit),
                },
                Direction::Outgoing => graph.inputs_of(node).iter().filter_map(Input::bound).for_each(visit),
            }
        }
        self.level = end;
        Ok(())
    }

    /// A place in the last level that another search has seen too, and its
    /// place there.
    fn meets(&self, other: &Self) -> Option<(usize, usize)> {
        let at = self.level + self.edge().iter().position(|visit| other.seen.contains(place(visit.node)))?;
        let node = self.walk.visits[at].node;
        // Only the other's last level can have it: a level before would have met sooner.
        other.walk.visits.iter().rposition(|visit| visit.node == node).map(|there| (at, there))
    }
}
