//! Planted faults: each breaks one promise in one place, so that the test that guards the promise
//! can be seen to fail (`scripts/planted`).
//!
//! The faults exist only in a build with the feature `planted`, which is never a default, and act
//! only in a process whose environment variable `DATS_PLANTED` names one. In any other build [`is`]
//! is a constant `false`, and neither names nor faults are part of the program.

/// A fault that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every 64th turn between projects is lost.
    TurnLost,
    /// Answers are sent before the journal is written.
    AnsweredBeforeWritten,
    /// Every 16th wake-up of the readers that follow the log is dropped.
    WakeDropped,
    /// Ids of events are not remembered.
    DuplicatesTaken,
    /// The counters are not updated when a task fails.
    CounterNotMoved,
    /// An event that is published again gets another id.
    EventIdChanges,
    /// The position of the replica moves before the rows are written.
    WatermarkAhead,
    /// A taint reaches the dependents of two levels only.
    TaintStopsEarly,
    /// Journal records above 16 KiB are not synced.
    LargeRecordUnsynced,
    /// The bytes of a content file are not synced.
    ContentUnsynced,
    /// The directory of a content file is not synced.
    ContentNameUnsynced,
    /// A batch does not hold the content files that it names.
    ContentReleasedEarly,
    /// Of new directories above the data directory only the nearest one is synced.
    DirectoryUnsynced,
    /// The lock of the contents is held during the wait for a view.
    LockHeldWhileWaiting,
    /// A message is acknowledged to the broker before its event is committed.
    MessageAcknowledgedEarly,
    /// A stream resumes one event too late.
    StreamSkipsOne,
    /// A page of records resumes after all records with the same time as the last one of the page
    /// before.
    EqualTimesSkipped,
    /// A failure counts whichever worker reports it.
    ZombieCounts,
}

#[cfg(feature = "planted")]
impl Fault {
    /// Name of the fault in `DATS_PLANTED`.
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

/// Name of the fault chosen in the environment of this process, read once.
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

/// Always false in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
pub(crate) const fn is(_: Fault) -> bool {
    false
}

/// Returns true at every 64th call if this fault is planted; for wake-ups at every 16th, because
/// the next wake-up mostly makes up for a dropped one.
#[cfg(feature = "planted")]
#[must_use]
pub(crate) fn is_now(fault: Fault) -> bool {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let every = if matches!(fault, Fault::WakeDropped) { 16 } else { 64 };
    is(fault) && CALLS.fetch_add(1, Ordering::Relaxed) % every == every - 1
}

/// Always false in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
pub(crate) const fn is_now(_: Fault) -> bool {
    false
}

/// Returns the record, which the journal writes.
#[cfg(not(feature = "planted"))]
pub(crate) const fn late(_: Fault, record: Vec<u8>) -> Vec<u8> {
    record
}

/// Returns the record that the journal writes: the previous one if this fault is planted, so that a
/// crash loses one whose answers were sent.
#[cfg(feature = "planted")]
pub(crate) fn late(fault: Fault, record: Vec<u8>) -> Vec<u8> {
    static HELD: std::sync::Mutex<Option<Vec<u8>>> = std::sync::Mutex::new(None);
    if !is(fault) {
        return record;
    }
    let before = HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(record.clone());
    before.unwrap_or(record)
}

/// The environment variable that plants the same fault in a child process.
#[must_use]
pub(crate) fn environment() -> Option<(&'static str, String)> {
    #[cfg(feature = "planted")]
    return chosen().map(|name| ("DATS_PLANTED", name.to_owned()));
    #[cfg(not(feature = "planted"))]
    None
}
