//! The events about the start and the failure of an attempt.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::fields::{InvalidData, decode, finish, read_sender, read_task, shorten_reason};
use crate::task::{Correlation, Failure, LeaseId, Report, Started, TaskId, WorkerId};

/// An attempt has failed.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskFailedData)]
pub(in crate::events) struct FailedData {
    /// The id of the task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// The cause, in words. The task keeps the first 8192 bytes.
    #[schema(value_type = String)]
    error: Option<String>,
    /// Whether another attempt may succeed. Default: true.
    retryable: Option<bool>,
    /// The number of the attempt, as in `task.ready`, from 1. Default: the current attempt.
    #[schema(minimum = 1)]
    attempt: Option<u32>,
    /// The worker that reports the failure.
    #[schema(value_type = Option<WorkerId>)]
    worker_id: Option<String>,
    /// The lease of the attempt, if the worker has one. It takes precedence over `worker_id`.
    #[schema(value_type = Option<LeaseId>)]
    lease_id: Option<String>,
}

pub(super) fn read_failed(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = decode::<FailedData>(data)?;
    let task = read_task(&mut found, data.task_id.as_deref(), true);
    if data.attempt == Some(0) {
        found.add("/data/attempt", "must be 1 or more, was 0");
    }
    let sender = read_sender(&mut found, data.worker_id.as_deref(), data.lease_id.as_deref());
    let error = found.required("/data/error", data.error);
    let (task, error) = finish(found, task, error)?;
    let failure = Failure {
        error: shorten_reason(error),
        retryable: data.retryable.unwrap_or(true),
        attempt: data.attempt,
        sender,
        from_qa: false,
    };
    Ok((Correlation { task, artifact: None, review: None }, Report::Failed(failure)))
}

/// A worker has started an attempt, whose deadline begins.
#[derive(Deserialize, ToSchema)]
#[schema(as = TaskStartedData)]
pub(in crate::events) struct StartedData {
    /// The id of the task.
    #[schema(value_type = TaskId)]
    task_id: Option<String>,
    /// The number of the attempt, as in `task.ready`, from 1. Default: the current attempt.
    #[schema(minimum = 1)]
    attempt: Option<u32>,
    /// The worker that has started the attempt.
    #[schema(value_type = Option<WorkerId>)]
    worker_id: Option<String>,
    /// The lease of the attempt, if the worker has one. It takes precedence over `worker_id`.
    #[schema(value_type = Option<LeaseId>)]
    lease_id: Option<String>,
}

pub(super) fn read_started(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = decode::<StartedData>(data)?;
    let task = read_task(&mut found, data.task_id.as_deref(), true);
    if data.attempt == Some(0) {
        found.add("/data/attempt", "must be 1 or more, was 0");
    }
    let sender = read_sender(&mut found, data.worker_id.as_deref(), data.lease_id.as_deref());
    let (task, ()) = finish(found, task, Some(()))?;
    let report = Report::Started(Started { attempt: data.attempt, sender });
    Ok((Correlation { task, artifact: None, review: None }, report))
}
