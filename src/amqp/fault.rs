//! Classifies errors of the engine for delivered messages, and paces retries.

use std::io::ErrorKind;
use std::time::Duration;

use super::broker::LinkState;
use crate::engine;
use crate::store;

/// The first and the longest pause before a retry.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why the engine has not accepted delivered messages.
#[derive(Debug)]
pub(super) enum IntakeError {
    /// The engine refuses the message, which becomes a dead letter.
    Refused(String),
    /// The engine is overloaded; a retry will succeed soon.
    Busy,
    /// The disk has no room, or a content could not be written. Smaller messages may still be
    /// accepted.
    Storage(LinkState, String),
    /// The store can't be read, so no message can be accepted.
    Unreadable(String),
    /// The engine is stopping.
    Stopping,
}

impl From<engine::Error> for IntakeError {
    fn from(error: engine::Error) -> Self {
        let text = error.to_string();
        match error {
            engine::Error::Refused(_) => Self::Refused(text),
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
            engine::Error::Store(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// The pauses between retries. Each is twice the previous one.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tries.min(16)).min(LONGEST_PAUSE);
        self.tries = self.tries.saturating_add(1);
        pause.mul_f64(rand::random_range(0.5..1.0))
    }

    /// Starts again with the first pause, after a success.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Refusal;

    fn of_io(kind: ErrorKind) -> IntakeError {
        engine::Error::Store(store::Error::Io { action: "write", path: "x".into(), source: kind.into() }).into()
    }

    #[test]
    fn each_error_of_the_engine_has_a_class() {
        assert!(matches!(engine::Error::Refused(Refusal::NothingCorrelates).into(), IntakeError::Refused(_)));
        assert!(matches!(engine::Error::Overloaded.into(), IntakeError::Busy));
        assert!(matches!(engine::Error::Unknown.into(), IntakeError::Stopping));
        let full = engine::Error::DiskFull { free_mib: 1, reserve_mib: 2 };
        assert!(matches!(full.into(), IntakeError::Storage(LinkState::StorageFull, _)));
        assert!(matches!(of_io(ErrorKind::StorageFull), IntakeError::Storage(LinkState::StorageFull, _)));
        assert!(matches!(of_io(ErrorKind::PermissionDenied), IntakeError::Storage(LinkState::StorageFailed, _)));
        let corrupt = store::Error::Corrupt { table: "log", detail: "cut".to_owned() };
        assert!(matches!(engine::Error::Store(corrupt).into(), IntakeError::Unreadable(_)));
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_pause() <= FIRST_PAUSE);
        let longest = (0..40).map(|_| backoff.next_pause()).max().unwrap();
        assert!(longest <= LONGEST_PAUSE && longest > LONGEST_PAUSE / 2);
        backoff.reset();
        assert!(backoff.next_pause() <= FIRST_PAUSE);
    }
}
