//! Containers that never move more than a small part of their entries, so that the writer never
//! stands still while one of them grows.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::id_hash::IdHash;
use crate::task::{LeaseId, TaskId};

/// Number of shards. With two million entries each has about 500, and growing one of them takes
/// some microseconds.
const SHARDS: usize = 4096;
/// Entries of a chunk of a queue.
const CHUNK: usize = 1024;

/// A key of sixteen bytes, of which the last six are as good as random: a hash, or an id that is
/// made here.
pub(crate) trait ScatteredKey: Eq + Hash {
    /// Its bytes.
    fn bytes(&self) -> [u8; 16];
}

impl ScatteredKey for TaskId {
    fn bytes(&self) -> [u8; 16] {
        self.to_bytes()
    }
}

impl ScatteredKey for LeaseId {
    fn bytes(&self) -> [u8; 16] {
        self.to_bytes()
    }
}

impl ScatteredKey for [u8; 16] {
    fn bytes(&self) -> [u8; 16] {
        *self
    }
}

/// A map of many small maps, each of which grows by itself.
#[derive(Debug)]
pub(crate) struct ShardedMap<K, V> {
    shards: Vec<HashMap<K, V, IdHash>>,
    len: usize,
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashMap::default()).collect(), len: 0 }
    }
}

impl<K: ScatteredKey, V> ShardedMap<K, V> {
    /// The shard of a key. The map inside a shard uses the last three bytes.
    fn place(key: &K) -> usize {
        let [.., a, b, _, _, _] = key.bytes();
        usize::from(u16::from_be_bytes([a, b])) % SHARDS
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.shards.get(Self::place(key))?.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.shards.get_mut(Self::place(key))?.get_mut(key)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Inserts an entry and returns the value that the key had before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.shards.get_mut(Self::place(&key))?.insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Returns the value of a key, which is made if there is none.
    pub(crate) fn entry_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        // Every place has a shard.
        let place = Self::place(&key) % self.shards.len();
        let entry = self.shards[place].entry(key);
        self.len += usize::from(matches!(entry, Entry::Vacant(_)));
        entry.or_default()
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.shards.get_mut(Self::place(key))?.remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// All keys, in no order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.shards.iter().flat_map(HashMap::keys)
    }
}

/// A queue of chunks: growing it never moves an entry.
#[derive(Debug)]
pub(crate) struct ChunkedQueue<T> {
    chunks: VecDeque<VecDeque<T>>,
}

impl<T> Default for ChunkedQueue<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new() }
    }
}

impl<T> ChunkedQueue<T> {
    pub(crate) fn push_back(&mut self, entry: T) {
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push_back(VecDeque::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push_back(entry);
        }
    }

    pub(crate) fn push_front(&mut self, entry: T) {
        if self.chunks.front().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push_front(VecDeque::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.front_mut() {
            chunk.push_front(entry);
        }
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let chunk = self.chunks.front_mut()?;
        let entry = chunk.pop_front();
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use uuid::{ContextV7, Timestamp, Uuid};

    use super::*;

    /// A map in one piece would move all its entries when it grows: here an
    /// insertion moves at most those of a shard, also for ids of one millisecond.
    #[test]
    fn growing_never_moves_more_than_a_small_part() {
        let context = ContextV7::new();
        let mut map = ShardedMap::default();
        for _ in 0..200_000 {
            let id = TaskId::new(Uuid::new_v7(Timestamp::from_unix(&context, 1_795_000_000, 0)));
            assert_eq!(map.insert(id, 'a'), None);
        }
        let largest = map.shards.iter().map(HashMap::len).max();
        assert!(largest < Some(200), "ids of one millisecond lie in few shards: {largest:?}");
        let capacity: usize = map.shards.iter().map(HashMap::capacity).sum();
        assert!(capacity < 600_000, "{capacity} places for 200000 entries");
        assert_eq!((map.len(), map.keys().count()), (200_000, 200_000));
    }

    #[test]
    fn a_map_knows_its_entries_and_its_length() {
        let mut map = ShardedMap::default();
        assert_eq!(
            (map.insert([1; 16], 'a'), map.insert([1; 16], 'b'), map.insert([2; 16], 'c')),
            (None, Some('a'), None)
        );
        assert_eq!((map.get(&[1; 16]), map.contains(&[3; 16]), map.len()), (Some(&'b'), false, 2));
        assert_eq!((map.remove(&[1; 16]), map.remove(&[1; 16]), map.len()), (Some('b'), None, 1));
    }

    #[test]
    fn a_queue_gives_its_entries_in_order() {
        let mut queue = ChunkedQueue::default();
        (0..3 * CHUNK).for_each(|entry| queue.push_back(entry));
        assert_eq!(queue.front(), Some(&0));
        let first: Vec<_> = std::iter::from_fn(|| queue.pop_front()).take(CHUNK + 1).collect();
        queue.push_back(7);
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop_front()).collect();
        assert!(first.iter().chain(&rest[..rest.len() - 1]).copied().eq(0..3 * CHUNK));
        assert_eq!((rest.last(), queue.front(), queue.chunks.len()), (Some(&7), None, 0));
        queue.push_back(0);
        (1..2 * CHUNK).for_each(|entry| queue.push_front(entry));
        assert!(std::iter::from_fn(|| queue.pop_front()).eq((0..2 * CHUNK).rev()));
    }
}
