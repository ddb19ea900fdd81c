//! What became of spans, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts, shared by who makes spans, who sends them and who shows the counts.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Ended, and neither sent nor given up.
    waiting: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// What became of spans up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) waiting: u64,
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
}

impl Figures {
    /// Takes a place among at most `most`; without one the span counts as
    /// dropped.
    pub(super) fn take_place(&self, most: u64) -> bool {
        let has_place = self.waiting.fetch_add(1, Ordering::Relaxed) < most;
        if !has_place {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        has_place
    }

    /// A batch was sent, or given up; its places are free.
    pub(super) fn ended(&self, spans: u64, is_sent: bool) {
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
    fn places_are_limited_and_given_back() {
        let figures = Figures::default();
        assert_eq!([(); 4].map(|()| figures.take_place(3)), [true, true, true, false]);
        figures.ended(2, true);
        assert!(figures.take_place(3));
        figures.ended(1, false);
        assert_eq!(figures.counts(), Counts { waiting: 1, sent: 2, failed: 1, dropped: 1 });
    }
}
