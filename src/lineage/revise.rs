//! A record that becomes another one: an import that came again with other
//! inputs, outputs or times.

use std::collections::{HashMap, HashSet};

use super::choice;
use super::flags;
use super::graph::Graph;
use super::link::{self, Binding};
use super::pages::split;
use super::record::{Artifact, Edge, Node, Record, Step};
use super::rows::Asked;
use super::rows::{Input, Row};
use crate::task::Seq;

/// Replaces `node` by `record` in a step at `seq`.
pub(super) fn revise(graph: &mut Graph, node: u32, record: &Record, seq: Seq) -> Step {
    let mut step = Step::default();
    let mut asked = choice::bound_to(graph, node, None);
    asked.extend(graph.inputs_of(node).iter().map(|input| (node, input.artifact())));
    let before = ages(graph, &asked);
    // While ages are as they were: which edges are backward ones depends on them.
    link::unbind(graph, &asked, &mut step);
    take_apart(graph, node);
    asked.extend(graph.links.refused.iter().copied());
    put_again(graph, node, record);
    asked.extend(link::name(graph, node, &record.inputs, &record.outputs));
    asked.sort_unstable();
    asked.dedup();
    link::loosen(graph, &asked, &mut step);
    // Edges as before come first: none of them closes a cycle, and none is
    // to be refused because of an edge that is new.
    asked.sort_by_key(|asked| !is_as_before(graph, *asked, &before));
    fasten_all(graph, asked, seq, &mut step);
    keep_ages(graph, &before, &mut step);
    flags::lower(graph, &step.unbound, &mut step.flags);
    flags::raise(graph, seq, &mut step);
    step.join();
    step
}

/// The edges of these inputs, and the positions at which they were bound.
fn ages(graph: &Graph, asked: &[Asked]) -> HashMap<Edge, Seq> {
    let edges = asked.iter().filter_map(|&(consumer, artifact)| {
        let producer = graph.input(consumer, artifact)?.1.bound()?;
        let edge = Edge { dependent: Node(consumer), artifact: Artifact(artifact), dependency: Node(producer) };
        Some((edge, graph.bound_at(consumer, artifact, producer)))
    });
    edges.collect()
}

fn is_as_before(graph: &Graph, (consumer, artifact): Asked, before: &HashMap<Edge, Seq>) -> bool {
    let (dependent, artifact) = (Node(consumer), Artifact(artifact));
    let wish = choice::wish(graph, consumer, artifact.0).map(Node);
    wish.is_some_and(|dependency| before.contains_key(&Edge { dependent, artifact, dependency }))
}

/// Takes inputs and outputs from a record none of whose inputs is bound,
/// and to which none is.
fn take_apart(graph: &mut Graph, node: u32) {
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
        choice::withdraw(graph, node, artifact);
    }
    let (page, slot) = split(node);
    graph.links.inputs.get_mut(page).lists.retain(slot, |_| false);
    graph.links.outputs.get_mut(page).retain(slot, |_| false);
}

fn put_again(graph: &mut Graph, node: u32, record: &Record) {
    let project = graph.projects.number(record.project.as_str());
    let (page, slot) = split(node);
    let row = Row::of(record);
    graph.records.rows.get_mut(page).set(slot, row, project);
    graph.marks.set_status(node, record.status);
    graph.note_times(&row);
}

fn fasten_all(graph: &mut Graph, asked: Vec<Asked>, seq: Seq, step: &mut Step) {
    let mut arrived = Vec::new();
    for asked in asked {
        arrived.extend(link::fasten(graph, asked, Binding::At(seq), step));
    }
    for refused in graph.links.refused.as_ref().clone() {
        arrived.extend(link::fasten(graph, refused, Binding::At(seq), step));
    }
    link::stop_waiting(graph, &arrived);
}

/// Edges that were there before are neither new nor gone.
fn keep_ages(graph: &mut Graph, before: &HashMap<Edge, Seq>, step: &mut Step) {
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
