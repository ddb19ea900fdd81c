//! The hasher of maps by id.

use std::hash::{BuildHasherDefault, Hasher};

/// A hasher for ids: task ids are made here and end in random bits, so that eight of their bytes
/// are a hash already.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(tail) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*tail).rotate_left(17);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// Builds hashers for maps whose keys are ids that are made here, or hashes.
pub(crate) type IdHash = BuildHasherDefault<IdHasher>;
