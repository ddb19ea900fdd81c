//! The upgrade of an earlier format on a disk that loses power, at any of its steps
//! and several times: the directory opens, and has what it had.

use dats::store::Store;

use super::SMALL_JOURNAL;
use crate::support::disk::Disk;
use crate::support::fixtures::CACHE_BYTES;
use crate::support::invariants::{self, Snapshot};
use crate::support::random::{Random, from_environment};
use crate::upgrade::unpack;

/// Steps at the end of an upgrade, where files get their names.
const LAST_STEPS: u64 = 60;

fn check(store: &Store) -> Snapshot {
    invariants::check_upgraded(store, &|_| u32::MAX).unwrap()
}

#[test]
fn an_upgrade_survives_every_crash() {
    let home = tempfile::tempdir().unwrap();
    let data = unpack("format-5", home.path());
    let loaded = |seed| {
        let disk = Disk::new(seed, SMALL_JOURNAL);
        disk.load(&data);
        disk
    };
    let whole = loaded(0);
    let begun = whole.operations();
    let expected = check(&whole.open_store(CACHE_BYTES).unwrap());
    let steps = whole.operations() - begun;
    let first = from_environment("DATS_SEED", 1);
    let mut crashes = 0;
    for seed in first..first + from_environment("DATS_ROUNDS", 6) {
        let (mut disk, mut random) = (loaded(seed), Random::new(seed));
        for _ in 0..=random.below(3) {
            let at = if random.chance(50) { random.below(steps) } else { steps - random.below(LAST_STEPS) };
            disk.die_after(at);
            let opened = disk.open_store(CACHE_BYTES);
            assert!(opened.is_ok() || disk.is_dead(), "DATS_SEED={seed}: {:?}", opened.err());
            drop(opened);
            crashes += u64::from(disk.is_dead());
            disk = disk.crash();
        }
        let found = disk.open_store(CACHE_BYTES).unwrap_or_else(|error| panic!("DATS_SEED={seed}: {error}"));
        let found = check(&found);
        assert_eq!((&found.tasks, found.head), (&expected.tasks, expected.head), "DATS_SEED={seed}");
        assert!(found.entries == expected.entries, "DATS_SEED={seed}: other entries of the log");
    }
    assert!(crashes > 3, "{crashes} crashes in upgrades of {steps} steps");
}
