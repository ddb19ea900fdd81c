//! Random histories of the provenance graph: records that come in any order,
//! produce the same artifact again, wait for what nobody produced, fail and
//! recover, extend, close cycles; taints, marks and clears; versions held and
//! graphs built again in between. After every step everything is compared
//! with [`model`].
//!
//! `DATS_ROUNDS` makes a run longer, `DATS_SEED` another one.

mod large;
mod model;
mod walks;

use std::collections::BTreeMap;

use dats::lineage::{Action, Error, Fact, Flag, Graph, Record, Relationship, Step, WorkStart};
use dats::task::{ArtifactId, RecordStatus, Seq};

use self::model::{Edges, Known, Model, artifact, at, project, record_id, task_id};
use crate::support::random::{Random, from_environment};

const STATUSES: [RecordStatus; 4] =
    [RecordStatus::Pending, RecordStatus::Passed, RecordStatus::Failed, RecordStatus::HumanApproved];

/// How often each kind of thing has happened, so that the test can't become idle unseen.
#[derive(Debug, Default)]
struct Met {
    rebound: usize,
    refused: usize,
    retried: usize,
    voided: usize,
    revived: usize,
    cleaned: usize,
    suspects: usize,
    restored: usize,
    restated: usize,
}

/// One history.
struct History {
    random: Random,
    graph: Graph,
    model: Model,
    seq: u64,
    /// How many artifacts there are, and how many seconds.
    artifacts: usize,
    seconds: u64,
    /// A version that somebody holds, and what it says.
    held: Option<(Graph, String)>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let artifacts = 2 + random.index(14);
        let seconds = 2 + random.below(40);
        Self { random, graph: Graph::default(), model: Model::default(), seq: 0, artifacts, seconds, held: None }
    }

    fn pick(&mut self) -> usize {
        self.random.index(self.model.records.len())
    }

    fn inputs(&mut self) -> Vec<(ArtifactId, Relationship)> {
        let count = self.random.index(4);
        let how = |chance| if chance { Relationship::Consumed } else { Relationship::Referenced };
        (0..count).map(|_| (artifact(self.random.index(self.artifacts)), how(self.random.chance(60)))).collect()
    }

    fn outputs(&mut self) -> Vec<ArtifactId> {
        let count = self.random.index(3);
        (0..count).map(|_| artifact(self.random.index(self.artifacts))).collect()
    }

    fn step(&mut self, met: &mut Met) {
        self.seq += 1 + self.random.below(2);
        let before = self.model.clone();
        let step = match self.random.below(100) {
            _ if self.model.records.is_empty() => self.insert(),
            0..40 => self.insert(),
            40..45 => self.revise(),
            45..50 => self.extend(),
            50..63 => self.judge(),
            63..76 => self.say(Action::Taint),
            76..80 => self.say(Action::Mark),
            80..89 => self.say(Action::Clear),
            89..93 => self.restate(met),
            93..96 => return self.restore(met),
            _ => return self.hold(),
        };
        self.check(&before, &step, met);
    }

    /// A record with this number, as it may be at any time.
    fn record(&mut self, number: usize) -> Record {
        let created = self.random.below(self.seconds);
        let started_at = match self.random.below(10) {
            0 => None,
            1 | 2 => Some(at(self.random.below(self.seconds))),
            _ => Some(at(created - self.random.below(created.min(5) + 1))),
        };
        let began = match self.random.below(10) {
            0..4 => WorkStart::Elsewhere,
            4 => WorkStart::Unknown,
            _ => WorkStart::After(Seq(self.seq - 1 - self.random.below(self.seq.min(8)))),
        };
        Record {
            id: record_id(number),
            task: task_id(self.random.index(number + 1)),
            project: project(self.random.index(3)),
            status: *self.random.pick(&STATUSES),
            created_at: at(created),
            started_at,
            began,
            inputs: self.inputs(),
            outputs: self.outputs(),
        }
    }

    fn insert(&mut self) -> Step {
        let number = self.model.records.len();
        let record = self.record(number);
        let step = self.graph.insert(&record, Seq(self.seq)).unwrap();
        assert_eq!(self.graph.insert(&record, Seq(self.seq + 1)), Err(Error::AlreadyThere(record.id)));
        self.model.records.push(Known { record, seq: self.seq, fact: None });
        step
    }

    /// Another record in the place of an imported one; sometimes the same one again.
    fn revise(&mut self) -> Step {
        let number = self.pick();
        if self.model.records[number].record.began != WorkStart::Elsewhere {
            return self.insert();
        }
        let again = self.random.chance(20);
        let new = Record { began: WorkStart::Elsewhere, ..self.record(number) };
        let record = if again { self.model.records[number].record.clone() } else { new };
        let step = self.graph.revise(&record, Seq(self.seq)).unwrap();
        if again {
            assert_eq!((&step.bound, &step.unbound, &step.flags), (&Vec::new(), &Vec::new(), &Vec::new()));
        }
        self.model.records[number].record = record;
        step
    }

    fn extend(&mut self) -> Step {
        let number = self.pick();
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let record = &mut self.model.records[number].record;
        record.inputs.extend(inputs.iter().cloned());
        record.outputs.extend(outputs.iter().cloned());
        self.graph.extend(record_id(number), &inputs, &outputs, Seq(self.seq)).unwrap()
    }

    fn judge(&mut self) -> Step {
        let number = self.pick();
        let status = *self.random.pick(&STATUSES);
        self.model.records[number].record.status = status;
        self.graph.set_status(record_id(number), status, Seq(self.seq)).unwrap()
    }

    fn say(&mut self, action: Action) -> Step {
        let count = 1 + self.random.index(3);
        let numbers: Vec<usize> = (0..count).map(|_| self.pick()).collect();
        let ids: Vec<_> = numbers.iter().map(|number| record_id(*number)).collect();
        let limit = u32::try_from(self.random.below(4)).unwrap();
        let preview = self.graph.preview(action, &ids, None).unwrap();
        let nearby = self.graph.preview(action, &ids, Some(limit)).unwrap();
        let step = self.graph.apply(action, &ids, Seq(self.seq)).unwrap();
        assert_eq!(preview.flags, step.flags);
        let near: Vec<_> = step.flags.iter().filter(|change| change.depth <= limit).copied().collect();
        assert_eq!(nearby.flags, near);
        self.check_depths(&numbers, action, &step);
        let flags: BTreeMap<usize, Flag> = numbers.iter().map(|number| (*number, self.model.flag(*number))).collect();
        for (number, flag) in &flags {
            let fact = self.graph.record(Model::node(&self.graph, *number)).unwrap().fact;
            self.model.records[*number].fact = self.expected_fact(*number, action, *flag);
            assert_eq!(fact, self.model.records[*number].fact);
        }
        let again = self.graph.clone().apply(action, &ids, Seq(self.seq + 1)).unwrap();
        let withdrawn = |number: &usize| self.model.records[*number].fact.is_none();
        // A withdrawn taint leaves a suspect, whose suspicion the same word lifts next.
        match action {
            // It voids the clears below it once more, and there are none since.
            Action::Taint => assert!(again.flags.is_empty(), "{again:?}"),
            Action::Clear if numbers.iter().any(withdrawn) => {}
            Action::Mark | Action::Clear => assert_eq!(again, Step::default(), "{action:?} twice"),
        }
        step
    }

    /// Facts are what they were at any earlier time, or none.
    fn restate(&mut self, met: &mut Met) -> Step {
        let count = 1 + self.random.index(4);
        let mut facts: BTreeMap<usize, Option<Fact>> = BTreeMap::new();
        for _ in 0..count {
            let at = Seq(1 + self.random.below(self.seq));
            let fact = match self.random.below(6) {
                0 | 1 => Some(Fact::Tainted(at)),
                2 => Some(Fact::Marked(at)),
                3 => Some(Fact::Cleared(at)),
                _ => None,
            };
            facts.insert(self.pick(), fact);
        }
        let named: Vec<_> = facts.iter().map(|(number, fact)| (record_id(*number), *fact)).collect();
        let step = self.graph.set_facts(&named, Seq(self.seq)).unwrap();
        for (number, fact) in facts {
            met.restated += usize::from(self.model.records[number].fact != fact);
            self.model.records[number].fact = fact;
        }
        step
    }

    /// The fact of a record after an action, by its fact and flag before.
    fn expected_fact(&self, number: usize, action: Action, flag: Flag) -> Option<Fact> {
        let before = self.model.records[number].fact;
        match (action, before) {
            (Action::Mark, Some(Fact::Tainted(_) | Fact::Marked(_))) => before,
            (Action::Taint, _) => Some(Fact::Tainted(Seq(self.seq))),
            (Action::Mark, _) => Some(Fact::Marked(Seq(self.seq))),
            (Action::Clear, Some(Fact::Tainted(_))) => None,
            (Action::Clear, _) if flag == Flag::Suspect => Some(Fact::Cleared(Seq(self.seq))),
            (Action::Clear, _) => before,
        }
    }

    /// Depths are distances from the records themselves.
    fn check_depths(&self, numbers: &[usize], action: Action, step: &Step) {
        let is_source = |number: &&usize| {
            let was_tainted = matches!(self.model.records[**number].fact, Some(Fact::Tainted(_)));
            // A taint counts anew.
            action == Action::Taint || was_tainted == (action == Action::Clear)
        };
        let sources: Vec<usize> = numbers.iter().filter(is_source).copied().collect();
        let distances = self.model.distances(&sources, false);
        for change in &step.flags {
            let number = Model::number_of(&self.graph, &self.model, change.record);
            let expected = distances.get(&number).copied().filter(|_| action != Action::Mark).unwrap_or(0);
            let is_meant = numbers.contains(&number);
            assert!(change.depth == expected || is_meant && change.depth == 0, "{change:?}, not {expected}");
            if let Some(through) = change.through {
                let through = Model::number_of(&self.graph, &self.model, through);
                assert!(self.model.neighbors(number, true).contains(&through));
                assert_eq!(distances[&through] + 1, change.depth);
            }
        }
    }

    fn restore(&mut self, met: &mut Met) {
        let mut rows = self.model.rows();
        for at in (1..rows.len()).rev() {
            rows.swap(at, self.random.index(at + 1));
        }
        let (graph, step) = Graph::restore(rows, Seq(self.seq)).unwrap();
        assert_eq!(step, Step::default());
        assert_eq!(picture(&graph, self.model.records()), picture(&self.graph, self.model.records()));
        assert_eq!(graph.edge_count(), self.graph.edge_count());
        self.graph = graph;
        met.restored += 1;
    }

    fn hold(&mut self) {
        if let Some((graph, said)) = &self.held {
            assert_eq!(&picture(graph, self.model.records()), said, "a version that is held has changed");
        }
        self.held = Some((self.graph.clone(), picture(&self.graph, self.model.records())));
    }

    fn check(&mut self, before: &Model, step: &Step, met: &mut Met) {
        let (new, gone) = self.model.follow_links(&self.graph, self.seq);
        let edges = |edges: &[dats::lineage::Edge]| -> BTreeMap<(usize, ArtifactId), usize> {
            let number = |node| Model::number_of(&self.graph, &self.model, node);
            let artifact = |it| ArtifactId::new(self.graph.artifact_id(it).unwrap()).unwrap();
            edges.iter().map(|it| ((number(it.dependent), artifact(it.artifact)), number(it.dependency))).collect()
        };
        let plain = |edges: &Edges| edges.iter().map(|(key, (to, _))| (key.clone(), *to)).collect();
        assert_eq!((edges(&step.bound), edges(&step.unbound)), (plain(&new), plain(&gone)));
        assert_eq!(usize::try_from(self.graph.edge_count()).unwrap(), self.model.edges.len());
        let flags = self.model.flags();
        let mut changed = BTreeMap::new();
        for (number, flag) in flags.iter().enumerate() {
            let known = self.graph.record(Model::node(&self.graph, number)).unwrap();
            assert_eq!(known.flag, *flag, "record {number}, {:?}", self.model.records[number]);
            assert_eq!((known.fact, known.seq.0), (self.model.records[number].fact, self.model.records[number].seq));
            assert_eq!(known.status, self.model.records[number].record.status);
            let was = before.records.get(number).map_or(Flag::Clean, |_| before.flag(number));
            if was != *flag {
                changed.insert(number, (was, *flag));
            }
        }
        let said: BTreeMap<_, _> = step
            .flags
            .iter()
            .map(|change| (Model::number_of(&self.graph, &self.model, change.record), (change.from, change.to)))
            .collect();
        assert_eq!((said.len(), &said), (step.flags.len(), &changed));
        walks::check(&self.graph, &self.model, &mut self.random);
        self.count(before, &changed, met, &new, &gone);
    }

    fn count(&self, before: &Model, changed: &BTreeMap<usize, (Flag, Flag)>, met: &mut Met, new: &Edges, gone: &Edges) {
        met.rebound += new.keys().filter(|key| gone.contains_key(*key)).count();
        met.refused += self.model.refused.difference(&before.refused).count();
        met.retried += before.refused.iter().filter(|key| self.model.edges.contains_key(*key)).count();
        for (number, (from, to)) in changed {
            let cleared =
                |model: &Model| matches!(model.records.get(*number), Some(Known { fact: Some(Fact::Cleared(_)), .. }));
            let stays_cleared = cleared(before) && cleared(&self.model);
            met.voided += usize::from(stays_cleared && *to == Flag::Suspect);
            met.revived += usize::from(
                stays_cleared
                    && *from == Flag::Suspect
                    && self.model.records[*number].fact == before.records[*number].fact,
            );
            met.cleaned += usize::from(*to == Flag::Clean);
            met.suspects += usize::from(*to == Flag::Suspect);
        }
    }
}

/// Everything that a version says of the records it has.
fn picture<'a>(graph: &Graph, records: impl Iterator<Item = &'a Record>) -> String {
    let mut lines = Vec::new();
    for record in records {
        let Some(node) = graph.find(record.id) else { continue };
        let inputs: BTreeMap<_, _> = graph
            .inputs(node)
            .map(|(input, how, link)| {
                let link = match link {
                    dats::lineage::Link::Waiting => "waiting".to_owned(),
                    dats::lineage::Link::Bound(node) => format!("bound to {}", graph.record(node).unwrap().id),
                    dats::lineage::Link::Refused(node) => format!("refused {}", graph.record(node).unwrap().id),
                };
                (graph.artifact_id(input).unwrap(), (how, link, graph.rebound_at(node, input)))
            })
            .collect();
        let outputs: std::collections::BTreeSet<_> =
            graph.outputs(node).map(|it| graph.artifact_id(it).unwrap()).collect();
        let record = graph.record(node).unwrap();
        let project = graph.project_id(record.project).unwrap();
        lines.push(format!(
            "{} {} {project} {:?} {} {} {:?} {:?} {:?} {inputs:?} {outputs:?}",
            record.id,
            record.task,
            record.status,
            record.created_at,
            record.started_at,
            record.seq,
            record.fact,
            record.flag
        ));
    }
    lines.join("\n")
}

#[test]
fn everything_follows_from_the_facts_after_every_step() {
    let first = from_environment("DATS_SEED", 1);
    let rounds = from_environment("DATS_ROUNDS", 60);
    let mut met = Met::default();
    for seed in first..first + rounds {
        println!("DATS_SEED={seed} DATS_ROUNDS=1");
        let mut history = History::new(seed);
        for _ in 0..80 {
            history.step(&mut met);
        }
        history.hold();
    }
    println!("{met:?}");
    if rounds >= 60 {
        let rare = [met.rebound, met.refused, met.retried, met.voided, met.revived, met.cleaned];
        assert!(rare.iter().all(|count| *count >= 20), "{met:?}");
        assert!(met.suspects >= 1000 && met.restored >= 50 && met.restated >= 50, "{met:?}");
    }
}

#[test]
fn steps_that_can_not_be_taken_change_nothing() {
    let mut graph = Graph::default();
    let (inputs, outputs) = (vec![(artifact(1), Relationship::Consumed)], vec![artifact(2)]);
    let (status, created_at) = (RecordStatus::Passed, at(1));
    let record = Record {
        id: record_id(1),
        task: task_id(1),
        project: project(1),
        status,
        created_at,
        started_at: None,
        began: WorkStart::Elsewhere,
        inputs,
        outputs,
    };
    assert_eq!(graph.insert(&record, Seq(0)), Err(Error::OutOfOrder { position: Seq(0), first: Seq(1) }));
    graph.insert(&record, Seq(5)).unwrap();
    let missing = Err(Error::NotThere(record_id(2)));
    assert_eq!(graph.apply(Action::Taint, &[record.id, record_id(2)], Seq(6)), missing);
    assert_eq!(graph.set_status(record_id(2), status, Seq(6)), missing);
    assert_eq!(graph.extend(record_id(2), &[], &[], Seq(6)), missing);
    assert_eq!(graph.revise(&Record { id: record_id(2), ..record.clone() }, Seq(6)), missing);
    let backwards = Err(Error::OutOfOrder { position: Seq(5), first: Seq(6) });
    assert_eq!(graph.apply(Action::Taint, &[record.id], Seq(5)), backwards);
    assert!(graph.apply(Action::Taint, &[record.id], Seq(u64::MAX)).is_err());
    let known = graph.record(graph.find(record.id).unwrap()).unwrap();
    assert_eq!((known.flag, known.fact, graph.newest(), graph.len()), (Flag::Clean, None, Seq(5), 1));
}
