//! What an error of the engine means for messages that were delivered.

use std::io::ErrorKind;
use std::time::Duration;

use super::broker::LinkState;
use crate::engine;
use crate::store;

/// Pause before something is tried again, the first time and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What an error of the engine means for messages that were delivered.
#[derive(Debug)]
pub(super) enum Fault {
    /// The message itself can't be taken: it becomes a dead letter.
    Message(String),
    /// The engine has much to do and takes the same again soon.
    Busy,
    /// The disk has no room, or a content could not be written to it. Other
    /// messages may be taken meanwhile.
    Storage(LinkState, String),
    /// The store can't be read: nothing can be taken.
    Failed(String),
    /// The engine stops.
    Stopping,
}

impl From<engine::Error> for Fault {
    fn from(error: engine::Error) -> Self {
        let text = error.to_string();
        match error {
            engine::Error::Refused(_) => Self::Message(text),
            engine::Error::Overloaded => Self::Busy,
            engine::Error::NotOwner | engine::Error::ShuttingDown | engine::Error::Unknown => Self::Stopping,
            engine::Error::DiskFull { .. } | engine::Error::Store(store::Error::NoRoom) => {
                Self::Storage(LinkState::StorageFull, text)
            }
            engine::Error::Store(store::Error::Io { action, path, source }) => {
                let state = match source.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                        LinkState::StorageFull
                    }
                    _ => LinkState::StorageFailed,
                };
                Self::Storage(
                    state,
                    format!("failed to {action} {}: {source}", path.file_name().unwrap_or_default().display()),
                )
            }
            engine::Error::Store(error) => Self::Failed(error.to_string()),
        }
    }
}

/// Pauses between tries, each twice the one before.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tries.min(16)).min(LONGEST_PAUSE);
        self.tries = self.tries.saturating_add(1);
        pause.mul_f64(rand::random_range(0.5..1.0))
    }

    /// What was tried has worked.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Refusal;

    fn of_io(kind: ErrorKind) -> Fault {
        engine::Error::Store(store::Error::Io { action: "write", path: "x".into(), source: kind.into() }).into()
    }

    #[test]
    fn each_error_has_its_consequence() {
        assert!(matches!(engine::Error::Refused(Refusal::NothingCorrelates).into(), Fault::Message(_)));
        assert!(matches!(engine::Error::Overloaded.into(), Fault::Busy));
        assert!(matches!(engine::Error::Unknown.into(), Fault::Stopping));
        let full = engine::Error::DiskFull { free_mib: 1, reserve_mib: 2 };
        assert!(matches!(full.into(), Fault::Storage(LinkState::StorageFull, _)));
        assert!(matches!(of_io(ErrorKind::StorageFull), Fault::Storage(LinkState::StorageFull, _)));
        assert!(matches!(of_io(ErrorKind::PermissionDenied), Fault::Storage(LinkState::StorageFailed, _)));
        let corrupt = store::Error::Corrupt { table: "log", detail: "cut".to_owned() };
        assert!(matches!(engine::Error::Store(corrupt).into(), Fault::Failed(_)));
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= FIRST_PAUSE);
        let longest = (0..40).map(|_| backoff.next()).max().unwrap();
        assert!(longest <= LONGEST_PAUSE && longest > LONGEST_PAUSE / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST_PAUSE);
    }
}
