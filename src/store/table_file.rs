//! The file of the tables: it is not changed until it is known to be ours, and it continues to work
//! on a full disk.
//!
//! While redb opens a file, it repairs and marks it. If the opened file turns out to be damaged or
//! foreign, it must be as before. Writes are therefore kept in memory until [`TableFile::release`].
//!
//! After the release all operations go directly to the file unless the disk is full. redb accepts
//! no write after one has failed, and also reads nothing from the file any more. So a write for
//! which the disk has no room is kept in memory, where reads find it, and the next sync writes it
//! to the disk. If there is still no room, the sync reports success, and from then on nothing is
//! written to the file ([`TableFile::is_settled`]), because redb may now reuse pages that the file
//! still needs. Later writes are kept in layers, one for each such sync, and are written to the
//! file in this order, each synced, once there is room ([`TableFile::settle`]). A crash before that
//! leaves the file at the last durable checkpoint, and the journal holds everything after it: no
//! checkpoint counts as durable before the file is settled.
//!
//! The kept writes are at most what the tables need for one journal, because the writer stands
//! still meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::error::is_full;
use super::room::Room;

/// Size of the kept blocks: that of a page.
const BLOCK: usize = 4096;

/// The file of the tables. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct TableFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Box<dyn StorageBackend>,
    room: Arc<Room>,
    /// Whether nothing is kept, so that reads and writes go to the file.
    direct: AtomicBool,
    /// Whether the file has grown since its last sync. redb syncs right after it has enlarged the
    /// file, so that the length is durable; no kept block need be written for that.
    grown: AtomicBool,
    kept: Mutex<Kept>,
}

/// Writes that are not in the file.
#[derive(Debug, Default)]
struct Kept {
    released: bool,
    /// Before the release: the length that was set. Afterwards, while nothing is written: the
    /// length that the file will have.
    length: Option<u64>,
    writes: Vec<(u64, Vec<u8>)>,
    /// Blocks that the disk had no room for, by number; oldest layer first. There was a sync
    /// between two layers.
    layers: Vec<BTreeMap<u64, Vec<u8>>>,
    /// Whether a sync reported success without being made, so that nothing is written to the file.
    is_holding: bool,
}

impl TableFile {
    /// Wraps a file, which is not changed until it is released.
    pub(super) fn over(file: Box<dyn StorageBackend>, room: Arc<Room>) -> Self {
        let (direct, grown) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Inner { file, room, direct, grown, kept: Mutex::default() }))
    }

    /// Writes the kept writes; from now on the file is written directly. Blocks until there is
    /// room. Does nothing once the file is released, even if a full disk has caused writes to be
    /// kept since then.
    pub(super) fn release(&self) -> io::Result<()> {
        let (length, writes) = {
            let mut kept = self.kept();
            if kept.released {
                return Ok(());
            }
            (kept.length.take(), std::mem::take(&mut kept.writes))
        };
        let written = self.write_all(length, &writes);
        let mut kept = self.kept();
        if written.is_err() {
            (kept.length, kept.writes) = (length, writes);
            return written;
        }
        kept.released = true;
        self.0.direct.store(true, Ordering::Release);
        Ok(())
    }

    fn write_all(&self, length: Option<u64>, writes: &[(u64, Vec<u8>)]) -> io::Result<()> {
        let (file, room) = (&self.0.file, &self.0.room);
        if let Some(length) = length {
            room.retry(|| file.set_len(length))?;
        }
        for (offset, data) in writes {
            room.retry(|| file.write(*offset, data))?;
        }
        file.sync_data()
    }

    /// Whether every sync that reported success was made.
    pub(super) fn is_settled(&self) -> bool {
        self.keeping().is_none_or(|kept| !kept.is_holding)
    }

    /// Writes what the file lacks. Returns false if the disk has no room.
    pub(super) fn settle(&self) -> io::Result<bool> {
        let Some(mut kept) = self.keeping().filter(|kept| kept.released) else { return Ok(true) };
        match kept.drain(&*self.0.file) {
            Ok(()) => {
                self.0.direct.store(true, Ordering::Release);
                Ok(true)
            }
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As [`Self::settle`], but blocks until there is room. Fails if threads do not wait for room.
    pub(super) fn settle_waiting(&self) -> io::Result<()> {
        let mut wait = self.0.room.wait();
        while !self.settle()? {
            wait.pause(io::ErrorKind::StorageFull.into())?;
        }
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept writes, unless all operations go to the file.
    fn keeping(&self) -> Option<MutexGuard<'_, Kept>> {
        if self.0.direct.load(Ordering::Acquire) {
            return None;
        }
        Some(self.kept()).filter(|_| !self.0.direct.load(Ordering::Acquire))
    }

    /// Keeps a write that the disk has no room for.
    fn keep(&self, kept: &mut Kept, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.direct.store(false, Ordering::Release);
        kept.put(&*self.0.file, offset, data)
    }

    /// Syncs while writes are kept: makes the sync, or reports success without it if threads wait
    /// for room.
    fn sync_kept(&self) -> io::Result<()> {
        if self.settle()? || (self.0.room.release_ballast() && self.settle()?) {
            // Another thread may have settled the file before the writes to be synced came.
            return self.0.file.sync_data();
        }
        self.0.room.look();
        if !self.0.room.may_pause() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut kept = self.kept();
        kept.is_holding = true;
        kept.layers.push(BTreeMap::new());
        Ok(())
    }
}

impl Kept {
    /// The newest kept version of a block.
    fn block(&self, number: u64) -> Option<&Vec<u8>> {
        self.layers.iter().rev().find_map(|layer| layer.get(&number))
    }

    /// Keeps a write as whole blocks, completed from the existing bytes.
    fn put(&mut self, file: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.layers.is_empty() {
            self.layers.push(BTreeMap::new());
        }
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (number, inside) = place(at);
            let (piece, behind) = rest.split_at((BLOCK - inside).min(rest.len()));
            let mut block = vec![0; BLOCK];
            if let Some(there) = self.block(number) {
                block.copy_from_slice(there);
            } else if piece.len() < BLOCK {
                read_there(file, number * block_bytes(), &mut block)?;
            }
            if let Some(target) = block.get_mut(inside..) {
                target.iter_mut().zip(piece).for_each(|(target, byte)| *target = *byte);
            }
            if let Some(newest) = self.layers.last_mut() {
                newest.insert(number, block);
            }
            at += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            rest = behind;
        }
        Ok(())
    }

    /// Drops blocks that a write has brought to the file. Blocks that it covers in part are kept
    /// with it.
    fn written(&mut self, file: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        let Some(newest) = self.layers.last_mut() else { return Ok(()) };
        let is_partial = |number: u64| number * block_bytes() < offset || (number + 1) * block_bytes() > end;
        let numbers: Vec<u64> = touched(newest, offset, end).map(|(number, _)| *number).collect();
        if numbers.iter().any(|number| is_partial(*number)) {
            return self.put(file, offset, data);
        }
        for number in &numbers {
            newest.remove(number);
        }
        Ok(())
    }

    /// Writes the layers to the file in their order, each synced, as far as there is room.
    fn drain(&mut self, file: &dyn StorageBackend) -> io::Result<()> {
        let length = file.len()?;
        while let Some(layer) = self.layers.first_mut() {
            while let Some((number, block)) = layer.first_key_value() {
                let offset = number * block_bytes();
                let inside = usize::try_from(length.saturating_sub(offset)).unwrap_or(BLOCK).min(BLOCK);
                file.write(offset, block.get(..inside).unwrap_or(block))?;
                layer.pop_first();
            }
            file.sync_data()?;
            self.layers.remove(0);
        }
        if let Some(length) = self.length {
            file.set_len(length)?;
        }
        (self.length, self.is_holding) = (None, false);
        Ok(())
    }

    /// Lays the kept writes over bytes read from the file.
    fn lay_over(&self, offset: u64, out: &mut [u8]) {
        for (at, data) in &self.writes {
            overlay(offset, out, *at, data);
        }
        let end = offset.saturating_add(u64::try_from(out.len()).unwrap_or(u64::MAX));
        for (number, block) in self.layers.iter().flat_map(|layer| touched(layer, offset, end)) {
            overlay(offset, out, number * block_bytes(), block);
        }
    }

    /// Sets the length of a file that is not written: a larger length at once, which is harmless, a
    /// smaller one later.
    fn set_held_len(&mut self, file: &dyn StorageBackend, length: u64) -> io::Result<()> {
        if length > file.len()? {
            file.set_len(length)?;
        }
        self.length = Some(length);
        Ok(())
    }
}

/// The blocks of a layer that a range of bytes touches.
fn touched(layer: &BTreeMap<u64, Vec<u8>>, offset: u64, end: u64) -> impl Iterator<Item = (&u64, &Vec<u8>)> {
    layer.range(offset / block_bytes()..end.div_ceil(block_bytes()))
}

/// The number of the block at an offset, and the offset within it.
fn place(offset: u64) -> (u64, usize) {
    (offset / block_bytes(), usize::try_from(offset % block_bytes()).unwrap_or(0))
}

fn block_bytes() -> u64 {
    u64::try_from(BLOCK).unwrap_or(u64::MAX)
}

/// Reads the file's bytes at an offset; zeros after its end.
fn read_there(file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let there = file.len()?.saturating_sub(offset);
    let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
    let (old, grown) = out.split_at_mut(there);
    grown.fill(0);
    if old.is_empty() { Ok(()) } else { file.read(offset, old) }
}

impl StorageBackend for TableFile {
    fn len(&self) -> io::Result<u64> {
        match self.keeping().and_then(|kept| kept.length) {
            Some(length) => Ok(length),
            None => self.0.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(kept) = self.keeping() else { return self.0.file.read(offset, out) };
        read_there(&*self.0.file, offset, out)?;
        kept.lay_over(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.len()? {
            self.0.grown.store(true, Ordering::Release);
        }
        let mut kept = self.keeping();
        match &mut kept {
            Some(kept) if !kept.released => kept.length = Some(len),
            Some(kept) if kept.is_holding => self.0.room.retry(|| kept.set_held_len(&*self.0.file, len))?,
            Some(_) | None => {
                for layer in kept.iter_mut().flat_map(|kept| &mut kept.layers) {
                    drop(layer.split_off(&len.div_ceil(block_bytes())));
                }
                self.0.room.retry(|| self.0.file.set_len(len))?;
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let grown = self.0.grown.swap(false, Ordering::AcqRel);
        let is_released = self.keeping().map(|kept| kept.released);
        match is_released {
            Some(false) => Ok(()),
            Some(true) if !grown => self.sync_kept(),
            Some(true) | None => self.0.file.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(mut kept) = self.keeping() else {
            return match self.0.file.write(offset, data) {
                Err(error) if is_full(&error) => {
                    self.0.room.look();
                    self.keep(&mut self.kept(), offset, data)
                }
                written => written,
            };
        };
        if !kept.released {
            kept.writes.push((offset, data.to_vec()));
            return Ok(());
        }
        if kept.is_holding {
            return kept.put(&*self.0.file, offset, data);
        }
        match self.0.file.write(offset, data) {
            Err(error) if is_full(&error) => self.keep(&mut kept, offset, data),
            Err(error) => Err(error),
            Ok(()) => kept.written(&*self.0.file, offset, data),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }
}

/// Copies the part of `data`, located at `at`, that lies within `out`, located at `offset`.
fn overlay(offset: u64, out: &mut [u8], at: u64, data: &[u8]) {
    let skip_out = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
    let skip_data = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX).min(data.len());
    let (Some(out), Some(data)) = (out.get_mut(skip_out..), data.get(skip_data..)) else { return };
    out.iter_mut().zip(data).for_each(|(out, data)| *out = *data);
}

#[cfg(test)]
#[path = "table_file_tests.rs"]
mod tests;
