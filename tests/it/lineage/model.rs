//! The rules of provenance, written down once more in the plainest way: every
//! answer is computed from the records and facts alone, by going over all.

use std::collections::{BTreeMap, BTreeSet};

use dats::lineage::{Fact, Flag, Graph, Link, Node, Record, Relationship, RestoredRecord, WorkStart};
use dats::task::{ArtifactId, ProjectId, RecordId, RecordStatus, Seq, TaskId, Timestamp};
use uuid::Uuid;

pub(super) fn artifact(number: usize) -> ArtifactId {
    ArtifactId::new(&format!("artifact-{number}")).unwrap()
}

pub(super) fn project(number: usize) -> ProjectId {
    ProjectId::new(&format!("project-{number}")).unwrap()
}

/// Ids do not come in the order of arrival.
pub(super) fn record_id(number: usize) -> RecordId {
    let number = u128::try_from(number).unwrap();
    RecordId::new(Uuid::from_u128((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)))
}

pub(super) fn task_id(number: usize) -> TaskId {
    TaskId::new(Uuid::from_u128(u128::try_from(number).unwrap()))
}

pub(super) fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(second).unwrap() * 1_000_000)
}

/// A record, as the model keeps it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) record: Record,
    pub(super) seq: u64,
    pub(super) fact: Option<Fact>,
}

/// An edge: the dependent, its artifact, and there the dependency and the
/// position at which it was bound.
pub(super) type Edges = BTreeMap<(usize, ArtifactId), (usize, u64)>;

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) records: Vec<Known>,
    pub(super) edges: Edges,
    pub(super) refused: BTreeSet<(usize, ArtifactId)>,
}

impl Model {
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|known| &known.record)
    }

    pub(super) fn number(&self, id: RecordId) -> usize {
        self.records.iter().position(|known| known.record.id == id).unwrap()
    }

    pub(super) fn node(graph: &Graph, number: usize) -> Node {
        graph.find(record_id(number)).unwrap()
    }

    pub(super) fn number_of(graph: &Graph, model: &Self, node: Node) -> usize {
        model.number(graph.record(node).unwrap().id)
    }

    /// The rule of binding, from the records alone.
    pub(super) fn wish(&self, consumer: usize, artifact: &ArtifactId) -> Option<usize> {
        let project = &self.records[consumer].record.project;
        let makes = |known: &Known| known.record.outputs.contains(artifact);
        let others: Vec<usize> =
            (0..self.records.len()).filter(|number| *number != consumer && makes(&self.records[*number])).collect();
        let class = |own: bool, failed: bool, before: bool| -> Vec<usize> {
            let is_one = |number: &usize| {
                let record = &self.records[*number].record;
                (record.project == *project) == own
                    && (record.status == RecordStatus::Failed) == failed
                    && self.is_before(*number, consumer) == before
            };
            others.iter().copied().filter(is_one).collect()
        };
        let classes = [(true, false), (true, true), (false, false), (false, true)];
        let earlier = classes.iter().find_map(|(own, failed)| self.newest(&class(*own, *failed, true)));
        earlier.or_else(|| classes.iter().find_map(|(own, failed)| self.earliest(&class(*own, *failed, false))))
    }

    /// A record, and all that produce an artifact which it uses.
    fn told(&self, consumer: usize, artifact: &ArtifactId) -> String {
        let makers = self.records.iter().enumerate().filter(|(_, known)| known.record.outputs.contains(artifact));
        let told = |number: usize| {
            let Known { record, seq, .. } = &self.records[number];
            format!(
                "{number} in {}: {:?}, step {seq}, {:?}, made {}, started {}",
                record.project,
                record.status,
                record.began,
                record.created_at,
                self.started(number)
            )
        };
        let makers: Vec<String> = makers.map(|(number, _)| told(number)).collect();
        format!("{artifact} of {}\nmade by\n{}", told(consumer), makers.join("\n"))
    }

    fn is_imported(&self, number: usize) -> bool {
        self.records[number].record.began == WorkStart::Elsewhere
    }

    fn is_before(&self, producer: usize, consumer: usize) -> bool {
        match self.records[consumer].record.began {
            WorkStart::After(step) if !self.is_imported(producer) => self.records[producer].seq <= step.0,
            _ => self.moment(producer).0 <= self.started(consumer),
        }
    }

    fn newest(&self, numbers: &[usize]) -> Option<usize> {
        numbers.iter().copied().max_by_key(|number| self.moment(*number))
    }

    fn earliest(&self, numbers: &[usize]) -> Option<usize> {
        numbers.iter().copied().min_by_key(|number| self.moment(*number))
    }

    /// Where a record stands in the order of all: one that was made here is no
    /// earlier than those made here before it.
    fn moment(&self, number: usize) -> (Timestamp, bool, u64, RecordId) {
        let Known { record, seq, .. } = &self.records[number];
        if self.is_imported(number) {
            return (record.created_at, false, 0, record.id);
        }
        let own = (0..self.records.len()).filter(|other| !self.is_imported(*other) && self.records[*other].seq <= *seq);
        let latest = own.map(|other| self.records[other].record.created_at).max();
        (latest.unwrap_or(record.created_at), true, *seq, record.id)
    }

    fn started(&self, number: usize) -> Timestamp {
        let record = &self.records[number].record;
        record.started_at.unwrap_or(record.created_at)
    }

    /// Takes the graph's links as they are now, after checking that each is
    /// what the rule says; gives the edges that were made and that are gone.
    pub(super) fn follow_links(&mut self, graph: &Graph, seq: u64) -> (Edges, Edges) {
        let (mut edges, mut refused) = (Edges::new(), BTreeSet::new());
        for number in 0..self.records.len() {
            let node = Self::node(graph, number);
            let inputs: BTreeMap<ArtifactId, Relationship> = self.consumed(number);
            assert_eq!(graph.inputs(node).count(), inputs.len(), "inputs of {number}");
            for (input, how, link) in graph.inputs(node) {
                let artifact = ArtifactId::new(graph.artifact_id(input).unwrap()).unwrap();
                assert_eq!(inputs.get(&artifact), Some(&how), "{number} uses {artifact}");
                let wish = self.wish(number, &artifact);
                let key = (number, artifact.clone());
                let linked = match link {
                    Link::Waiting => None,
                    Link::Bound(producer) => {
                        let producer = Self::number_of(graph, self, producer);
                        let since = self.edges.get(&key).filter(|(before, _)| *before == producer);
                        edges.insert(key, since.copied().unwrap_or((producer, seq)));
                        Some(producer)
                    }
                    Link::Refused(producer) => {
                        refused.insert(key);
                        Some(Self::number_of(graph, self, producer))
                    }
                };
                assert_eq!(linked, wish, "{}", self.told(number, &artifact));
            }
        }
        let new = edges.iter().filter(|(key, (to, _))| self.edges.get(*key).is_none_or(|(before, _)| before != to));
        let new = new.map(|(key, value)| (key.clone(), *value)).collect();
        let gone = self.edges.iter().filter(|(key, (to, _))| edges.get(*key).is_none_or(|(now, _)| now != to));
        let gone = gone.map(|(key, value)| (key.clone(), *value)).collect();
        (self.edges, self.refused) = (edges, refused);
        self.check_cycles();
        (new, gone)
    }

    fn consumed(&self, number: usize) -> BTreeMap<ArtifactId, Relationship> {
        let mut inputs = BTreeMap::new();
        for (artifact, how) in &self.records[number].record.inputs {
            let known = inputs.entry(artifact.clone()).or_insert(*how);
            *known = (*known).min(*how);
        }
        inputs
    }

    /// No record depends on itself, and each refused edge would make one do so.
    fn check_cycles(&self) {
        for number in 0..self.records.len() {
            assert!(!self.distances(&[number], true).iter().any(|(other, depth)| *other == number && *depth > 0));
        }
        for (consumer, artifact) in &self.refused {
            let producer = self.wish(*consumer, artifact).unwrap();
            let above = self.distances(&[producer], true);
            assert!(above.contains_key(consumer), "the edge from {consumer} to {producer} closes no cycle");
        }
    }

    /// One step along all edges.
    pub(super) fn neighbors(&self, of: usize, up: bool) -> BTreeSet<usize> {
        let edges = self.edges.iter().map(|((from, _), (to, _))| if up { (*from, *to) } else { (*to, *from) });
        edges.filter(|(from, _)| *from == of).map(|(_, to)| to).collect()
    }

    /// Shortest distances from the nearest of `starts`, which are zero.
    pub(super) fn distances(&self, starts: &[usize], up: bool) -> BTreeMap<usize, u32> {
        let mut distances: BTreeMap<usize, u32> = starts.iter().map(|start| (*start, 0)).collect();
        let mut level: Vec<usize> = starts.to_vec();
        for depth in 1.. {
            let next: BTreeSet<usize> = level.iter().flat_map(|number| self.neighbors(*number, up)).collect();
            level = next.into_iter().filter(|number| !distances.contains_key(number)).collect();
            if level.is_empty() {
                break;
            }
            distances.extend(level.iter().map(|number| (*number, depth)));
        }
        distances
    }

    fn taint_of(&self, number: usize) -> Option<u64> {
        match self.records[number].fact {
            Some(Fact::Tainted(at)) => Some(at.0),
            _ => None,
        }
    }

    /// Whether a path leads down from a tainted record that has a part newer
    /// than `position`.
    fn exposed_after(&self, number: usize, position: u64) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![(number, false)];
        while let Some((at, newer)) = open.pop() {
            for ((_, _), (above, bound)) in self.edges.iter().filter(|((from, _), _)| *from == at) {
                let newer = newer || *bound > position;
                if self.taint_of(*above).is_some_and(|taint| newer || taint > position) {
                    return true;
                }
                if seen.insert((*above, newer)) {
                    open.push((*above, newer));
                }
            }
        }
        false
    }

    /// The rule of suspicion, from facts and edges alone.
    pub(super) fn flag(&self, number: usize) -> Flag {
        let is_suspect = match self.records[number].fact {
            Some(Fact::Tainted(_)) => return Flag::Tainted,
            Some(Fact::Marked(_)) => true,
            Some(Fact::Cleared(at)) => self.exposed_after(number, at.0),
            None => self.exposed_after(number, 0),
        };
        if is_suspect { Flag::Suspect } else { Flag::Clean }
    }

    pub(super) fn flags(&self) -> Vec<Flag> {
        (0..self.records.len()).map(|number| self.flag(number)).collect()
    }

    /// The distances of the tainted records at or above one that have nothing
    /// tainted above them.
    pub(super) fn root_causes(&self, of: usize) -> BTreeMap<usize, u32> {
        let mut above = self.distances(&[of], true);
        above.retain(|number, _| self.taint_of(*number).is_some() && !self.exposed_after(*number, 0));
        above
    }

    /// The rows that a store would have kept.
    pub(super) fn rows(&self) -> Vec<RestoredRecord> {
        let row = |(number, known): (usize, &Known)| {
            let own = |of: &usize| *of == number;
            let later = self
                .edges
                .iter()
                .filter(|((from, _), (to, bound))| own(from) && *bound != known.seq.max(self.records[*to].seq));
            RestoredRecord {
                record: known.record.clone(),
                seq: Seq(known.seq),
                fact: known.fact,
                rebound: later.map(|((_, artifact), (_, bound))| (artifact.clone(), Seq(*bound))).collect(),
                refused: self.refused.iter().filter(|(of, _)| own(of)).map(|(_, artifact)| artifact.clone()).collect(),
            }
        };
        self.records.iter().enumerate().map(row).collect()
    }
}
