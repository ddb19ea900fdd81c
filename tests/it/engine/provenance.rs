//! Provenance as the engine keeps it over restarts, held against the rules
//! computed anew from what its handle tells: records, and what was said of them.

mod rules;

use std::collections::BTreeMap;

use dats::engine::{
    AuditEntry, AuditFilter, CascadeRequest, CascadeUndo, Engine, Error, EventContent, EventOutcome, IncomingEvent,
    NewCheckpoint, Refusal, RollbackRequest, Subject, UndoRequest,
};
use dats::lineage::{Action, Flag, Graph, Link};
use dats::store::{CascadeRow, ChangeRow, Record};
use dats::task::{
    ArtifactId, CheckpointId, LeaseId, Outcome, QaProfile, RecordId, Report, Seq, Stale, Status, TaskId, Timestamp,
};

use self::rules::{RolledBack, Rules};
use crate::support::fixtures::{artifact, output_report, project, settings, submission, verdict_report};
use crate::support::random::{Random, from_environment};
use crate::support::service::{Service, task_of};

const ARTIFACTS: usize = 14;
const PROJECTS: &[&str] = &["p", "q"];

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

fn flags_of(graph: &Graph) -> Flags {
    graph.nodes().map(|node| graph.record(node).unwrap()).map(|known| (known.id, known.flag)).collect()
}

fn name(number: usize) -> String {
    format!("artifact-{number:02}")
}

/// A new task; whether its output is judged.
async fn submit(service: &Service, random: &mut Random) -> (TaskId, bool) {
    let mut submission = submission(PROJECTS[random.index(PROJECTS.len())], "make something");
    let judged = random.chance(40);
    submission.options.qa_profile = (!judged).then(|| QaProfile::new("none").unwrap());
    (service.submit(submission).await, judged)
}

/// A worker takes a task, and brings its output later.
async fn begin(service: &Service, rules: &mut Rules, random: &mut Random) {
    submit(service, random).await;
    let Some(granted) = service.lease("small").await else { return };
    let task = task_of(&granted);
    rules.began.insert(task, rules.arrived.len());
    rules.at_work.push((task, granted.lease, random.index(ARTIFACTS)));
}

/// The output of a task that a worker has, or of a new one that nobody has had.
async fn make(service: &mut Service, rules: &mut Rules, random: &mut Random) -> Option<(TaskId, String)> {
    if !rules.at_work.is_empty() && random.chance(40) {
        let (task, lease, made) = rules.at_work.swap_remove(random.index(rules.at_work.len()));
        let outcome = output(service, rules, random, (task, Some(lease), made)).await;
        return (outcome == Outcome::Applied).then(|| (task, name(made)));
    }
    let (task, judged) = submit(service, random).await;
    rules.began.insert(task, rules.arrived.len());
    let made = random.index(ARTIFACTS);
    output(service, rules, random, (task, None, made)).await;
    judged.then(|| (task, name(made)))
}

/// A task's output: made of artifacts of smaller numbers, so that nothing can
/// close a cycle; started when some earlier record was made, or later.
async fn output(
    service: &mut Service,
    rules: &Rules,
    random: &mut Random,
    (task, lease, made): (TaskId, Option<LeaseId>, usize),
) -> Outcome {
    let Report::Output(mut output) = output_report(&name(made)) else { panic!("an output") };
    output.sender.lease = lease;
    output.inputs_consumed = (0..made).filter(|_| random.chance(25)).map(|number| artifact(&name(number))).collect();
    let times: Vec<Timestamp> = rules.records.values().map(|record| record.created_at).collect();
    output.started_at = (!times.is_empty() && random.chance(50)).then(|| *random.pick(&times));
    service.report(task, Report::Output(output)).await
}

/// A verdict on one of these outputs, good with so many in a hundred.
async fn judge(service: &mut Service, unjudged: &mut Vec<(TaskId, String)>, random: &mut Random, good: u64) {
    let (task, made) = unjudged.swap_remove(random.index(unjudged.len()));
    service.report(task, verdict_report(&made, random.chance(good))).await;
}

type Flags = BTreeMap<RecordId, Flag>;

/// The flags that differ, as the trail must tell of them.
fn differences(before: &Flags, after: &Flags) -> Vec<(RecordId, Flag, Flag)> {
    let changes = before.iter().map(|(id, from)| (*id, *from, after[id]));
    changes.filter(|(_, from, to)| from != to).collect()
}

/// The changes of flags that the trail tells of after a step. What it tells of
/// besides are records that were named, and whose flag stays.
async fn audited(engine: &Engine, cascade: &str, after: Seq) -> Vec<(RecordId, Flag, Flag)> {
    let filter = AuditFilter { cascade: Some(cascade.to_owned()), ..AuditFilter::default() };
    let page = engine.provenance().audit(filter, None, 1000).await.unwrap();
    let entries = page.entries.iter().filter(|entry| entry.place().step > after).map(own);
    let mut audited: Vec<_> = entries
        .inspect(|(_, it)| assert!(it.from != it.to || it.depth == 0, "{it:?}"))
        .map(|(_, it)| (it.record, it.from, it.to))
        .collect();
    audited.retain(|(_, from, to)| from != to);
    audited.sort_unstable();
    audited
}

/// By a call, or by an event of the Cascade service.
async fn say(service: &Service, rules: &mut Rules, random: &mut Random) {
    let Some(of) = (!rules.records.is_empty()).then(|| random.index(rules.records.len())) else { return };
    let record = *rules.records.keys().nth(of).unwrap();
    let action = *random.pick(&[Action::Taint, Action::Taint, Action::Mark, Action::Clear, Action::Clear]);
    let again = random.chance(25) && !rules.cascades.is_empty();
    let cascade_id = if again { random.pick(&rules.cascades).clone() } else { format!("c-{}", rules.step) };
    let after = service.engine().provenance().graph().newest();
    let request = CascadeRequest {
        action,
        subject: Subject::Record(record),
        reason: "because".to_owned(),
        source: None,
        cascade_id: cascade_id.clone(),
        cancel_running: false,
    };
    let engine = service.engine();
    let before = flags_of(&engine.provenance().graph());
    if action != Action::Clear && random.chance(40) {
        let name = if action == Action::Taint { "artifact.tainted" } else { "artifact.suspect" };
        let message = EventContent::Cascade { name, request: Box::new(request) };
        let event_id = format!("e-{}", rules.step);
        let outcome = service.send(event_of(&event_id, message.clone())).await.unwrap();
        let known =
            engine.provenance().graph().find(record).and_then(|node| engine.provenance().graph().record(node)).unwrap();
        assert_eq!(service.send(event_of(&event_id, message)).await, Ok(EventOutcome::Duplicate));
        let changed = outcome == EventOutcome::Taken(Outcome::Applied);
        assert!(changed || flags_of(&engine.provenance().graph()) == before, "{known:?}");
        assert!(changed || outcome == EventOutcome::Taken(Outcome::Stale(Stale::AlreadySo)), "{outcome:?}");
    } else {
        let cascade = engine.provenance().cascade(request).await.unwrap();
        let id = |node| cascade.graph.record(node).unwrap().id;
        let flags = cascade.step.flags.iter();
        let mut told: Vec<_> = flags.map(|change| (id(change.record), change.from, change.to)).collect();
        told.sort_unstable();
        assert_eq!(audited(engine, &cascade_id, after).await, told);
    }
    rules.say(action, record, (&cascade_id, None));
    if rules.said.values().flatten().any(|each| each.cascade == cascade_id) {
        rules.cascades.push(cascade_id.clone());
    }
    assert_eq!(
        audited(engine, &cascade_id, after).await,
        differences(&before, &flags_of(&engine.provenance().graph()))
    );
}

/// Takes a cascade back, sometimes one that was taken back before.
async fn take_back(service: &Service, rules: &mut Rules, random: &mut Random) {
    if rules.cascades.is_empty() {
        return;
    }
    let cascade_id = random.pick(&rules.cascades).clone();
    let request = |dry_run| UndoRequest { cascade_id: cascade_id.clone(), reason: "a mistake".to_owned(), dry_run };
    let engine = service.engine();
    let (before, after) = (flags_of(&engine.provenance().graph()), engine.provenance().graph().newest());
    // A timer may bring one from a phase to the next; none ends, and none begins again.
    let tasks = || {
        let counters = engine.figures().counters;
        (counters.open(), counters.status(Status::Cancelled), counters.total())
    };
    let totals = tasks();
    let foretold = engine.provenance().undo(request(true)).await.unwrap();
    assert_eq!((flags_of(&engine.provenance().graph()), engine.provenance().graph().newest()), (before.clone(), after));
    let told = |undone: &CascadeUndo| {
        let id = |node| undone.graph.record(node).unwrap().id;
        let flags = undone.step.flags.iter().map(|change| (id(change.record), change.from, change.to));
        let mut flags: Vec<_> = flags.collect();
        flags.sort_unstable();
        (flags, undone.facts, undone.verdicts.clone(), undone.checkpoints.clone())
    };
    let undone = engine.provenance().undo(request(false)).await.unwrap();
    assert_eq!(told(&foretold), told(&undone));
    let (facts, verdicts) = rules.undo(&cascade_id);
    assert_eq!((undone.facts, &undone.verdicts), (facts, &verdicts.keys().copied().collect()));
    for (record, status) in verdicts {
        assert_eq!(engine.provenance().record(record).await.unwrap().unwrap().status, status);
    }
    let now = flags_of(&engine.provenance().graph());
    assert_eq!(audited(engine, &cascade_id, after).await, differences(&before, &now));
    assert_eq!(tasks(), totals, "a task has moved");
    let again = engine.provenance().undo(request(false)).await.unwrap();
    assert_eq!((told(&again).1, again.step.flags.len(), flags_of(&engine.provenance().graph())), (0, 0, now));
    let summary = engine.provenance().cascade_summary(cascade_id, Seq(0), 100).await.unwrap().unwrap();
    assert_eq!((summary.standing, summary.invalidated), (0, Vec::new()));
}

/// An event of the Cascade service.
fn event_of(id: &str, message: EventContent) -> IncomingEvent {
    let raw = format!("{{\"source\":\"/cascade\",\"id\":\"{id}\"}}");
    IncomingEvent { identity: Some(("/cascade".to_owned(), id.to_owned())), message, raw, on_bus: false }
}

async fn mark(engine: &Engine, rules: &mut Rules, random: &mut Random) {
    let name = project(PROJECTS[random.index(PROJECTS.len())]);
    if engine.projects().get(name.clone()).await.unwrap().is_some() {
        let checkpoint = engine.checkpoints().create(name.clone(), NewCheckpoint::default()).await.unwrap();
        let records = rules.records.values().filter(|record| record.project == name).count();
        assert_eq!(checkpoint.provenance_count, u64::try_from(records).unwrap());
        rules.checkpoints.push(checkpoint);
    }
}

async fn roll_back(service: &Service, rules: &mut Rules, random: &mut Random) {
    if rules.checkpoints.is_empty() {
        return;
    }
    let at = random.index(rules.checkpoints.len());
    let checkpoint = rules.checkpoints[at].clone();
    let (requeue, dry_run) = (random.chance(50), random.chance(20));
    let reason = "because".to_owned();
    let request = RollbackRequest { checkpoint: checkpoint.id.clone(), project: None, reason, requeue, dry_run };
    let engine = service.engine();
    let (before, newest) = (flags_of(&engine.provenance().graph()), engine.provenance().graph().newest());
    let rollback = match engine.checkpoints().roll_back(request).await {
        Ok(rollback) => rollback,
        Err(error) => {
            assert!(
                !rules.is_valid(&checkpoint.id) && matches!(error, Error::Refused(Refusal::CheckpointInvalid(_))),
                "{error}"
            );
            return;
        }
    };
    let id = |node| rollback.graph.record(node).unwrap().id;
    let flags = rollback.step.flags.iter();
    let mut told: Vec<_> = flags.map(|change| (id(change.record), change.from, change.to)).collect();
    told.sort_unstable();
    if dry_run {
        assert_eq!(flags_of(&engine.provenance().graph()), before);
        return;
    }
    let after = flags_of(&engine.provenance().graph());
    assert_eq!(told, differences(&before, &after));
    assert_eq!(audited(engine, &rollback.cascade_id, newest).await, told);
    let later = |at| at > checkpoint.created_at;
    let made: Vec<&Record> =
        rules.records.values().filter(|it| it.project == checkpoint.project && later(it.created_at)).collect();
    assert!(made.iter().all(|record| after[&record.id] == Flag::Tainted));
    let made: Vec<RecordId> = made.into_iter().map(|record| record.id).collect();
    for record in made {
        rules.say(Action::Taint, record, (&rollback.cascade_id, Some(&checkpoint.id)));
    }
    assert!(rollback.cancelled.iter().all(|task| service.phase(*task) == "cancelled"));
    assert_eq!(rollback.requeued.len(), if requeue { rollback.to_rerun.len() } else { 0 });
    let behind = rules.checkpoints.iter().filter(|each| each.project == checkpoint.project && later(each.created_at));
    let later: Vec<CheckpointId> = behind.map(|each| each.id.clone()).collect();
    if rollback.is_change() {
        rules.rollbacks.push(RolledBack { cascade: rollback.cascade_id.clone(), later });
        rules.cascades.push(rollback.cascade_id);
    }
}

async fn trail(engine: &Engine) -> Vec<(String, RecordId, Flag)> {
    let page = engine.provenance().audit(AuditFilter::default(), None, 100_000).await.unwrap();
    page.entries.iter().map(own).map(|(cascade, it)| (cascade.cascade_id.clone(), it.record, it.to)).collect()
}

fn own(entry: &AuditEntry) -> (&CascadeRow, &ChangeRow) {
    match entry {
        AuditEntry::Own { cascade, change, .. } => (cascade, change),
        AuditEntry::Imported { event, .. } => panic!("nothing was imported: {event:?}"),
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
        let (mut rules, mut unjudged): (Rules, Vec<(TaskId, String)>) = (Rules::default(), Vec::new());
        for step in 1..=90 {
            rules.step = step;
            let mut restarts = random.chance(12);
            match random.below(100) {
                0..40 => unjudged.extend(make(&mut service, &mut rules, &mut random).await),
                40..50 => {
                    // A good verdict is a step that leaves no trace, where work begins
                    // behind it and a restart follows.
                    if !unjudged.is_empty() {
                        judge(&mut service, &mut unjudged, &mut random, 80).await;
                    }
                    begin(&service, &mut rules, &mut random).await;
                    restarts |= random.chance(60);
                }
                50..60 if !unjudged.is_empty() => judge(&mut service, &mut unjudged, &mut random, 30).await,
                60..66 => mark(service.engine(), &mut rules, &mut random).await,
                66..72 => roll_back(&service, &mut rules, &mut random).await,
                72..78 => take_back(&service, &mut rules, &mut random).await,
                _ => say(&service, &mut rules, &mut random).await,
            }
            rules.check(service.engine()).await;
            if restarts {
                let before = trail(service.engine()).await;
                service = service.restart();
                rules.check(service.engine()).await;
                assert_eq!(trail(service.engine()).await, before);
            }
        }
        assert!(rules.edges.len() > 5, "hardly anything was linked");
    }
}
