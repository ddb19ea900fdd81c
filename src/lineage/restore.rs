//! The graph from its rows.
//!
//! Bindings follow from the records, in whatever order they come; flags
//! follow from facts and edges. What does not follow is kept with a record:
//! its fact, the edges that were bound later than both of their records came,
//! and the edges that were refused, since which edge of a cycle is refused
//! depends on which came last.

use std::collections::HashSet;

use super::graph::Graph;
use super::link::{Asked, Binding};
use super::pages::split;
use super::record::{Artifact, Edge, Error, Fact, Link, Node, Record, Step};
use crate::task::{ArtifactId, Seq};

/// A record with everything about it that does not follow from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The record as it is now, with all its inputs and outputs.
    pub record: Record,
    /// The position at which it came.
    pub seq: Seq,
    /// What was said about it.
    pub fact: Option<Fact>,
    /// Inputs whose edge was bound later than both records came, and when.
    pub rebound: Vec<(ArtifactId, Seq)>,
    /// Inputs whose edge was refused.
    pub refused: Vec<ArtifactId>,
}

impl Graph {
    /// Builds the graph from rows in any order. `newest` is the position of
    /// the last step. The step that is given back is empty unless the rows
    /// contradict themselves: edges among them that would close a cycle are
    /// reported as refused, and refused ones that no longer close one as bound.
    pub fn restore(rows: impl IntoIterator<Item = Restored>, newest: Seq) -> Result<(Self, Step), Error> {
        let mut graph = Self { newest, ..Self::default() };
        let (mut step, mut held, mut tainted) = (Step::default(), HashSet::new(), Vec::new());
        let mut rebound = Vec::new();
        for row in rows {
            let node = graph.restore_one(&row, &mut held, &mut step)?;
            for (artifact, seq) in row.rebound {
                rebound.push((node, graph.artifact(&artifact), seq));
            }
            if let Some(fact) = row.fact {
                graph.marks.set_fact(node, Some(fact));
                tainted.extend(matches!(fact, Fact::Tainted(_)).then_some(node));
            }
        }
        for (node, artifact, seq) in rebound {
            let (page, slot) = split(node);
            graph.inputs.get_mut(page).set_rebound(slot, artifact, Some(seq));
        }
        graph.tainted = u32::try_from(tainted.len()).unwrap_or(u32::MAX);
        graph.retry(&held, &mut step);
        graph.derive_flags(&tainted);
        Ok((graph, step))
    }

    /// Says that the last step was at `newest`, where that is known only once
    /// all rows have been read. Positions never go back.
    pub fn continue_after(&mut self, newest: Seq) {
        self.newest = self.newest.max(newest);
    }

    fn restore_one(&mut self, row: &Restored, held: &mut HashSet<Asked>, step: &mut Step) -> Result<u32, Error> {
        self.check_room(row.record.inputs.len() + row.record.outputs.len())?;
        self.check_new(row.record.id)?;
        let node = self.append_record(&row.record, row.seq);
        for refused in &row.refused {
            held.insert((node, self.artifact(refused)));
        }
        let mut asked = self.name(node, &row.record.inputs, &row.record.outputs);
        asked.retain(|asked| !held.contains(asked));
        self.link_again(asked, step);
        Ok(node)
    }

    /// Links without a position: an edge is as old as the younger of its
    /// records, or as its row says.
    fn link_again(&mut self, mut asked: Vec<Asked>, step: &mut Step) {
        asked.sort_unstable();
        asked.dedup();
        self.loosen(&asked, step);
        let mut arrived = Vec::new();
        for asked in asked {
            arrived.extend(self.fasten(asked, Binding::Unasked, step));
        }
        self.stop_waiting(&arrived);
        step.unbound.clear();
    }

    /// Looks for cycles in what was linked, and marks what was refused before.
    fn retry(&mut self, held: &HashSet<Asked>, step: &mut Step) {
        let contradictory = self.edges_in_cycles();
        self.unbind(&contradictory, step);
        let mut arrived = Vec::new();
        for asked in contradictory {
            arrived.extend(self.fasten(asked, Binding::Restored, step));
        }
        (step.bound, step.unbound) = (Vec::new(), Vec::new());
        step.refused = self.refused.iter().filter_map(|asked| self.refused_edge(*asked)).collect();
        for asked in held {
            arrived.extend(self.fasten(*asked, Binding::Restored, step));
        }
        step.refused.retain(|edge| !held.contains(&(edge.dependent.0, edge.artifact.0)));
        self.stop_waiting(&arrived);
    }

    fn refused_edge(&self, (node, artifact): Asked) -> Option<Edge> {
        match self.input(node, artifact)?.1.link() {
            Link::Refused(dependency) => Some(Edge { dependent: Node(node), artifact: Artifact(artifact), dependency }),
            Link::Waiting | Link::Bound(_) => None,
        }
    }
}
