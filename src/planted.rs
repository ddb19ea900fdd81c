//! Planted faults: each breaks one promise in one place, so that a test which is there
//! for that promise can be seen to fail (`scripts/planted`).
//!
//! They exist in a build with the feature `planted` alone, which is never a default, and
//! act in a process whose environment names one in `DATS_PLANTED`. In any other build
//! [`is`] is a constant `false`, and neither names nor faults are in the program.

/// A fault that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every 64th turn between projects is lost.
    TurnLost,
    /// Answers leave before the journal is written.
    AnsweredBeforeWritten,
    /// Every 16th wake-up of those who follow the log is dropped.
    WakeDropped,
    /// Ids of events are not remembered.
    DuplicatesTaken,
    /// The counters do not follow when a task fails.
    CounterNotMoved,
    /// An event that is published again has another id.
    EventIdChanges,
    /// The copy's position moves before the rows are written.
    WatermarkAhead,
    /// A taint reaches the dependents of two levels only.
    TaintStopsEarly,
    /// Records of the journal above 16 KiB are not synced.
    LargeRecordUnsynced,
    /// The bytes of a content's file are not synced.
    ContentUnsynced,
    /// The directory of a content's file is not synced.
    ContentNameUnsynced,
    /// A batch does not hold the files of the contents that it names.
    ContentReleasedEarly,
    /// Of new directories above the data directory only the nearest is synced.
    DirectoryUnsynced,
    /// A view is waited for under the lock of the contents.
    LockHeldWhileWaiting,
    /// A message is acknowledged to the broker before its event is committed.
    MessageAcknowledgedEarly,
    /// A stream goes on one event too far.
    StreamSkipsOne,
    /// A page of records goes on behind all that have the same time as its last one.
    EqualTimesSkipped,
    /// A failure counts whoever reports it.
    ZombieCounts,
}

#[cfg(feature = "planted")]
impl Fault {
    /// Its name in the environment.
    const fn name(self) -> &'static str {
        match self {
            Self::TurnLost => "turn-lost",
            Self::AnsweredBeforeWritten => "answered-before-written",
            Self::WakeDropped => "wake-dropped",
            Self::DuplicatesTaken => "duplicates-taken",
            Self::CounterNotMoved => "counter-not-moved",
            Self::EventIdChanges => "event-id-changes",
            Self::WatermarkAhead => "watermark-ahead",
            Self::TaintStopsEarly => "taint-stops-early",
            Self::LargeRecordUnsynced => "large-record-unsynced",
            Self::ContentUnsynced => "content-unsynced",
            Self::ContentNameUnsynced => "content-name-unsynced",
            Self::ContentReleasedEarly => "content-released-early",
            Self::DirectoryUnsynced => "directory-unsynced",
            Self::LockHeldWhileWaiting => "lock-held-while-waiting",
            Self::MessageAcknowledgedEarly => "message-acknowledged-early",
            Self::StreamSkipsOne => "stream-skips-one",
            Self::EqualTimesSkipped => "equal-times-skipped",
            Self::ZombieCounts => "zombie-counts",
        }
    }
}

/// The name in the environment of this process, read once.
#[cfg(feature = "planted")]
fn chosen() -> Option<&'static str> {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("DATS_PLANTED").ok()).as_deref()
}

/// Whether this fault is planted in this process.
#[cfg(feature = "planted")]
#[must_use]
pub(crate) fn is(fault: Fault) -> bool {
    chosen() == Some(fault.name())
}

/// Whether this fault is planted: never, in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
pub(crate) const fn is(_: Fault) -> bool {
    false
}

/// True at every 64th call with this fault, where it is planted; of wake-ups at every
/// 16th, since most are followed by another one that makes good for it.
#[cfg(feature = "planted")]
#[must_use]
pub(crate) fn is_now(fault: Fault) -> bool {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let every = if matches!(fault, Fault::WakeDropped) { 16 } else { 64 };
    is(fault) && CALLS.fetch_add(1, Ordering::Relaxed) % every == every - 1
}

/// True now and then where this fault is planted: never, in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
pub(crate) const fn is_now(_: Fault) -> bool {
    false
}

/// What the journal gets for a record: that record.
#[cfg(not(feature = "planted"))]
pub(crate) const fn late(_: Fault, record: Vec<u8>) -> Vec<u8> {
    record
}

/// What the journal gets for a record: where this fault is planted, the record before it,
/// so that a crash loses one whose answers have left.
#[cfg(feature = "planted")]
pub(crate) fn late(fault: Fault, record: Vec<u8>) -> Vec<u8> {
    static HELD: std::sync::Mutex<Option<Vec<u8>>> = std::sync::Mutex::new(None);
    if !is(fault) {
        return record;
    }
    let before = HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(record.clone());
    before.unwrap_or(record)
}

/// What a child process needs to have the same fault.
#[must_use]
pub(crate) fn environment() -> Option<(&'static str, String)> {
    #[cfg(feature = "planted")]
    return chosen().map(|name| ("DATS_PLANTED", name.to_owned()));
    #[cfg(not(feature = "planted"))]
    None
}
