//! Outputs: the one that counts, later ones, and outputs of workers that do not hold the attempt.

use super::attempt::{Attempt, ForeignOutput, Product, Progress};
use super::change::{Effect, NewRecord, RecordStatus, Stale};
use super::draft::{Draft, Refusal, Step, artifact_ids, remember_ids};
use super::event::{Holder, Output};
use super::holder::{self, ReportedAttempt};
use super::id::{ArtifactId, RecordId};
use super::state::{Completion, Pending, Queued, State};
use super::verdict::apply_parked;

/// Applies an output. `record` is the id for a provenance record in case one is created.
pub(super) fn apply(mut draft: Draft<'_>, output: Box<Output>, record: RecordId) -> Result<Step, Refusal> {
    let earlier = match holder::reported_attempt(&draft.task, output.attempt) {
        Ok(ReportedAttempt::Newest) => None,
        Ok(ReportedAttempt::Earlier(number)) => Some(number),
        // After the end of the task every output is stale, even one that names an unknown attempt.
        Err(_) if draft.task.status().is_terminal() => return Ok(draft.stale(Stale::Ended)),
        Err(refusal) => return Err(refusal),
    };
    match (draft.task.state.clone(), earlier) {
        (State::Running { attempt, progress: Progress::Leased { lease, .. } }, None) => {
            let holder = Holder { lease: Some(lease.id), worker: Some(lease.worker) };
            // An output that names neither a lease nor a worker counts as the holder's.
            if holder::is_other(&output.sender, &holder) {
                return Ok(foreign_output(draft, attempt, output, record));
            }
            take_output(&mut draft, attempt, output, record, holder);
            Ok(draft.applied())
        }
        (State::Running { attempt, progress: Progress::Started { worker, .. } }, None) => {
            let sender = Holder { worker: output.sender.worker.clone().or(worker), lease: None };
            take_output(&mut draft, attempt, output, record, sender);
            Ok(draft.applied())
        }
        (State::Pending(Pending::Dispatched { attempt, .. }), None) => {
            let sender = output.sender.clone();
            take_output(&mut draft, attempt, output, record, sender);
            Ok(draft.applied())
        }
        (State::Pending(Pending::Queued(queued)), None) => {
            let Queued { since, attempt, .. } = queued;
            let (number, now) = (draft.task.attempts() + 1, draft.now);
            let attempt = attempt.unwrap_or_else(|| Attempt::open(number, since, now));
            let sender = output.sender.clone();
            take_output(&mut draft, attempt, output, record, sender);
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

/// Takes the first output of the open attempt, which is the one that counts.
fn take_output(draft: &mut Draft<'_>, mut attempt: Attempt, output: Box<Output>, record: RecordId, sender: Holder) {
    draft.begin(&mut attempt);
    let foreign = attempt.foreign.take();
    let all = output.all_artifacts();
    let known = |id: &ArtifactId| all.iter().any(|artifact| artifact.id == *id);
    let late = foreign.iter().flat_map(|foreign| &foreign.artifacts).filter(|id| !known(id)).cloned().collect();
    let product = Product {
        record: foreign.as_ref().map_or(record, |foreign| foreign.record),
        artifact: output.artifact.clone(),
        artifacts: all,
        sender,
        late,
        reviews: Vec::new(),
    };
    let unchecked = draft.task.qa_profile.is_none();
    let new = Box::new(NewRecord {
        id: product.record,
        attempt: attempt.number,
        tier: draft.task.tier.clone(),
        domain: draft.task.domain.clone(),
        began_at: attempt.began_at(),
        completed_at: draft.now.wall,
        status: if unchecked { RecordStatus::Passed } else { RecordStatus::Pending },
        output,
    });
    draft.effects.push(if foreign.is_some() { Effect::FillRecord(new) } else { Effect::StoreRecord(new) });
    if unchecked {
        draft.complete(&attempt, product);
        return;
    }
    let deadline = draft.policy.validation_timeout.map(|timeout| draft.now.after(timeout));
    draft.task.state = State::Running { attempt, progress: Progress::Validating { product, deadline } };
    apply_parked(draft);
}

/// Keeps an output of a worker that does not hold the attempt, without a change of the task's
/// state.
fn foreign_output(mut draft: Draft<'_>, mut attempt: Attempt, output: Box<Output>, record: RecordId) -> Step {
    let ids: Vec<ArtifactId> = artifact_ids(&output.artifact, &output.artifacts).collect();
    if let Some(foreign) = &mut attempt.foreign {
        remember_ids(&mut foreign.artifacts, ids);
        draft.effects.push(Effect::ExtendRecord { record: foreign.record, output });
    } else {
        let mut artifacts = Vec::new();
        remember_ids(&mut artifacts, ids);
        attempt.foreign = Some(Box::new(ForeignOutput { record, artifacts }));
        draft.effects.push(Effect::StoreRecord(Box::new(NewRecord {
            id: record,
            attempt: attempt.number,
            tier: draft.task.tier.clone(),
            domain: draft.task.domain.clone(),
            began_at: attempt.began_at(),
            completed_at: draft.now.wall,
            status: RecordStatus::Failed,
            output,
        })));
        draft.touch();
    }
    if let State::Running { attempt: known, .. } = &mut draft.task.state {
        *known = attempt;
    }
    apply_parked(&mut draft);
    draft.stale(Stale::NotHolder)
}

/// Adds another output of the running attempt to its record. The first output stands.
fn second_output(mut draft: Draft<'_>, record: RecordId, output: Box<Output>) -> Step {
    if let State::Running {
        progress: Progress::Validating { product, .. } | Progress::Reviewing { product, .. }, ..
    } = &mut draft.task.state
    {
        let known: Vec<_> =
            artifact_ids(&output.artifact, &output.artifacts).filter(|id| !product.has_artifact(id)).collect();
        remember_ids(&mut product.late, known);
    }
    draft.effects.push(Effect::ExtendRecord { record, output });
    apply_parked(&mut draft);
    draft.stale(Stale::SecondOutput)
}

/// Keeps an output of the closed attempt `number` with that attempt, without a change of the task's
/// state. The first record of the attempt still counts as a new version, so that replicas that copy
/// tasks by version copy this one.
fn late_output(mut draft: Draft<'_>, number: u32, output: Box<Output>, record: RecordId, why: Stale) -> Step {
    let domain = draft.task.domain.clone();
    let now = draft.now.wall;
    let Some(closed) = draft.task.closed.iter_mut().find(|closed| closed.number == number) else {
        return draft.stale(why);
    };
    remember_ids(&mut closed.artifacts, artifact_ids(&output.artifact, &output.artifacts));
    if let Some((record, _)) = closed.product {
        draft.effects.push(Effect::ExtendRecord { record, output });
    } else {
        closed.product = Some((record, output.artifact.clone()));
        draft.effects.push(Effect::StoreRecord(Box::new(NewRecord {
            id: record,
            attempt: number,
            tier: closed.tier.clone(),
            domain,
            began_at: closed.began_at,
            completed_at: now,
            status: RecordStatus::Failed,
            output,
        })));
        draft.touch();
    }
    apply_parked(&mut draft);
    draft.stale(why)
}
