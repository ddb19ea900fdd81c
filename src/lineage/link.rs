//! How links follow every change.
//!
//! [`choice::resolve`] determines the record an input should be bound to. A change resolves only
//! those inputs again whose result may differ.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::choice;
use super::cycle;
use super::flags;
use super::graph::Graph;
use super::pages::split;
use super::record::{Artifact, Edge, Link, Node, Record, Relationship, Step};
use super::rows::InputKey;
use super::rows::{Input, Origin, Row};
use crate::task::{ArtifactId, Seq};

/// How an edge is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// In a step at this position.
    At(Seq),
    /// From rows: as old as the younger of its records.
    RestoredRecord,
}

pub(super) fn append_record(graph: &mut Graph, record: &Record, seq: Seq) -> u32 {
    let project = graph.projects.number(record.project.as_str());
    let row = graph.place_in_time(Row::of(record));
    graph.record_times(&row);
    graph.append(row, Origin { seq, project }, record.status)
}

/// Adds inputs and outputs to a record, and returns the inputs to resolve.
pub(super) fn add_inputs_and_outputs(
    graph: &mut Graph,
    node: u32,
    inputs: &[(ArtifactId, Relationship)],
    outputs: &[ArtifactId],
) -> Vec<InputKey> {
    let mut affected = add_inputs(graph, node, inputs);
    let (page, slot) = split(node);
    for id in outputs {
        let artifact = graph.artifact(id);
        if graph.outputs_of(node).iter().all(|other| other != artifact) {
            graph.links.outputs.get_mut(page).push(slot, artifact);
            choice::add_producer(graph, node, artifact, &mut affected);
        }
    }
    affected
}

fn add_inputs(graph: &mut Graph, node: u32, inputs: &[(ArtifactId, Relationship)]) -> Vec<InputKey> {
    let mut numbers: Vec<_> = inputs.iter().map(|(id, how)| (graph.artifact(id), *how)).collect();
    numbers.sort_unstable();
    numbers.dedup_by_key(|(artifact, _)| *artifact);
    let (page, slot) = split(node);
    let mut affected = Vec::with_capacity(numbers.len());
    for (artifact, how) in numbers {
        match graph.input(node, artifact) {
            None => {
                let lists = &mut graph.links.inputs.get_mut(page).lists;
                let at = lists.get(slot).partition_point(|input| input.artifact() < artifact);
                lists.insert(slot, at, Input::new(artifact, how));
                affected.push((node, artifact));
            }
            Some((at, input)) if how == Relationship::Consumed => {
                let input = Input::new(artifact, how).linked(input.link());
                graph.links.inputs.get_mut(page).lists.set(slot, at, input);
            }
            Some(_) => {}
        }
    }
    affected
}

/// Resolves every affected input again.
pub(super) fn relink(graph: &mut Graph, mut affected: Vec<InputKey>, seq: Seq) -> Step {
    let mut step = Step::default();
    affected.sort_unstable();
    affected.dedup();
    unbind_changed(graph, &affected, &mut step);
    flags::propagate_unbound(graph, &step.unbound, &mut step.flags);
    let mut arrived = Vec::new();
    for (consumer, artifact) in affected {
        arrived.extend(bind(graph, (consumer, artifact), Binding::At(seq), &mut step));
    }
    if !step.unbound.is_empty() {
        for refused in graph.links.refused.as_ref().clone() {
            arrived.extend(bind(graph, refused, Binding::At(seq), &mut step));
        }
    }
    stop_waiting(graph, &arrived);
    flags::propagate_bound(graph, seq, &mut step);
    if !step.unbound.is_empty() {
        step.join();
    }
    step
}

/// Removes the edges of affected inputs that should have another one.
pub(super) fn unbind_changed(graph: &mut Graph, affected: &[InputKey], step: &mut Step) {
    let mut others = affected.to_vec();
    others.retain(|&(consumer, artifact)| {
        let bound = graph.input(consumer, artifact).and_then(|(_, input)| input.bound());
        bound.is_some_and(|bound| choice::resolve(graph, consumer, artifact) != Some(bound))
    });
    unbind(graph, &others, step);
}

/// Removes the edges of these inputs, which wait from now on.
pub(super) fn unbind(graph: &mut Graph, affected: &[InputKey], step: &mut Step) {
    let mut gone: HashMap<u32, HashMap<u32, usize>> = HashMap::new();
    let mut late: HashMap<u32, HashSet<u32>> = HashMap::new();
    for &(consumer, artifact) in affected {
        let Some((at, input)) = graph.input(consumer, artifact) else { continue };
        let Some(producer) = input.bound() else { continue };
        set_link(graph, consumer, (at, input), Link::Waiting);
        let (page, slot) = split(consumer);
        if !graph.links.inputs.get(page).rebound.is_empty() {
            graph.links.inputs.get_mut(page).set_rebound(slot, artifact, None);
        }
        *gone.entry(producer).or_default().entry(consumer).or_default() += 1;
        let (page, slot) = split(artifact);
        graph.artifacts.pages.get_mut(page).waiting.push(slot, consumer);
        if !choice::is_before(graph, producer, consumer) {
            late.entry(artifact).or_default().insert(consumer);
        }
        if cycle::is_backward(graph, consumer, producer) {
            Arc::make_mut(&mut graph.links.cover).remove_edge();
        }
        let edge = Edge { dependent: Node(consumer), artifact: Artifact(artifact), dependency: Node(producer) };
        step.unbound.push(edge);
        graph.links.edges -= 1;
    }
    for (artifact, consumers) in late {
        let (page, slot) = split(artifact);
        graph.artifacts.pages.get_mut(page).late.retain(slot, |consumer| !consumers.contains(&consumer));
    }
    for (producer, mut consumers) in gone {
        let (page, slot) = split(producer);
        graph.links.dependents.get_mut(page).lists.retain(slot, |consumer| match consumers.get_mut(&consumer) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        });
    }
}

/// Makes the edge that an input should have, unless it closes a cycle. Returns the input if it is
/// bound now and waited before.
pub(super) fn bind(
    graph: &mut Graph,
    (consumer, artifact): InputKey,
    binding: Binding,
    step: &mut Step,
) -> Option<InputKey> {
    let (at, input) = graph.input(consumer, artifact).filter(|(_, input)| input.bound().is_none())?;
    let Some(producer) = choice::resolve(graph, consumer, artifact) else {
        start_waiting(graph, (consumer, artifact), input);
        if input.link() != Link::Waiting {
            Arc::make_mut(&mut graph.links.refused).retain(|refused| *refused != (consumer, artifact));
        }
        if input != input.linked(Link::Waiting) {
            set_link(graph, consumer, (at, input), Link::Waiting);
        }
        return None;
    };
    let edge = Edge { dependent: Node(consumer), artifact: Artifact(artifact), dependency: Node(producer) };
    if cycle::closes_cycle(graph, consumer, producer) {
        refuse(graph, edge, (at, input), step);
        return None;
    }
    if input.link() != Link::Waiting {
        Arc::make_mut(&mut graph.links.refused).retain(|refused| *refused != (consumer, artifact));
    }
    set_link(graph, consumer, (at, input), Link::Bound(Node(producer)));
    add_dependent(graph, producer, consumer);
    if !choice::is_before(graph, producer, consumer) {
        let (page, slot) = split(artifact);
        graph.artifacts.pages.get_mut(page).late.push(slot, consumer);
    }
    graph.links.edges += 1;
    if cycle::is_backward(graph, consumer, producer) {
        Arc::make_mut(&mut graph.links.cover).add_edge();
    }
    if let Binding::At(seq) = binding
        && seq != graph.seq(consumer).max(graph.seq(producer))
    {
        let (page, slot) = split(consumer);
        graph.links.inputs.get_mut(page).set_rebound(slot, artifact, Some(seq));
    }
    step.bound.push(edge);
    Some((consumer, artifact))
}

fn add_dependent(graph: &mut Graph, producer: u32, consumer: u32) {
    let (page, slot) = split(producer);
    graph.links.dependents.get_mut(page).lists.push(slot, consumer);
    let dependents = graph.links.dependents.get(page);
    if !dependents.lists.get(slot).is_long() {
        return;
    }
    let start = |node| graph.row(node).started_at;
    let before = dependents.latest_start(slot);
    let before = before.or_else(|| dependents.lists.get(slot).iter().map(start).max());
    let latest = before.unwrap_or_default().max(start(consumer));
    graph.links.dependents.get_mut(page).set_latest_start(slot, latest);
}

fn start_waiting(graph: &mut Graph, (consumer, artifact): InputKey, input: Input) {
    if input.is_new() {
        let (page, slot) = split(artifact);
        graph.artifacts.pages.get_mut(page).waiting.push(slot, consumer);
    }
}

fn refuse(graph: &mut Graph, edge: Edge, place: (usize, Input), step: &mut Step) {
    let refused = Link::Refused(edge.dependency);
    if place.1.link() == refused {
        return;
    }
    let affected = (edge.dependent.0, edge.artifact.0);
    if place.1.link() == Link::Waiting {
        Arc::make_mut(&mut graph.links.refused).push(affected);
        start_waiting(graph, affected, place.1);
    }
    set_link(graph, edge.dependent.0, place, refused);
    step.refused.push(edge);
}

pub(super) fn set_link(graph: &mut Graph, consumer: u32, (at, input): (usize, Input), link: Link) {
    let (page, slot) = split(consumer);
    graph.links.inputs.get_mut(page).lists.set(slot, at, input.linked(link));
}

/// Removes bound inputs from the lists of waiting ones.
pub(super) fn stop_waiting(graph: &mut Graph, bound: &[InputKey]) {
    let mut by_artifact: HashMap<u32, HashSet<u32>> = HashMap::new();
    for (consumer, artifact) in bound {
        let (page, slot) = split(*artifact);
        if !graph.artifacts.pages.get(page).waiting.get(slot).is_empty() {
            by_artifact.entry(*artifact).or_default().insert(*consumer);
        }
    }
    for (artifact, consumers) in by_artifact {
        let (page, slot) = split(artifact);
        graph.artifacts.pages.get_mut(page).waiting.retain(slot, |waiting| !consumers.contains(&waiting));
    }
}
