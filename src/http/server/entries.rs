//! The entries of a list's page, rendered one by one until the page is full.
//!
//! Rows are counted when they are read (`store/page.rs`), but JSON can be
//! larger than the row it comes from: each control character in a text takes
//! six bytes. So what is rendered is counted as well.

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::store::PageBudget;

/// Rendered entries, at most about [`crate::store::PAGE_BYTES`] of them.
#[derive(Debug)]
pub(in crate::http) struct Entries {
    rendered: Vec<Box<RawValue>>,
    budget: PageBudget,
}

impl Entries {
    /// Room for a page of `limit` entries.
    pub(in crate::http) const fn new(limit: usize) -> Self {
        Self { rendered: Vec::new(), budget: PageBudget::new(limit) }
    }

    /// Adds an entry; `false`: the page is full, and ends before it.
    pub(in crate::http) fn push(&mut self, entry: &impl Serialize) -> bool {
        // Our own types have only text keys and finite numbers.
        let Ok(rendered) = to_raw_value(entry) else { return true };
        let fits = self.budget.admit(rendered.get().len());
        if fits {
            self.rendered.push(rendered);
        }
        fits
    }

    /// Adds entries until the page is full; how many found room.
    pub(in crate::http) fn take(&mut self, entries: impl IntoIterator<Item = impl Serialize>) -> usize {
        entries.into_iter().take_while(|entry| self.push(entry)).count()
    }

    /// The same of entries that may be unknown by now: those take no room.
    pub(in crate::http) fn take_known<T: Serialize>(&mut self, entries: impl IntoIterator<Item = Option<T>>) -> usize {
        let fits = |entry: &Option<T>| entry.as_ref().is_none_or(|entry| self.push(entry));
        entries.into_iter().take_while(fits).count()
    }

    /// How many there are.
    pub(in crate::http) fn len(&self) -> usize {
        self.rendered.len()
    }

    /// Whether an entry was turned away because of its bytes.
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
    fn what_is_rendered_is_counted() {
        let mut entries = Entries::new(1000);
        // 64 KiB of text are 384 KiB of JSON.
        let text = "\u{1}".repeat(64 << 10);
        let pushed = (0..9).take_while(|_| entries.push(&text)).count();
        assert_eq!((pushed, entries.len(), entries.is_truncated()), (2, 2, true));
        let json = serde_json::to_string(&entries).unwrap();
        assert!(json.len() < PAGE_BYTES && json.starts_with("[\"\\u0001"));
    }

    #[test]
    fn a_first_entry_of_any_size_and_a_limit_are_kept() {
        let mut entries = Entries::new(2);
        assert!(entries.push(&"x".repeat(3 << 20)));
        assert!(!entries.push(&"y"));
        let mut entries = Entries::new(2);
        assert!(entries.push(&1) && entries.push(&2) && !entries.push(&3) && !entries.is_truncated());
    }
}
