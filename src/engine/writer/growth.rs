//! Which commands are accepted while there is little room on the disk.
//!
//! Commands that make the store grow are refused first, so that accepted tasks can still be
//! finished: leases, renewals, cancels and small events are accepted down to the low mark. The
//! room for a command is reserved until it is answered.

use super::command::Command;
use crate::engine::api::{EventContent, Import, PreparedEvent};
use crate::engine::state::Routed;
use crate::store::DeadLetter;

/// Largest event, in bytes, that does not count as growth.
const SMALL_EVENT: usize = 8 * 1024;
/// Most bytes of small events in one command.
const SMALL_EVENTS: usize = 64 * 1024;
/// Bytes that count for a taint, a clear or a rollback, which changes any number of tasks and
/// records.
const CASCADE_BYTES: usize = 64 * 1024;

/// How much room a command takes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Growth {
    /// It writes nothing.
    None,
    /// Little: the command is accepted while the disk is nearly full.
    Small,
    /// The number of its items, and the bytes of all of them.
    Large { items: u64, bytes: u64 },
}

impl Growth {
    fn of(items: usize, bytes: usize) -> Self {
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        Self::Large { items: number(items), bytes: number(bytes) }
    }

    fn of_events<'a>(events: impl Iterator<Item = &'a PreparedEvent>) -> Self {
        let (mut count, mut bytes, mut all_small) = (0, 0_usize, true);
        for event in events {
            count += 1;
            bytes = bytes.saturating_add(event.event.raw.len());
            // It changes any number of tasks and records, however short it is.
            let is_cascade = matches!(event.event.message, EventContent::Cascade { .. } | EventContent::Rollback(_));
            if is_cascade {
                bytes = bytes.saturating_add(CASCADE_BYTES);
            }
            all_small &= event.event.raw.len() <= SMALL_EVENT && event.files.is_empty() && !is_cascade;
        }
        if all_small && bytes <= SMALL_EVENTS { Self::Small } else { Self::of(count, bytes) }
    }

    fn of_letters(letters: &[DeadLetter]) -> Self {
        let bytes = letters.iter().fold(0_usize, |bytes, letter| bytes.saturating_add(letter.raw.len()));
        if bytes <= SMALL_EVENTS { Self::Small } else { Self::of(letters.len(), bytes) }
    }

    /// Returns how much room a command takes.
    pub(in crate::engine) fn of_command(command: &Command) -> Self {
        match command {
            // A request that only asks for an earlier answer.
            Command::Submit { submissions, .. } if submissions.is_empty() => Self::Small,
            Command::Submit { submissions, .. } => {
                Self::of(submissions.len(), submissions.iter().map(Routed::text_bytes).sum())
            }
            Command::Import { items, .. } => Self::of(items.len(), items.iter().map(import_bytes).sum()),
            Command::Accept { events, .. } => Self::of_events(events.iter()),
            Command::Requeue { event, .. } => Self::of_events(std::iter::once(&**event)),
            Command::PutDeadLetters { letters, .. } => Self::of_letters(letters),
            Command::CreateProject { .. } | Command::UpdateProject { .. } | Command::CreateCheckpoint { .. } => {
                Self::Large { items: 1, bytes: 0 }
            }
            Command::Cascade { .. } | Command::Rollback { .. } | Command::Undo { .. } => Self::of(1, CASCADE_BYTES),
            Command::Cancel { .. }
            | Command::Lease { .. }
            | Command::Renew { .. }
            | Command::Release { .. }
            | Command::Route { .. }
            | Command::DeleteProject { .. }
            | Command::DiscardDeadLetters { .. }
            | Command::ReportQueue { .. }
            | Command::PauseProject { .. }
            | Command::PauseTier { .. } => Self::Small,
            Command::TakeRouting { .. } | Command::ReturnRouting { .. } | Command::Stop => Self::None,
        }
    }
}

/// The bytes of the original of an import.
fn import_bytes(item: &Import) -> usize {
    match item {
        Import::Record(record) => record.imported.as_ref().map_or(0, |imported| imported.original.len()),
        Import::Event(event) => event.original.len(),
        Import::Checkpoint(checkpoint) => checkpoint.original.as_ref().map_or(0, String::len),
        Import::ManualMark(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::{CascadeRequest, IncomingEvent, Subject};
    use crate::lineage::Action;
    use crate::task::{ArtifactId, Correlation, Failure, Holder, Report};

    fn event(message: EventContent) -> PreparedEvent {
        let event = IncomingEvent { identity: None, message, raw: "{}".to_owned(), on_bus: false };
        PreparedEvent { event, files: Vec::new() }
    }

    fn growth(events: Vec<PreparedEvent>) -> Growth {
        Growth::of_command(&Command::Accept { events, plan: None, reply: tokio::sync::oneshot::channel().0 })
    }

    /// A taint changes as much, whether it comes as a request or as an event.
    #[test]
    fn a_taint_event_counts_as_the_taint_that_it_asks_for() {
        let failure =
            Failure { error: String::new(), retryable: true, attempt: None, sender: Holder::default(), from_qa: false };
        let report = || {
            let correlation = Correlation { task: None, artifact: None, review: None };
            event(EventContent::Report { correlation, report: Report::Failed(failure.clone()) })
        };
        let taint = || {
            let request = CascadeRequest {
                action: Action::Taint,
                subject: Subject::Artifact(ArtifactId::new("bad").unwrap()),
                reason: "because".to_owned(),
                source: None,
                cascade_id: "c".to_owned(),
                cancel_running: true,
            };
            event(EventContent::Cascade { name: "artifact.tainted", request: Box::new(request) })
        };
        assert_eq!(growth(vec![report()]), Growth::Small);
        let Growth::Large { items: 1, bytes } = growth(vec![taint()]) else { panic!("it counts as small") };
        assert!(bytes >= 64 * 1024, "{bytes}");
        let Growth::Large { items: 3, bytes } = growth(vec![taint(), report(), taint()]) else { panic!() };
        assert!(bytes >= 128 * 1024, "{bytes}");
        let requeued = Command::Requeue {
            dead_letter: 1,
            event: Box::new(taint()),
            plan: None,
            reply: tokio::sync::oneshot::channel().0,
        };
        assert!(matches!(Growth::of_command(&requeued), Growth::Large { .. }));
    }
}
