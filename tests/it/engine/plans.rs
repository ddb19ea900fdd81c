//! Taints, clears, undos and rollbacks while records come, verdicts are given and
//! tasks begin: whatever was planned on an older version, what is in the store
//! follows from the facts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dats::engine::{
    AuditEntry, AuditFilter, CascadeRequest, Engine, Error, EventContent, IncomingEvent, NewCheckpoint, RecordCounts,
    Refusal, RollbackRequest, Subject, UndoRequest,
};
use dats::lineage::{Action, Fact, Flag, Graph, Link, Node};
use dats::task::{QaProfile, RecordId, Report};

use crate::support::fixtures::{artifact, event, lease_request, output_report, project, settings, submission};
use crate::support::random::{Random, from_environment};
use crate::support::service::Service;

const PROJECTS: &[&str] = &["p", "q", "r"];
/// Records that each of those makes who make some.
const MADE: usize = 60;
const MAKERS: u64 = 3;

fn name(number: usize) -> String {
    format!("artifact-{number:03}")
}

/// Makes records of those that are there.
async fn make(engine: Engine, seed: u64, next: Arc<AtomicUsize>) {
    let mut random = Random::new(seed);
    for _ in 0..MADE {
        let mut wanted = submission(PROJECTS[random.index(PROJECTS.len())], "make something");
        wanted.options.qa_profile = Some(QaProfile::new("none").unwrap());
        let made = next.fetch_add(1, Ordering::Relaxed);
        if random.chance(50) && made > 0 {
            wanted.options.inputs = vec![artifact(&name(random.index(made)))];
        }
        let submitted = engine.tasks().submit(vec![wanted], None).await.expect("to submit");
        let task = submitted.results[0].as_ref().expect("to be taken").task;
        let Report::Output(mut output) = output_report(&name(made)) else { panic!("an output") };
        // Often of what comes only later.
        let inputs = (0..3).map(|_| random.index(made + 4)).filter(|input| *input != made);
        output.inputs_consumed = inputs.map(|input| artifact(&name(input))).collect();
        output.inputs_consumed.sort_unstable();
        output.inputs_consumed.dedup();
        let _ = engine.events().accept(vec![event(&format!("made-{made}"), task, Report::Output(output))]).await;
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

fn any_record(engine: &Engine, random: &mut Random) -> Option<RecordId> {
    let graph = engine.provenance().graph();
    let count = graph.nodes().count();
    let node = graph.nodes().nth(random.index(count.max(1)))?;
    graph.record(node).map(|known| known.id)
}

/// The changes that the trail tells of under a cascade.
async fn audited(engine: &Engine, cascade: &str) -> Vec<(RecordId, Flag, Flag)> {
    let filter = AuditFilter { cascade: Some(cascade.to_owned()), ..AuditFilter::default() };
    let page = engine.provenance().audit(filter, None, 10_000).await.expect("a page");
    let changes = page.entries.iter().filter_map(|entry| match entry {
        AuditEntry::Own { change, .. } => Some((change.record, change.from, change.to)),
        AuditEntry::Imported { .. } => None,
    });
    let mut changes: Vec<_> = changes.filter(|(_, from, to)| from != to).collect();
    changes.sort_unstable();
    changes
}

/// Says things of records, and takes some of it back.
async fn say(engine: Engine, seed: u64, is_over: Arc<AtomicBool>) -> usize {
    let mut random = Random::new(seed);
    let (mut said, mut cascades) = (0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let Some(record) = any_record(&engine, &mut random) else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let cascade_id = format!("c-{seed}-{said}");
        said += 1;
        let action = *random.pick(&[Action::Taint, Action::Taint, Action::Mark, Action::Clear, Action::Clear]);
        let request = CascadeRequest {
            action,
            subject: Subject::Record(record),
            reason: "because".to_owned(),
            source: None,
            cascade_id: cascade_id.clone(),
            cancel_running: random.chance(10),
        };
        if action != Action::Clear && random.chance(30) {
            let event_name = if action == Action::Taint { "artifact.tainted" } else { "artifact.suspect" };
            let message = EventContent::Cascade { name: event_name, request: Box::new(request) };
            let raw = "{}".to_owned();
            let event = IncomingEvent { identity: None, message, raw, on_bus: false };
            engine.events().accept(vec![event]).await.expect("an answer").remove(0).expect("a known record");
        } else {
            let cascade = engine.provenance().cascade(request).await.expect("a known record");
            let id = |node| cascade.graph.record(node).expect("a record").id;
            let mut told: Vec<_> =
                cascade.step.flags.iter().map(|change| (id(change.record), change.from, change.to)).collect();
            told.sort_unstable();
            assert_eq!(audited(&engine, &cascade_id).await, told, "the answer and the trail of {cascade_id}");
            if cascade.is_change {
                cascades.push(cascade_id);
            }
        }
        if random.chance(20) && !cascades.is_empty() {
            let cascade_id = cascades.swap_remove(random.index(cascades.len()));
            let request = UndoRequest { cascade_id, reason: "a mistake".to_owned(), dry_run: random.chance(20) };
            engine.provenance().undo(request).await.expect("to be taken back");
        }
    }
    said
}

/// Goes back to checkpoints, and does again what was undone.
async fn go_back(engine: Engine, seed: u64, is_over: Arc<AtomicBool>) -> usize {
    let mut random = Random::new(seed);
    let mut gone_back = 0;
    while !is_over.load(Ordering::Relaxed) {
        let name = project(PROJECTS[random.index(PROJECTS.len())]);
        let Ok(checkpoint) = engine.checkpoints().create(name, NewCheckpoint::default()).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
        let request = RollbackRequest {
            checkpoint: checkpoint.id,
            project: None,
            reason: "it went wrong".to_owned(),
            requeue: random.chance(30),
            dry_run: false,
        };
        match engine.checkpoints().roll_back(request).await {
            Ok(_) => gone_back += 1,
            Err(Error::Refused(Refusal::CheckpointInvalid(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }
    gone_back
}

async fn work(engine: Engine, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        engine.work().lease(lease_request("small", 2)).await.expect("to lease");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The newest path from a taint above, by the rule.
fn exposure(graph: &Graph, node: Node, known: &mut HashMap<Node, u64>) -> u64 {
    if let Some(exposure) = known.get(&node) {
        return *exposure;
    }
    let mut newest = 0;
    for (name, _, link) in graph.inputs(node) {
        let Link::Bound(maker) = link else { continue };
        let above = graph.record(maker).expect("a record");
        let own = match above.fact {
            Some(Fact::Tainted(at)) => at.0,
            Some(Fact::Marked(_) | Fact::Cleared(_)) | None => 0,
        };
        let passed_on = own.max(exposure(graph, maker, known));
        if passed_on > 0 {
            let both_came = above.seq.max(graph.record(node).expect("a record").seq);
            newest = newest.max(passed_on).max(graph.rebound_at(node, name).unwrap_or(both_came).0);
        }
    }
    known.insert(node, newest);
    newest
}

/// Holds every flag and every count against the rule.
async fn check(engine: &Engine) -> usize {
    let graph = engine.provenance().graph();
    let (mut exposures, mut counts) = (HashMap::new(), HashMap::<&str, RecordCounts>::new());
    let mut spoilt = 0;
    for node in graph.nodes() {
        let known = graph.record(node).expect("a record");
        let exposure = exposure(&graph, node, &mut exposures);
        let flag = match known.fact {
            Some(Fact::Tainted(_)) => Flag::Tainted,
            Some(Fact::Cleared(at)) if exposure <= at.0 => Flag::Clean,
            None if exposure == 0 => Flag::Clean,
            Some(Fact::Marked(_) | Fact::Cleared(_)) | None => Flag::Suspect,
        };
        assert_eq!(known.flag, flag, "{}: {known:?}, exposed at {exposure}", known.id);
        let counts = counts.entry(graph.project_id(known.project).expect("a project")).or_default();
        counts.records += 1;
        counts.tainted += u64::from(flag == Flag::Tainted);
        counts.suspect += u64::from(flag == Flag::Suspect);
        spoilt += usize::from(flag != Flag::Clean);
    }
    for (name, counts) in counts {
        assert_eq!(engine.projects().status(project(name)).await.expect("a status").records, counts, "{name}");
    }
    spoilt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flags_follow_from_the_facts_whatever_came_while_they_were_planned() {
    let seed = from_environment("DATS_PLANS_SEED", 1);
    let mut wide = settings();
    wide.max_concurrent = 1000;
    let service = Service::new(wide);
    let (next, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let engine = || service.engine().clone();
    let makers: Vec<_> = (0..MAKERS).map(|maker| tokio::spawn(make(engine(), seed + maker, next.clone()))).collect();
    let sayers: Vec<_> = (10..12).map(|each| tokio::spawn(say(engine(), seed + each, is_over.clone()))).collect();
    let gone_back = tokio::spawn(go_back(engine(), seed + 20, is_over.clone()));
    let worker = tokio::spawn(work(engine(), is_over.clone()));
    for maker in makers {
        maker.await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let mut said = 0;
    for each in sayers {
        said += each.await.unwrap();
    }
    let gone_back = gone_back.await.unwrap();
    worker.await.unwrap();
    let spoilt = check(service.engine()).await;
    println!("{said} cascades, {gone_back} rollbacks, {spoilt} records are not clean");
    assert!(said > 5 && gone_back > 0 && spoilt > 0);
    // The trail, the statements and the rows agree with what is in memory.
    let graph = service.engine().provenance().graph();
    let flags = |graph: &Graph| -> Vec<_> {
        graph.nodes().map(|node| graph.record(node).unwrap()).map(|known| (known.id, known.fact, known.flag)).collect()
    };
    let mut before = flags(&graph);
    let service = service.restart();
    let mut after = flags(&service.engine().provenance().graph());
    before.sort_unstable_by_key(|(id, ..)| *id);
    after.sort_unstable_by_key(|(id, ..)| *id);
    assert_eq!(before, after);
    check(service.engine()).await;
}
