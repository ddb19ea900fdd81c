//! Random numbers and texts. They are generated here and not by a library, because a seed
//! that has shown a failure must show it again in every later version.

use std::time::Duration;

/// Characters of generated texts; 64 of them, so that six bits choose one.
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n";

/// A `SplitMix64` generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates a generator from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number of the sequence.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`; zero if `end` is zero.
    pub const fn below(&mut self, end: u64) -> u64 {
        match self.next().checked_rem(end) {
            Some(number) => number,
            None => 0,
        }
    }

    /// Returns a number from `low` to `high`, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low.saturating_add(self.below(high.saturating_sub(low).saturating_add(1)))
    }

    /// Returns true with a probability of `percent` in a hundred.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns an index below `len`; zero if `len` is zero.
    pub fn index(&mut self, len: usize) -> usize {
        let end = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.below(end)).unwrap_or_default()
    }

    /// Returns one of the values; `None` if there are none.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = self.index(from.len());
        from.get(index)
    }

    /// Returns one of the values.
    ///
    /// # Panics
    /// If the slice is empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// Returns a time from zero to `most`, in whole milliseconds.
    pub fn time(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.between(0, most))
    }

    /// Returns a size from `low` to `high` whose order of magnitude is evenly distributed:
    /// sizes between 100 and 1000 are as frequent as between 10 000 and 100 000.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        let (low, high) = (low.max(1), high.max(low).max(1));
        let doublings = (high / low).checked_ilog2().unwrap_or(0);
        let base = low.saturating_mul(1_usize.checked_shl(self.doublings(doublings)).unwrap_or(1));
        let size = base.saturating_add(self.index(base));
        size.clamp(low, high)
    }

    /// Returns a number of doublings from zero to `most`.
    fn doublings(&mut self, most: u32) -> u32 {
        u32::try_from(self.between(0, u64::from(most))).unwrap_or_default()
    }

    /// Returns printable text of exactly `bytes` bytes that hardly compresses and differs
    /// from call to call.
    pub fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes.saturating_add(10));
        while text.len() < bytes {
            let mut bits = self.next();
            for _ in 0..10 {
                let index = usize::try_from(bits & 63).unwrap_or_default();
                text.push(char::from(ALPHABET.get(index).copied().unwrap_or(b'a')));
                bits >>= 6;
            }
        }
        text.truncate(bytes);
        text
    }

    /// Returns `rounds` numbers below `kinds`, at least one of each: first each number once,
    /// in random order, then random ones.
    pub fn schedule(&mut self, kinds: u64, rounds: u64) -> Vec<u64> {
        let mut schedule: Vec<u64> = (0..kinds).collect();
        for at in (1..schedule.len()).rev() {
            schedule.swap(at, self.index(at + 1));
        }
        schedule.extend((kinds..rounds).map(|_| self.below(kinds)));
        schedule
    }

    /// Returns another generator, for a part of the work.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// Returns a number that looks random and is the same for the same input (the output
/// function of `SplitMix64`).
#[must_use]
pub const fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_has_every_kind_whatever_the_seed() {
        for seed in 0..50 {
            let schedule = Random::new(seed).schedule(14, 20);
            assert_eq!(schedule, Random::new(seed).schedule(14, 20), "the same seed gives another schedule");
            assert_eq!((0..14).filter(|kind| schedule[..14].contains(kind)).count(), 14, "{schedule:?}");
            assert_eq!((schedule.len(), schedule.iter().max()), (20, Some(&13)));
        }
        assert_eq!(Random::new(1).schedule(14, 0).len(), 14);
        assert_ne!(Random::new(1).schedule(14, 0), Random::new(2).schedule(14, 0));
    }

    #[test]
    fn sizes_cover_all_magnitudes_within_their_limits() {
        let mut random = Random::new(1);
        let sizes: Vec<usize> = (0..10_000).map(|_| random.size(100, 900_000)).collect();
        assert!(sizes.iter().all(|size| (100..=900_000).contains(size)));
        for (low, high) in [(100, 1000), (1000, 10_000), (10_000, 100_000), (100_000, 900_001)] {
            let count = sizes.iter().filter(|size| (low..high).contains(*size)).count();
            assert!(count > 1000, "{count} sizes from {low} to {high}");
        }
        assert_eq!(random.size(5, 5), 5);
    }

    #[test]
    fn texts_have_their_length_and_differ() {
        let mut random = Random::new(3);
        for bytes in [0, 1, 9, 10, 11, 65_537] {
            assert_eq!(random.text(bytes).len(), bytes);
        }
        assert_ne!(random.text(100), random.text(100));
        assert_eq!(Random::new(5).text(40), Random::new(5).text(40));
    }
}
