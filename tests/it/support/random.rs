//! Random numbers that are the same for the same seed, for ever: a seed that
//! failed once must fail again, whatever a library's next version does.

/// A `SplitMix64` generator.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True `percent` times out of a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index into something of length `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        let end = u64::try_from(len).expect("a length fits");
        usize::try_from(self.below(end)).expect("an index fits")
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// `rounds` numbers below `kinds`: first each of them once, in an order that
    /// the seed decides, then any. At least as many as there are kinds.
    pub(crate) fn schedule(&mut self, kinds: u64, rounds: u64) -> Vec<u64> {
        let mut schedule: Vec<u64> = (0..kinds).collect();
        for at in (1..schedule.len()).rev() {
            schedule.swap(at, self.index(at + 1));
        }
        schedule.extend((kinds..rounds).map(|_| self.below(kinds)));
        schedule
    }

    /// Another generator, for a part of the work.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// A number from the environment, for longer or other runs.
pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
}

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
