//! A disk that can lose power: writes reach the durable image with a sync
//! alone. It dies at a given operation; what was not synced is then applied
//! in part, torn at sectors, as a real disk may do. A variant acknowledges
//! syncs that it does not make.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::random::Random;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// A handle to a disk; clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// What a crash leaves at least.
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<Write>,
    random: Random,
    operations: u64,
    dies_at: Option<u64>,
    dead: bool,
    /// How many syncs out of a hundred are not made.
    lies: u64,
}

#[derive(Debug)]
enum Write {
    Data { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_image(Vec::new(), seed, 0)
    }

    /// An empty disk that leaves out so many of a hundred syncs.
    pub(crate) fn lying(seed: u64, percent: u64) -> Self {
        Self::with_image(Vec::new(), seed, percent)
    }

    fn with_image(image: Vec<u8>, seed: u64, lies: u64) -> Self {
        let state = State {
            current: image.clone(),
            durable: image,
            unsynced: Vec::new(),
            random: Random::new(seed),
            operations: 0,
            dies_at: None,
            dead: false,
            lies,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no operation panics")
    }

    /// What a store is opened on.
    pub(crate) fn backend(&self) -> Backend {
        Backend(self.clone())
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

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The disk after a power cut. The old handle is dead.
    pub(crate) fn crash(&self) -> Self {
        let mut state = self.state();
        state.dead = true;
        let mut random = state.random.fork();
        let mut image = std::mem::take(&mut state.durable);
        // Nearly nothing, about half, nearly everything, or all of it.
        let percent = *random.pick(&[3, 50, 97, 100]);
        // A disk that lies keeps to the order: what it leaves is whole and
        // too old, so that only who knows what was acknowledged can tell.
        let percent = if state.lies > 0 { 0 } else { percent };
        for write in std::mem::take(&mut state.unsynced) {
            match write {
                Write::Data { at, bytes } => tear(&mut image, at, &bytes, percent, &mut random),
                Write::Length(length) if random.chance(percent) => image.resize(length, 0),
                Write::Length(_) => {}
            }
        }
        Self::with_image(image, random.next(), state.lies)
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

    fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            match write {
                Write::Data { at, bytes } => self.durable[at..at + bytes.len()].copy_from_slice(&bytes),
                Write::Length(length) => self.durable.resize(length, 0),
            }
        }
    }
}

/// The disk as redb sees it.
#[derive(Debug)]
pub(crate) struct Backend(Disk);

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset fits into memory")
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let state = self.0.state();
        if state.dead {
            return Err(io::Error::other("the disk is dead"));
        }
        Ok(u64::try_from(state.current.len()).expect("a length fits"))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.state();
        let dies = state.count()?;
        State::finish(dies)?;
        let at = place(offset);
        let bytes = state.current.get(at..at + out.len()).ok_or_else(|| io::Error::other("beyond the end"))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.state();
        let dies = state.count()?;
        let length = place(len);
        state.current.resize(length, 0);
        state.unsynced.push(Write::Length(length));
        State::finish(dies)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.state();
        let dies = state.count()?;
        let lies = state.lies;
        if !dies && !(lies > 0 && state.random.chance(lies)) {
            state.sync();
        }
        State::finish(dies)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.state();
        let dies = state.count()?;
        let at = place(offset);
        if state.current.len() < at + data.len() {
            return Err(io::Error::other("beyond the end"));
        }
        state.current[at..at + data.len()].copy_from_slice(data);
        state.unsynced.push(Write::Data { at, bytes: data.to_vec() });
        State::finish(dies)
    }
}
