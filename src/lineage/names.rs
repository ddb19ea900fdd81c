//! Names as numbers: each text gets an index of 32 bits when it is first seen, and keeps it.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use super::pages::{PAGE, Pages, split};

/// Shards of an index. Each is a small table that grows on its own, so no change copies more than a
/// few kilobytes.
const SHARDS: usize = 4096;

/// Maps the hash of a key to the number that has the key. The owner stores the keys.
#[derive(Debug, Clone)]
pub(super) struct Index {
    shards: Pages<HashTable<u32>>,
    /// Keyed at random, because names come from outside and must not collide on purpose.
    pub(super) hasher: RandomState,
}

impl Default for Index {
    fn default() -> Self {
        let mut shards = Pages::default();
        shards.reach(SHARDS - 1);
        Self { shards, hasher: RandomState::new() }
    }
}

/// The tables use the lowest and the highest bits, so the shard is taken from the middle.
fn shard_of(hash: u64) -> usize {
    usize::try_from(hash >> 32).map_or(0, |bits| bits % SHARDS)
}

impl Index {
    /// An empty index with capacity for `count` numbers.
    pub(super) fn with_room(count: usize) -> Self {
        let mut index = Self::default();
        // Shards are not filled evenly.
        let each = count / SHARDS + count / SHARDS / 8;
        for shard in 0..SHARDS {
            index.shards.get_mut(shard).reserve(each, |_| 0);
        }
        index
    }

    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.shards.get(shard_of(hash)).find(hash, |number| is_it(*number)).copied()
    }

    /// Adds a number that is not in the index yet.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let shard = self.shards.get_mut(shard_of(hash));
        shard.insert_unique(hash, number, |number| hash_of(*number));
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }
}

/// The names of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    index: Index,
    pages: Pages<NamePage>,
    len: u32,
}

/// Names that get their numbers all at once, before any look-up: one flat table, by 128 bits of
/// hash with a key of its own. Comparing texts would take most of a start, because they lie all
/// over memory, and of a million million names no two are likely to have the same hash.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    table: HashTable<(u64, u64, u32)>,
    hashers: [RandomState; 2],
    names: Names,
}

impl Numbering {
    pub(super) fn len(&self) -> u32 {
        self.names.len
    }

    /// Number of a text, which is new if the text is unknown.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        let [first, second] = [0, 1].map(|at: usize| self.hashers[at].hash_one(text));
        let known = self.table.find(first, |(one, other, _)| (*one, *other) == (first, second));
        if let Some((.., number)) = known {
            return *number;
        }
        let number = self.names.push(text);
        self.table.insert_unique(first, (first, second, number), |(one, ..)| *one);
        number
    }

    /// The names, indexed by their texts.
    pub(super) fn finish(self) -> Names {
        let mut names = self.names;
        names.index = Index::with_room(usize::try_from(names.len).unwrap_or(0));
        let hasher = names.index.hasher.clone();
        for number in 0..names.len {
            let hash = hasher.hash_one(text_at(&names.pages, number));
            names.index.insert(hash, number, |number| hasher.hash_one(text_at(&names.pages, number)));
        }
        names
    }
}

#[derive(Debug, Clone, Default)]
struct NamePage {
    text: String,
    /// End of each name. 256 names of at most 255 bytes fit 16 bits.
    ends: Vec<u16>,
}

fn text_at(pages: &Pages<NamePage>, number: u32) -> &str {
    let (page, slot) = split(number);
    let page = pages.get(page);
    let start = slot.checked_sub(1).map_or(0, |before| page.ends[before]);
    &page.text[usize::from(start)..usize::from(page.ends[slot])]
}

impl Names {
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Text of a number assigned by this collection.
    pub(super) fn text(&self, number: u32) -> &str {
        text_at(&self.pages, number)
    }

    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let hash = self.index.hasher.hash_one(text);
        self.index.find(hash, |number| text_at(&self.pages, number) == text)
    }

    /// Number of a text, which is new if the text is unknown.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        let hash = self.index.hasher.hash_one(text);
        let known = self.index.find(hash, |number| text_at(&self.pages, number) == text);
        known.unwrap_or_else(|| self.add(text, hash))
    }

    fn add(&mut self, text: &str, hash: u64) -> u32 {
        let number = self.push(text);
        let hasher = self.index.hasher.clone();
        self.index.insert(hash, number, |number| hasher.hash_one(text_at(&self.pages, number)));
        number
    }

    /// Assigns the next number to a text, without an entry in the index yet.
    fn push(&mut self, text: &str) -> u32 {
        let number = self.len;
        let (page, _) = split(number);
        self.pages.reach(page);
        let page = self.pages.get_mut(page);
        if page.text.capacity() - page.text.len() < text.len() {
            page.text.reserve_exact(text.len() * (PAGE - page.ends.len()).min(32));
        }
        page.text.push_str(text);
        page.ends.push(u16::try_from(page.text.len()).unwrap_or(u16::MAX));
        self.len += 1;
        number
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let pages = self.pages.iter().map(|page| page.text.capacity() + 2 * page.ends.capacity());
        pages.sum::<usize>() + self.index.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = Names::default();
        let longest = "é".repeat(127) + "x";
        let texts: Vec<String> = (0..5000).map(|number| format!("{number}{}", &longest[..number % 2 * 200])).collect();
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(names.find(text), None);
            assert_eq!(usize::try_from(names.number(text)), Ok(place));
        }
        let before = names.clone();
        let next = names.number(&longest);
        assert_eq!((names.text(next), before.find(&longest), names.len()), (longest.as_str(), None, 5001));
        for text in &texts {
            let number = names.number(text);
            assert_eq!(names.text(number), text);
            assert_eq!(before.find(text), Some(number));
        }
    }

    #[test]
    fn names_can_be_numbered_at_once() {
        let texts: Vec<String> = (0..3000).map(|number| format!("name {}", number % 1000)).collect();
        let mut numbering = Numbering::default();
        let numbers: Vec<u32> = texts.iter().map(|text| numbering.number(text)).collect();
        let mut names = numbering.finish();
        assert_eq!(names.len(), 1000);
        for (text, number) in texts.iter().zip(numbers) {
            assert_eq!((names.find(text), names.text(number)), (Some(number), text.as_str()));
        }
        assert_eq!((names.find("another"), names.number("another"), names.number("name 7")), (None, 1000, 7));
    }

    #[test]
    fn a_page_holds_the_longest_names() {
        let mut names = Names::default();
        for number in 0..600 {
            names.number(&format!("{number:0>255}"));
        }
        assert_eq!(names.text(511), format!("{:0>255}", 511));
    }
}
