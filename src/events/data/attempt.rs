//! What a worker says of an attempt beside its output: that it has begun, and
//! that it has failed.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{InvalidData, finish, sender, shortened, task, typed};
use crate::task::{Correlation, Failure, LeaseId, Report, Started, TaskId, WorkerId};

/// That an attempt has failed.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskFailedData)]
pub(in crate::events) struct FailedData {
    /// The task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// Why, in words. A task keeps the first 8192 bytes.
    #[schema(value_type = String)]
    error: Option<String>,
    /// Whether another attempt may help; without it, it may.
    retryable: Option<bool>,
    /// The attempt, as `task.ready` said, from 1; without it the one under way.
    #[schema(minimum = 1)]
    attempt: Option<u32>,
    /// Who says so.
    #[schema(value_type = Option<WorkerId>)]
    worker_id: Option<String>,
    /// The lease under which that worker has the task, where it has one: it tells more than `worker_id`.
    #[schema(value_type = Option<LeaseId>)]
    lease_id: Option<String>,
}

pub(super) fn failed(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<FailedData>(data)?;
    let task = task(&mut found, data.task_id.as_deref(), true);
    if data.attempt == Some(0) {
        found.add("/data/attempt", "must be 1 or more, was 0");
    }
    let sender = sender(&mut found, data.worker_id.as_deref(), data.lease_id.as_deref());
    let error = found.required("/data/error", data.error);
    let (task, error) = finish(found, task, error)?;
    let failure = Failure {
        error: shortened(error),
        retryable: data.retryable.unwrap_or(true),
        attempt: data.attempt,
        sender,
        from_qa: false,
    };
    Ok((Correlation { task, artifact: None, review: None }, Report::Failed(failure)))
}

/// That a worker has begun: from now on the deadline of the attempt counts.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskStartedData)]
pub(in crate::events) struct StartedData {
    /// The task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// The attempt, as `task.ready` said, from 1; without it the one under way.
    #[schema(minimum = 1)]
    attempt: Option<u32>,
    /// Who has begun.
    #[schema(value_type = Option<WorkerId>)]
    worker_id: Option<String>,
    /// The lease under which that worker has the task, where it has one: it tells more than `worker_id`.
    #[schema(value_type = Option<LeaseId>)]
    lease_id: Option<String>,
}

pub(super) fn started(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<StartedData>(data)?;
    let task = task(&mut found, data.task_id.as_deref(), true);
    if data.attempt == Some(0) {
        found.add("/data/attempt", "must be 1 or more, was 0");
    }
    let sender = sender(&mut found, data.worker_id.as_deref(), data.lease_id.as_deref());
    let (task, ()) = finish(found, task, Some(()))?;
    let report = Report::Started(Started { attempt: data.attempt, sender });
    Ok((Correlation { task, artifact: None, review: None }, report))
}
