//! How links follow every change.
//!
//! Which record an input should be bound to says [`Graph::wish`]. A change asks
//! again only those inputs whose answer can be another one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::graph::Graph;
use super::pages::split;
use super::record::{Artifact, Edge, Error, Link, Node, Record, Relationship, Step};
use super::rows::{Input, Origin, Row};
use crate::task::{ArtifactId, RecordId, RecordStatus, Seq};

/// An input that has to be asked again: record and artifact.
pub(super) type Asked = (u32, u32);

/// How an edge is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// In a step, at its position.
    At(Seq),
    /// From rows: as old as the younger of its records.
    Restored,
}

impl Graph {
    /// Puts a record into the graph: binds its inputs, and to it the inputs
    /// that waited for it or should have had it.
    pub fn insert(&mut self, record: &Record, seq: Seq) -> Result<Step, Error> {
        self.check(seq, record.inputs.len() + record.outputs.len())?;
        self.check_new(record.id)?;
        self.newest = seq;
        let node = self.append_record(record, seq);
        let asked = self.name(node, &record.inputs, &record.outputs);
        Ok(self.relink(asked, seq))
    }

    /// Adds what a late output brought to a record.
    pub fn extend(
        &mut self,
        id: RecordId,
        inputs: &[(ArtifactId, Relationship)],
        outputs: &[ArtifactId],
        seq: Seq,
    ) -> Result<Step, Error> {
        self.check(seq, inputs.len() + outputs.len())?;
        let node = self.known(id)?;
        self.newest = seq;
        let asked = self.name(node, inputs, outputs);
        Ok(self.relink(asked, seq))
    }

    /// Gives a record another verdict. One that fails gives way to others as
    /// an input, one that no longer fails goes before them again.
    pub fn judge(&mut self, id: RecordId, status: RecordStatus, seq: Seq) -> Result<Step, Error> {
        self.check(seq, 0)?;
        let node = self.known(id)?;
        self.newest = seq;
        let failed = self.marks.status(node) == RecordStatus::Failed;
        if failed == (status == RecordStatus::Failed) {
            self.marks.set_status(node, status);
            return Ok(Step::default());
        }
        let outputs: Vec<u32> = self.outputs_of(node).iter().collect();
        for artifact in &outputs {
            self.withdraw(node, *artifact);
        }
        self.marks.set_status(node, status);
        let mut asked = Vec::new();
        for artifact in outputs {
            if failed {
                self.offer(node, artifact, &mut asked);
            } else {
                self.list(node, artifact);
                asked.extend(self.waiting_for(artifact));
            }
        }
        if !failed {
            asked.extend(self.bound_to(node, None));
        }
        Ok(self.relink(asked, seq))
    }

    pub(super) fn known(&self, id: RecordId) -> Result<u32, Error> {
        self.find(id).map(|node| node.0).ok_or(Error::NotThere(id))
    }

    pub(super) fn check_new(&self, id: RecordId) -> Result<(), Error> {
        self.find(id).map_or(Ok(()), |_| Err(Error::AlreadyThere(id)))
    }

    pub(super) fn append_record(&mut self, record: &Record, seq: Seq) -> u32 {
        let project = self.projects.number(record.project.as_str());
        let row = self.place_in_time(Row::of(record));
        self.note_times(&row);
        self.append(row, Origin { seq, project }, record.status)
    }

    /// Adds inputs and outputs to a record, and gives the inputs to be asked.
    pub(super) fn name(
        &mut self,
        node: u32,
        inputs: &[(ArtifactId, Relationship)],
        outputs: &[ArtifactId],
    ) -> Vec<Asked> {
        let mut asked = self.add_inputs(node, inputs);
        let (page, slot) = split(node);
        for id in outputs {
            let artifact = self.artifact(id);
            if self.outputs_of(node).iter().all(|other| other != artifact) {
                self.outputs.get_mut(page).push(slot, artifact);
                self.offer(node, artifact, &mut asked);
            }
        }
        asked
    }

    fn add_inputs(&mut self, node: u32, inputs: &[(ArtifactId, Relationship)]) -> Vec<Asked> {
        let mut numbers: Vec<_> = inputs.iter().map(|(id, how)| (self.artifact(id), *how)).collect();
        numbers.sort_unstable();
        numbers.dedup_by_key(|(artifact, _)| *artifact);
        let (page, slot) = split(node);
        let mut asked = Vec::with_capacity(numbers.len());
        for (artifact, how) in numbers {
            match self.input(node, artifact) {
                None => {
                    let lists = &mut self.inputs.get_mut(page).lists;
                    let at = lists.get(slot).partition_point(|input| input.artifact() < artifact);
                    lists.insert(slot, at, Input::new(artifact, how));
                    asked.push((node, artifact));
                }
                Some((at, input)) if how == Relationship::Consumed => {
                    let input = Input::new(artifact, how).linked(input.link());
                    self.inputs.get_mut(page).lists.set(slot, at, input);
                }
                Some(_) => {}
            }
        }
        asked
    }

    /// Links every asked input anew where the rule says so.
    pub(super) fn relink(&mut self, mut asked: Vec<Asked>, seq: Seq) -> Step {
        let mut step = Step::default();
        asked.sort_unstable();
        asked.dedup();
        self.loosen(&asked, &mut step);
        self.lower(&step.unbound, &mut step.flags);
        let mut arrived = Vec::new();
        for (consumer, artifact) in asked {
            arrived.extend(self.fasten((consumer, artifact), Binding::At(seq), &mut step));
        }
        if !step.unbound.is_empty() {
            for refused in self.refused.as_ref().clone() {
                arrived.extend(self.fasten(refused, Binding::At(seq), &mut step));
            }
        }
        self.stop_waiting(&arrived);
        self.raise(seq, &mut step);
        if !step.unbound.is_empty() {
            step.join();
        }
        step
    }

    /// Removes the edges of asked inputs that should have another one.
    pub(super) fn loosen(&mut self, asked: &[Asked], step: &mut Step) {
        let mut others = asked.to_vec();
        others.retain(|&(consumer, artifact)| {
            let bound = self.input(consumer, artifact).and_then(|(_, input)| input.bound());
            bound.is_some_and(|bound| self.wish(consumer, artifact) != Some(bound))
        });
        self.unbind(&others, step);
    }

    /// Removes the edges of these inputs, which wait from now on.
    pub(super) fn unbind(&mut self, asked: &[Asked], step: &mut Step) {
        let mut gone: HashMap<u32, HashMap<u32, usize>> = HashMap::new();
        let mut late: HashMap<u32, HashSet<u32>> = HashMap::new();
        for &(consumer, artifact) in asked {
            let Some((at, input)) = self.input(consumer, artifact) else { continue };
            let Some(producer) = input.bound() else { continue };
            self.set_link(consumer, (at, input), Link::Waiting);
            let (page, slot) = split(consumer);
            if !self.inputs.get(page).rebound.is_empty() {
                self.inputs.get_mut(page).set_rebound(slot, artifact, None);
            }
            *gone.entry(producer).or_default().entry(consumer).or_default() += 1;
            let (page, slot) = split(artifact);
            self.artifacts.get_mut(page).waiting.push(slot, consumer);
            if !self.is_before(producer, consumer) {
                late.entry(artifact).or_default().insert(consumer);
            }
            if self.is_backward(consumer, producer) {
                Arc::make_mut(&mut self.cover).remove_edge();
            }
            let edge = Edge { dependent: Node(consumer), artifact: Artifact(artifact), dependency: Node(producer) };
            step.unbound.push(edge);
            self.edges -= 1;
        }
        for (artifact, consumers) in late {
            let (page, slot) = split(artifact);
            self.artifacts.get_mut(page).late.retain(slot, |consumer| !consumers.contains(&consumer));
        }
        for (producer, mut consumers) in gone {
            let (page, slot) = split(producer);
            self.dependents.get_mut(page).lists.retain(slot, |consumer| match consumers.get_mut(&consumer) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    false
                }
                _ => true,
            });
        }
    }

    /// Makes the edge that an input should have, unless that closes a cycle.
    /// Gives the input back if it is bound now and waited before.
    pub(super) fn fasten(&mut self, (consumer, artifact): Asked, binding: Binding, step: &mut Step) -> Option<Asked> {
        let (at, input) = self.input(consumer, artifact).filter(|(_, input)| input.bound().is_none())?;
        let Some(producer) = self.wish(consumer, artifact) else {
            self.start_waiting((consumer, artifact), input);
            if input.link() != Link::Waiting {
                Arc::make_mut(&mut self.refused).retain(|refused| *refused != (consumer, artifact));
            }
            if input != input.linked(Link::Waiting) {
                self.set_link(consumer, (at, input), Link::Waiting);
            }
            return None;
        };
        let edge = Edge { dependent: Node(consumer), artifact: Artifact(artifact), dependency: Node(producer) };
        if self.closes_cycle(consumer, producer) {
            self.refuse(edge, (at, input), step);
            return None;
        }
        if input.link() != Link::Waiting {
            Arc::make_mut(&mut self.refused).retain(|refused| *refused != (consumer, artifact));
        }
        self.set_link(consumer, (at, input), Link::Bound(Node(producer)));
        self.add_dependent(producer, consumer);
        if !self.is_before(producer, consumer) {
            let (page, slot) = split(artifact);
            self.artifacts.get_mut(page).late.push(slot, consumer);
        }
        self.edges += 1;
        if self.is_backward(consumer, producer) {
            Arc::make_mut(&mut self.cover).add_edge();
        }
        if let Binding::At(seq) = binding
            && seq != self.seq(consumer).max(self.seq(producer))
        {
            let (page, slot) = split(consumer);
            self.inputs.get_mut(page).set_rebound(slot, artifact, Some(seq));
        }
        step.bound.push(edge);
        Some((consumer, artifact))
    }

    fn add_dependent(&mut self, producer: u32, consumer: u32) {
        let (page, slot) = split(producer);
        self.dependents.get_mut(page).lists.push(slot, consumer);
        let dependents = self.dependents.get(page);
        if !dependents.lists.get(slot).is_long() {
            return;
        }
        let start = |node| self.row(node).started_at;
        let before = dependents.latest_start(slot);
        let before = before.or_else(|| dependents.lists.get(slot).iter().map(start).max());
        let latest = before.unwrap_or_default().max(start(consumer));
        self.dependents.get_mut(page).set_latest_start(slot, latest);
    }

    fn start_waiting(&mut self, (consumer, artifact): Asked, input: Input) {
        if input.is_new() {
            let (page, slot) = split(artifact);
            self.artifacts.get_mut(page).waiting.push(slot, consumer);
        }
    }

    fn refuse(&mut self, edge: Edge, place: (usize, Input), step: &mut Step) {
        let refused = Link::Refused(edge.dependency);
        if place.1.link() == refused {
            return;
        }
        let asked = (edge.dependent.0, edge.artifact.0);
        if place.1.link() == Link::Waiting {
            Arc::make_mut(&mut self.refused).push(asked);
            self.start_waiting(asked, place.1);
        }
        self.set_link(edge.dependent.0, place, refused);
        step.refused.push(edge);
    }

    pub(super) fn set_link(&mut self, consumer: u32, (at, input): (usize, Input), link: Link) {
        let (page, slot) = split(consumer);
        self.inputs.get_mut(page).lists.set(slot, at, input.linked(link));
    }

    /// Takes inputs that are bound now from those that wait.
    pub(super) fn stop_waiting(&mut self, bound: &[Asked]) {
        let mut by_artifact: HashMap<u32, HashSet<u32>> = HashMap::new();
        for (consumer, artifact) in bound {
            let (page, slot) = split(*artifact);
            if !self.artifacts.get(page).waiting.get(slot).is_empty() {
                by_artifact.entry(*artifact).or_default().insert(*consumer);
            }
        }
        for (artifact, consumers) in by_artifact {
            let (page, slot) = split(artifact);
            self.artifacts.get_mut(page).waiting.retain(slot, |waiting| !consumers.contains(&waiting));
        }
    }
}
