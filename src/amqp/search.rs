//! Finds a message that the broker refuses because of its content, such as one
//! above its size limit. The broker closes the channel without telling which
//! message of the wave it refuses, so the publisher halves the waves until one
//! message is left.

/// The search for a refused message, which limits the size of waves.
#[derive(Debug, Default)]
pub(super) struct RefusalSearch {
    /// The most messages of the next wave; `None` while no search is under way.
    max_len: Option<usize>,
}

impl RefusalSearch {
    /// Returns the most messages of the next wave; `None` while no search is under way.
    pub(super) const fn max_wave_len(&self) -> Option<usize> {
        self.max_len
    }

    /// Records that a wave of `sent` messages was refused, and halves the next wave. Returns whether
    /// the wave was the refused message alone.
    pub(super) fn record_refused(&mut self, sent: usize) -> bool {
        self.max_len = Some((sent / 2).max(1));
        sent <= 1
    }

    /// Records that a wave was accepted, and doubles the next wave. The search ends when waves
    /// reach `window` messages.
    pub(super) fn record_accepted(&mut self, window: usize) {
        self.max_len = self.max_len.map(|max| max.saturating_mul(2)).filter(|max| *max < window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends numbered messages in waves. Returns the refused messages that were found and the
    /// number of waves.
    fn find(messages: usize, bad: &[usize], window: usize) -> (Vec<usize>, usize) {
        let (mut search, mut next, mut found, mut waves) = (RefusalSearch::default(), 0, Vec::new(), 0);
        while next < messages {
            let size = search.max_wave_len().unwrap_or(window).min(messages - next);
            waves += 1;
            if !bad.iter().any(|bad| (next..next + size).contains(bad)) {
                search.record_accepted(window);
                next += size;
            } else if search.record_refused(size) {
                found.push(next);
                next += 1;
            }
        }
        (found, waves)
    }

    #[test]
    fn each_refused_message_is_found_in_few_waves() {
        for place in 0..256 {
            let (found, waves) = find(512, &[place], 256);
            assert_eq!(found, [place]);
            assert!(waves <= 60, "{waves} waves for {place}");
        }
        let (found, waves) = find(1024, &[3, 4, 5, 700, 1023], 256);
        assert_eq!(found, [3, 4, 5, 700, 1023]);
        assert!(waves <= 150, "{waves}");
    }

    #[test]
    fn when_all_are_refused_each_costs_one_wave() {
        let all: Vec<usize> = (0..100).collect();
        let (found, waves) = find(100, &all, 64);
        assert_eq!(found, all);
        assert!(waves <= 110, "{waves}");
    }
}
