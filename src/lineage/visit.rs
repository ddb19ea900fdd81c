//! The graph as petgraph sees it: its traits over this storage, so that its algorithms run on it.
//! An edge points from a record to one that it depends on: `Outgoing` leads to dependencies,
//! `Incoming` to dependents.

use fixedbitset::FixedBitSet;
use petgraph::Direction;
use petgraph::visit::{
    GraphBase, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, NodeCompactIndexable, NodeCount,
    NodeIndexable, VisitMap, Visitable,
};

use super::graph::Graph;
use super::lists::List;
use super::pages::place;
use super::record::{Artifact, Node};
use super::rows::Input;

/// The dependencies or dependents of a record. A record appears once for each artifact between the
/// two.
#[derive(Debug, Clone)]
pub struct Neighbors<'a> {
    of: Side<'a>,
    at: usize,
}

#[derive(Debug, Clone)]
enum Side<'a> {
    Dependencies(List<'a, Input>),
    Dependents(List<'a, u32>),
    Nobody,
}

impl<'a> Neighbors<'a> {
    pub(super) fn of(graph: &'a Graph, node: Node, direction: Direction) -> Self {
        let of = match direction {
            _ if !graph.holds(node) => Side::Nobody,
            Direction::Outgoing => Side::Dependencies(graph.inputs_of(node.0)),
            Direction::Incoming => Side::Dependents(graph.dependents_of(node.0)),
        };
        Self { of, at: 0 }
    }
}

impl Iterator for Neighbors<'_> {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        loop {
            self.at += 1;
            match self.of {
                Side::Dependencies(inputs) => {
                    if let Some(node) = inputs.get(self.at - 1)?.bound() {
                        return Some(Node(node));
                    }
                }
                Side::Dependents(dependents) => return dependents.get(self.at - 1).map(Node),
                Side::Nobody => return None,
            }
        }
    }
}

/// The records that a search has visited: one bit each.
#[derive(Debug, Clone, Default)]
pub struct Visited(FixedBitSet);

impl VisitMap<Node> for Visited {
    fn visit(&mut self, node: Node) -> bool {
        !self.0.put(place(node.0))
    }

    fn is_visited(&self, node: &Node) -> bool {
        self.0.contains(place(node.0))
    }

    fn unvisit(&mut self, node: Node) -> bool {
        let was = self.is_visited(&node);
        self.0.set(place(node.0), false);
        was
    }
}

impl GraphBase for Graph {
    type NodeId = Node;
    /// The record that used the artifact, and the artifact.
    type EdgeId = (Node, Artifact);
}

impl Visitable for Graph {
    type Map = Visited;

    fn visit_map(&self) -> Visited {
        Visited(FixedBitSet::with_capacity(place(self.len())))
    }

    fn reset_map(&self, map: &mut Visited) {
        *map = self.visit_map();
    }
}

impl NodeCount for Graph {
    fn node_count(&self) -> usize {
        place(self.len())
    }
}

impl NodeIndexable for Graph {
    fn node_bound(&self) -> usize {
        place(self.len())
    }

    fn to_index(&self, node: Node) -> usize {
        place(node.0)
    }

    fn from_index(&self, index: usize) -> Node {
        Node(u32::try_from(index).unwrap_or(u32::MAX))
    }
}

impl NodeCompactIndexable for Graph {}

impl<'a> IntoNeighbors for &'a Graph {
    type Neighbors = Neighbors<'a>;

    fn neighbors(self, node: Node) -> Neighbors<'a> {
        Neighbors::of(self, node, Direction::Outgoing)
    }
}

impl<'a> IntoNeighborsDirected for &'a Graph {
    type NeighborsDirected = Neighbors<'a>;

    fn neighbors_directed(self, node: Node, direction: Direction) -> Neighbors<'a> {
        Neighbors::of(self, node, direction)
    }
}

impl IntoNodeIdentifiers for &Graph {
    type NodeIdentifiers = Box<dyn Iterator<Item = Node>>;

    fn node_identifiers(self) -> Self::NodeIdentifiers {
        Box::new(self.nodes())
    }
}
