//! Pages of dead letters.

use crate::engine::api::{DeadLetterFilter, DeadLetterPage};
use crate::store::{self, PageBudget, View};

/// Most dead letters that one page looks at. A page that stops there is marked as
/// truncated.
const MAX_LOOKED_AT: usize = 20_000;
/// Most bytes of dead letters that one page looks at, likewise.
const MAX_BYTES_LOOKED_AT: usize = 32 * 1024 * 1024;

/// Returns the dead letters that match a filter, newest first, before a number.
pub(in crate::engine) fn page(
    view: &View,
    filter: &DeadLetterFilter,
    before: Option<u64>,
    limit: usize,
) -> Result<DeadLetterPage, store::Error> {
    let mut page = DeadLetterPage { entries: Vec::new(), next: None, truncated: false };
    let (mut budget, mut count, mut bytes) = (PageBudget::new(limit), 0, 0);
    let mut last = None;
    for row in view.dead_letters_before(before)? {
        let (number, letter) = row?;
        let is_over = count >= MAX_LOOKED_AT || bytes >= MAX_BYTES_LOOKED_AT;
        let is_match = filter.matches(&letter);
        let size = letter.raw.len() + letter.reason.len();
        if is_over || is_match && !budget.admit(size) {
            page.next = last;
            page.truncated = is_over || budget.is_truncated();
            break;
        }
        count += 1;
        bytes += size;
        last = Some(number);
        if is_match {
            page.entries.push((number, letter));
        }
    }
    Ok(page)
}
