//! Damaged files: whatever is wrong, an error says where, and nothing breaks.

use std::fs;

use dats::legacy::{Folder, Line, Reason};

use crate::support::old_files::{OldFiles, Sizes};
use crate::support::random::{Random, from_environment};

/// A good text with some bytes cut off, flipped, doubled or put in.
fn damaged(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.index(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.insert(at, *random.pick(b"{}[],:\"\\0-e\x00\xff\xe2n")),
            3 => drop(bytes.remove(at)),
            _ => {
                let end = bytes.len().min(at + 1 + random.index(40));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

#[test]
fn damaged_lines_are_errors_within_their_text() {
    let seed = from_environment("DATS_SEED", 20_260_114);
    let mut files = OldFiles::new(seed);
    let mut taken = 0;
    for round in 0..from_environment("DATS_ROUNDS", 10_000) {
        let object = match round % 4 {
            0 => files.event(&[]),
            1 => files.checkpoint(),
            _ => files.any_record(),
        };
        let good = if round % 2 == 0 { object.to_string() } else { format!("{object:#}") };
        let bytes = damaged(good.as_bytes(), &mut files.random);
        match Line::parse(&bytes) {
            Ok(line) => {
                taken += 1;
                assert!(!line.id().is_empty());
            }
            Err(invalid) => {
                assert!(invalid.offset <= u64::try_from(bytes.len()).unwrap(), "seed {seed}: {invalid}");
                assert!(!invalid.message.is_empty() && !invalid.to_string().contains('\n'), "{invalid}");
            }
        }
    }
    // Flipped letters of a text, and the like.
    assert!(taken > 0);
}

/// Every cut of a good text is known as one.
#[test]
fn a_cut_is_known_as_a_cut() {
    let mut files = OldFiles::new(from_environment("DATS_SEED", 20_260_115));
    for _ in 0..20 {
        let good = format!("{:#}", files.record());
        for end in 1..good.len() {
            let invalid = Line::parse(&good.as_bytes()[..end]).unwrap_err();
            assert_eq!((invalid.reason, invalid.offset), (Reason::Truncated, u64::try_from(end).unwrap()), "{invalid}");
        }
    }
}

/// A damaged list gives up nothing in front of the damage, and says the rest.
#[test]
fn damaged_lists_give_what_is_whole() {
    let seed = from_environment("DATS_SEED", 20_260_116);
    let mut files = OldFiles::new(seed);
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("old");
    let made = files.write(&folder, Sizes { records: 3, bad: 0, events: 20, checkpoints: 5 });
    let lists = ["taint_events.json", "checkpoints.json"].map(|name| folder.join(name));
    let good = lists.clone().map(|path| fs::read(path).unwrap());
    for _ in 0..from_environment("DATS_ROUNDS", 300) {
        for (path, good) in lists.iter().zip(&good) {
            fs::write(path, damaged(good, &mut files.random)).unwrap();
        }
        let cut = files.random.index(good[0].len() - 2) + 1;
        let whole = String::from_utf8(good[0][..cut].to_vec()).unwrap_or_default().matches("\n  }").count();
        fs::write(&lists[0], &good[0][..cut]).unwrap();
        let opened = Folder::open(&folder).unwrap();
        let found: Vec<_> = opened.entries().collect();
        assert!(found.iter().filter(|each| each.is_ok()).count() >= made.records.len());
        let events = found.iter().flatten().filter(|each| each.file == "taint_events.json").count();
        // The last one can be whole without what would follow it.
        assert!(whole == 0 || events + 1 >= whole, "seed {seed}: {events} of {whole} whole events");
        let bad = found.iter().filter_map(|each| each.as_ref().err());
        let cuts = bad.filter(|bad| bad.file == "taint_events.json" && bad.invalid.reason == Reason::Truncated);
        assert_eq!(cuts.count(), 1, "seed {seed}");
    }
}
