//! The lists of a page, one for each slot, packed one after another: a compressed adjacency for 256
//! records.
//!
//! A list that grows long leaves the page and becomes a tree of its own, so that a record with a
//! million dependents neither slows its neighbours down nor is copied as a whole when one more
//! arrives.

use super::pages::{PAGE, Pages};

/// Longest list inside a page. 256 such lists fit the 16 bits of a start.
const LONGEST: usize = 128;

/// Items in a chunk of a long list.
const CHUNK: usize = 1024;

/// A list for each slot of a page.
#[derive(Debug)]
pub(super) struct Lists<T> {
    starts: [u16; PAGE + 1],
    items: Vec<T>,
    long: Vec<(usize, Long<T>)>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { starts: [0; PAGE + 1], items: Vec::new(), long: Vec::new() }
    }
}

/// Capacity for an eighth more items; doubling would waste half of every page.
fn with_room(len: usize) -> usize {
    len + len / 8 + 8
}

/// A copy is made to be changed, so it has capacity at once.
impl<T: Copy> Clone for Lists<T> {
    fn clone(&self) -> Self {
        let mut items = Vec::with_capacity(with_room(self.items.len()));
        items.extend_from_slice(&self.items);
        Self { starts: self.starts, items, long: self.long.clone() }
    }
}

impl<T: Copy> Lists<T> {
    fn bounds(&self, slot: usize) -> (usize, usize) {
        (usize::from(self.starts[slot]), usize::from(self.starts[slot + 1]))
    }

    pub(super) fn get(&self, slot: usize) -> List<'_, T> {
        let (from, to) = self.bounds(slot);
        if from == to && !self.long.is_empty() {
            let found = self.long.iter().find(|(of, _)| *of == slot);
            return found.map_or(List::Short(&[]), |(_, long)| List::Long(long));
        }
        List::Short(&self.items[from..to])
    }

    fn long_mut(&mut self, slot: usize) -> Option<&mut Long<T>> {
        self.long.iter_mut().find(|(of, _)| *of == slot).map(|(_, long)| long)
    }

    /// Builds the lists of the first slots.
    pub(super) fn of<'a>(lists: impl Iterator<Item = &'a [T]> + Clone) -> Self
    where
        T: 'a,
    {
        let is_short = |list: &&[T]| list.len() <= LONGEST;
        let mut made = Self::default();
        made.items.reserve_exact(lists.clone().filter(is_short).map(<[T]>::len).sum());
        let mut filled = 0;
        for (slot, list) in lists.enumerate() {
            if is_short(&list) {
                made.items.extend_from_slice(list);
            } else {
                made.long.push((slot, list.iter().copied().collect()));
            }
            filled = slot + 1;
            made.starts[filled] = u16::try_from(made.items.len()).unwrap_or(u16::MAX);
        }
        let end = made.starts[filled];
        made.starts[filled..].fill(end);
        made
    }

    pub(super) fn push(&mut self, slot: usize, item: T) {
        self.insert(slot, self.get(slot).len(), item);
    }

    /// Inserts before the item at `at`.
    pub(super) fn insert(&mut self, slot: usize, at: usize, item: T) {
        if let Some(long) = self.long_mut(slot) {
            return long.insert(at, item);
        }
        let (from, to) = self.bounds(slot);
        if to - from == LONGEST {
            let mut items = self.take(slot);
            items.insert(at, item);
            self.long.push((slot, items.into_iter().collect()));
            return;
        }
        if self.items.len() == self.items.capacity() {
            self.items.reserve_exact(with_room(self.items.len()) - self.items.len());
        }
        self.items.insert(from + at, item);
        self.starts[slot + 1..].iter_mut().for_each(|start| *start += 1);
    }

    /// Removes the items of a short list from the page.
    fn take(&mut self, slot: usize) -> Vec<T> {
        let (from, to) = self.bounds(slot);
        let count = self.starts[slot + 1] - self.starts[slot];
        self.starts[slot + 1..].iter_mut().for_each(|start| *start -= count);
        self.items.drain(from..to).collect()
    }

    /// Replaces the item at `at`.
    pub(super) fn set(&mut self, slot: usize, at: usize, item: T) {
        let (from, to) = self.bounds(slot);
        if let Some(long) = self.long_mut(slot) {
            long.set(at, item);
        } else if let Some(place) = self.items[from..to].get_mut(at) {
            *place = item;
        }
    }

    /// Keeps the items for which `keep` returns true, in their order.
    pub(super) fn retain(&mut self, slot: usize, mut keep: impl FnMut(T) -> bool) {
        if let Some(long) = self.long_mut(slot) {
            *long = long.iter().filter(|item| keep(*item)).collect();
            return;
        }
        for item in self.take(slot) {
            if keep(item) {
                self.push(slot, item);
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let long: usize = self.long.iter().map(|(_, long)| long.heap_bytes()).sum();
        self.items.capacity() * size_of::<T>() + self.long.capacity() * size_of::<(usize, Long<T>)>() + long
    }
}

/// One list, for reading.
#[derive(Debug, Clone, Copy)]
pub(super) enum List<'a, T> {
    Short(&'a [T]),
    Long(&'a Long<T>),
}

impl<'a, T: Copy> List<'a, T> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Short(items) => items.len(),
            Self::Long(long) => long.len,
        }
    }

    pub(super) fn is_long(self) -> bool {
        matches!(self, Self::Long(_))
    }

    pub(super) fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(self, at: usize) -> Option<T> {
        match self {
            Self::Short(items) => items.get(at).copied(),
            Self::Long(long) => (at < long.len).then(|| long.chunks.get(at / CHUNK)[at % CHUNK]),
        }
    }

    /// The list as slices, for tight loops.
    pub(super) fn chunks(self) -> impl Iterator<Item = &'a [T]> + Clone {
        (0..).map_while(move |chunk| match self {
            Self::Short(items) => (chunk == 0).then_some(items),
            Self::Long(long) => (chunk * CHUNK < long.len).then(|| long.chunks.get(chunk).as_slice()),
        })
    }

    pub(super) fn iter(self) -> impl Iterator<Item = T> + Clone + 'a {
        self.chunks().flatten().copied()
    }

    /// Number of leading items for which `is_front` holds, in a list sorted by it.
    pub(super) fn partition_point(self, mut is_front: impl FnMut(T) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            if self.get(middle).is_some_and(&mut is_front) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }
}

/// A list too long for its page.
#[derive(Debug, Clone)]
pub(super) struct Long<T> {
    chunks: Pages<Vec<T>>,
    len: usize,
}

impl<T: Copy> Long<T> {
    fn iter(&self) -> impl Iterator<Item = T> {
        List::Long(self).iter()
    }

    fn push(&mut self, item: T) {
        let chunk = self.len / CHUNK;
        self.chunks.reach(chunk);
        self.chunks.get_mut(chunk).push(item);
        self.len += 1;
    }

    /// Inserts an item. At the end this is cheap; elsewhere all following items move.
    fn insert(&mut self, at: usize, item: T) {
        if at >= self.len {
            return self.push(item);
        }
        let mut items: Vec<T> = self.iter().collect();
        items.insert(at, item);
        *self = items.into_iter().collect();
    }

    fn set(&mut self, at: usize, item: T) {
        if at < self.len {
            self.chunks.get_mut(at / CHUNK)[at % CHUNK] = item;
        }
    }

    fn heap_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>() + size_of::<Vec<T>>()).sum()
    }
}

impl<T: Copy> FromIterator<T> for Long<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut long = Self { chunks: Pages::default(), len: 0 };
        items.into_iter().for_each(|item| long.push(item));
        long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lists: &Lists<u32>, slot: usize) -> Vec<u32> {
        lists.get(slot).iter().collect()
    }

    /// Every operation against a `Vec`, short and long, with neighbours.
    #[test]
    fn lists_match_a_plain_vector() {
        let mut lists = Lists::default();
        let mut plain = vec![Vec::new(); 3];
        for number in 0_u32..9000 {
            let which = usize::try_from(number % 7 % 3).unwrap();
            let len = plain[which].len();
            let at = if number % 5 == 0 { len / 2 } else { len };
            lists.insert(which * 100, at, number);
            plain[which].insert(at, number);
            if number % 1000 == 999 {
                lists.retain(which * 100, |item| item % 3 != 0);
                plain[which].retain(|item| item % 3 != 0);
                lists.set(which * 100, 1, number);
                plain[which][1] = number;
            }
            if number % 500 < 2 {
                for (which, plain) in plain.iter().enumerate() {
                    assert_eq!(&all(&lists, which * 100), plain, "after {number}");
                    assert_eq!(lists.get(which * 100).get(plain.len() / 2), plain.get(plain.len() / 2).copied());
                }
            }
        }
        assert!(lists.get(1).is_empty() && lists.get(PAGE - 1).is_empty());
        assert_eq!(lists.long.len(), 3);
    }

    #[test]
    fn lists_can_be_made_at_once() {
        let lengths = [0, 3, LONGEST, LONGEST + 1, 0, 5000, 2];
        let plain: Vec<Vec<u32>> =
            lengths.iter().map(|length| (0..u32::try_from(*length).unwrap()).collect()).collect();
        let mut lists = Lists::of(plain.iter().map(Vec::as_slice));
        for (slot, list) in plain.iter().enumerate() {
            assert_eq!((&all(&lists, slot), lists.get(slot).is_long()), (list, list.len() > LONGEST));
        }
        lists.push(6, 9);
        lists.push(200, 8);
        lists.push(2, 7);
        assert_eq!((all(&lists, 6), all(&lists, 200)), (vec![0, 1, 9], vec![8]));
        assert!(lists.get(2).is_long() && lists.get(7).is_empty());
        assert!(all(&Lists::of(std::iter::empty()), 0).is_empty());
    }

    #[test]
    fn sorted_lists_are_searched() {
        let mut lists = Lists::default();
        for number in 0..5000 {
            lists.push(7, number * 2);
        }
        for bound in [0, 1, 2, 4999, 9998, 20_000] {
            let expected = (0..5000).filter(|number| number * 2 < bound).count();
            assert_eq!(lists.get(7).partition_point(|item| item < bound), expected);
        }
    }
}
