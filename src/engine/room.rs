//! Which commands are taken while there is little room on the disk.
//!
//! What makes the store grow is refused first, so that what was accepted can
//! still be finished: leases, renewals, cancels and small events go on down to
//! the low mark. The room that a command takes is set aside until it is answered.

use super::api::{Error, Import, Message, Prepared};
use super::command::{Command, Routed};
use crate::store::{DeadLetter, Shortage};

const MIB: u64 = 1024 * 1024;
/// Largest event, in bytes, that does not count as growth.
const SMALL_EVENT: usize = 8 * 1024;
/// Most bytes of small events in one command.
const SMALL_EVENTS: usize = 64 * 1024;
/// Bytes that a taint, a clear or a rollback is counted with: it touches any
/// number of tasks and records.
const CASCADE_BYTES: usize = 64 * 1024;

/// What a command takes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// It writes nothing.
    None,
    /// Little: it goes on while the disk is nearly full.
    Small,
    /// Items, and the bytes of them all.
    Large { items: u64, bytes: u64 },
}

impl Growth {
    fn of(items: usize, bytes: usize) -> Self {
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        Self::Large { items: number(items), bytes: number(bytes) }
    }

    fn of_events<'a>(events: impl Iterator<Item = &'a Prepared>) -> Self {
        let (mut count, mut bytes, mut all_small) = (0, 0_usize, true);
        for event in events {
            count += 1;
            bytes = bytes.saturating_add(event.event.raw.len());
            // They touch any number of tasks and records, however short they are.
            let is_cascade = matches!(event.event.message, Message::Cascade { .. } | Message::Rollback(_));
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

    /// What a command takes.
    pub(super) fn of_command(command: &Command) -> Self {
        match command {
            // One that only asks for an earlier answer.
            Command::Submit { submissions, .. } if submissions.is_empty() => Self::Small,
            Command::Submit { submissions, .. } => {
                Self::of(submissions.len(), submissions.iter().map(Routed::text_bytes).sum())
            }
            Command::Import { items, .. } => Self::of(items.len(), items.iter().map(import_bytes).sum()),
            Command::Accept { events, .. } => Self::of_events(events.iter()),
            Command::Requeue { event, .. } => Self::of_events(std::iter::once(&**event)),
            Command::Bury { letters, .. } => Self::of_letters(letters),
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
            | Command::Discard { .. }
            | Command::ReportQueue { .. }
            | Command::PauseProject { .. }
            | Command::PauseTier { .. } => Self::Small,
            Command::TakeRouting { .. } | Command::ReturnRouting { .. } | Command::Stop => Self::None,
        }
    }
}

/// Bytes of something to import, as it came.
fn import_bytes(item: &Import) -> usize {
    match item {
        Import::Record(record) => record.imported.as_ref().map_or(0, |imported| imported.original.len()),
        Import::Event(event) => event.original.len(),
        Import::Checkpoint(checkpoint) => checkpoint.original.as_ref().map_or(0, String::len),
        Import::Word(_) => 0,
    }
}

impl From<Shortage> for Error {
    fn from(shortage: Shortage) -> Self {
        Self::DiskFull { free_mib: shortage.available / MIB, reserve_mib: shortage.mark / MIB }
    }
}

impl Command {
    /// Tells the caller that there is no room: nothing has changed.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Submit { reply, .. } => drop(reply.send(Err(error))),
            Self::Cancel { reply, .. } => drop(reply.send(Err(error))),
            Self::Accept { reply, .. } => drop(reply.send(Err(error))),
            Self::Requeue { reply, .. } => drop(reply.send(Err(error))),
            Self::Lease { reply, .. } => drop(reply.send(Err(error))),
            Self::Renew { reply, .. } => drop(reply.send(Err(error))),
            Self::Release { reply, .. } | Self::ReturnRouting { reply, .. } | Self::Bury { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::TakeRouting { reply, .. } => drop(reply.send(Err(error))),
            Self::Route { reply, .. } => drop(reply.send(Err(error))),
            Self::CreateProject { reply, .. }
            | Self::UpdateProject { reply, .. }
            | Self::PauseProject { reply, .. } => drop(reply.send(Err(error))),
            Self::DeleteProject { reply, .. } => drop(reply.send(Err(error))),
            Self::ReportQueue { reply, .. } => drop(reply.send(Err(error))),
            Self::PauseTier { reply, .. } => drop(reply.send(Err(error))),
            Self::Cascade { reply, .. } => drop(reply.send(Err(error))),
            Self::Import { reply, .. } => drop(reply.send(Err(error))),
            Self::CreateCheckpoint { reply, .. } => drop(reply.send(Err(error))),
            Self::Rollback { reply, .. } => drop(reply.send(Err(error))),
            Self::Undo { reply, .. } => drop(reply.send(Err(error))),
            Self::Discard { reply, .. } => drop(reply.send(Err(error))),
            Self::Stop => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::{CascadeRequest, Incoming, Subject};
    use crate::lineage::Action;
    use crate::task::{ArtifactId, Correlation, Failure, Holder, Report};

    fn event(message: Message) -> Prepared {
        let event = Incoming { identity: None, message, raw: "{}".to_owned(), on_bus: false };
        Prepared { event, files: Vec::new() }
    }

    fn growth(events: Vec<Prepared>) -> Growth {
        Growth::of_command(&Command::Accept { events, plan: None, reply: tokio::sync::oneshot::channel().0 })
    }

    /// A taint touches as much, whichever way it comes.
    #[test]
    fn a_taint_event_counts_as_the_taint_that_it_asks_for() {
        let failure =
            Failure { error: String::new(), retryable: true, attempt: None, sender: Holder::default(), from_qa: false };
        let report = || {
            let correlation = Correlation { task: None, artifact: None, review: None };
            event(Message::Report { correlation, report: Report::Failed(failure.clone()) })
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
            event(Message::Cascade { name: "artifact.tainted", request: Box::new(request) })
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
