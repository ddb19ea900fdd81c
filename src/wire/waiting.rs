//! The text of `waiting_for`: what an open task waits for, for people.

use crate::task::{Now, Pending, Progress, Queued, Routing, RoutingStep, State, Task, TaskId};

/// Returns what the task waits for; `None` if it has ended.
pub(super) fn waiting_for(task: &Task, now: Now) -> Option<String> {
    match &task.state {
        State::Pending(Pending::Scheduled { until, .. }) => Some(format!("the time {until}")),
        State::Pending(Pending::Blocked { waits_for }) => Some(tasks_to_complete(waits_for)),
        State::Pending(Pending::Analyzing { .. }) => Some(task.routing.map_or("routing", routing_service).to_owned()),
        State::Pending(Pending::Queued(queued)) => Some(slot_or_worker(task, queued, now)),
        State::Pending(Pending::Backoff { until }) => {
            Some(format!("attempt {} at {}", task.attempts() + 1, now.calendar(*until)))
        }
        State::Pending(Pending::Dispatched { .. }) => {
            Some(format!("a worker of tier {} to take it from the broker", task.tier))
        }
        State::Running { progress, .. } => match progress {
            Progress::Started { worker: Some(worker), .. } => Some(format!("worker {worker}")),
            Progress::Started { worker: None, .. } => Some(format!("the worker of tier {} that took it", task.tier)),
            Progress::Leased { lease, .. } => Some(format!("worker {}", lease.worker)),
            Progress::Validating { .. } => Some(format!("validation by QA profile {}", task.qa_profile)),
            Progress::Reviewing { review, .. } => Some(format!("a reviewer to complete review {review}")),
        },
        State::Children(children) => {
            let (open, all) = (children.open.len(), task.children.len());
            Some(format!("{open} of its {all} subtasks to end"))
        }
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => None,
    }
}

fn tasks_to_complete(tasks: &[TaskId]) -> String {
    match tasks {
        [task] => format!("task {task} to complete"),
        [task, rest @ ..] => format!("task {task} and {} more to complete", rest.len()),
        [] => "its turn".to_owned(),
    }
}

/// Returns the service that answers the current routing step, and its question.
const fn routing_service(routing: Routing) -> &'static str {
    match routing.step {
        RoutingStep::Analyze => "the Agent service to analyse it",
        RoutingStep::Decompose { .. } => "the Agent service to split it",
        RoutingStep::Estimate => "the Agent service to choose its tier",
        RoutingStep::Context => "the RAG service to find its context",
    }
}

/// Returns what a queued task waits for. A task that was not announced yet waits for a slot first.
fn slot_or_worker(task: &Task, queued: &Queued, now: Now) -> String {
    let missing = if queued.announced {
        format!("a worker of tier {} and a free slot of project {}", task.tier, task.project)
    } else {
        format!("a free slot of project {}", task.project)
    };
    match queued.not_before {
        Some(until) => {
            let until = now.calendar(until);
            format!("{missing}, not before {until}, since a worker gave it back")
        }
        None => missing,
    }
}
