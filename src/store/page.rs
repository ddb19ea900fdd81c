//! Pages of rows. A page ends after a number of entries or bytes, whichever comes first. Rows are
//! counted before they are decoded, so that a reader never holds more than one page and one row.

use std::ops::Bound;

use redb::{AccessGuard, Key, ReadOnlyTable, ReadableTable as _, StorageError, Value};

use super::{Error, tables};

/// Size of the rows of a page, in bytes.
pub const PAGE_BYTES: usize = 1 << 20;

/// The remaining room of a page. The first entry always finds room, because a list could otherwise
/// never get past an entry larger than a page.
#[derive(Debug, Clone, Copy)]
pub struct PageBudget {
    entries: usize,
    bytes: usize,
    is_empty: bool,
    is_truncated: bool,
}

impl PageBudget {
    /// No limit, for checks that read a whole table.
    pub const UNLIMITED: Self = Self::with_bytes(usize::MAX, usize::MAX);

    /// Room for `entries` entries of [`PAGE_BYTES`] in all.
    #[must_use]
    pub const fn new(entries: usize) -> Self {
        Self::with_bytes(entries, PAGE_BYTES)
    }

    /// Room for `entries` entries of `bytes` in all.
    #[must_use]
    pub const fn with_bytes(entries: usize, bytes: usize) -> Self {
        Self { entries, bytes, is_empty: true, is_truncated: false }
    }

    /// Takes room for an entry. Returns false if the page ends before it.
    pub const fn admit(&mut self, bytes: usize) -> bool {
        if self.entries == 0 {
            return false;
        }
        if bytes > self.bytes && !self.is_empty {
            self.is_truncated = true;
            return false;
        }
        self.entries -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_empty = false;
        true
    }

    /// Whether an entry was refused because of its size.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.is_truncated
    }
}

impl From<usize> for PageBudget {
    fn from(entries: usize) -> Self {
        Self::new(entries)
    }
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The entries, in the order of the list.
    pub entries: Vec<T>,
    /// Whether the list has entries after these.
    pub has_more: bool,
    /// Whether the page ended by its bytes before its number of entries.
    pub is_truncated: bool,
}

impl<T> Page<T> {
    /// The last of the first `shown` entries if the list continues after it. The next page begins
    /// after this entry.
    #[must_use]
    pub fn after(&self, shown: usize) -> Option<&T> {
        let has_more = self.has_more || shown < self.entries.len();
        self.entries.get(..shown)?.last().filter(|_| has_more)
    }

    /// A page without entries at the end of a list.
    pub(super) const fn empty() -> Self {
        Self { entries: Vec::new(), has_more: false, is_truncated: false }
    }

    /// Takes room for an entry. If there is none, records that the page ends before it and returns
    /// false.
    pub(super) const fn has_room(&mut self, budget: &mut PageBudget, bytes: usize) -> bool {
        let fits = budget.admit(bytes);
        if !fits {
            self.has_more = true;
            self.is_truncated = budget.is_truncated();
        }
        fits
    }
}

/// Reads rows until the page ends.
pub(super) fn read_page<'a, K: Key + 'static, T>(
    rows: impl Iterator<Item = Result<(AccessGuard<'a, K>, AccessGuard<'a, tables::Bytes>), StorageError>>,
    mut budget: PageBudget,
    read: impl Fn(K::SelfType<'_>, &[u8]) -> Result<T, Error>,
) -> Result<Page<T>, Error> {
    let mut page = Page::empty();
    for row in rows {
        let (key, value) = row?;
        let bytes = value.value();
        if !page.has_room(&mut budget, bytes.len()) {
            break;
        }
        page.entries.push(read(key.value(), bytes)?);
    }
    Ok(page)
}

/// Up to `limit` ids after one of them, in the order of the table.
pub(super) fn ids_after<V: Value + 'static>(
    table: &ReadOnlyTable<tables::Id, V>,
    after: Option<[u8; 16]>,
    limit: usize,
) -> Result<Vec<[u8; 16]>, Error> {
    let rows = match &after {
        Some(after) => table.range::<&[u8; 16]>((Bound::Excluded(after), Bound::Unbounded))?,
        None => table.iter()?,
    };
    rows.take(limit).map(|row| Ok(*row?.0.value())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(mut budget: PageBudget, sizes: &[usize]) -> (usize, bool) {
        let count = sizes.iter().take_while(|size| budget.admit(**size)).count();
        (count, budget.is_truncated())
    }

    #[test]
    fn a_page_ends_by_entries_or_by_bytes() {
        assert_eq!(admitted(PageBudget::with_bytes(2, 100), &[10, 10, 10]), (2, false));
        assert_eq!(admitted(PageBudget::with_bytes(9, 100), &[60, 40, 1]), (2, true));
        assert_eq!(admitted(PageBudget::with_bytes(9, 100), &[60, 41]), (1, true));
        assert_eq!(admitted(PageBudget::with_bytes(9, 100), &[60, 40]), (2, false));
    }

    #[test]
    fn the_first_entry_always_finds_room() {
        assert_eq!(admitted(PageBudget::with_bytes(9, 100), &[101, 0, 1]), (2, true));
        assert_eq!(admitted(PageBudget::with_bytes(0, 100), &[1]), (0, false));
    }
}
