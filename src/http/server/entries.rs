//! The entries of a page of a list, rendered one by one until the page is full.
//!
//! The bytes of rows are counted when they are read (`store/page.rs`), but the JSON
//! of a row can be larger than the row: a control character in a text takes six
//! bytes. So the rendered bytes are counted as well.

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::store::PageBudget;

/// The rendered entries of a page: about [`crate::store::PAGE_BYTES`] bytes at most.
#[derive(Debug)]
pub(in crate::http) struct Entries {
    rendered: Vec<Box<RawValue>>,
    budget: PageBudget,
}

impl Entries {
    /// Begins a page of at most `limit` entries.
    pub(in crate::http) const fn new(limit: usize) -> Self {
        Self { rendered: Vec::new(), budget: PageBudget::new(limit) }
    }

    /// Renders an entry. Returns `false` if the page is full and ends before it.
    pub(in crate::http) fn push(&mut self, entry: &impl Serialize) -> bool {
        // Our own types have only text keys and finite numbers.
        let Ok(rendered) = to_raw_value(entry) else { return true };
        let fits = self.budget.admit(rendered.get().len());
        if fits {
            self.rendered.push(rendered);
        }
        fits
    }

    /// Renders entries until the page is full. Returns how many are on the page.
    pub(in crate::http) fn fill(&mut self, entries: impl IntoIterator<Item = impl Serialize>) -> usize {
        entries.into_iter().take_while(|entry| self.push(entry)).count()
    }

    /// Like [`Self::fill`], for entries that may no longer exist: `None` takes no
    /// space on the page, but is counted.
    pub(in crate::http) fn fill_known<T: Serialize>(&mut self, entries: impl IntoIterator<Item = Option<T>>) -> usize {
        let fits = |entry: &Option<T>| entry.as_ref().is_none_or(|entry| self.push(entry));
        entries.into_iter().take_while(fits).count()
    }

    /// The number of entries on the page.
    pub(in crate::http) fn len(&self) -> usize {
        self.rendered.len()
    }

    /// Whether the page ended before its limit, because of its bytes.
    pub(in crate::http) const fn is_truncated(&self) -> bool {
        self.budget.is_truncated()
    }
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rendered.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PAGE_BYTES;

    #[test]
    fn rendered_bytes_are_counted() {
        let mut entries = Entries::new(1000);
        // 64 KiB of text are 384 KiB of JSON.
        let text = "\u{1}".repeat(64 << 10);
        let pushed = (0..9).take_while(|_| entries.push(&text)).count();
        assert_eq!((pushed, entries.len(), entries.is_truncated()), (2, 2, true));
        let json = serde_json::to_string(&entries).unwrap();
        assert!(json.len() < PAGE_BYTES && json.starts_with("[\"\\u0001"));
    }

    #[test]
    fn a_first_entry_of_any_size_fits() {
        let mut entries = Entries::new(2);
        assert!(entries.push(&"x".repeat(3 << 20)));
        assert!(!entries.push(&"y"));
        let mut entries = Entries::new(2);
        assert!(entries.push(&1) && entries.push(&2) && !entries.push(&3) && !entries.is_truncated());
    }
}
