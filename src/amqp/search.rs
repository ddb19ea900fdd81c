//! Finds a message that the broker refuses for itself, such as one above its
//! limit. It closes the channel then and does not say which message of the wave it
//! was, so waves are halved until one message is left.

/// How large the next wave may be while a refused message is looked for.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// `None`: nothing is looked for.
    most: Option<usize>,
}

impl Search {
    /// The most messages of the next wave; `None`: nothing is looked for.
    pub(super) const fn most(&self) -> Option<usize> {
        self.most
    }

    /// A wave of so many messages was refused. Whether that is the message which was
    /// looked for; else the next wave is half of this one.
    pub(super) fn refused(&mut self, sent: usize) -> bool {
        self.most = Some((sent / 2).max(1));
        sent <= 1
    }

    /// A wave was taken. The next one may be twice as large, up to `window`, where
    /// the search ends.
    pub(super) fn taken(&mut self, window: usize) {
        self.most = self.most.map(|most| most.saturating_mul(2)).filter(|most| *most < window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends numbered messages in waves; the numbers of those that were found, and
    /// how many waves it took.
    fn find(messages: usize, bad: &[usize], window: usize) -> (Vec<usize>, usize) {
        let (mut search, mut next, mut found, mut waves) = (Search::default(), 0, Vec::new(), 0);
        while next < messages {
            let size = search.most().unwrap_or(window).min(messages - next);
            waves += 1;
            if !bad.iter().any(|bad| (next..next + size).contains(bad)) {
                search.taken(window);
                next += size;
            } else if search.refused(size) {
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
    fn where_all_are_refused_each_costs_one_wave() {
        let all: Vec<usize> = (0..100).collect();
        let (found, waves) = find(100, &all, 64);
        assert_eq!(found, all);
        assert!(waves <= 110, "{waves}");
    }
}
