//! Incoming events: those that were taken, and those that could not be.

use super::dead_letters::DeadLetters;
use super::taken_events::TakenEvents;

/// Incoming events: those that were taken, and those that could not be.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) taken: TakenEvents,
    pub(super) dead_letters: DeadLetters,
}
