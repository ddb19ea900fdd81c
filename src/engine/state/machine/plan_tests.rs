//! What the writer reads for a plan that was made beside it, and what it does with an outdated
//! plan.

use super::testing::{World, artifact};
use crate::engine::api::{
    Cascade, CascadeRequest, EventContent, EventOutcome, IncomingEvent, NewCheckpoint, PreparedEvent, RollbackRequest,
    Subject, UndoRequest,
};
use crate::engine::state::{Attempt, CascadePlan, RollbackPlan, UndoPlan, Validity};
use crate::lineage::{Action, Flag};
use crate::store::{Checkpoint, counted};
use crate::task::{Outcome, ProjectId, TaskId};

impl World {
    fn plan(&self, request: &CascadeRequest) -> CascadePlan {
        let mut plan = CascadePlan::new(&self.machine.state.snapshot().unwrap(), request, true).unwrap();
        plan.set_small(false);
        plan
    }

    fn attempt(&mut self, request: &CascadeRequest, plan: CascadePlan, is_last: bool) -> Option<Cascade> {
        match self.machine.cascade(request.clone(), plan, is_last, self.now).unwrap() {
            Attempt::Done(cascade) => Some(*cascade),
            Attempt::Stale => None,
        }
    }

    fn flag(&self, name: &str) -> Flag {
        let graph = self.machine.state.provenance.graph();
        graph.record(graph.producer_of(graph.find_artifact(&artifact(name)).unwrap()).unwrap()).unwrap().flag
    }

    fn checkpoint(&mut self, project: &str) -> Checkpoint {
        let project = ProjectId::new(project).unwrap();
        let made = self.machine.create_checkpoint(&project, NewCheckpoint::default(), self.now);
        self.commit();
        made.unwrap()
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
    let message = EventContent::Cascade { name: "artifact.tainted", request: Box::new(taint("bad", "c")) };
    let event = IncomingEvent { identity: None, message, raw: "{}".to_owned(), on_bus: false };
    let before = rows();
    let outcome = world.machine.accept(PreparedEvent { event, files: Vec::new() }, None, world.now);
    let read = rows() - before;
    assert_eq!(outcome.unwrap(), EventOutcome::Taken(Outcome::Applied));
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
    let counts = world.machine.state.provenance.tally(&ProjectId::new("p").unwrap()).counts;
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
    let router = world.machine.settings().router.clone();
    let plan =
        |world: &World| RollbackPlan::new(&world.machine.state.snapshot().unwrap(), &request, &router, true).unwrap();
    let planned = plan(&world);
    assert_eq!(world.machine.rollback_validity(&planned), Validity::Whole);
    let task = world.submit("q", &[]);
    assert_eq!(world.machine.rollback_validity(&planned), Validity::Whole, "a task of another project");
    world.make("q", "elsewhere", &[]);
    assert_eq!(world.machine.rollback_validity(&planned), Validity::AllButStep, "a record of another project");
    let done = world.machine.roll_back(&request, planned, world.now).unwrap();
    assert_eq!((done.named, done.step.flags.len(), done.requeued.len()), (1, 1, 2));
    assert_eq!(
        (world.flag("new"), world.flag("old"), world.flag("elsewhere")),
        (Flag::Tainted, Flag::Clean, Flag::Clean)
    );
    world.commit();
    // Of its own project every move counts, of the others none.
    let planned = plan(&world);
    world.machine.state.cancel_all(&[task], "no reason", world.now).unwrap();
    assert_eq!(world.machine.rollback_validity(&planned), Validity::Whole);
    world.lease();
    assert_eq!(world.machine.rollback_validity(&planned), Validity::Gone, "its own tasks have begun");
    let planned = plan(&world);
    world.checkpoint("q");
    assert_eq!(world.machine.rollback_validity(&planned), Validity::Gone, "a checkpoint was made");
    let planned = plan(&world);
    let other = taint("other", "o");
    let cascade = world.plan(&other);
    world.attempt(&other, cascade, false).unwrap();
    assert_eq!(world.machine.rollback_validity(&planned), Validity::Gone, "something was said of a record");
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
    let snapshot = world.machine.state.snapshot().unwrap();
    let before = rows();
    let plan = UndoPlan::new(&snapshot, "c").unwrap();
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
