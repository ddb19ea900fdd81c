//! Verdicts and reviews: their effect on a task, also when they arrive before the output they are
//! about.

use super::attempt::{Attempt, ClosedAttempt, Product, Progress};
use super::change::{Change, Effect, Outcome, RecordStatus, Stale};
use super::draft::{Draft, Retry, Step, remember_ids};
use super::error::{ErrorCode, TaskError};
use super::event::{Decision, Report, Review, ReviewDecision, ReviewRequest, Verdict};
use super::id::{ArtifactId, EventHash, ReviewId};
use super::parking::{MAX_PARKED, MAX_PARKED_BYTES, give_up};
use super::state::{Parked, Pending, State, Task};

/// Looks at the parked reports again, in the order of their arrival. Some have their effect now,
/// some have become stale, the others stay parked.
pub(super) fn apply_parked(draft: &mut Draft<'_>) {
    for parked in std::mem::take(&mut draft.task.parked) {
        match settle(draft, &parked.report) {
            Settled::Early => draft.task.parked.push(parked),
            Settled::Applied | Settled::Late(_) => {}
        }
    }
}

/// Closes `attempt`, and schedules the next one or fails the task.
pub(super) fn close(
    draft: &mut Draft<'_>,
    attempt: &Attempt,
    product: Option<&Product>,
    error: TaskError,
    retry: Retry,
) {
    draft.remember(attempt, product, error.clone());
    if retry == Retry::Never || attempt.number >= draft.task.max_attempts {
        draft.fail(error);
        return;
    }
    if retry == Retry::Escalate {
        draft.task.tier = draft.policy.escalated(&draft.task.tier);
    }
    let until = draft.policy.next_attempt_at(draft.task.id, attempt.number, draft.now.observed);
    draft.task.state = State::Pending(Pending::Backoff { until });
    draft.log(Change::Backoff { until: draft.now.calendar(until), error });
    // A parked review that names no artifact was about this attempt, not about the next one.
    apply_parked(draft);
}

/// Rejects an output: its record fails, and its attempt is closed.
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
    close(draft, attempt, Some(product), error, retry);
}

/// What becomes of a report about an output.
enum Settled {
    /// It had its effect.
    Applied,
    /// It came too late.
    Late(Stale),
    /// Its output has not arrived yet.
    Early,
}

/// Applies a verdict or a review: it has its effect, is stale, or is parked.
pub(super) fn apply(mut draft: Draft<'_>, report: Report, raw: &str, event: Option<EventHash>) -> Step {
    match settle(&mut draft, &report) {
        Settled::Applied => draft.applied(),
        Settled::Late(why) => draft.stale(why),
        Settled::Early => park(draft, report, raw, event),
    }
}

fn settle(draft: &mut Draft<'_>, report: &Report) -> Settled {
    match report {
        Report::Verdict(verdict) => apply_verdict(draft, verdict),
        Report::ReviewRequested(request) => {
            let settled = begin_review(draft, request);
            remember_if_late(&mut draft.task, &settled, &request.review, request.artifact.as_ref());
            settled
        }
        Report::ReviewCompleted(review) => {
            let settled = complete_review(draft, review);
            remember_if_late(&mut draft.task, &settled, &review.review, review.artifact.as_ref());
            settled
        }
        // These reports are about an attempt, not about an output, and are never parked.
        Report::Output(_) | Report::Failed(_) | Report::Started(_) => Settled::Late(Stale::ClosedAttempt),
    }
}

/// Remembers a review that came too late, so that further events of it without an artifact are not
/// taken for the next attempt.
fn remember_if_late(task: &mut Task, settled: &Settled, review: &ReviewId, artifact: Option<&ArtifactId>) {
    match settled {
        Settled::Late(_) => {}
        Settled::Applied | Settled::Early => return,
    }
    let of_closed = match &mut task.state {
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => return,
        State::Running {
            progress: Progress::Validating { product, .. } | Progress::Reviewing { product, .. }, ..
        } if artifact.is_none_or(|id| product.has_artifact(id) || product.late.contains(id)) => {
            remember_ids(&mut product.reviews, [review.clone()]);
            return;
        }
        State::Running { .. } | State::Children(_) | State::Pending(_) => &mut task.closed,
    };
    let about = |closed: &&mut ClosedAttempt| artifact.is_none_or(|id| closed.artifacts.contains(id));
    if let Some(closed) = of_closed.iter_mut().rev().find(about) {
        remember_ids(&mut closed.reviews, [review.clone()]);
    }
}

fn park(mut draft: Draft<'_>, report: Report, raw: &str, event: Option<EventHash>) -> Step {
    if draft.task.parked.iter().any(|parked| parked.report == report) {
        return draft.done(Outcome::Unchanged);
    }
    let until = draft.now.after(draft.policy.park);
    draft.task.parked.push(Parked { until, report, raw: raw.to_owned(), event });
    let is_over = |parked: &[Parked]| {
        parked.len() > MAX_PARKED || parked.iter().map(|each| each.raw.len()).sum::<usize>() > MAX_PARKED_BYTES
    };
    while draft.task.parked.len() > 1 && is_over(&draft.task.parked) {
        let oldest = draft.task.parked.remove(0);
        give_up(&mut draft, oldest, "waited for its output beside too many others of its task");
    }
    draft.done(Outcome::Parked)
}

/// The output under validation or review.
struct OpenOutput {
    attempt: Attempt,
    product: Product,
    review: Option<ReviewId>,
}

/// Finds the output that a report is about, or says what becomes of the report without one.
fn find_output(task: &Task, artifact: Option<&ArtifactId>, review: Option<&ReviewId>) -> Result<OpenOutput, Settled> {
    let open = match &task.state {
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => {
            return Err(Settled::Late(Stale::Ended));
        }
        State::Running { attempt, progress: Progress::Validating { product, .. } } => Some((attempt, product, None)),
        State::Running { attempt, progress: Progress::Reviewing { product, review, .. } } => {
            Some((attempt, product, Some(review)))
        }
        State::Running { progress: Progress::Started { .. } | Progress::Leased { .. }, .. }
        | State::Children(_)
        | State::Pending(_) => None,
    };
    let Some(artifact) = artifact else {
        // A report that names only a review is about the current output, unless the review was
        // about an earlier one.
        if review.is_some_and(|review| task.closed.iter().any(|closed| closed.reviews.contains(review))) {
            return Err(Settled::Late(Stale::ClosedAttempt));
        }
        // The output of an attempt that was never announced cannot have been reviewed.
        let is_out = task.open_attempt().is_some() || matches!(task.state, State::Pending(Pending::Queued(_)));
        let other = if is_out { Settled::Early } else { Settled::Late(Stale::NothingRunning) };
        return open.map(OpenOutput::new).ok_or(other);
    };
    match open {
        Some(open) if open.1.has_artifact(artifact) => Ok(OpenOutput::new(open)),
        Some((_, product, _)) if product.late.contains(artifact) => Err(Settled::Late(Stale::SecondOutput)),
        Some(_) | None if is_foreign(task, artifact) => Err(Settled::Late(Stale::NotHolder)),
        Some(_) | None if task.closed.iter().any(|closed| closed.artifacts.contains(artifact)) => {
            Err(Settled::Late(Stale::ClosedAttempt))
        }
        Some(_) | None => Err(Settled::Early),
    }
}

/// Whether an artifact came from a worker that did not hold the open attempt.
fn is_foreign(task: &Task, artifact: &ArtifactId) -> bool {
    let foreign = task.open_attempt().and_then(|attempt| attempt.foreign.as_ref());
    foreign.is_some_and(|foreign| foreign.artifacts.contains(artifact))
}

impl OpenOutput {
    fn new((attempt, product, review): (&Attempt, &Product, Option<&ReviewId>)) -> Self {
        Self { attempt: attempt.clone(), product: product.clone(), review: review.cloned() }
    }
}

fn apply_verdict(draft: &mut Draft<'_>, verdict: &Verdict) -> Settled {
    let OpenOutput { attempt, product, .. } = match find_output(&draft.task, Some(&verdict.artifact), None) {
        Ok(open) => open,
        Err(settled) => return settled,
    };
    let verification = Some(verdict.details.clone());
    match &verdict.decision {
        Decision::Validated => approve(draft, &attempt, product, RecordStatus::Passed, verification),
        Decision::Rejected { reason } => {
            let error = rejection(&attempt, reason.clone());
            reject(draft, &attempt, &product, error, verification, Retry::Escalate);
        }
    }
    Settled::Applied
}

fn rejection(attempt: &Attempt, message: String) -> TaskError {
    TaskError { code: ErrorCode::Rejected, message, attempt: Some(attempt.number) }
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

fn begin_review(draft: &mut Draft<'_>, request: &ReviewRequest) -> Settled {
    let OpenOutput { attempt, product, review } =
        match find_output(&draft.task, request.artifact.as_ref(), Some(&request.review)) {
            Ok(open) => open,
            Err(settled) => return settled,
        };
    if review.is_some() {
        return Settled::Late(Stale::UnderReview);
    }
    let deadline = draft.policy.review_timeout.map(|timeout| draft.now.after(timeout));
    // A review may take days, so the task holds no slot meanwhile.
    let attempt = Attempt { has_slot: false, ..attempt };
    let progress = Progress::Reviewing { product, review: request.review.clone(), deadline };
    draft.task.state = State::Running { attempt, progress };
    Settled::Applied
}

fn complete_review(draft: &mut Draft<'_>, review: &Review) -> Settled {
    let open = match find_output(&draft.task, review.artifact.as_ref(), Some(&review.review)) {
        Ok(open) => open,
        Err(settled) => return settled,
    };
    let other = open.review.is_some_and(|current| current != review.review);
    if other && review.artifact.is_none() {
        return Settled::Late(Stale::OtherReview);
    }
    let verification = serde_json::json!({
        "review_id": review.review,
        "decision": review.decision.as_str(),
        "reviewer_id": review.reviewer,
        "comments": review.comments,
    });
    let (attempt, product, verification) = (open.attempt, open.product, Some(verification.to_string()));
    match review.decision {
        ReviewDecision::Approved => approve(draft, &attempt, product, RecordStatus::HumanApproved, verification),
        ReviewDecision::Rejected | ReviewDecision::ChangesRequested => {
            let decision = review.decision.as_str();
            let message = review.comments.clone().unwrap_or_else(|| format!("review {decision}"));
            let error = rejection(&attempt, message);
            reject(draft, &attempt, &product, error, verification, Retry::Escalate);
            // The review may not have been announced before.
            if let Some(closed) = draft.task.closed.last_mut() {
                remember_ids(&mut closed.reviews, [review.review.clone()]);
            }
        }
    }
    Settled::Applied
}
