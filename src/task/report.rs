//! What reports of workers and QA do to a task: outputs, verdicts, failures,
//! reviews, and those that come before the output they are about.

use super::change::{Effect, NewRecord, Outcome, RecordStatus, Stale};
use super::event::{
    Decision, Failure, Output, OutputArtifact, Report, Review, ReviewDecision, ReviewRequest, Started, Verdict,
};
use super::id::{ArtifactId, EventHash, RecordId, ReviewId};
use super::state::{Attempt, ClosedAttempt, Completion, ErrorCode, Parked, Product, Progress, State, Task, TaskError};
use super::status::Status;
use super::transition::{Draft, MAX_PARKED, Refusal, Retry, Step};

/// Applies a report. `record` is the id for a provenance record, should one
/// be made; `event` the event as it came, and what it is known by.
pub(super) fn apply(
    draft: Draft<'_>,
    report: Report,
    record: RecordId,
    event: (&str, Option<EventHash>),
) -> Result<Step, Refusal> {
    match report {
        Report::Output(output) => self::output(draft, output, record),
        Report::Failed(failure) => failed(draft, &failure),
        Report::Started(started) => self::started(draft, &started),
        Report::Verdict(_) | Report::ReviewRequested(_) | Report::ReviewCompleted(_) => opinion(draft, report, event),
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
    let earlier = match about(&draft.task, output.attempt) {
        Ok(About::Newest) => None,
        Ok(About::Earlier(number)) => Some(number),
        // After the end everything is stale, however wrong.
        Err(_) if draft.task.status().is_terminal() => return Ok(draft.stale(Stale::Ended)),
        Err(refusal) => return Err(refusal),
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
        ) => Ok(second_output(draft, product.record, output)),
        (State::Completed { by: Completion::Attempt { product, .. }, .. }, None) => {
            draft.effects.push(Effect::ExtendRecord { record: product.record, output });
            Ok(draft.stale(Stale::Ended))
        }
        (State::Running { .. }, Some(number)) => Ok(late_output(draft, number, output, record, Stale::ClosedAttempt)),
        (State::Pending(_) | State::Children(_), earlier) => {
            let number = earlier.unwrap_or_else(|| draft.task.attempts());
            Ok(late_output(draft, number, output, record, Stale::ClosedAttempt))
        }
        (State::Completed { by: Completion::Attempt { .. }, .. }, Some(number)) => {
            Ok(late_output(draft, number, output, record, Stale::Ended))
        }
        (
            State::Completed { by: Completion::Children { .. }, .. } | State::Failed { .. } | State::Cancelled { .. },
            earlier,
        ) => {
            let number = earlier.unwrap_or_else(|| draft.task.attempts());
            Ok(late_output(draft, number, output, record, Stale::Ended))
        }
    }
}

/// The first output of the running attempt.
fn take_output(draft: &mut Draft<'_>, attempt: Attempt, output: Box<Output>, record: RecordId) {
    let product = Product {
        record,
        artifact: output.artifact.clone(),
        artifacts: output.all_artifacts(),
        late: Vec::new(),
        reviews: Vec::new(),
    };
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

/// Reports that waited for an output are looked at again, in the order in
/// which they came: some have their effect now, some have become stale, the
/// rest waits on.
pub(super) fn apply_parked(draft: &mut Draft<'_>) {
    for parked in std::mem::take(&mut draft.task.parked) {
        match settle(draft, &parked.report) {
            Settled::Early => draft.task.parked.push(parked),
            Settled::Applied | Settled::Late(_) => {}
        }
    }
}

fn names(product: &Product, artifact: &ArtifactId) -> bool {
    product.artifact == *artifact || product.artifacts.iter().any(|each| each.id == *artifact)
}

/// Another output of the running attempt: the first one stands.
fn second_output(mut draft: Draft<'_>, record: RecordId, output: Box<Output>) -> Step {
    if let State::Running {
        progress: Progress::Validating { product, .. } | Progress::Reviewing { product, .. }, ..
    } = &mut draft.task.state
    {
        let known: Vec<_> = ids(&output.artifact, &output.artifacts).filter(|id| !names(product, id)).collect();
        remember_ids(&mut product.late, known);
    }
    draft.effects.push(Effect::ExtendRecord { record, output });
    apply_parked(&mut draft);
    draft.stale(Stale::SecondOutput)
}

/// An output of attempt `number`, which is closed: its artifacts are kept
/// with that attempt, the task does not move. The attempt's first record is
/// a visible change all the same: it counts as a version, so that whoever
/// copies tasks by version copies this one.
fn late_output(mut draft: Draft<'_>, number: u32, output: Box<Output>, record: RecordId, why: Stale) -> Step {
    let domain = draft.task.domain.clone();
    let now = draft.now;
    let Some(closed) = draft.task.closed.iter_mut().find(|closed| closed.number == number) else {
        return draft.stale(why);
    };
    remember_ids(&mut closed.artifacts, ids(&output.artifact, &output.artifacts));
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
        draft.touch();
    }
    apply_parked(&mut draft);
    draft.stale(why)
}

/// Most artifacts and most reviews of one attempt that are remembered for the
/// sake of late verdicts. A verdict on an artifact beyond them waits in vain
/// and becomes a dead letter instead of being stale.
const MAX_REMEMBERED: usize = 256;

/// The ids that verdicts on an output may name.
pub(super) fn ids<'a>(
    artifact: &'a ArtifactId,
    artifacts: &'a [OutputArtifact],
) -> impl Iterator<Item = ArtifactId> + use<'a> {
    std::iter::once(artifact).chain(artifacts.iter().map(|each| &each.id)).cloned()
}

pub(super) fn remember_ids<T: PartialEq>(known: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for id in more {
        if known.len() < MAX_REMEMBERED && !known.contains(&id) {
            known.push(id);
        }
    }
}

/// A worker without a lease begins: its time counts from now on.
fn started(mut draft: Draft<'_>, started: &Started) -> Result<Step, Refusal> {
    if draft.task.status().is_terminal() {
        return Ok(draft.stale(Stale::Ended));
    }
    match about(&draft.task, started.attempt)? {
        About::Newest => {}
        About::Earlier(_) => return Ok(draft.stale(Stale::ClosedAttempt)),
    }
    match &mut draft.task.state {
        State::Running { attempt, progress: Progress::Dispatched } if attempt.taken_at.is_none() => {
            attempt.taken_at = Some(draft.now);
            Ok(draft.applied())
        }
        State::Running { .. } => Ok(draft.done(Outcome::Unchanged)),
        State::Pending(_) | State::Children(_) => Ok(draft.stale(Stale::NothingRunning)),
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => Ok(draft.stale(Stale::Ended)),
    }
}

fn failed(mut draft: Draft<'_>, failure: &Failure) -> Result<Step, Refusal> {
    // Before the first dispatch nothing can have failed, whoever says so.
    let dispatched = draft.task.attempts() > 0 || failure.attempt.is_some();
    if dispatched && !draft.task.status().is_terminal() {
        match about(&draft.task, failure.attempt)? {
            About::Newest => {}
            About::Earlier(_) => return Ok(draft.stale(Stale::ClosedAttempt)),
        }
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
        State::Pending(_) | State::Children(_) => Ok(draft.stale(Stale::NothingRunning)),
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

/// What a report about an output comes to.
enum Settled {
    /// It had its effect.
    Applied,
    /// It came too late.
    Late(Stale),
    /// Its output has not come yet.
    Early,
}

/// A verdict or a review: it has its effect, is stale, or is parked.
fn opinion(mut draft: Draft<'_>, report: Report, event: (&str, Option<EventHash>)) -> Result<Step, Refusal> {
    match settle(&mut draft, &report) {
        Settled::Applied => Ok(draft.applied()),
        Settled::Late(why) => Ok(draft.stale(why)),
        Settled::Early => park(draft, report, event),
    }
}

fn settle(draft: &mut Draft<'_>, report: &Report) -> Settled {
    match report {
        Report::Verdict(verdict) => self::verdict(draft, verdict),
        Report::ReviewRequested(request) => {
            let settled = review_requested(draft, request);
            remember_if_late(&mut draft.task, &settled, &request.review, request.artifact.as_ref());
            settled
        }
        Report::ReviewCompleted(review) => {
            let settled = review_completed(draft, review);
            remember_if_late(&mut draft.task, &settled, &review.review, review.artifact.as_ref());
            settled
        }
        // These are about an attempt, not about an output, and never wait.
        Report::Output(_) | Report::Failed(_) | Report::Started(_) => Settled::Late(Stale::ClosedAttempt),
    }
}

/// A review that came too late for one attempt must not be taken for one of
/// the next, should more of it come without an artifact's name.
fn remember_if_late(task: &mut Task, settled: &Settled, review: &ReviewId, artifact: Option<&ArtifactId>) {
    match settled {
        Settled::Late(_) => {}
        Settled::Applied | Settled::Early => return,
    }
    let of_closed = match &mut task.state {
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => return,
        State::Running {
            progress: Progress::Validating { product, .. } | Progress::Reviewing { product, .. }, ..
        } if artifact.is_none_or(|id| names(product, id) || product.late.contains(id)) => {
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

fn park(mut draft: Draft<'_>, report: Report, (raw, event): (&str, Option<EventHash>)) -> Result<Step, Refusal> {
    if draft.task.parked.iter().any(|parked| parked.report == report) {
        return Ok(draft.done(Outcome::Unchanged));
    }
    if draft.task.parked.len() >= MAX_PARKED {
        return Err(Refusal::TooManyParked);
    }
    let until = draft.now.after(draft.policy.park);
    draft.task.parked.push(Parked { until, report, raw: raw.to_owned(), event });
    Ok(draft.done(Outcome::Parked))
}

/// The output that is under validation or review.
struct Open {
    attempt: Attempt,
    product: Product,
    review: Option<ReviewId>,
}

/// The output that a report is about, or what becomes of the report without.
fn find(task: &Task, artifact: Option<&ArtifactId>, review: Option<&ReviewId>) -> Result<Open, Settled> {
    let open = match &task.state {
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => {
            return Err(Settled::Late(Stale::Ended));
        }
        State::Running { attempt, progress: Progress::Validating { product, .. } } => Some((attempt, product, None)),
        State::Running { attempt, progress: Progress::Reviewing { product, review, .. } } => {
            Some((attempt, product, Some(review)))
        }
        State::Running { progress: Progress::Dispatched | Progress::Leased { .. }, .. }
        | State::Children(_)
        | State::Pending(_) => None,
    };
    let Some(artifact) = artifact else {
        // What only names a review is about the output that is here, unless
        // that review was about an earlier one.
        if review.is_some_and(|review| task.closed.iter().any(|closed| closed.reviews.contains(review))) {
            return Err(Settled::Late(Stale::ClosedAttempt));
        }
        // Nobody can have looked at the output of an attempt yet to come.
        let nothing_running = task.status() == Status::Pending || matches!(task.state, State::Children(_));
        let other = if nothing_running { Settled::Late(Stale::NothingRunning) } else { Settled::Early };
        return open.map(Open::new).ok_or(other);
    };
    match open {
        Some(open) if names(open.1, artifact) => Ok(Open::new(open)),
        Some((_, product, _)) if product.late.contains(artifact) => Err(Settled::Late(Stale::SecondOutput)),
        Some(_) | None if task.closed.iter().any(|closed| closed.artifacts.contains(artifact)) => {
            Err(Settled::Late(Stale::ClosedAttempt))
        }
        Some(_) | None => Err(Settled::Early),
    }
}

impl Open {
    fn new((attempt, product, review): (&Attempt, &Product, Option<&ReviewId>)) -> Self {
        Self { attempt: *attempt, product: product.clone(), review: review.cloned() }
    }
}

fn verdict(draft: &mut Draft<'_>, verdict: &Verdict) -> Settled {
    let Open { attempt, product, .. } = match find(&draft.task, Some(&verdict.artifact), None) {
        Ok(open) => open,
        Err(settled) => return settled,
    };
    let verification = Some(verdict.details.clone());
    match &verdict.decision {
        Decision::Validated => approve(draft, attempt, product, RecordStatus::Passed, verification),
        Decision::Rejected { reason } => {
            let error = rejected(attempt, reason.clone());
            reject(draft, &attempt, &product, error, verification, Retry::Escalate);
        }
    }
    Settled::Applied
}

fn rejected(attempt: Attempt, message: String) -> TaskError {
    TaskError { code: ErrorCode::Rejected, message, attempt: Some(attempt.number) }
}

fn approve(
    draft: &mut Draft<'_>,
    attempt: Attempt,
    product: Product,
    status: RecordStatus,
    verification: Option<String>,
) {
    draft.effects.push(Effect::JudgeRecord { record: product.record, status, verification });
    draft.complete(&attempt, product);
}

fn review_requested(draft: &mut Draft<'_>, request: &ReviewRequest) -> Settled {
    let Open { attempt, product, review } = match find(&draft.task, request.artifact.as_ref(), Some(&request.review)) {
        Ok(open) => open,
        Err(settled) => return settled,
    };
    if review.is_some() {
        return Settled::Late(Stale::UnderReview);
    }
    let deadline = draft.policy.review_timeout.map(|timeout| draft.now.after(timeout));
    let progress = Progress::Reviewing { product, review: request.review.clone(), deadline };
    draft.task.state = State::Running { attempt, progress };
    Settled::Applied
}

fn review_completed(draft: &mut Draft<'_>, review: &Review) -> Settled {
    let open = match find(&draft.task, review.artifact.as_ref(), Some(&review.review)) {
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
        ReviewDecision::Approved => approve(draft, attempt, product, RecordStatus::HumanApproved, verification),
        ReviewDecision::Rejected | ReviewDecision::ChangesRequested => {
            let decision = review.decision.as_str();
            let message = review.comments.clone().unwrap_or_else(|| format!("review {decision}"));
            let error = rejected(attempt, message);
            reject(draft, &attempt, &product, error, verification, Retry::Escalate);
            // Nobody may have announced it.
            if let Some(closed) = draft.task.closed.last_mut() {
                remember_ids(&mut closed.reviews, [review.review.clone()]);
            }
        }
    }
    Settled::Applied
}
