//! Commands on tiers: they are paused and resumed, and the work queue of a tier behind a
//! broker is counted.

use super::failure::{Failure, Stored, unless_refused};
use super::group::Group;
use super::lines::Lines;
use super::transitions::EngineState;
use crate::engine::api::{PauseChange, QueueReport, Refusal, WorkQueue};
use crate::store::TierPause;
use crate::task::{Bus, Input, Now, Phase, TaskId, Tier};

/// Most tasks that one count of a work queue can show to be taken.
const MAX_TAKEN: usize = 1024;

/// Pauses or resumes a tier. Changes nothing if it is paused or resumed already.
pub(super) fn set_paused(
    lines: &mut Lines,
    group: &mut Group,
    tier: &Tier,
    pause: bool,
    now: Now,
) -> Result<WorkQueue, Failure> {
    let not_found = || Refusal::TierNotFound(tier.clone());
    let line = lines.tier(tier).ok_or_else(not_found)?;
    if line.is_paused() != pause {
        let mut row = line.pause();
        if pause {
            row.paused_at = Some(now.wall);
        } else {
            row = TierPause { paused_at: None, resumed_at: Some(now.wall), ..row };
        }
        group.batch.put_tier_pause(tier, row)?;
        lines.set_tier_pause(tier, row);
        group.publication.pauses.push(PauseChange::Tier { tier: tier.clone(), is_paused: pause });
    }
    Ok(lines.queue(tier).ok_or_else(not_found)?)
}

/// Records a count of the work queue of a tier. Tasks that it shows to be with workers count
/// as taken. Returns the tasks that have left the queue although no worker can have taken
/// them.
pub(super) fn report_queue(state: &mut EngineState, report: &QueueReport, now: Now) -> Stored<Vec<TaskId>> {
    let QueueReport { tier, counted, published_before, unobserved_before, rule } = report;
    let was_held = state.lines.supply(tier).is_held();
    if state.lines.supply(tier).record_count(*counted, *rule) {
        keep_of_tier(&mut state.lines, &mut state.group, tier, |pause| pause.had_consumer = true)?;
    }
    publish_supply(&mut state.lines, &mut state.group, tier, was_held);
    let supply = *state.lines.supply(tier);
    let gone = |waiting, before| match *published_before {
        Some(counted_at) => state.lines.gone_from_queue(tier, waiting, counted_at, before, MAX_TAKEN),
        None => Vec::new(),
    };
    let mut taken = Vec::new();
    if let Some(waiting) = supply.waiting_beside_consumers() {
        // Workers that report when they begin may keep a task for a long time before.
        let before = if supply.reports_starts() { *unobserved_before } else { *published_before };
        taken = before.map(|before| gone(waiting, before)).unwrap_or_default();
    } else if let Some(before) = unobserved_before.filter(|_| supply.is_unobserved()) {
        taken = state.lines.gone_from_queue(tier, 0, before, before, MAX_TAKEN);
    }
    let missing = match (supply.waiting_untouched(), *published_before) {
        (Some(waiting), Some(before)) => gone(waiting, before),
        _ => Vec::new(),
    };
    for task in taken {
        // A task that has moved on in this group refuses.
        unless_refused(state.apply(task, Input::Take, None, now))?;
    }
    Ok(missing)
}

/// Records what a worker's report shows of the workers of its tier. The report was applied to
/// a task that was in phase `before`.
pub(super) fn record_worker_report(state: &mut EngineState, tier: &Tier, before: Phase, report: &str) -> Stored<()> {
    if state.tasks.policy.bus != Bus::Broker {
        return Ok(());
    }
    let EngineState { lines, group, .. } = state;
    let was_held = lines.supply(tier).is_held();
    if report == "task.started" && lines.supply(tier).record_start() {
        keep_of_tier(lines, group, tier, |pause| pause.tells_starts = true)?;
    }
    if before == Phase::Dispatched && lines.supply(tier).record_worker() {
        tracing::info!(%tier, "workers of the tier use queues of their own, because its work queue has no consumer");
    }
    publish_supply(lines, group, tier, was_held);
    Ok(())
}

/// Keeps for the next start what was learned of the workers of a tier.
fn keep_of_tier(lines: &mut Lines, group: &mut Group, tier: &Tier, update: impl FnOnce(&mut TierPause)) -> Stored<()> {
    match lines.update_tier_pause(tier, update) {
        Some(pause) => group.batch.put_tier_pause(tier, pause),
        None => Ok(()),
    }
}

/// Publishes that tasks of a tier begin to wait for its workers, or no longer do.
fn publish_supply(lines: &mut Lines, group: &mut Group, tier: &Tier, was_held: bool) {
    let are_missing = lines.supply(tier).is_held();
    if are_missing != was_held {
        tracing::info!(%tier, are_missing, "the work queue of a tier has lost its consumers, or has some again");
        group.publication.pauses.push(PauseChange::Consumers { tier: tier.clone(), are_missing });
    }
}
