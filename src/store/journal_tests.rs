//! Tests of the journal: what is read after each kind of damage.

use redb::backends::InMemoryBackend;

use super::*;

const STORE: Uuid = Uuid::from_u128(7);

/// Two blocks in front of each half, and six for its records.
const BYTES: u64 = 16 * BLOCK;
/// Where the records of generation 4 begin.
const FIRST: usize = 2 * 4096;
/// Where the records of generation 3 begin.
const HALF: usize = 10 * 4096;

/// A new journal, which begins with generation 3.
fn new() -> Vec<u8> {
    let file = InMemoryBackend::new();
    Journal::make(&file, BYTES, STORE, 3).unwrap();
    let mut bytes = vec![0; usize::try_from(BYTES).unwrap()];
    file.read(0, &mut bytes).unwrap();
    bytes
}

fn open_as(bytes: &[u8], store: Uuid, generation: u64) -> Result<(Journal, Vec<Vec<u8>>), Error> {
    let file = InMemoryBackend::new();
    file.set_len(u64::try_from(bytes.len()).unwrap()).unwrap();
    file.write(0, bytes).unwrap();
    Journal::open(Box::new(file), store, generation)
}

fn open(bytes: &[u8], generation: u64) -> Result<(Journal, Vec<Vec<u8>>), Error> {
    open_as(bytes, STORE, generation)
}

fn refusal(bytes: &[u8], generation: u64) -> String {
    match open(bytes, generation).unwrap_err() {
        Error::ForeignJournal { detail } => detail,
        error => panic!("{error}"),
    }
}

fn image(journal: &Journal) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(BYTES).unwrap()];
    journal.file.read(0, &mut bytes).unwrap();
    bytes
}

/// A journal whose first half is full, and that goes on in the second.
fn turned() -> Journal {
    let (mut journal, _) = open(&new(), 3).unwrap();
    for number in 0..8_u8 {
        if !journal.fits(1) {
            journal.turn();
        }
        journal.append(&[number]).unwrap();
    }
    journal
}

fn written(payloads: &[&[u8]]) -> Vec<u8> {
    let (mut journal, _) = open(&new(), 3).unwrap();
    for payload in payloads {
        journal.append(payload).unwrap();
    }
    image(&journal)
}

#[test]
fn records_are_read_by_their_generation_alone() {
    let long = vec![9; 10_000];
    let bytes = written(&[b"one", &long, b""]);
    assert_eq!(open(&bytes, 3).unwrap().1, [b"one".to_vec(), long, Vec::new()]);
    let (mut journal, _) = open(&bytes, 3).unwrap();
    journal.stamp(4).unwrap();
    assert!(open(&image(&journal), 4).unwrap().1.is_empty());
    journal.restart(4);
    journal.append(b"new").unwrap();
    assert_eq!(open(&image(&journal), 4).unwrap().1, [b"new".to_vec()]);
    assert!(open(&image(&journal), 3).is_err(), "an old generation must not come back in part");
}

#[test]
fn a_torn_tail_is_dropped_and_written_over() {
    let whole = written(&[b"one", b"two"]);
    for at in [0, 4, 20, 40, 45, 49] {
        let mut torn = whole.clone();
        torn[HALF + 4096 + at] ^= 0x40;
        let (mut journal, records) = open(&torn, 3).unwrap();
        assert_eq!(records, [b"one".to_vec()], "flipped at {at}");
        journal.append(b"again").unwrap();
        assert_eq!(open(&image(&journal), 3).unwrap().1, [b"one".to_vec(), b"again".to_vec()]);
    }
}

#[test]
fn damage_before_a_whole_record_is_refused() {
    let mut bytes = written(&[b"one", b"two", b"three"]);
    bytes[HALF + 4096 + 50] ^= 1;
    let error = open(&bytes, 3).unwrap_err().to_string();
    assert_eq!(error, "table journal has a corrupt row: record 1 is damaged, but record 2 behind it is whole");
}

#[test]
fn a_generation_is_followed_by_the_next() {
    let journal = turned();
    assert_eq!((journal.generation(), journal.offset), (4, 2 * BLOCK));
    let numbers = |from: u8| (from..8).map(|number| vec![number]).collect::<Vec<_>>();
    let (again, records) = open(&image(&journal), 3).unwrap();
    assert_eq!(records, numbers(0));
    assert_eq!((again.generation(), again.number, again.offset), (4, 8, 2 * BLOCK));
    // The checkpoint that frees the first half is durable.
    let (mut journal, records) = open(&image(&journal), 4).unwrap();
    assert_eq!((records, journal.number), (numbers(6), 8));
    journal.stamp(5).unwrap();
    journal.restart(5);
    journal.append(b"new").unwrap();
    assert_eq!(open(&image(&journal), 5).unwrap().1, [b"new".to_vec()]);
}

#[test]
fn a_torn_begin_of_the_next_generation_is_dropped() {
    let (mut journal, _) = open(&new(), 3).unwrap();
    (0..6_u8).for_each(|number| journal.append(&[number]).unwrap());
    journal.turn();
    journal.append(b"torn").unwrap();
    let mut bytes = image(&journal);
    bytes[FIRST + 49] ^= 1;
    let (journal, records) = open(&bytes, 3).unwrap();
    assert_eq!((records.len(), journal.generation(), journal.fits(1)), (6, 3, false));
    assert_eq!(refusal(&bytes, 4), "it knows nothing of generation 4, which the tables are at");
}

#[test]
fn damage_before_the_next_generation_is_refused() {
    let whole = image(&turned());
    for block in 0..6 {
        let mut bytes = whole.clone();
        bytes[HALF + block * 4096 + 48] ^= 1;
        assert!(open(&bytes, 3).is_err(), "record {block} is damaged");
        assert_eq!(open(&bytes, 4).unwrap().1.len(), 2, "it is not needed any more");
    }
}

#[test]
fn a_record_too_large_for_a_half_is_reported() {
    let (journal, _) = open(&new(), 3).unwrap();
    assert!(journal.can_hold(6 * 4096 - HEAD) && journal.fits(6 * 4096 - HEAD));
    assert!(!journal.can_hold(6 * 4096 - HEAD + 1));
}

#[test]
fn a_journal_of_other_tables_is_refused() {
    let whole = image(&turned());
    assert_eq!(refusal(&vec![0; whole.len()], 3), "it names no store");
    for half in [0, 8 * 4096] {
        let mut bytes = whole.clone();
        bytes[half..half + 4096].fill(0);
        assert_eq!(refusal(&bytes, 3), "it names no store");
    }
    assert_eq!(refusal(&whole[..whole.len() / 2], 3), "it has 32768 bytes, and was made with 65536");
    let error = open_as(&whole, Uuid::from_u128(8), 3).unwrap_err().to_string();
    assert!(error.contains(&STORE.to_string()) && error.contains(&Uuid::from_u128(8).to_string()), "{error}");
    // A journal of an earlier and of a later time.
    assert_eq!(refusal(&whole, 6), "it knows nothing of generation 6, which the tables are at");
    assert_eq!(refusal(&whole, 2), "it has generation 4, the tables are at 2: they are older");
    let (journal, _) = open(&new(), 3).unwrap();
    journal.stamp(6).unwrap();
    assert_eq!(refusal(&image(&journal), 3), "it has generation 6, the tables are at 3: they are older");
    // The records of the tables' generation are missing, the others are there.
    let mut bytes = whole.clone();
    bytes[FIRST..8 * 4096].fill(0);
    assert_eq!(refusal(&bytes, 4), "it knows nothing of generation 4, which the tables are at");
}

#[test]
fn a_torn_stamp_leaves_the_one_before() {
    let (mut journal, _) = open(&new(), 3).unwrap();
    journal.append(b"one").unwrap();
    journal.stamp(4).unwrap();
    let mut bytes = image(&journal);
    bytes[4096 + 30] ^= 1;
    assert_eq!(open(&bytes, 3).unwrap().1, [b"one".to_vec()]);
    // Whole, but the checkpoint did not become durable.
    assert_eq!(open(&image(&journal), 3).unwrap().1, [b"one".to_vec()]);
    assert!(open(&image(&journal), 4).unwrap().1.is_empty());
}
