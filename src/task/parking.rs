//! Reports that came before the output they are about, when they wait no longer.

use super::change::{Change, Effect, Outcome};
use super::draft::{Draft, Step};
use super::moment::Now;
use super::policy::Policy;
use super::state::{Parked, Task};

/// Most reports that wait for outputs of one task: beyond that the oldest one
/// becomes a dead letter.
pub const MAX_PARKED: usize = 8;
/// Most bytes of them, as they came.
pub const MAX_PARKED_BYTES: usize = 2 * 1024 * 1024;

/// Too many reports wait for their outputs in all: the one of this task that has
/// waited longest becomes a dead letter.
#[must_use]
pub fn give_up_oldest_parked(task: &Task, now: Now, policy: &Policy) -> Step {
    let mut draft = Draft::new(task, now, policy);
    if draft.task.parked.is_empty() {
        return draft.done(Outcome::Unchanged);
    }
    let parked = draft.task.parked.remove(0);
    give_up(&mut draft, parked, "waited for its output beside too many others");
    draft.done(Outcome::Applied)
}

/// Reports whose time has come become dead letters; whether any did.
pub(super) fn expire(draft: &mut Draft<'_>) -> bool {
    let now = draft.now.observed;
    let parked = std::mem::take(&mut draft.task.parked);
    let (expired, waiting): (Vec<_>, Vec<_>) = parked.into_iter().partition(|parked| parked.until <= now);
    draft.task.parked = waiting;
    let any = !expired.is_empty();
    for parked in expired {
        give_up(draft, parked, "came before its output, and the output did not follow");
    }
    any
}

/// A report that waited becomes a dead letter.
pub(super) fn give_up(draft: &mut Draft<'_>, parked: Parked, why: &str) {
    let name = parked.report.name();
    draft.log(Change::ParkedExpired { name: name.to_owned() });
    let reason = format!("{name} {why}");
    draft.effects.push(Effect::DeadLetter { raw: parked.raw, event: parked.event, reason });
}
