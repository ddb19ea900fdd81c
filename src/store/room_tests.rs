//! Tests of the accounting of room.

use super::*;

const MIB: u64 = 1024 * 1024;

/// A room on a disk that has so much free, of which so much is kept.
fn room(free: u64, reserve: u64) -> Arc<Room> {
    // No check of the disk changes the free bytes.
    let room = Room { is_simulated: true, ..Room::default() };
    room.free.store(free, Ordering::Release);
    room.reserve.store(reserve, Ordering::Release);
    Arc::new(room)
}

#[test]
fn requests_in_progress_count_as_used() {
    let room = room(100 * MIB, 40 * MIB);
    assert_eq!(room.available(), 100 * MIB);
    let admission = room.admit(1, 29 * MIB).unwrap();
    assert_eq!(room.available(), 100 * MIB - 58 * MIB - ITEM_BYTES);
    assert_eq!(room.state(), RoomState::Enough);
    drop(admission);
    assert_eq!(room.available(), 100 * MIB);
}

#[test]
fn marks_separate_the_states() {
    let state = |free| room(free, 40 * MIB).state();
    assert_eq!(state(40 * MIB), RoomState::Enough);
    assert_eq!(state(40 * MIB - 1), RoomState::NearlyFull);
    assert_eq!(state(10 * MIB), RoomState::NearlyFull);
    assert_eq!(state(10 * MIB - 1), RoomState::Full);
    assert_eq!(room(0, 0).state(), RoomState::Enough, "nothing is kept");
    // A huge reserve refuses growth and nothing else.
    assert_eq!(room(65 * MIB, 1 << 50).state(), RoomState::NearlyFull);
    assert_eq!(room(63 * MIB, 1 << 50).state(), RoomState::Full);
}

#[test]
fn the_journal_counts_until_the_checkpoint_behind_it() {
    let room = room(1000 * MIB, 0);
    room.add_unflushed(6, 3 * MIB);
    room.add_unflushed(7, 5 * MIB);
    assert_eq!(room.available(), 1000 * MIB - 16 * MIB);
    // The checkpoint before generation 7 makes generation 6 durable.
    room.of_generation(6).store(0, Ordering::Release);
    assert_eq!(room.unflushed(), 10 * MIB);
    room.add_unflushed(8, MIB);
    assert_eq!(room.unflushed(), 12 * MIB);
    let elsewhere = Arc::new(Room::default());
    elsewhere.add_unflushed(7, MIB);
    elsewhere.add_unflushed(8, MIB);
    elsewhere.flushed_before(8);
    assert_eq!(elsewhere.unflushed(), 2 * MIB);
}

#[test]
fn a_store_without_a_directory_has_unlimited_room() {
    let room = Arc::new(Room::default());
    room.keep(1 << 60);
    assert_eq!((room.free(), room.state()), (u64::MAX, RoomState::Enough));
    let _admission = room.admit(10, 1 << 40).unwrap();
    room.admit_small().unwrap();
}

#[test]
fn a_refused_request_sets_nothing_aside_and_a_look_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room::of(dir.path(), None);
    let free = room.free();
    room.keep(1 << 60);
    let shortage = room.admit(1, MIB).unwrap_err();
    assert_eq!(shortage.mark, 1 << 60);
    assert!(shortage.available < free);
    assert_eq!(room.in_flight.load(Ordering::Acquire), 0);
    // Free space is checked again before a request is refused.
    let room = Room::of(dir.path(), None);
    room.keep(0);
    room.reserve.store(MIB, Ordering::Release);
    room.free.store(0, Ordering::Release);
    drop(room.admit(1, 1).unwrap());
    assert!(room.free() > 0);
    // It is also checked after an eighth of the reserve was written.
    room.free.store(1 << 62, Ordering::Release);
    room.spend(MIB / 8 + 1);
    drop(room.admit(1, 1).unwrap());
    assert!(room.free() < 1 << 62);
    assert_eq!(room.spent.load(Ordering::Acquire), 0);
}

#[test]
fn a_missing_ballast_comes_before_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let room = Room::of(dir.path(), None);
    room.keep(8 * MIB);
    let ballast = room.ballast.as_ref().unwrap();
    for _ in 0..100 {
        if ballast.missing() == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ballast.missing(), 0, "it was not made");
    assert_eq!(dir.path().join("dats.ballast").metadata().unwrap().len(), 2 * MIB);
    assert!(ballast.release());
    assert_eq!(room.free_behind_ballast(), room.free() - 2 * MIB);
}

#[test]
fn a_checkpoint_is_wanted_where_it_would_show_room() {
    let room = room(100 * MIB, 40 * MIB);
    room.add_unflushed(1, 35 * MIB);
    // It would take up to 70 MiB, which are free.
    room.want_flush(40 * MIB);
    assert!(room.take_flush_wanted());
    assert!(!room.take_flush_wanted(), "asked once");
    room.free.store(60 * MIB, Ordering::Release);
    room.want_flush(40 * MIB);
    assert!(!room.flush_wanted.load(Ordering::Acquire), "it may find no room itself");
    room.of_generation(1).store(0, Ordering::Release);
    room.add_unflushed(1, 1000);
    room.want_flush(40 * MIB);
    assert!(!room.take_flush_wanted(), "too little to be worth while");
}

#[test]
fn a_write_without_room_waits_where_it_may_and_fails_where_not() {
    let full = || io::Error::from(ErrorKind::StorageFull);
    let room = Room::default();
    assert!(room.retry(|| Err::<(), _>(full())).is_err(), "nobody waits at first");
    room.patient.store(true, Ordering::Release);
    let mut left = 2;
    let tried = room.retry(|| {
        assert_eq!(room.is_waiting(), left < 2);
        left -= 1;
        if left == 0 { Ok(()) } else { Err(full()) }
    });
    tried.unwrap();
    assert!(!room.is_waiting());
    assert!(room.retry(|| Err::<(), _>(io::Error::other("else"))).is_err(), "other errors are errors");
    room.give_up();
    assert!(room.retry(|| Err::<(), _>(full())).is_err());
    let stopped = Room { stop: Some(Arc::new(|| true)), patient: AtomicBool::new(true), ..Room::default() };
    assert!(stopped.retry(|| Err::<(), _>(full())).is_err());
}

#[test]
fn nothing_is_accepted_while_a_thread_waits() {
    let room = room(1 << 40, 0);
    room.waiting.store(1, Ordering::Release);
    assert_eq!(room.state(), RoomState::Waiting);
    assert!(room.admit(0, 0).is_err() && room.admit_small().is_err());
}
