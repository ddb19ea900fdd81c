//! Counts of spans by outcome.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that the tracer, the export and the metrics share.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Spans that have ended, and were neither sent nor dropped.
    waiting: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// A snapshot of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) waiting: u64,
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
}

impl Figures {
    /// Reserves space for a span among at most `limit`. Without space, the span counts as
    /// dropped.
    pub(super) fn try_reserve(&self, limit: u64) -> bool {
        let has_space = self.waiting.fetch_add(1, Ordering::Relaxed) < limit;
        if !has_space {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        has_space
    }

    /// Records that a batch was sent or failed, and releases its space.
    pub(super) fn release(&self, spans: u64, is_sent: bool) {
        let outcome = if is_sent { &self.sent } else { &self.failed };
        outcome.fetch_add(spans, Ordering::Relaxed);
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            waiting: read(&self.waiting),
            sent: read(&self.sent),
            failed: read(&self.failed),
            dropped: read(&self.dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_limited_and_released() {
        let figures = Figures::default();
        assert_eq!([(); 4].map(|()| figures.try_reserve(3)), [true, true, true, false]);
        figures.release(2, true);
        assert!(figures.try_reserve(3));
        figures.release(1, false);
        assert_eq!(figures.counts(), Counts { waiting: 1, sent: 2, failed: 1, dropped: 1 });
    }
}
