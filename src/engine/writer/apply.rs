//! Applies commands to the state machine.

use super::command::{Command, EventAnswers, EventPlans, Reply};
use super::commit::Committer;
use super::planned;
use super::workers::WorkerQueue;
use crate::engine::api::{Error, EventOutcome, Grant, LeaseRequest, PreparedEvent, Refusal};
use crate::engine::state::{EventPlan, Failure, Stored, answer};
use crate::task::Now;

/// Applies a command. Its answer is held back until the commit.
pub(super) fn apply(committer: &mut Committer, workers: &mut WorkerQueue, command: Command, now: Now) -> Stored<()> {
    let machine = &mut committer.machine;
    match command {
        Command::Submit { submissions, key, reply } => {
            let result = machine.submit(submissions, key, now);
            committer.hold_result(reply, result)
        }
        Command::Cancel { task, reason, reply } => {
            let result = machine.cancel(task, reason, now);
            committer.hold_result(reply, result)
        }
        Command::Accept { events, plan, reply } => accept_all(committer, (events, plan), reply, now),
        Command::Requeue { dead_letter, event, plan, reply } => {
            let plan = planned::settle_event_plan(committer, &event, plan, now)?;
            let result = committer.machine.requeue(dead_letter, (*event, plan), now);
            count_event(committer, &result);
            committer.hold_result(reply, result)
        }
        Command::Lease { request, reply } => {
            join(committer, workers, request, reply, now);
            Ok(())
        }
        Command::Renew { lease, duration, reply } => {
            let result = machine.renew(lease, duration, now);
            committer.hold_result(reply, result)
        }
        Command::Release { lease, delivered, reply } => {
            let result = machine.release(lease, delivered, now);
            committer.hold_result(reply, result)
        }
        Command::TakeRouting { max, reply } => {
            let result = machine.take_routing(max, now);
            committer.hold_value(reply, result)
        }
        Command::Route { task, step, finding, reply } => {
            let result = machine.route(task, step, *finding, now);
            committer.hold_result(reply, result)
        }
        Command::ReturnRouting { task, until, reply } => {
            let result = machine.return_routing(task, until);
            committer.hold_value(reply, result)
        }
        Command::PutDeadLetters { letters, reply } => {
            let result = machine.put_dead_letters(letters, now);
            committer.hold_value(reply, result)
        }
        Command::DiscardDeadLetters { numbers, reply } => {
            let result = machine.discard_dead_letters(numbers, now);
            committer.hold_value(reply, result)
        }
        Command::ReportQueue { report, reply } => {
            let result = machine.report_queue(&report, now);
            committer.hold_value(reply, result)
        }
        command => apply_management(committer, command, now),
    }
}

/// Applies a command on provenance or on projects and tiers.
fn apply_management(committer: &mut Committer, command: Command, now: Now) -> Stored<()> {
    let machine = &mut committer.machine;
    match command {
        Command::Cascade { request, plan, is_last, reply } => {
            let result = machine.cascade(*request, *plan, is_last, now);
            committer.hold_result(reply, result)
        }
        Command::Import { items, reply } => {
            let result = machine.import(&items, now);
            committer.hold_value(reply, result)
        }
        Command::Rollback { request, plan, is_last, reply } => {
            let result = planned::roll_back(committer, &request, *plan, is_last, now);
            committer.hold_result(reply, result)
        }
        Command::Undo { request, plan, is_last, reply } => {
            let result = planned::undo(committer, &request, *plan, is_last, now);
            committer.hold_result(reply, result)
        }
        Command::CreateCheckpoint { project, new, reply } => {
            let result = machine.create_checkpoint(&project, new, now);
            committer.hold_result(reply, result)
        }
        Command::CreateProject { project, reply } => {
            let result = machine.create_project(project, now);
            committer.hold_result(reply, result)
        }
        Command::UpdateProject { project, patch, if_version, reply } => {
            let result = machine.update_project(&project, patch, if_version, now);
            committer.hold_result(reply, result)
        }
        Command::DeleteProject { project, if_version, reply } => {
            let result = machine.delete_project(&project, if_version, now);
            committer.hold_result(reply, result)
        }
        Command::PauseProject { project, pause, reply } => {
            let result = machine.set_project_paused(&project, pause, now);
            committer.hold_result(reply, result)
        }
        Command::PauseTier { tier, pause, reply } => {
            let result = machine.set_tier_paused(&tier, pause, now);
            committer.hold_result(reply, result)
        }
        // `apply` handles these, and the loop the stop.
        Command::Submit { .. }
        | Command::Cancel { .. }
        | Command::Accept { .. }
        | Command::Requeue { .. }
        | Command::Lease { .. }
        | Command::Renew { .. }
        | Command::Release { .. }
        | Command::TakeRouting { .. }
        | Command::Route { .. }
        | Command::ReturnRouting { .. }
        | Command::PutDeadLetters { .. }
        | Command::DiscardDeadLetters { .. }
        | Command::ReportQueue { .. }
        | Command::Stop => Ok(()),
    }
}

fn accept_all(
    committer: &mut Committer,
    (events, mut plan): (Vec<PreparedEvent>, EventPlans),
    reply: Reply<EventAnswers>,
    now: Now,
) -> Stored<()> {
    let mut answers = Vec::with_capacity(events.len());
    let mut accepted = Ok(());
    for (place, event) in events.into_iter().enumerate() {
        let plan = plan.take_if(|(of, _)| *of == place).map(|(_, plan)| plan);
        match answer(accept(committer, event, plan, now)) {
            Ok(answer) => answers.push(answer),
            // A rollback among the events has made a commit, which may be what failed: then
            // the outcome of the events before it is unknown.
            Err(error) => {
                accepted = Err(error);
                break;
            }
        }
    }
    committer.hold(reply, Ok::<_, Refusal>(answers));
    accepted
}

fn accept(
    committer: &mut Committer,
    event: PreparedEvent,
    plan: Option<EventPlan>,
    now: Now,
) -> Result<EventOutcome, Failure> {
    let plan = planned::settle_event_plan(committer, &event, plan, now)?;
    let result = committer.machine.accept(event, plan, now);
    count_event(committer, &result);
    result
}

fn count_event(committer: &mut Committer, result: &Result<EventOutcome, Failure>) {
    if let Ok(outcome) = result {
        committer.count_event(*outcome);
    }
}

/// Has a worker wait for tasks: it is served with those that wait already.
fn join(
    committer: &mut Committer,
    workers: &mut WorkerQueue,
    request: LeaseRequest,
    reply: Reply<Vec<Grant>>,
    now: Now,
) {
    if !committer.machine.has_tier(&request.tier) {
        committer.hold(reply, Err(Refusal::TierNotFound(request.tier)));
        return;
    }
    if let Err(reply) = workers.join(request, reply, now) {
        committer.hold(reply, Err::<Vec<Grant>, _>(Error::Overloaded));
    }
}
