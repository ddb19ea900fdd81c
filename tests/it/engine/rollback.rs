//! Rollback: what was made after a checkpoint is tainted, what runs is
//! cancelled, what has to be done again is submitted again.

use std::time::Duration;

use dats::clock::Clock;
use dats::engine::{
    AuditEntry, AuditFilter, Engine, Error, EventContent, EventOutcome, IncomingEvent, NewCheckpoint, Refusal,
    Rollback, RollbackRequest,
};
use dats::lineage::{Flag, Graph, Relationship};
use dats::store::{About, Batch, Checkpoint, LineageRow, Store};
use dats::task::{
    CheckpointId, Now, Outcome, QaProfile, RecordId, RecordStatus, Report, Seq, Stale, TaskId, Timestamp,
};

use crate::support::fixtures::{CACHE_BYTES, artifact, output_report, project, settings, submission, tier};
use crate::support::service::{Service, task_of};

use super::families::subtask;
use super::parts;

const UNCHANGED: EventOutcome = EventOutcome::Taken(Outcome::Stale(Stale::AlreadySo));

fn request(checkpoint: &Checkpoint) -> RollbackRequest {
    RollbackRequest {
        checkpoint: checkpoint.id.clone(),
        project: None,
        reason: "it went wrong".to_owned(),
        requeue: false,
        dry_run: false,
    }
}

async fn checkpoint(service: &Service, name: &str) -> Checkpoint {
    service.engine().checkpoints().create(project(name), NewCheckpoint::default()).await.unwrap()
}

/// A task whose output is taken as it is.
async fn make(service: &mut Service, project: &str, made: &str, inputs: &[&str]) -> TaskId {
    let mut submission = submission(project, made);
    submission.options.qa_profile = Some(QaProfile::new("none").unwrap());
    let task = service.submit(submission).await;
    let Report::Output(mut output) = output_report(made) else { panic!("an output") };
    output.inputs_consumed = inputs.iter().map(|input| artifact(input)).collect();
    service.report(task, Report::Output(output)).await;
    task
}

fn flag(service: &Service, name: &str) -> Flag {
    let graph = service.engine().provenance().graph();
    let made = graph.producers(graph.find_artifact(&artifact(name)).unwrap()).last().unwrap();
    graph.record(made).unwrap().flag
}

/// What a dry run and the rollback itself must agree in.
fn numbers(rollback: &Rollback) -> impl PartialEq + std::fmt::Debug + use<> {
    let id = |node| rollback.graph.record(node).unwrap().id;
    let flags: Vec<_> = rollback.step.flags.iter().map(|it| (id(it.record), it.from, it.to, it.depth)).collect();
    let again: Vec<_> = rollback.requeued.iter().map(|(task, _)| *task).collect();
    let tasks = (rollback.cancelled.clone(), rollback.still_open.clone(), rollback.to_rerun.clone());
    (flags, rollback.invalidated.clone(), rollback.running.clone(), tasks, again, rollback.not_requeued.clone())
}

#[tokio::test]
async fn what_came_after_is_undone_and_what_was_before_stays() {
    let mut service = Service::new(settings());
    let old = make(&mut service, "p", "a", &[]).await;
    let waiting = service.submit(submission("p", "made before, output after")).await;
    let first = checkpoint(&service, "p").await;
    assert_eq!((first.provenance_count, first.artifact_count, first.trigger.as_str()), (1, 1, "manual"));
    assert_eq!(first.last_task_id, Some(old.to_string()));
    let new = make(&mut service, "p", "b", &["a"]).await;
    let other = make(&mut service, "q", "c", &["b"]).await;
    make(&mut service, "q", "d", &["a"]).await;
    service.report(waiting, output_report("e")).await;
    let second = checkpoint(&service, "p").await;
    let elsewhere = checkpoint(&service, "q").await;
    let open = service.submit(submission("p", "d")).await;
    assert_eq!(task_of(&service.lease("small").await.expect("a worker has it")), open);
    let waits = service.submit(submission("p", "only waits")).await;
    let mut uses = submission("q", "uses what becomes suspect");
    uses.options.inputs = vec![artifact("b")];
    uses.options.tier = Some(tier("large"));
    let uses = service.submit(uses).await;
    assert_eq!(task_of(&service.lease("large").await.expect("a worker has it")), uses);

    let dry = RollbackRequest { dry_run: true, requeue: true, ..request(&first) };
    let before = service.engine().log().head().borrow().0;
    let foretold = service.engine().checkpoints().roll_back(dry).await.unwrap();
    assert_eq!((flag(&service, "b"), service.phase(open).as_str()), (Flag::Clean, "leased"));
    assert_eq!(service.engine().log().head().borrow().0, before);
    let done =
        service.engine().checkpoints().roll_back(RollbackRequest { requeue: true, ..request(&first) }).await.unwrap();
    assert_eq!(numbers(&foretold), numbers(&done));
    assert!(foretold.requeued.iter().all(|(_, made)| made.is_none()));

    let flags = ["a", "b", "c", "d", "e"].map(|name| flag(&service, name));
    assert_eq!(flags, [Flag::Clean, Flag::Tainted, Flag::Suspect, Flag::Clean, Flag::Tainted]);
    assert_eq!((done.cancelled.as_slice(), done.still_open.as_slice()), (&[open][..], &[waiting][..]));
    assert_eq!((done.to_rerun.as_slice(), done.running.as_slice()), (&[new, open][..], &[uses][..]));
    assert_eq!((service.phase(open).as_str(), service.phase(waits).as_str()), ("cancelled", "queued"));
    assert_eq!(service.phase(other), "completed");
    for (old, made) in &done.requeued {
        assert_eq!(service.status(made.unwrap())["rerun_of"], old.to_string());
    }
    assert_eq!(done.invalidated, std::slice::from_ref(&second.id));
    let service = service.restart();
    let engine = service.engine();
    assert!(!engine.checkpoints().get(second.id.clone()).await.unwrap().unwrap().is_valid);
    assert!(engine.checkpoints().get(elsewhere.id).await.unwrap().unwrap().is_valid);
    let refused = engine.checkpoints().roll_back(request(&second)).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::CheckpointInvalid(id)) if id == second.id));
    let filter = AuditFilter { cascade: Some(done.cascade_id), ..AuditFilter::default() };
    let trail = engine.provenance().audit(filter, None, 10).await.unwrap().entries;
    let reason = format!("Rollback to checkpoint {}", first.id);
    assert!(
        trail.len() == 3
            && trail.iter().all(|entry| matches!(entry, AuditEntry::Own { cascade, .. } if cascade.reason == reason)),
        "{trail:?}"
    );
}

#[tokio::test]
async fn the_same_request_twice_changes_nothing() {
    for requeue in [false, true] {
        let mut service = Service::new(settings());
        let first = checkpoint_in_new(&service).await;
        make(&mut service, "p", "a", &[]).await;
        service.submit(submission("p", "runs")).await;
        service.lease("small").await.expect("a worker has it");
        checkpoint(&service, "p").await;
        let request = RollbackRequest { requeue, ..request(&first) };
        let done = service.engine().checkpoints().roll_back(request.clone()).await.unwrap();
        assert!(done.is_change() && done.requeued.len() == if requeue { 2 } else { 0 });
        let mut service = service.restart();
        // What was submitted again may be under way meanwhile.
        let running: Vec<TaskId> = service.lease("small").await.iter().map(task_of).collect();
        assert_eq!(running.len(), usize::from(requeue));
        let head = service.engine().log().head().borrow().0;
        let again = service.engine().checkpoints().roll_back(request.clone()).await.unwrap();
        assert!(!again.is_change() && again.to_rerun.is_empty(), "{again:?}");
        assert_eq!(service.engine().log().head().borrow().0, head);
        // Without a wish to do them again, they are what was made after it.
        let stop = RollbackRequest { requeue: false, ..request.clone() };
        let stopped = service.engine().checkpoints().roll_back(stop).await.unwrap();
        assert_eq!(stopped.cancelled, running);
        for made in done.requeued.iter().filter_map(|(_, made)| *made) {
            assert_eq!(service.phase(made), if running.contains(&made) { "cancelled" } else { "queued" });
        }
        service = service.restart();
        assert_eq!(flag(&service, "a"), Flag::Tainted);
    }
}

/// A checkpoint of a project that has nothing yet.
async fn checkpoint_in_new(service: &Service) -> Checkpoint {
    let refused = service.engine().checkpoints().create(project("p"), NewCheckpoint::default()).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::ProjectNotFound(_))));
    let imported = the_beginning();
    assert!(service.engine().checkpoints().import(imported.clone()).await.unwrap());
    imported
}

/// Before everything.
fn the_beginning() -> Checkpoint {
    Checkpoint {
        id: CheckpointId::new("the beginning").unwrap(),
        project: project("p"),
        created_at: Timestamp::from_micros(0),
        git_ref: None,
        provenance_count: 0,
        artifact_count: 0,
        last_provenance_id: None,
        last_task_id: None,
        rag_state_ref: None,
        work_product_ref: None,
        description: None,
        trigger: "manual".to_owned(),
        is_valid: true,
        rolled_back_at: None,
        original: Some("{}".to_owned()),
    }
}

/// What only waits stays, unless it waits for what is cancelled or has got its inputs
/// from what is undone: it would fail, or work with what is tainted.
#[tokio::test]
async fn tasks_that_wait_stay_unless_they_depend_on_what_is_undone() {
    for requeue in [false, true] {
        let mut service = Service::new(settings());
        let kept = make(&mut service, "p", "kept", &[]).await;
        let first = checkpoint(&service, "p").await;
        let undone = make(&mut service, "p", "undone", &[]).await;
        let after = async |service: &Service, tasks: &[TaskId]| {
            let mut submission = submission("p", "after others");
            submission.options.depends_on = tasks.to_vec();
            service.submit(submission).await
        };
        let runs = service.submit(submission("p", "runs")).await;
        assert_eq!(task_of(&service.lease("small").await.expect("a worker has it")), runs);
        let waits = after(&service, &[kept]).await;
        let behind_it = after(&service, &[waits]).await;
        let got_inputs = after(&service, &[kept, undone]).await;
        let behind_running = after(&service, &[runs]).await;
        let behind_that = after(&service, &[waits, behind_running]).await;
        let mut elsewhere = submission("q", "of another project");
        elsewhere.options.depends_on = vec![runs];
        let elsewhere = service.submit(elsewhere).await;
        let done =
            service.engine().checkpoints().roll_back(RollbackRequest { requeue, ..request(&first) }).await.unwrap();
        assert_eq!(done.cancelled, [runs, got_inputs, behind_running, behind_that]);
        assert_eq!(done.to_rerun, [undone, runs, got_inputs, behind_running, behind_that]);
        assert_eq!(done.requeued.len(), if requeue { 5 } else { 0 });
        assert_eq!((service.phase(waits).as_str(), service.phase(behind_it).as_str()), ("queued", "blocked"));
        assert_eq!(service.phase(elsewhere), "failed", "it is not of this project: it fails with its dependency");
        // Nothing that stayed has got an artifact that is tainted.
        service.restart();
    }
}

/// The new tasks wait for each other as the old ones did, and get what the
/// new ones make, not what the old ones made.
#[tokio::test]
async fn what_depended_on_each_other_does_so_again() {
    let mut service = Service::new(settings());
    let kept = make(&mut service, "p", "kept", &[]).await;
    let first = checkpoint(&service, "p").await;
    let a = make(&mut service, "p", "a", &[]).await;
    let mut second = submission("p", "after a and kept");
    second.options.depends_on = vec![a, kept];
    second.options.inputs = vec![artifact("named")];
    let b = service.submit(second).await;
    let mut third = submission("p", "after b");
    third.options.depends_on = vec![b];
    let c = service.submit(third).await;
    let done =
        service.engine().checkpoints().roll_back(RollbackRequest { requeue: true, ..request(&first) }).await.unwrap();
    let made: Vec<TaskId> = done.requeued.iter().map(|(_, made)| made.unwrap()).collect();
    assert_eq!(done.to_rerun, [a, b, c]);
    let [a2, b2, c2] = made[..] else { panic!("{made:?}") };
    let waits = |task: TaskId| service.status(task)["depends_on"].clone();
    assert_eq!(waits(b2), serde_json::json!([a2.to_string(), kept.to_string()]));
    assert_eq!(waits(c2), serde_json::json!([b2.to_string()]));
    assert_eq!((service.phase(b2).as_str(), service.phase(c2).as_str()), ("blocked", "blocked"));
    let options = &service.status(b2)["options"];
    assert_eq!(options["inputs"], serde_json::json!(["named", "kept"]));
    service.restart();
}

/// A part is made by splitting: it is the whole that is done again.
#[tokio::test]
async fn a_family_is_done_again_from_its_top() {
    let mut service = parts::service();
    let task = service.submit(submission("p", "build it")).await;
    let before_split = checkpoint(&service, "p").await;
    let split = vec![subtask("a", true, &[]), subtask("b", true, &["a"])];
    let children = parts::split(&service, task, split).await;
    parts::by_rules(&service, children[0]).await;
    parts::complete(&mut service, children[0], "made-by-a").await;
    let after_split = checkpoint(&service, "p").await;
    parts::by_rules(&service, children[1]).await;
    let granted = service.lease_soon("small").await;
    assert_eq!(task_of(&granted), children[1]);
    service.report(children[1], output_report("made-by-b")).await;
    // Parent and part are from before this one, so they go on.
    let done = service
        .engine()
        .checkpoints()
        .roll_back(RollbackRequest { requeue: true, ..request(&after_split) })
        .await
        .unwrap();
    assert_eq!((done.still_open.as_slice(), done.cancelled.len(), done.requeued.len()), (&[task][..], 0, 0));
    assert_eq!((flag(&service, "made-by-a"), flag(&service, "made-by-b")), (Flag::Clean, Flag::Tainted));
    // The part is from after this one; without it the parent can't go on.
    let dry = RollbackRequest { requeue: true, dry_run: true, ..request(&before_split) };
    let foretold = service.engine().checkpoints().roll_back(dry).await.unwrap();
    let done = service
        .engine()
        .checkpoints()
        .roll_back(RollbackRequest { requeue: true, ..request(&before_split) })
        .await
        .unwrap();
    assert_eq!(numbers(&foretold), numbers(&done));
    assert_eq!((done.cancelled.as_slice(), done.to_rerun.as_slice()), (&children[1..], &[task][..]));
    assert_eq!((service.phase(task).as_str(), done.requeued.len()), ("failed", 1));
    let again = done.requeued[0].1.unwrap();
    assert_eq!(
        (service.phase(again).as_str(), service.status(again)["children"].clone()),
        ("analyzing", serde_json::json!([]))
    );
    service.restart();
}

/// A task that retention has removed can't be made again.
#[tokio::test]
async fn what_is_not_known_any_more_is_listed() {
    let mut service = Service::new(settings());
    let first = checkpoint_in_new(&service).await;
    let task = make(&mut service, "p", "a", &[]).await;
    let service = service.reopen(|settings| settings.retention = Some(Duration::from_millis(1)));
    service.soon("removal", || service.engine().tasks().status_now(task).unwrap().is_none()).await;
    for requeue in [false, true] {
        let dry = RollbackRequest { requeue, dry_run: true, ..request(&first) };
        let foretold = service.engine().checkpoints().roll_back(dry).await.unwrap();
        assert_eq!((foretold.not_requeued.as_slice(), foretold.to_rerun.as_slice()), (&[task][..], &[task][..]));
    }
    let done =
        service.engine().checkpoints().roll_back(RollbackRequest { requeue: true, ..request(&first) }).await.unwrap();
    assert_eq!((done.not_requeued.as_slice(), done.requeued.len()), (&[task][..], 0));
    assert_eq!(flag(&service, "a"), Flag::Tainted);
}

fn event(id: &str, request: RollbackRequest) -> IncomingEvent {
    IncomingEvent {
        identity: Some(("/cascade".to_owned(), id.to_owned())),
        message: EventContent::Rollback(Box::new(request)),
        raw: format!("{{\"source\":\"/cascade\",\"id\":\"{id}\"}}"),
        on_bus: false,
    }
}

#[tokio::test]
async fn an_event_does_the_same() {
    let mut service = Service::new(settings());
    let first = checkpoint_in_new(&service).await;
    make(&mut service, "p", "a", &[]).await;
    let other = RollbackRequest { project: Some(project("q")), ..request(&first) };
    let refused = service.send(event("1", other)).await.unwrap_err();
    assert!(matches!(refused, Refusal::CheckpointOfOtherProject { .. }));
    let nobody = RollbackRequest { checkpoint: CheckpointId::new("none").unwrap(), ..request(&first) };
    assert!(matches!(service.send(event("1", nobody)).await, Err(Refusal::CheckpointNotFound(_))));
    // A refused event leaves no trace, so its id is new.
    let dry = RollbackRequest { dry_run: true, ..request(&first) };
    service.send(event("1", dry)).await.unwrap();
    assert_eq!(flag(&service, "a"), Flag::Clean);
    let same = RollbackRequest { project: Some(project("p")), ..request(&first) };
    let (submitted, answered) = tokio::join!(
        service.submit(submission("p", "in the same commit, perhaps")),
        service.engine().events().accept(vec![event("1", request(&first)), event("2", same.clone()), event("2", same)]),
    );
    let outcomes: Vec<_> = answered.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!((outcomes[0], outcomes[2]), (EventOutcome::Duplicate, EventOutcome::Duplicate));
    assert_eq!(outcomes[1], EventOutcome::Taken(Outcome::Applied));
    assert_eq!(flag(&service, "a"), Flag::Tainted);
    service.engine().tasks().cancel(submitted, None).await.unwrap();
    let service = service.restart();
    assert_eq!(service.send(event("3", request(&first))).await, Ok(UNCHANGED));
    let page = service.engine().log().page(Seq(0), 100, |entry| entry.about == About::Project).await.unwrap();
    let told: Vec<_> = page.entries.iter().map(|it| (it.entry.change.name(), it.entry.project.as_str())).collect();
    assert_eq!(told, [("rollback.requested", "p"); 3]);
}

/// A hundred thousand records, each made out of the one before, and one of
/// another project out of the last.
#[tokio::test]
async fn a_hundred_thousand_records_in_one_step() {
    const COUNT: u32 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    fill(&Store::open(dir.path(), CACHE_BYTES).unwrap(), COUNT);
    let start = || Engine::start(Store::open(dir.path(), CACHE_BYTES).unwrap(), settings(), &Clock::new()).unwrap();
    let (engine, writer) = start();
    let request = RollbackRequest {
        checkpoint: CheckpointId::new("the beginning").unwrap(),
        project: None,
        reason: "all of it".to_owned(),
        requeue: true,
        dry_run: false,
    };
    let foretold = engine.checkpoints().roll_back(RollbackRequest { dry_run: true, ..request.clone() }).await.unwrap();
    let done = engine.checkpoints().roll_back(request.clone()).await.unwrap();
    let count = usize::try_from(COUNT).unwrap();
    assert_eq!((done.step.flags.len(), done.not_requeued.len()), (count + 1, count));
    assert_eq!(foretold.step.flags, done.step.flags);
    drop(engine);
    writer.stop().unwrap();
    let (engine, writer) = start();
    let graph = engine.provenance().graph();
    let flags = graph.nodes().map(|node| graph.record(node).unwrap().flag);
    let tainted = flags.filter(|flag| *flag == Flag::Tainted).count();
    assert_eq!(tainted, count);
    assert!(!engine.checkpoints().roll_back(request).await.unwrap().is_change());
    drop(engine);
    writer.stop().unwrap();
}

/// Rows as an import leaves them: records of tasks that never were here.
fn fill(store: &Store, count: u32) {
    let (mut graph, mut ids) = (Graph::default(), Vec::new());
    let id = |number: u32| RecordId::from_bytes(u128::from(number + 1).to_be_bytes());
    for number in 0..=count {
        let made = Timestamp::from_micros(i64::from(number + 1) * 1_000_000);
        let record = dats::lineage::Record {
            id: id(number),
            task: TaskId::from_bytes(u128::from(number + 1).to_be_bytes()),
            project: project(if number == count { "q" } else { "p" }),
            status: RecordStatus::Passed,
            created_at: made,
            started_at: None,
            began: dats::lineage::WorkStart::Elsewhere,
            inputs: number
                .checked_sub(1)
                .map(|before| (artifact(&format!("a-{before}")), Relationship::Consumed))
                .into_iter()
                .collect(),
            outputs: vec![artifact(&format!("a-{number}"))],
        };
        graph.insert(&record, Seq(u64::from(number) + 1)).unwrap();
        ids.push(record.id);
    }
    let mut batch = Batch::default();
    for id in ids {
        let row = LineageRow::of(&graph, graph.find(id).unwrap()).unwrap();
        batch.put_lineage(id, &row).unwrap();
    }
    batch.put_checkpoint(&the_beginning()).unwrap();
    batch.commit(store, Now::aligned(Timestamp::from_micros(i64::from(count + 2) * 1_000_000))).unwrap();
}
