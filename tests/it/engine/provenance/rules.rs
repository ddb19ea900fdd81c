//! The rules of links, facts and flags, computed anew in the plainest way.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dats::engine::{Engine, RecordCounts, RecordFilter};
use dats::lineage::{Action, Flag};
use dats::store::{Checkpoint, Record};
use dats::task::{ArtifactId, CheckpointId, LeaseId, RecordId, RecordStatus, TaskId};

use super::edges_of;
use crate::support::fixtures::{artifact, project};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Tainted(u64),
    Marked(u64),
    Cleared(u64),
}

/// What was said of a record, by which cascade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) said: Said,
    /// A clear that leaves nothing: of a record that was tainted.
    withdraws: bool,
    pub(super) cascade: String,
    /// The checkpoint of a rollback.
    back_to: Option<CheckpointId>,
    /// The verdict and its details that a clear has replaced.
    replaced: Option<(RecordStatus, Option<String>)>,
}

/// A rollback: what it made invalid, or would have.
pub(super) struct RolledBack {
    pub(super) cascade: String,
    pub(super) later: Vec<CheckpointId>,
}

/// An edge: the dependent and its artifact, and there the dependency and
/// since which step.
pub(super) type Edges = BTreeMap<(RecordId, ArtifactId), (RecordId, u64)>;

/// The rules, in the plainest way.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) records: BTreeMap<RecordId, Record>,
    pub(super) edges: Edges,
    pub(super) said: BTreeMap<RecordId, Vec<Statement>>,
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) rollbacks: Vec<RolledBack>,
    pub(super) cascades: Vec<String>,
    pub(super) step: u64,
    /// The records in the order in which they came.
    pub(super) arrived: Vec<RecordId>,
    /// How many records there were when work on a task began.
    pub(super) began: BTreeMap<TaskId, usize>,
    /// Tasks that a worker has, each with its lease and what it will produce.
    pub(super) at_work: Vec<(TaskId, LeaseId, usize)>,
}

impl Rules {
    /// Which record an input is bound to.
    fn wish(&self, consumer: &Record, artifact: &ArtifactId) -> Option<RecordId> {
        let names = |record: &Record| record.outputs.iter().any(|output| output.artifact.id == *artifact);
        let makers = self.records.values().filter(|record| record.id != consumer.id && names(record));
        let class = |it: &Record| (it.project != consumer.project, it.status == RecordStatus::Failed);
        // By the order in which they came, whatever a worker says of its start.
        let there = self.began[&consumer.task];
        let is_earlier = |it: &&Record| self.arrived[..there].contains(&it.id);
        let earlier = makers.clone().filter(is_earlier);
        let newest = earlier.min_by_key(|it| (class(it), Reverse((it.created_at, it.id))));
        newest.or_else(|| makers.min_by_key(|it| (class(it), it.created_at, it.id))).map(|record| record.id)
    }

    async fn read_records(&mut self, engine: &Engine) {
        let page = engine.provenance().records(RecordFilter::default(), None, 1000).await.unwrap();
        assert_eq!((page.total, page.next), (u64::try_from(page.records.len()).ok(), None));
        self.records = page.records.into_iter().map(|(_, record, _)| (record.id, record)).collect();
        self.arrived.extend(self.records.keys().filter(|id| !self.arrived.contains(id)).copied().collect::<Vec<_>>());
        let mut edges = Edges::new();
        for record in self.records.values() {
            for input in &record.inputs {
                let Some(maker) = self.wish(record, &input.artifact) else { continue };
                let key = (record.id, input.artifact.clone());
                let known = self.edges.get(&key).filter(|(known, _)| *known == maker);
                let since = known.map_or(2 * self.step + 1, |(_, since)| *since);
                edges.insert(key, (maker, since));
            }
        }
        self.edges = edges;
    }

    /// The statements that count: those since the newest clear.
    fn live(&self, of: RecordId) -> &[Statement] {
        let all = self.said.get(&of).map_or(&[][..], Vec::as_slice);
        let clear = all.iter().rposition(|each| matches!(each.said, Said::Cleared(_)));
        &all[clear.unwrap_or(0)..]
    }

    /// What follows from them.
    fn fact(&self, of: RecordId) -> Option<Said> {
        let live = self.live(of);
        let newest = live.iter().rev().map(|each| each.said).find(|said| matches!(said, Said::Tainted(_)));
        let mark = || live.iter().map(|each| each.said).find(|said| matches!(said, Said::Marked(_)));
        let clear = || {
            let first = live.first().filter(|each| !each.withdraws)?;
            matches!(first.said, Said::Cleared(_)).then_some(first.said)
        };
        newest.or_else(mark).or_else(clear)
    }

    /// The newest path from a taint above.
    fn exposure(&self, of: RecordId) -> u64 {
        let above = self.edges.range((of, artifact("a"))..).take_while(|((dependent, _), _)| *dependent == of);
        let brought = above.filter_map(|(_, (maker, since))| {
            let own = match self.fact(*maker) {
                Some(Said::Tainted(at)) => at,
                Some(Said::Marked(_) | Said::Cleared(_)) | None => 0,
            };
            let passed_on = own.max(self.exposure(*maker));
            (passed_on > 0).then_some(passed_on.max(*since))
        });
        brought.max().unwrap_or(0)
    }

    fn flag(&self, of: RecordId) -> Flag {
        let exposure = self.exposure(of);
        match self.fact(of) {
            Some(Said::Tainted(_)) => Flag::Tainted,
            Some(Said::Cleared(at)) if exposure <= at => Flag::Clean,
            None if exposure == 0 => Flag::Clean,
            Some(Said::Marked(_) | Said::Cleared(_)) | None => Flag::Suspect,
        }
    }

    pub(super) fn say(&mut self, action: Action, of: RecordId, (cascade, back_to): (&str, Option<&CheckpointId>)) {
        let at = 2 * self.step;
        let (said, flag) = match action {
            Action::Taint => (Said::Tainted(at), self.flag(of)),
            Action::Mark => (Said::Marked(at), self.flag(of)),
            Action::Clear => (Said::Cleared(at), self.flag(of)),
        };
        let is_same = |each: &Statement| {
            let same = std::mem::discriminant(&each.said) == std::mem::discriminant(&said);
            same && (each.cascade == cascade || back_to.is_some() && each.back_to.as_ref() == back_to)
        };
        if action == Action::Clear && flag == Flag::Clean
            || action != Action::Clear && self.live(of).iter().any(is_same)
        {
            return;
        }
        let record = &self.records[&of];
        let is_judged = matches!(record.status, RecordStatus::Passed | RecordStatus::HumanApproved);
        let replaced = (action == Action::Clear && !is_judged).then(|| (record.status, record.verification.clone()));
        let (cascade, back_to) = (cascade.to_owned(), back_to.cloned());
        let withdraws = action == Action::Clear && flag == Flag::Tainted;
        self.said.entry(of).or_default().push(Statement { said, withdraws, cascade, back_to, replaced });
    }

    /// Takes a cascade back: how many facts go, and the verdicts that records have then.
    pub(super) fn undo(&mut self, cascade: &str) -> (usize, BTreeMap<RecordId, RecordStatus>) {
        let (mut gone, mut verdicts) = (0, BTreeMap::new());
        for (id, statements) in &mut self.said {
            let mut carried = None;
            let before = std::mem::take(statements);
            for mut each in before {
                if each.cascade == cascade {
                    gone += 1;
                    carried = carried.or(each.replaced);
                    continue;
                }
                if matches!(each.said, Said::Cleared(_)) {
                    let handed_on = carried.take();
                    each.replaced = each.replaced.or(handed_on);
                }
                statements.push(each);
            }
            let record = &self.records[id];
            if let Some((status, details)) = carried
                && record.status == RecordStatus::Passed
                && record.verification == details
            {
                verdicts.insert(*id, status);
            }
        }
        self.rollbacks.retain(|rollback| rollback.cascade != cascade);
        (gone, verdicts)
    }

    pub(super) fn is_valid(&self, checkpoint: &CheckpointId) -> bool {
        !self.rollbacks.iter().any(|rollback| rollback.later.contains(checkpoint))
    }

    pub(super) async fn check(&mut self, engine: &Engine) {
        self.read_records(engine).await;
        let graph = engine.provenance().graph();
        let edges: BTreeMap<_, _> = self.edges.iter().map(|(key, (maker, _))| (key.clone(), *maker)).collect();
        let found = edges_of(&graph);
        if let Some((key, maker)) = edges.iter().find(|(key, maker)| found.get(*key) != Some(*maker)) {
            let told = |id: &RecordId| {
                (graph.record(graph.find(*id).unwrap()), self.records.get(id).map(|it| it.project.clone()))
            };
            panic!("{key:?}: {:?}\nexpected {:?}\nfound {:?}", told(&key.0), told(maker), found.get(key).map(told));
        }
        assert_eq!(found, edges);
        let mut counts: BTreeMap<&str, RecordCounts> = BTreeMap::new();
        for (id, record) in &self.records {
            let flag = self.flag(*id);
            let known = graph.record(graph.find(*id).unwrap()).unwrap();
            assert_eq!((known.flag, known.status), (flag, record.status), "{id} at step {}", self.step);
            let counts = counts.entry(record.project.as_str()).or_default();
            counts.records += 1;
            counts.tainted += u64::from(flag == Flag::Tainted);
            counts.suspect += u64::from(flag == Flag::Suspect);
        }
        for checkpoint in &self.checkpoints {
            let known = engine.checkpoints().get(checkpoint.id.clone()).await.unwrap().unwrap();
            assert_eq!(known.is_valid, self.is_valid(&known.id), "{} at step {}", known.id, self.step);
        }
        for (name, counts) in counts {
            assert_eq!(engine.projects().status(project(name)).await.unwrap().records, counts);
        }
    }
}
