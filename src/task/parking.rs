//! Parked reports, which arrived before their output: when they expire and what becomes of them.

use super::change::{Change, Effect, Outcome};
use super::draft::{Draft, Step};
use super::moment::Now;
use super::policy::Policy;
use super::state::{Parked, Task};

/// Largest number of parked reports of one task. Beyond it the oldest becomes a dead letter.
pub const MAX_PARKED: usize = 8;
/// Largest total size of the parked reports of one task, in bytes as received.
pub const MAX_PARKED_BYTES: usize = 2 * 1024 * 1024;

/// Turns the oldest parked report of a task into a dead letter, because too many are parked in all
/// tasks together.
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

/// Turns parked reports whose time is over into dead letters. Returns whether there were any.
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

/// Turns a parked report into a dead letter.
pub(super) fn give_up(draft: &mut Draft<'_>, parked: Parked, why: &str) {
    let name = parked.report.name();
    draft.log(Change::ParkedExpired { name: name.to_owned() });
    let reason = format!("{name} {why}");
    draft.effects.push(Effect::DeadLetter { raw: parked.raw, event: parked.event, reason });
}
