//! Builds a graph of stored rows.
//!
//! Bindings follow from the records in any order, and flags follow from facts and edges. Stored
//! with a record is what does not follow: its fact, the edges that were bound later than both of
//! their records arrived, and the edges that were refused, because which edge of a cycle is refused
//! depends on which came last.

use std::collections::HashSet;

use super::bulk;
use super::bulk::Flat;
use super::cycle;
use super::flags;
use super::graph::Graph;
use super::link::{self, Binding};
use super::names::{Index, Numbering};
use super::pages::{place, split};
use super::record::{Artifact, Edge, Error, Fact, Link, Node, Record, Step};
use super::rows::InputKey;
use super::rows::{Input, MOST, Origin, Row};
use crate::task::{ArtifactId, RecordStatus, Seq};

/// A record with everything about it that does not follow from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredRecord {
    /// The current record with all its inputs and outputs.
    pub record: Record,
    /// Position of the step that brought it.
    pub seq: Seq,
    /// The fact of its own, if any.
    pub fact: Option<Fact>,
    /// Inputs whose edge was bound later than both records arrived, with the position.
    pub rebound: Vec<(ArtifactId, Seq)>,
    /// Inputs whose edge was refused.
    pub refused: Vec<ArtifactId>,
}

/// Rows in the order of their arrival, before each record has its place, which follows from its
/// age.
#[derive(Debug, Default)]
struct Gathered {
    names: Numbering,
    rows: Vec<Row>,
    said: Vec<(Origin, RecordStatus, Option<Fact>)>,
    inputs: Flat<Input>,
    outputs: Flat<u32>,
    /// Index of the row, artifact and position.
    rebound: Vec<(usize, u32, Seq)>,
    refused: Vec<(usize, u32)>,
}

impl Gathered {
    fn add(&mut self, row: RestoredRecord, graph: &mut Graph) -> Result<(), Error> {
        let (record, at) = (row.record, self.rows.len());
        let room = place(MOST.saturating_sub(self.names.len()));
        if record.inputs.len() + record.outputs.len() >= room {
            return Err(Error::Full(MOST));
        }
        let names = &mut self.names;
        let mut number = |id: &ArtifactId| names.number(id.as_str());
        let mut inputs: Vec<_> = record.inputs.iter().map(|(id, how)| (number(id), *how)).collect();
        inputs.sort_unstable();
        inputs.dedup_by_key(|(artifact, _)| *artifact);
        self.inputs.push(inputs.into_iter().map(|(artifact, how)| Input::new(artifact, how)));
        let mut outputs: Vec<u32> = Vec::with_capacity(record.outputs.len());
        for id in &record.outputs {
            let artifact = number(id);
            if !outputs.contains(&artifact) {
                outputs.push(artifact);
            }
        }
        self.outputs.push(outputs);
        self.rebound.extend(row.rebound.iter().map(|(artifact, seq)| (at, number(artifact), *seq)));
        self.refused.extend(row.refused.iter().map(|artifact| (at, number(artifact))));
        let project = graph.projects.number(record.project.as_str());
        self.said.push((Origin { seq: row.seq, project }, record.status, row.fact));
        self.rows.push(Row::of(&record));
        Ok(())
    }

    /// Adjusts the times of records made here to the order of their arrival.
    fn place_in_time(&mut self, graph: &mut Graph) {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        if !order.is_sorted_by_key(|at| self.said[*at].0.seq) {
            order.sort_unstable_by_key(|at| self.said[*at].0.seq);
        }
        for at in order {
            self.rows[at] = graph.place_in_time(self.rows[at]);
            graph.record_times(&self.rows[at]);
        }
    }

    /// Sorts the records by age, and returns the new place of each.
    fn sort(&mut self) -> Vec<u32> {
        let count = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let mut order: Vec<u32> = (0..count).collect();
        if self.rows.is_sorted_by_key(Row::age) {
            return order;
        }
        order.sort_unstable_by_key(|at| self.rows[place(*at)].age());
        self.rows = order.iter().map(|at| self.rows[place(*at)]).collect();
        self.said = order.iter().map(|at| self.said[place(*at)]).collect();
        self.inputs = std::mem::take(&mut self.inputs).in_order(&order);
        self.outputs = std::mem::take(&mut self.outputs).in_order(&order);
        let mut nodes = vec![0; order.len()];
        (0..).zip(order).for_each(|(node, at)| nodes[place(at)] = node);
        nodes
    }
}

/// Builds a graph of `rows`; see [`Graph::restore`].
pub(super) fn build(rows: impl IntoIterator<Item = RestoredRecord>, newest: Seq) -> Result<(Graph, Step), Error> {
    let mut graph = Graph { newest, ..Graph::default() };
    let (mut gathered, mut step) = (Gathered::default(), Step::default());
    for row in rows {
        gathered.add(row, &mut graph)?;
    }
    graph.artifacts.names = std::mem::take(&mut gathered.names).finish();
    gathered.place_in_time(&mut graph);
    let nodes = gathered.sort();
    let tainted = append_all(&mut graph, &gathered)?;
    let held: HashSet<InputKey> = gathered.refused.iter().map(|(at, artifact)| (nodes[*at], *artifact)).collect();
    bulk::link_all(&mut graph, gathered.inputs, &gathered.outputs, |node, artifact| held.contains(&(node, artifact)));
    for (at, artifact, seq) in gathered.rebound {
        let (page, slot) = split(nodes[at]);
        graph.links.inputs.get_mut(page).set_rebound(slot, artifact, Some(seq));
    }
    retry(&mut graph, &held, &mut step);
    flags::derive_flags(&mut graph, &tainted);
    Ok((graph, step))
}

/// Adds the records without links, and returns those that are tainted.
fn append_all(graph: &mut Graph, gathered: &Gathered) -> Result<Vec<u32>, Error> {
    graph.records.ids = Index::with_room(gathered.rows.len());
    let mut tainted = Vec::new();
    for (row, (origin, status, fact)) in gathered.rows.iter().zip(&gathered.said) {
        graph.check_room(0)?;
        graph.check_new(row.id)?;
        let node = graph.append(*row, *origin, *status);
        if let Some(fact) = fact {
            graph.marks.set_fact(node, Some(*fact));
            tainted.extend(matches!(fact, Fact::Tainted(_)).then_some(node));
        }
    }
    graph.tainted = u32::try_from(tainted.len()).unwrap_or(u32::MAX);
    Ok(tainted)
}

/// Resolves cycles among the new links, and tries the edges that were refused before.
fn retry(graph: &mut Graph, held: &HashSet<InputKey>, step: &mut Step) {
    let contradictory = cycle::edges_in_cycles(graph);
    link::unbind(graph, &contradictory, step);
    let mut arrived = Vec::new();
    for affected in contradictory {
        arrived.extend(link::bind(graph, affected, Binding::RestoredRecord, step));
    }
    (step.bound, step.unbound) = (Vec::new(), Vec::new());
    step.refused = graph.links.refused.iter().filter_map(|affected| refused_edge(graph, *affected)).collect();
    for affected in held {
        arrived.extend(link::bind(graph, *affected, Binding::RestoredRecord, step));
    }
    step.refused.retain(|edge| !held.contains(&(edge.dependent.0, edge.artifact.0)));
    link::stop_waiting(graph, &arrived);
}

fn refused_edge(graph: &Graph, (node, artifact): InputKey) -> Option<Edge> {
    match graph.input(node, artifact)?.1.link() {
        Link::Refused(dependency) => Some(Edge { dependent: Node(node), artifact: Artifact(artifact), dependency }),
        Link::Waiting | Link::Bound(_) => None,
    }
}
