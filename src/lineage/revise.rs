//! A record that becomes another one: an import that came again with other
//! inputs, outputs or times.

use std::collections::{HashMap, HashSet};

use super::graph::Graph;
use super::link::{Asked, Binding};
use super::pages::split;
use super::record::{Artifact, Edge, Error, Node, Record, Step};
use super::rows::{Input, Row};
use crate::task::Seq;

impl Graph {
    /// Puts another record in the place of the imported one with its id. What was said
    /// about it stays, and so does the age of every edge that is the same as
    /// before: an edge that was there already voids no clear.
    pub fn revise(&mut self, record: &Record, seq: Seq) -> Result<Step, Error> {
        self.check(seq, record.inputs.len() + record.outputs.len())?;
        let node = self.known(record.id)?;
        self.newest = seq;
        let mut step = Step::default();
        let mut asked = self.bound_to(node, None);
        asked.extend(self.inputs_of(node).iter().map(|input| (node, input.artifact())));
        let before = self.ages(&asked);
        // While ages are as they were: which edges are backward ones depends on them.
        self.unbind(&asked, &mut step);
        self.take_apart(node);
        asked.extend(self.refused.iter().copied());
        self.put_again(node, record);
        asked.extend(self.name(node, &record.inputs, &record.outputs));
        asked.sort_unstable();
        asked.dedup();
        self.loosen(&asked, &mut step);
        // Edges as before come first: none of them closes a cycle, and none is
        // to be refused because of an edge that is new.
        asked.sort_by_key(|asked| !self.is_as_before(*asked, &before));
        self.fasten_all(asked, seq, &mut step);
        self.keep_ages(&before, &mut step);
        self.lower(&step.unbound, &mut step.flags);
        self.raise(seq, &mut step);
        step.join();
        Ok(step)
    }

    /// The edges of these inputs, and the positions at which they were bound.
    fn ages(&self, asked: &[Asked]) -> HashMap<Edge, Seq> {
        let edges = asked.iter().filter_map(|&(consumer, artifact)| {
            let producer = self.input(consumer, artifact)?.1.bound()?;
            let edge = Edge { dependent: Node(consumer), artifact: Artifact(artifact), dependency: Node(producer) };
            Some((edge, self.bound_at(consumer, artifact, producer)))
        });
        edges.collect()
    }

    fn is_as_before(&self, (consumer, artifact): Asked, before: &HashMap<Edge, Seq>) -> bool {
        let (dependent, artifact) = (Node(consumer), Artifact(artifact));
        let wish = self.wish(consumer, artifact.0).map(Node);
        wish.is_some_and(|dependency| before.contains_key(&Edge { dependent, artifact, dependency }))
    }

    /// Takes inputs and outputs from a record none of whose inputs is bound,
    /// and to which none is.
    fn take_apart(&mut self, node: u32) {
        let inputs: Vec<u32> = self.inputs_of(node).iter().map(Input::artifact).collect();
        for artifact in inputs {
            let (page, slot) = split(artifact);
            self.artifacts.get_mut(page).waiting.retain(slot, |waiting| waiting != node);
        }
        if self.refused.iter().any(|(of, _)| *of == node) {
            std::sync::Arc::make_mut(&mut self.refused).retain(|(of, _)| *of != node);
        }
        let outputs: Vec<u32> = self.outputs_of(node).iter().collect();
        for artifact in outputs {
            self.withdraw(node, artifact);
        }
        let (page, slot) = split(node);
        self.inputs.get_mut(page).lists.retain(slot, |_| false);
        self.outputs.get_mut(page).retain(slot, |_| false);
    }

    fn put_again(&mut self, node: u32, record: &Record) {
        let project = self.projects.number(record.project.as_str());
        let (page, slot) = split(node);
        let row = Row::of(record);
        self.rows.get_mut(page).set(slot, row, project);
        self.marks.set_status(node, record.status);
        self.note_times(&row);
    }

    fn fasten_all(&mut self, asked: Vec<Asked>, seq: Seq, step: &mut Step) {
        let mut arrived = Vec::new();
        for asked in asked {
            arrived.extend(self.fasten(asked, Binding::At(seq), step));
        }
        for refused in self.refused.as_ref().clone() {
            arrived.extend(self.fasten(refused, Binding::At(seq), step));
        }
        self.stop_waiting(&arrived);
    }

    /// Edges that were there before are neither new nor gone.
    fn keep_ages(&mut self, before: &HashMap<Edge, Seq>, step: &mut Step) {
        let kept: HashSet<Edge> = step.bound.iter().filter(|edge| before.contains_key(edge)).copied().collect();
        for edge in &kept {
            let (consumer, producer) = (edge.dependent.0, edge.dependency.0);
            let youngest = self.seq(consumer).max(self.seq(producer));
            let later = before.get(edge).copied().filter(|bound_at| *bound_at != youngest);
            let (page, slot) = split(consumer);
            self.inputs.get_mut(page).set_rebound(slot, edge.artifact.0, later);
        }
        step.bound.retain(|edge| !kept.contains(edge));
        step.unbound.retain(|edge| !kept.contains(edge));
    }
}
