//! Replacement of a record: an import that came again with other inputs, outputs or times.

use std::collections::{HashMap, HashSet};

use super::choice;
use super::flags;
use super::graph::Graph;
use super::link::{self, Binding};
use super::pages::split;
use super::record::{Artifact, Edge, Node, Record, Step};
use super::rows::InputKey;
use super::rows::{Input, Row};
use crate::task::Seq;

/// Replaces `node` by `record` in a step at `seq`.
pub(super) fn revise(graph: &mut Graph, node: u32, record: &Record, seq: Seq) -> Step {
    let mut step = Step::default();
    let mut affected = choice::bound_to(graph, node, None);
    affected.extend(graph.inputs_of(node).iter().map(|input| (node, input.artifact())));
    let before = edge_ages(graph, &affected);
    // Before ages change, because which edges are backward ones depends on them.
    link::unbind(graph, &affected, &mut step);
    detach(graph, node);
    affected.extend(graph.links.refused.iter().copied());
    replace_row(graph, node, record);
    affected.extend(link::add_inputs_and_outputs(graph, node, &record.inputs, &record.outputs));
    affected.sort_unstable();
    affected.dedup();
    link::unbind_changed(graph, &affected, &mut step);
    // Edges that existed before come first: none of them closes a cycle, and none may be refused
    // because of a new edge.
    affected.sort_by_key(|affected| !had_edge(graph, *affected, &before));
    bind_all(graph, affected, seq, &mut step);
    preserve_ages(graph, &before, &mut step);
    flags::propagate_unbound(graph, &step.unbound, &mut step.flags);
    flags::propagate_bound(graph, seq, &mut step);
    step.join();
    step
}

/// The edges of these inputs, with the positions at which they were bound.
fn edge_ages(graph: &Graph, affected: &[InputKey]) -> HashMap<Edge, Seq> {
    let edges = affected.iter().filter_map(|&(consumer, artifact)| {
        let producer = graph.input(consumer, artifact)?.1.bound()?;
        let edge = Edge { dependent: Node(consumer), artifact: Artifact(artifact), dependency: Node(producer) };
        Some((edge, graph.bound_at(consumer, artifact, producer)))
    });
    edges.collect()
}

fn had_edge(graph: &Graph, (consumer, artifact): InputKey, before: &HashMap<Edge, Seq>) -> bool {
    let (dependent, artifact) = (Node(consumer), Artifact(artifact));
    let wish = choice::resolve(graph, consumer, artifact.0).map(Node);
    wish.is_some_and(|dependency| before.contains_key(&Edge { dependent, artifact, dependency }))
}

/// Removes inputs and outputs from a record that has no edges.
fn detach(graph: &mut Graph, node: u32) {
    let inputs: Vec<u32> = graph.inputs_of(node).iter().map(Input::artifact).collect();
    for artifact in inputs {
        let (page, slot) = split(artifact);
        graph.artifacts.pages.get_mut(page).waiting.retain(slot, |waiting| waiting != node);
    }
    if graph.links.refused.iter().any(|(of, _)| *of == node) {
        std::sync::Arc::make_mut(&mut graph.links.refused).retain(|(of, _)| *of != node);
    }
    let outputs: Vec<u32> = graph.outputs_of(node).iter().collect();
    for artifact in outputs {
        choice::remove_producer(graph, node, artifact);
    }
    let (page, slot) = split(node);
    graph.links.inputs.get_mut(page).lists.retain(slot, |_| false);
    graph.links.outputs.get_mut(page).retain(slot, |_| false);
}

fn replace_row(graph: &mut Graph, node: u32, record: &Record) {
    let project = graph.projects.number(record.project.as_str());
    let (page, slot) = split(node);
    let row = Row::of(record);
    graph.records.rows.get_mut(page).set(slot, row, project);
    graph.marks.set_status(node, record.status);
    graph.record_times(&row);
}

fn bind_all(graph: &mut Graph, affected: Vec<InputKey>, seq: Seq, step: &mut Step) {
    let mut arrived = Vec::new();
    for affected in affected {
        arrived.extend(link::bind(graph, affected, Binding::At(seq), step));
    }
    for refused in graph.links.refused.as_ref().clone() {
        arrived.extend(link::bind(graph, refused, Binding::At(seq), step));
    }
    link::stop_waiting(graph, &arrived);
}

/// Reports edges that existed before neither as new nor as removed, and keeps their positions.
fn preserve_ages(graph: &mut Graph, before: &HashMap<Edge, Seq>, step: &mut Step) {
    let kept: HashSet<Edge> = step.bound.iter().filter(|edge| before.contains_key(edge)).copied().collect();
    for edge in &kept {
        let (consumer, producer) = (edge.dependent.0, edge.dependency.0);
        let youngest = graph.seq(consumer).max(graph.seq(producer));
        let later = before.get(edge).copied().filter(|bound_at| *bound_at != youngest);
        let (page, slot) = split(consumer);
        graph.links.inputs.get_mut(page).set_rebound(slot, edge.artifact.0, later);
    }
    step.bound.retain(|edge| !kept.contains(edge));
    step.unbound.retain(|edge| !kept.contains(edge));
}
