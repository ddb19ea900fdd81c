//! Provenance as the engine keeps it over restarts, held against the rules
//! computed anew from what its handle tells: records, and what was said of them.

use std::collections::BTreeMap;

use dats::engine::{AuditEntry, AuditFilter, CascadeRequest, Engine, RecordCounts, RecordFilter, Subject};
use dats::lineage::{Action, Flag, Graph, Link};
use dats::store::{CascadeRow, ChangeRow, Record};
use dats::task::{ArtifactId, QaProfile, RecordId, RecordStatus, Report, TaskId, Timestamp};

use crate::support::fixtures::{artifact, output_report, project, settings, submission, verdict_report};
use crate::support::random::{Random, from_environment};
use crate::support::service::Service;

const ARTIFACTS: usize = 14;
const PROJECTS: &[&str] = &["p", "q"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Tainted(u64),
    Marked(u64),
    Cleared(u64),
}

/// An edge: the dependent and its artifact, and there the dependency and
/// since which step.
type Edges = BTreeMap<(RecordId, ArtifactId), (RecordId, u64)>;

/// The rules, in the plainest way.
#[derive(Default)]
struct Rules {
    records: BTreeMap<RecordId, Record>,
    edges: Edges,
    said: BTreeMap<RecordId, Said>,
    step: u64,
    /// Changes that the engine has told of.
    told: usize,
}

impl Rules {
    /// Which record an input is bound to.
    fn wish(&self, consumer: &Record, artifact: &ArtifactId) -> Option<RecordId> {
        let names = |record: &Record| record.outputs.iter().any(|output| output.artifact.id == *artifact);
        let sound = |record: &&Record| record.id != consumer.id && record.status != RecordStatus::Failed;
        let mut makers: Vec<(Timestamp, RecordId)> =
            self.records.values().filter(sound).filter(|it| names(it)).map(|it| (it.created_at, it.id)).collect();
        makers.sort_unstable();
        let newest = makers.iter().rev().find(|(created, _)| *created <= consumer.started_at.unwrap());
        newest.or(makers.first()).map(|(_, id)| *id)
    }

    async fn read_records(&mut self, engine: &Engine) {
        let page = engine.records(RecordFilter::default(), None, 1000).await.unwrap();
        assert_eq!((page.total, page.next), (u64::try_from(page.records.len()).ok(), None));
        self.records = page.records.into_iter().map(|(record, _)| (record.id, record)).collect();
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

    /// The newest path from a taint above.
    fn exposure(&self, of: RecordId) -> u64 {
        let above = self.edges.range((of, artifact("a"))..).take_while(|((dependent, _), _)| *dependent == of);
        let brought = above.filter_map(|(_, (maker, since))| {
            let own = match self.said.get(maker) {
                Some(Said::Tainted(at)) => *at,
                Some(Said::Marked(_) | Said::Cleared(_)) | None => 0,
            };
            let passed_on = own.max(self.exposure(*maker));
            (passed_on > 0).then_some(passed_on.max(*since))
        });
        brought.max().unwrap_or(0)
    }

    fn flag(&self, of: RecordId) -> Flag {
        let exposure = self.exposure(of);
        match self.said.get(&of) {
            Some(Said::Tainted(_)) => Flag::Tainted,
            Some(Said::Cleared(at)) if exposure <= *at => Flag::Clean,
            None if exposure == 0 => Flag::Clean,
            Some(Said::Marked(_) | Said::Cleared(_)) | None => Flag::Suspect,
        }
    }

    fn say(&mut self, action: Action, of: RecordId) {
        let at = 2 * self.step;
        let next = match (action, self.said.get(&of), self.flag(of)) {
            (Action::Taint | Action::Mark, Some(Said::Tainted(_)), _)
            | (Action::Mark, Some(Said::Marked(_)), _)
            | (Action::Clear, _, Flag::Clean) => return,
            (Action::Taint, _, _) => Some(Said::Tainted(at)),
            (Action::Mark, _, _) => Some(Said::Marked(at)),
            (Action::Clear, _, Flag::Tainted) => None,
            (Action::Clear, _, Flag::Suspect) => Some(Said::Cleared(at)),
        };
        self.said.remove(&of);
        self.said.extend(next.map(|said| (of, said)));
    }

    async fn check(&mut self, engine: &Engine) {
        self.read_records(engine).await;
        let graph = engine.graph();
        assert_eq!(edges_of(&graph), self.edges.iter().map(|(key, (maker, _))| (key.clone(), *maker)).collect());
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
        for (name, counts) in counts {
            assert_eq!(engine.project_status(project(name)).await.unwrap().records, counts);
        }
    }
}

fn edges_of(graph: &Graph) -> BTreeMap<(RecordId, ArtifactId), RecordId> {
    let id = |node| graph.record(node).unwrap().id;
    let mut edges = BTreeMap::new();
    for node in graph.nodes() {
        for (name, _, link) in graph.inputs(node) {
            if let Link::Bound(maker) = link {
                edges.insert((id(node), artifact(graph.artifact_id(name).unwrap())), id(maker));
            }
        }
    }
    edges
}

fn flags_of(graph: &Graph) -> BTreeMap<RecordId, Flag> {
    graph.nodes().map(|node| graph.record(node).unwrap()).map(|known| (known.id, known.flag)).collect()
}

fn name(number: usize) -> String {
    format!("artifact-{number:02}")
}

/// A task's output: made of artifacts of smaller numbers, so that nothing can
/// close a cycle; started when some earlier record was made, or later.
async fn make(service: &mut Service, rules: &Rules, random: &mut Random) -> Option<(TaskId, String)> {
    let made = random.index(ARTIFACTS);
    let mut submission = submission(PROJECTS[random.index(PROJECTS.len())], "make something");
    let judged = random.chance(40);
    submission.options.qa_profile = (!judged).then(|| QaProfile::new("none").unwrap());
    let task = service.submit(submission).await;
    let Report::Output(mut output) = output_report(&name(made)) else { panic!("an output") };
    output.inputs_consumed = (0..made).filter(|_| random.chance(25)).map(|number| artifact(&name(number))).collect();
    let times: Vec<Timestamp> = rules.records.values().map(|record| record.created_at).collect();
    output.started_at = (!times.is_empty() && random.chance(50)).then(|| *random.pick(&times));
    service.report(task, Report::Output(output)).await;
    judged.then(|| (task, name(made)))
}

async fn say(engine: &Engine, rules: &mut Rules, random: &mut Random) {
    let Some(of) = (!rules.records.is_empty()).then(|| random.index(rules.records.len())) else { return };
    let record = *rules.records.keys().nth(of).unwrap();
    let action = *random.pick(&[Action::Taint, Action::Taint, Action::Mark, Action::Clear, Action::Clear]);
    let request = CascadeRequest {
        action,
        subject: Subject::Record(record),
        reason: "because".to_owned(),
        source: None,
        cascade_id: format!("c-{}", rules.step),
        cancel_running: false,
    };
    let before = flags_of(&engine.graph());
    let cascade = engine.cascade(request).await.unwrap();
    let after = flags_of(&engine.graph());
    rules.say(action, record);
    let filter = AuditFilter { cascade: Some(cascade.cascade_id), ..AuditFilter::default() };
    let page = engine.audit(filter, None, 1000).await.unwrap();
    let audited: Vec<_> = page.entries.iter().map(own).map(|(_, it)| (it.record, it.from, it.to)).collect();
    let id = |node| cascade.graph.record(node).unwrap().id;
    let told: Vec<_> = cascade.step.flags.iter().map(|change| (id(change.record), change.from, change.to)).collect();
    assert_eq!(audited, told);
    let mut changed = told.clone();
    changed.sort_unstable();
    let differences = before.iter().map(|(id, from)| (*id, *from, after[id])).filter(|(_, from, to)| from != to);
    assert_eq!(changed, differences.collect::<Vec<_>>());
    rules.told += told.len();
}

async fn trail(engine: &Engine) -> Vec<(String, RecordId, Flag)> {
    let page = engine.audit(AuditFilter::default(), None, 100_000).await.unwrap();
    page.entries.iter().map(own).map(|(cascade, it)| (cascade.cascade_id.clone(), it.record, it.to)).collect()
}

fn own(entry: &AuditEntry) -> (&CascadeRow, &ChangeRow) {
    match entry {
        AuditEntry::Own { cascade, change, .. } => (cascade, change),
        AuditEntry::Imported(event) => panic!("nothing was imported: {event:?}"),
    }
}

#[tokio::test]
async fn flags_and_edges_follow_the_rules_over_restarts() {
    let seed = from_environment("DATS_SEED", 11);
    for round in 0..from_environment("DATS_ROUNDS", 3) {
        let mut random = Random::new(seed + round);
        let mut settings = settings();
        settings.max_concurrent = 1000;
        let mut service = Service::new(settings);
        let (mut rules, mut unjudged) = (Rules::default(), Vec::new());
        for step in 1..=90 {
            rules.step = step;
            if random.chance(50) {
                unjudged.extend(make(&mut service, &rules, &mut random).await);
            } else if random.chance(20) && !unjudged.is_empty() {
                let (task, made): (TaskId, String) = unjudged.swap_remove(random.index(unjudged.len()));
                service.report(task, verdict_report(&made, random.chance(30))).await;
            } else {
                say(service.engine(), &mut rules, &mut random).await;
            }
            rules.check(service.engine()).await;
            if random.chance(12) {
                let before = trail(service.engine()).await;
                assert_eq!(before.len(), rules.told, "an entry of the trail is gone");
                service = service.restart();
                rules.check(service.engine()).await;
                assert_eq!(trail(service.engine()).await, before);
            }
        }
        assert!(rules.edges.len() > 5, "hardly anything was linked");
    }
}
