//! What the writer reads for a plan that was made beside it, and what it does with
//! one that is out of date.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redb::backends::InMemoryBackend;

use super::api::{
    Cascade, CascadeRequest, CheckpointRules, EventOutcome, Incoming, LeaseRequest, Message, Prepared, RollbackRequest,
    Settings, Subject, UndoRequest,
};
use super::command::Routed;
use super::handle::{Engine, on_reading_thread};
use super::machine::Machine;
use super::plan::{Attempt, Validity};
use super::rollback_plan::RollbackPlan;
use super::shared::Shared;
use super::taint::CascadePlan;
use super::undo_plan::UndoPlan;
use crate::clock::Clock;
use crate::lineage::{Action, Flag};
use crate::store::{Checkpoint, Store, counted};
use crate::task::{
    ArtifactId, Bus, Correlation, Domain, ExecutionMode, Holder, Now, Options, Outcome, Output, Policy, Priority,
    ProjectId, QaProfile, Report, Router, Submission, TaskId, Tier, Timestamp, WorkerId,
};

fn settings(bus: Bus) -> Settings {
    Settings {
        policy: Policy { bus, ..Policy::default() },
        router: Router::new(Vec::new(), Domain::new("code").unwrap(), Tier::new("small").unwrap()).unwrap(),
        tiers: vec![Tier::new("small").unwrap()],
        default_priority: Priority::Normal,
        default_qa_profile: QaProfile::new("none").unwrap(),
        default_timeout_seconds: 600,
        default_max_attempts: 3,
        max_concurrent: 100_000,
        aging: Duration::from_mins(5),
        queue_capacity: 1024,
        group_max: 256,
        hot_bytes: 1 << 20,
        retention: None,
        idempotency: Duration::from_hours(24),
        idempotency_max_keys: 1000,
        max_projects: 1000,
        dedup_window: Duration::from_hours(72),
        dedup_max_ids: 1_000_000,
        log_retention: Duration::from_hours(72),
        log_readers: Vec::new(),
        min_free_mib: 0,
        checkpoints: CheckpointRules { kept: 0, ..CheckpointRules::default() },
    }
}

fn store() -> Store {
    Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 24, 1 << 24).unwrap()
}

fn artifact(name: &str) -> ArtifactId {
    ArtifactId::new(name).unwrap()
}

/// The writer's state on a store of its own, and a time that goes on.
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now: Now,
    events: u32,
}

impl World {
    pub(super) fn new() -> Self {
        let store = store();
        let recovered = store.recover().unwrap();
        let shared = Shared::new(1 << 20);
        let machine = Machine::recovered(Arc::new(settings(Bus::Embedded)), store, recovered, shared).unwrap();
        Self { machine, now: Now::aligned(Timestamp::from_micros(1_795_000_000_000_000)), events: 0 }
    }

    pub(super) fn commit(&mut self) {
        let (batch, _) = self.machine.finish(self.now).unwrap();
        batch.commit(&self.machine.store, self.now).unwrap();
        self.now = Now::aligned(Timestamp::from_micros(self.now.wall.as_micros() + 1000));
    }

    pub(super) fn submit(&mut self, project: &str, inputs: &[&str]) -> TaskId {
        let inputs = inputs.iter().map(|name| artifact(name)).collect();
        let submission = Submission {
            description: "d".to_owned(),
            project: ProjectId::new(project).unwrap(),
            priority: None,
            options: Options { inputs, ..Options::default() },
            metadata: None,
            execution_mode: ExecutionMode::Autonomous,
            constitution_override: None,
            traceparent: None,
            rerun_of: None,
        };
        let routed = Routed::by(&self.machine.settings.router.clone(), submission);
        let submitted = self.machine.submit(vec![routed], None, self.now).unwrap().unwrap();
        self.commit();
        submitted.results[0].as_ref().unwrap().task
    }

    /// Gives a worker what waits.
    pub(super) fn lease(&mut self) {
        while let Some((task, tier)) = self.machine.lines.next_to_lease(|_| true, self.now) {
            let (worker, long) = (WorkerId::new("w").unwrap(), Duration::from_hours(1));
            let request = LeaseRequest { tier, worker, max: 1, lease: long, wait: Duration::ZERO };
            self.machine.grant(task, &request, self.now).unwrap().unwrap();
        }
        self.commit();
    }

    /// A task that has made an artifact of others.
    pub(super) fn make(&mut self, project: &str, name: &str, of: &[&str]) -> TaskId {
        let task = self.submit(project, &[]);
        let output = Output {
            artifact: artifact(name),
            attempt: None,
            contents: BTreeMap::new(),
            artifacts: Vec::new(),
            inputs_consumed: of.iter().map(|name| artifact(name)).collect(),
            model_used: None,
            sender: Holder::default(),
            tokens_input: None,
            tokens_output: None,
            execution_time_ms: None,
            confidence: None,
            started_at: None,
        };
        self.events += 1;
        let event = Incoming {
            identity: None,
            message: Message::Report {
                correlation: Correlation { task: Some(task), artifact: None, review: None },
                report: Report::Output(Box::new(output)),
            },
            raw: format!("{{\"id\":\"{}\"}}", self.events),
            on_bus: false,
        };
        self.machine.accept(Prepared { event, files: Vec::new() }, None, self.now).unwrap().unwrap();
        self.commit();
        task
    }

    fn plan(&self, request: &CascadeRequest) -> CascadePlan {
        let mut plan = CascadePlan::new(&self.machine.snapshot().unwrap(), request, true).unwrap().unwrap();
        plan.set_small(false);
        plan
    }

    fn attempt(&mut self, request: &CascadeRequest, plan: CascadePlan, is_last: bool) -> Option<Cascade> {
        match self.machine.try_cascade(request.clone(), plan, is_last, self.now).unwrap().unwrap() {
            Attempt::Done(cascade) => Some(*cascade),
            Attempt::Stale => None,
        }
    }

    fn flag(&self, name: &str) -> Flag {
        let graph = self.machine.provenance.graph();
        graph.record(graph.maker(graph.find_artifact(&artifact(name)).unwrap()).unwrap()).unwrap().flag
    }

    fn checkpoint(&mut self, project: &str) -> Checkpoint {
        let project = ProjectId::new(project).unwrap();
        let made = self.machine.create_checkpoint(&project, super::NewCheckpoint::default(), self.now);
        self.commit();
        made.unwrap().unwrap()
    }
}

fn taint(name: &str, cascade_id: &str) -> CascadeRequest {
    CascadeRequest {
        action: Action::Taint,
        subject: Subject::Artifact(artifact(name)),
        reason: "because".to_owned(),
        source: None,
        cascade_id: cascade_id.to_owned(),
        cancel_running: false,
    }
}

fn rows() -> u64 {
    counted::ROWS.get()
}

/// Rows that the writer reads for a taint while so many tasks run that use other
/// artifacts, of which so many begin after the plan.
fn rows_read_for_a_taint(present: usize, begun: usize) -> u64 {
    let mut world = World::new();
    world.make("p", "bad", &[]);
    world.make("p", "spoilt", &["bad"]);
    world.make("q", "good", &[]);
    let user = world.submit("q", &["spoilt"]);
    for _ in 0..present {
        world.submit("q", &["good"]);
    }
    world.lease();
    let late: Vec<TaskId> = (0..begun).map(|_| world.submit("q", &["spoilt"])).collect();
    let request = taint("bad", "c");
    let plan = world.plan(&request);
    world.lease();
    let before = rows();
    let cascade = world.attempt(&request, plan, false).expect("nothing has changed in the graph");
    let read = rows() - before;
    let mut users = vec![user];
    users.extend(late);
    users.sort_unstable();
    assert_eq!((cascade.running, world.flag("spoilt")), (users, Flag::Suspect));
    read
}

#[test]
fn a_taint_reads_what_it_changes_and_not_what_is_present() {
    let few = rows_read_for_a_taint(5, 0);
    assert!(few <= 2, "{few} rows for one user");
    assert_eq!(rows_read_for_a_taint(300, 0), few);
    let with_new = rows_read_for_a_taint(5, 3);
    assert_eq!(rows_read_for_a_taint(300, 3), with_new);
}

/// Rows that the writer reads for an event that taints, while so many tasks run that
/// use what it spoils.
fn rows_read_for_an_event(present: usize) -> u64 {
    let mut world = World::new();
    world.make("p", "bad", &[]);
    world.make("p", "spoilt", &["bad"]);
    for _ in 0..present {
        world.submit("q", &["spoilt"]);
    }
    world.lease();
    let message = Message::Cascade { name: "artifact.tainted", request: Box::new(taint("bad", "c")) };
    let event = Incoming { identity: None, message, raw: "{}".to_owned(), on_bus: false };
    let before = rows();
    let outcome = world.machine.accept(Prepared { event, files: Vec::new() }, None, world.now).unwrap();
    let read = rows() - before;
    assert_eq!(outcome, Ok(EventOutcome::Taken(Outcome::Applied)));
    assert_eq!((world.flag("bad"), world.flag("spoilt")), (Flag::Tainted, Flag::Suspect));
    read
}

#[test]
fn an_event_that_taints_does_not_look_at_the_running_tasks() {
    assert_eq!(rows_read_for_an_event(300), rows_read_for_an_event(3));
}

#[test]
fn a_plan_whose_graph_has_moved_on_is_made_again_or_brought_up_to_date() {
    let mut world = World::new();
    world.make("p", "bad", &[]);
    world.make("p", "below", &["bad"]);
    let late = world.submit("p", &["new"]);
    world.lease();
    let request = taint("bad", "c");
    let (first, last) = (world.plan(&request), world.plan(&request));
    world.make("p", "new", &["below"]);
    assert!(world.attempt(&request, first, false).is_none(), "a plan for an older graph was carried out");
    assert_eq!((world.flag("bad"), world.flag("new")), (Flag::Clean, Flag::Clean));
    let cascade = world.attempt(&request, last, true).unwrap();
    assert_eq!(
        (world.flag("bad"), world.flag("below"), world.flag("new")),
        (Flag::Tainted, Flag::Suspect, Flag::Suspect)
    );
    assert_eq!((cascade.step.flags.len(), cascade.running), (3, vec![late]));
    // What it said is known: the same again changes nothing.
    world.commit();
    let plan = world.plan(&request);
    assert!(!world.attempt(&request, plan, false).unwrap().is_change);
    let counts = world.machine.provenance.tally(&ProjectId::new("p").unwrap()).counts;
    assert_eq!((counts.records, counts.tainted, counts.suspect), (3, 1, 2));
}

#[test]
fn a_plan_of_a_rollback_holds_until_its_project_its_checkpoints_or_the_facts_change() {
    let mut world = World::new();
    world.make("p", "old", &[]);
    let checkpoint = world.checkpoint("p");
    world.make("p", "new", &["old"]);
    world.submit("p", &[]);
    world.lease();
    world.make("q", "other", &[]);
    let request = RollbackRequest {
        checkpoint: checkpoint.id,
        project: None,
        reason: "it went wrong".to_owned(),
        requeue: true,
        dry_run: false,
    };
    let router = world.machine.settings.router.clone();
    let plan = |world: &World| {
        RollbackPlan::new(&world.machine.snapshot().unwrap(), &request, &router, true).unwrap().unwrap()
    };
    let planned = plan(&world);
    assert_eq!(planned.validity(&world.machine), Validity::Whole);
    let task = world.submit("q", &[]);
    assert_eq!(planned.validity(&world.machine), Validity::Whole, "a task of another project");
    world.make("q", "elsewhere", &[]);
    assert_eq!(planned.validity(&world.machine), Validity::AllButStep, "a record of another project");
    let done = world.machine.rollback(&request, planned, world.now).unwrap();
    assert_eq!((done.named, done.step.flags.len(), done.requeued.len()), (1, 1, 2));
    assert_eq!(
        (world.flag("new"), world.flag("old"), world.flag("elsewhere")),
        (Flag::Tainted, Flag::Clean, Flag::Clean)
    );
    world.commit();
    // Of its own project every move counts, of the others none.
    let planned = plan(&world);
    world.machine.cancel_all(&[task], "no reason", world.now).unwrap();
    assert_eq!(planned.validity(&world.machine), Validity::Whole);
    world.lease();
    assert_eq!(planned.validity(&world.machine), Validity::Gone, "its own tasks have begun");
    let planned = plan(&world);
    world.checkpoint("q");
    assert_eq!(planned.validity(&world.machine), Validity::Gone, "a checkpoint was made");
    let planned = plan(&world);
    let other = taint("other", "o");
    let cascade = world.plan(&other);
    world.attempt(&other, cascade, false).unwrap();
    assert_eq!(planned.validity(&world.machine), Validity::Gone, "something was said of a record");
}

/// Rows that are read to take a cascade back that stands among so many others.
fn rows_read_for_an_undo(others: usize) -> (u64, u64) {
    let mut world = World::new();
    world.make("p", "a", &[]);
    world.make("p", "b", &[]);
    for number in 0..=others {
        let request = if number == 1 { taint("a", "c") } else { taint("b", &format!("other-{number}")) };
        let plan = world.plan(&request);
        world.attempt(&request, plan, false).unwrap();
        world.commit();
    }
    let snapshot = world.machine.snapshot().unwrap();
    let before = rows();
    let plan = UndoPlan::new(&snapshot, "c").unwrap().unwrap();
    let planned = rows() - before;
    let request = UndoRequest { cascade_id: "c".to_owned(), reason: "a mistake".to_owned(), dry_run: false };
    let undone = world.machine.undo(&request, plan, world.now).unwrap();
    assert_eq!((undone.facts, world.flag("a"), world.flag("b")), (1, Flag::Clean, Flag::Tainted));
    (planned, rows() - before - planned)
}

#[test]
fn an_undo_costs_what_its_cascade_has_and_not_what_the_trail_has() {
    let few = rows_read_for_an_undo(3);
    assert_eq!(few.1, 0, "the writer has read for a plan that holds");
    assert_eq!(rows_read_for_an_undo(200), few);
}

#[tokio::test]
async fn tasks_behind_a_broker_are_looked_at_in_one_view() {
    let (engine, writer) = Engine::start(store(), settings(Bus::Broker), &Clock::new()).unwrap();
    let submission = |project: &str| Submission {
        description: "d".to_owned(),
        project: ProjectId::new(project).unwrap(),
        priority: None,
        options: Options::default(),
        metadata: None,
        execution_mode: ExecutionMode::Autonomous,
        constitution_override: None,
        traceparent: None,
        rerun_of: None,
    };
    for name in ["p", "q"] {
        engine.tasks().submit((0..200).map(|_| submission(name)).collect(), None).await.unwrap();
    }
    on_reading_thread(async {
        let mut dispatched = engine.broker().dispatched().await.unwrap();
        while dispatched.len() < 400 {
            dispatched = engine.broker().dispatched().await.unwrap();
        }
        let before = counted::VIEWS.get();
        let dispatched = engine.broker().dispatched().await.unwrap();
        let positions: Vec<_> = dispatched.iter().map(|dispatch| dispatch.position).collect();
        assert_eq!(
            engine.broker().still_waiting(positions).await.unwrap(),
            dispatched.iter().map(|it| (it.position, it.at)).collect()
        );
        let tasks =
            dispatched.iter().filter_map(|dispatch| Some((dispatch.position.task?, crate::task::Seq(u64::MAX))));
        let newest = engine.broker().newest_dispatches(tasks.collect()).await.unwrap();
        assert!(newest.iter().zip(&dispatched).all(|(newest, dispatch)| {
            newest.as_ref().map(|(position, tier)| (position, tier)) == Some((&dispatch.position, &dispatch.tier))
        }));
        assert_eq!(counted::VIEWS.get() - before, 3);
    })
    .await;
    drop(engine);
    writer.stop().unwrap();
}
