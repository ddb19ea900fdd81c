//! What reports of workers and QA do to a task: outputs, verdicts, failures,
//! reviews, and those that come before the output they are about.

use super::change::{Effect, NewRecord, Outcome, RecordStatus, Stale};
use super::event::{Decision, Failure, Output, Report, Review, ReviewDecision, ReviewRequest, Verdict};
use super::id::{ArtifactId, RecordId};
use super::state::{Attempt, ErrorCode, Parked, Product, Progress, State, Task, TaskError};
use super::transition::{Draft, MAX_PARKED, Refusal, Retry, Step};

/// Applies a report. `record` is the id for a provenance record, should one
/// be made; `raw` the event as it came.
pub(super) fn apply(draft: Draft<'_>, report: Report, record: RecordId, raw: &str) -> Result<Step, Refusal> {
    match report {
        Report::Output(output) => self::output(draft, output, record),
        Report::Verdict(verdict) => self::verdict(draft, verdict, raw),
        Report::Failed(failure) => failed(draft, &failure),
        Report::ReviewRequested(request) => review_requested(draft, request, raw),
        Report::ReviewCompleted(review) => review_completed(draft, review, raw),
    }
}

/// The attempt a report is about, seen from the newest one.
enum About {
    Newest,
    Earlier(u32),
}

fn about(task: &Task, given: Option<u32>) -> Result<About, Refusal> {
    let newest = task.attempts();
    match given {
        Some(given) if given > newest || given == 0 => Err(Refusal::UnknownAttempt { given, newest }),
        Some(given) if given < newest => Ok(About::Earlier(given)),
        None if newest == 0 => Err(Refusal::UnknownAttempt { given: 1, newest }),
        Some(_) | None => Ok(About::Newest),
    }
}

fn output(mut draft: Draft<'_>, output: Box<Output>, record: RecordId) -> Result<Step, Refusal> {
    let earlier = match about(&draft.task, output.attempt)? {
        About::Newest => None,
        About::Earlier(number) => Some(number),
    };
    match (draft.task.state.clone(), earlier) {
        (State::Running { attempt, progress: Progress::Dispatched | Progress::Leased { .. } }, None) => {
            take_output(&mut draft, attempt, output, record);
            Ok(draft.applied())
        }
        (
            State::Running {
                progress: Progress::Validating { product, .. } | Progress::Reviewing { product, .. }, ..
            },
            None,
        ) => {
            draft.effects.push(Effect::ExtendRecord { record: product.record, output });
            Ok(draft.stale(Stale::SecondOutput))
        }
        (State::Completed { product, .. }, None) => {
            draft.effects.push(Effect::ExtendRecord { record: product.record, output });
            Ok(draft.stale(Stale::Ended))
        }
        (State::Running { .. }, Some(number)) => Ok(late_output(draft, number, output, record, Stale::ClosedAttempt)),
        (State::Pending(_), earlier) => {
            let number = earlier.unwrap_or_else(|| draft.task.attempts());
            Ok(late_output(draft, number, output, record, Stale::ClosedAttempt))
        }
        (State::Completed { .. }, Some(number)) => Ok(late_output(draft, number, output, record, Stale::Ended)),
        (State::Failed { .. } | State::Cancelled { .. }, earlier) => {
            let number = earlier.unwrap_or_else(|| draft.task.attempts());
            Ok(late_output(draft, number, output, record, Stale::Ended))
        }
    }
}

/// The first output of the running attempt.
fn take_output(draft: &mut Draft<'_>, attempt: Attempt, output: Box<Output>, record: RecordId) {
    let product = Product { record, artifact: output.artifact.clone(), artifacts: output.all_artifacts() };
    let unchecked = draft.task.qa_profile.is_none();
    draft.effects.push(Effect::StoreRecord(Box::new(NewRecord {
        id: record,
        attempt: attempt.number,
        tier: draft.task.tier.clone(),
        domain: draft.task.domain.clone(),
        dispatched_at: attempt.dispatched_at,
        completed_at: draft.now,
        status: if unchecked { RecordStatus::Passed } else { RecordStatus::Pending },
        output,
    })));
    if unchecked {
        draft.complete(&attempt, product);
        return;
    }
    let deadline = draft.policy.validation_timeout.map(|timeout| draft.now.after(timeout));
    draft.task.state = State::Running { attempt, progress: Progress::Validating { product, deadline } };
    apply_parked(draft);
}

/// Reports that waited for this output have their effect now, in the order
/// in which they came, as long as the output is still under validation.
fn apply_parked(draft: &mut Draft<'_>) {
    for parked in std::mem::take(&mut draft.task.parked) {
        let State::Running { attempt, progress } = draft.task.state.clone() else { return };
        let (Progress::Validating { product, .. } | Progress::Reviewing { product, .. }) = progress else { return };
        if !concerns(&parked.report, &product) {
            draft.task.parked.push(parked);
            continue;
        }
        match parked.report {
            Report::Verdict(verdict) => judge(draft, &attempt, product, verdict),
            Report::ReviewRequested(request) => start_review(draft, attempt, product, request),
            Report::ReviewCompleted(review) => finish_review(draft, &attempt, product, review),
            // Outputs and failures are never parked.
            Report::Output(_) | Report::Failed(_) => {}
        }
    }
}

fn concerns(report: &Report, product: &Product) -> bool {
    match report {
        Report::Verdict(verdict) => names(product, &verdict.artifact),
        Report::ReviewRequested(request) => request.artifact.as_ref().is_none_or(|id| names(product, id)),
        Report::ReviewCompleted(review) => review.artifact.as_ref().is_none_or(|id| names(product, id)),
        Report::Output(_) | Report::Failed(_) => false,
    }
}

fn names(product: &Product, artifact: &ArtifactId) -> bool {
    product.artifact == *artifact || product.artifacts.iter().any(|each| each.id == *artifact)
}

/// An output of attempt `number`, which is closed: its artifacts are kept
/// with that attempt, the task does not move.
fn late_output(mut draft: Draft<'_>, number: u32, output: Box<Output>, record: RecordId, why: Stale) -> Step {
    let domain = draft.task.domain.clone();
    let now = draft.now;
    if let Some(closed) = draft.task.closed.iter_mut().find(|closed| closed.number == number) {
        if let Some((record, _)) = closed.product {
            draft.effects.push(Effect::ExtendRecord { record, output });
        } else {
            closed.product = Some((record, output.artifact.clone()));
            draft.effects.push(Effect::StoreRecord(Box::new(NewRecord {
                id: record,
                attempt: number,
                tier: closed.tier.clone(),
                domain,
                dispatched_at: closed.dispatched_at,
                completed_at: now,
                status: RecordStatus::Failed,
                output,
            })));
        }
    }
    draft.stale(why)
}

fn failed(mut draft: Draft<'_>, failure: &Failure) -> Result<Step, Refusal> {
    // Before the first dispatch nothing can have failed, whoever says so.
    let earlier = draft.task.attempts() > 0 || failure.attempt.is_some();
    if earlier && matches!(about(&draft.task, failure.attempt)?, About::Earlier(_)) {
        let ended = draft.task.status().is_terminal();
        return Ok(draft.stale(if ended { Stale::Ended } else { Stale::ClosedAttempt }));
    }
    match draft.task.state.clone() {
        State::Running { attempt, progress } => {
            let error = TaskError {
                code: ErrorCode::WorkerFailed,
                message: failure.error.clone(),
                attempt: Some(attempt.number),
            };
            match progress {
                Progress::Dispatched | Progress::Leased { .. } => {
                    let retry = if failure.retryable { Retry::Same } else { Retry::Never };
                    draft.close(&attempt, None, error, retry);
                }
                Progress::Validating { product, .. } | Progress::Reviewing { product, .. } => {
                    let retry = if failure.retryable { Retry::Escalate } else { Retry::Never };
                    reject(&mut draft, &attempt, &product, error, None, retry);
                }
            }
            Ok(draft.applied())
        }
        State::Pending(_) => Ok(draft.stale(Stale::NothingRunning)),
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => Ok(draft.stale(Stale::Ended)),
    }
}

/// The output is not good: its record fails and the attempt is closed.
pub(super) fn reject(
    draft: &mut Draft<'_>,
    attempt: &Attempt,
    product: &Product,
    error: TaskError,
    verification: Option<String>,
    retry: Retry,
) {
    let record = product.record;
    draft.effects.push(Effect::JudgeRecord { record, status: RecordStatus::Failed, verification });
    draft.close(attempt, Some(product), error, retry);
}

/// Where a report about an output stands to the task's state.
enum Place {
    /// Its output is under validation or review.
    Here(Attempt, Progress),
    /// It came too late.
    Late(Stale),
    /// Its output has not come yet.
    Early,
}

fn place(task: &Task, artifact: Option<&ArtifactId>) -> Place {
    let of_closed = |artifact: &ArtifactId| {
        task.closed.iter().any(|closed| closed.product.as_ref().is_some_and(|(_, product)| product == artifact))
    };
    match &task.state {
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => Place::Late(Stale::Ended),
        State::Running { attempt, progress } => match progress {
            Progress::Validating { product, .. } | Progress::Reviewing { product, .. }
                if artifact.is_none_or(|artifact| names(product, artifact)) =>
            {
                Place::Here(*attempt, progress.clone())
            }
            Progress::Dispatched
            | Progress::Leased { .. }
            | Progress::Validating { .. }
            | Progress::Reviewing { .. } => early_or_late(artifact.is_some_and(of_closed)),
        },
        State::Pending(_) => early_or_late(artifact.is_some_and(of_closed)),
    }
}

fn early_or_late(closed: bool) -> Place {
    if closed { Place::Late(Stale::ClosedAttempt) } else { Place::Early }
}

fn park(mut draft: Draft<'_>, report: Report, raw: &str) -> Result<Step, Refusal> {
    if draft.task.parked.len() >= MAX_PARKED {
        return Err(Refusal::TooManyParked);
    }
    let until = draft.now.after(draft.policy.park);
    draft.task.parked.push(Parked { until, report, raw: raw.to_owned() });
    Ok(draft.done(Outcome::Parked))
}

fn verdict(mut draft: Draft<'_>, verdict: Verdict, raw: &str) -> Result<Step, Refusal> {
    match place(&draft.task, Some(&verdict.artifact)) {
        Place::Here(attempt, Progress::Validating { product, .. } | Progress::Reviewing { product, .. }) => {
            judge(&mut draft, &attempt, product, verdict);
            Ok(draft.applied())
        }
        Place::Late(why) => Ok(draft.stale(why)),
        Place::Early | Place::Here(_, Progress::Dispatched | Progress::Leased { .. }) => {
            park(draft, Report::Verdict(verdict), raw)
        }
    }
}

fn judge(draft: &mut Draft<'_>, attempt: &Attempt, product: Product, verdict: Verdict) {
    let verification = Some(verdict.details);
    match verdict.decision {
        Decision::Validated => approve(draft, attempt, product, RecordStatus::Passed, verification),
        Decision::Rejected { reason } => {
            let error = TaskError { code: ErrorCode::Rejected, message: reason, attempt: Some(attempt.number) };
            reject(draft, attempt, &product, error, verification, Retry::Escalate);
        }
    }
}

fn approve(
    draft: &mut Draft<'_>,
    attempt: &Attempt,
    product: Product,
    status: RecordStatus,
    verification: Option<String>,
) {
    draft.effects.push(Effect::JudgeRecord { record: product.record, status, verification });
    draft.complete(attempt, product);
}

fn review_requested(mut draft: Draft<'_>, request: ReviewRequest, raw: &str) -> Result<Step, Refusal> {
    match place(&draft.task, request.artifact.as_ref()) {
        Place::Here(attempt, Progress::Validating { product, .. }) => {
            start_review(&mut draft, attempt, product, request);
            Ok(draft.applied())
        }
        Place::Here(_, Progress::Reviewing { .. }) => Ok(draft.stale(Stale::UnderReview)),
        Place::Late(why) => Ok(draft.stale(why)),
        Place::Early | Place::Here(_, Progress::Dispatched | Progress::Leased { .. }) => {
            park(draft, Report::ReviewRequested(request), raw)
        }
    }
}

fn start_review(draft: &mut Draft<'_>, attempt: Attempt, product: Product, request: ReviewRequest) {
    let deadline = draft.policy.review_timeout.map(|timeout| draft.now.after(timeout));
    let progress = Progress::Reviewing { product, review: request.review, deadline };
    draft.task.state = State::Running { attempt, progress };
}

fn review_completed(mut draft: Draft<'_>, review: Review, raw: &str) -> Result<Step, Refusal> {
    match place(&draft.task, review.artifact.as_ref()) {
        Place::Here(_, Progress::Reviewing { review: current, .. })
            if review.artifact.is_none() && current != review.review =>
        {
            Ok(draft.stale(Stale::OtherReview))
        }
        Place::Here(attempt, Progress::Validating { product, .. } | Progress::Reviewing { product, .. }) => {
            finish_review(&mut draft, &attempt, product, review);
            Ok(draft.applied())
        }
        Place::Late(why) => Ok(draft.stale(why)),
        Place::Early | Place::Here(_, Progress::Dispatched | Progress::Leased { .. }) => {
            park(draft, Report::ReviewCompleted(review), raw)
        }
    }
}

fn finish_review(draft: &mut Draft<'_>, attempt: &Attempt, product: Product, review: Review) {
    let verification = serde_json::json!({
        "review_id": review.review,
        "decision": review.decision.as_str(),
        "reviewer_id": review.reviewer,
        "comments": review.comments,
    });
    let verification = Some(verification.to_string());
    match review.decision {
        ReviewDecision::Approved => approve(draft, attempt, product, RecordStatus::HumanApproved, verification),
        ReviewDecision::Rejected | ReviewDecision::ChangesRequested => {
            let message = review.comments.unwrap_or_else(|| format!("review {}", review.decision.as_str()));
            let error = TaskError { code: ErrorCode::Rejected, message, attempt: Some(attempt.number) };
            reject(draft, attempt, &product, error, verification, Retry::Escalate);
        }
    }
}
