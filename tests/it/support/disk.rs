//! A disk that can lose power: writes reach the durable image with a sync
//! alone. It dies at a given operation; what was not synced is then applied
//! in part, torn at sectors, as a real disk may do. A variant acknowledges
//! syncs that it does not make.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dats::store::Store;
use redb::StorageBackend;

use super::random::Random;

/// What a disk writes at once.
const SECTOR: usize = 512;
/// Room for some dozen commits.
const JOURNAL_BYTES: u64 = 256 * 1024;

/// A handle to a disk; clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// The store's file and its journal.
    files: [Image; 2],
    random: Random,
    operations: u64,
    dies_at: Option<u64>,
    dead: bool,
    /// How many syncs out of a hundred are not made.
    lies: u64,
    /// The next sync panics, as the database may over a damaged file.
    panics: bool,
}

/// One file. A sync is of one file: the writes to another stay as they are.
#[derive(Debug)]
struct Image {
    /// What a crash leaves at least.
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<Write>,
}

#[derive(Debug)]
enum Write {
    Data { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_files([Vec::new(), Vec::new()], seed, 0)
    }

    /// An empty disk that leaves out so many of a hundred syncs.
    pub(crate) fn lying(seed: u64, percent: u64) -> Self {
        Self::with_files([Vec::new(), Vec::new()], seed, percent)
    }

    fn with_files(files: [Vec<u8>; 2], seed: u64, lies: u64) -> Self {
        let image = |bytes: Vec<u8>| Image { current: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        let state = State {
            files: files.map(image),
            random: Random::new(seed),
            operations: 0,
            dies_at: None,
            dead: false,
            lies,
            panics: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the store on it, or makes one. A small journal makes many
    /// checkpoints.
    pub(crate) fn open_store(&self, cache_bytes: usize) -> Result<Store, dats::store::Error> {
        let file = |place| Backend { disk: self.clone(), place };
        Store::open_backends(file(0), file(1), JOURNAL_BYTES, cache_bytes)
    }

    /// From now on the operation after so many others fails, and all after it.
    pub(crate) fn die_after(&self, operations: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + operations);
    }

    /// Every operation fails from now on.
    pub(crate) fn die(&self) {
        self.state().dead = true;
    }

    /// The next sync panics, and every operation after it fails.
    pub(crate) fn panic_next(&self) {
        self.state().panics = true;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The disk after a power cut. The old handle is dead.
    pub(crate) fn crash(&self) -> Self {
        let mut state = self.state();
        state.dead = true;
        let mut random = state.random.fork();
        // Nearly nothing, about half, nearly everything, or all of it.
        let percent = *random.pick(&[3, 50, 97, 100]);
        // A disk that lies keeps to the order: what it leaves is whole and
        // too old, so that only who knows what was acknowledged can tell.
        let percent = if state.lies > 0 { 0 } else { percent };
        let mut left = [Vec::new(), Vec::new()];
        for (file, left) in state.files.iter_mut().zip(&mut left) {
            *left = file.crash(percent, &mut random);
        }
        Self::with_files(left, random.next(), state.lies)
    }
}

impl Image {
    fn crash(&mut self, percent: u64, random: &mut Random) -> Vec<u8> {
        let mut left = std::mem::take(&mut self.durable);
        for write in std::mem::take(&mut self.unsynced) {
            match write {
                Write::Data { at, bytes } => tear(&mut left, at, &bytes, percent, random),
                Write::Length(length) if random.chance(percent) => left.resize(length, 0),
                Write::Length(_) => {}
            }
        }
        left
    }

    fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            match write {
                Write::Data { at, bytes } => self.durable[at..at + bytes.len()].copy_from_slice(&bytes),
                Write::Length(length) => self.durable.resize(length, 0),
            }
        }
    }
}

/// Applies some of the sectors of a write.
fn tear(image: &mut Vec<u8>, at: usize, bytes: &[u8], percent: u64, random: &mut Random) {
    let mut from = at;
    let end = at + bytes.len();
    while from < end {
        let to = end.min((from / SECTOR + 1) * SECTOR);
        if random.chance(percent) {
            if image.len() < to {
                image.resize(to, 0);
            }
            image[from..to].copy_from_slice(&bytes[from - at..to - at]);
        }
        from = to;
    }
}

impl State {
    /// Counts an operation; whether it is the one that the disk dies in.
    fn count(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("the disk is dead"));
        }
        let dies = self.dies_at == Some(self.operations);
        self.operations += 1;
        self.dead = dies;
        Ok(dies)
    }

    fn finish(dies: bool) -> io::Result<()> {
        if dies { Err(io::Error::other("the disk dies")) } else { Ok(()) }
    }
}

/// One of its files, as the store sees it.
#[derive(Debug)]
struct Backend {
    disk: Disk,
    place: usize,
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset fits into memory")
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        if state.dead {
            return Err(io::Error::other("the disk is dead"));
        }
        Ok(u64::try_from(state.files[self.place].current.len()).expect("a length fits"))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let dies = state.count()?;
        State::finish(dies)?;
        let at = place(offset);
        let bytes = state.files[self.place]
            .current
            .get(at..at + out.len())
            .ok_or_else(|| io::Error::other("beyond the end"))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let dies = state.count()?;
        let length = place(len);
        state.files[self.place].current.resize(length, 0);
        state.files[self.place].unsynced.push(Write::Length(length));
        State::finish(dies)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let dies = state.count()?;
        if state.panics {
            state.dead = true;
            panic!("a panic for a test");
        }
        let lies = state.lies;
        let leaves_out = lies > 0 && state.random.chance(lies);
        if !dies && !leaves_out {
            state.files[self.place].sync();
        }
        State::finish(dies)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let dies = state.count()?;
        let at = place(offset);
        if state.files[self.place].current.len() < at + data.len() {
            return Err(io::Error::other("beyond the end"));
        }
        state.files[self.place].current[at..at + data.len()].copy_from_slice(data);
        state.files[self.place].unsynced.push(Write::Data { at, bytes: data.to_vec() });
        State::finish(dies)
    }
}
