//! Pages that several versions of the graph share.
//!
//! A tree with a small fan-out. A copy of the whole costs one reference count. A change copies the
//! page that it touches and the few pointers above it, unless no other version holds them: then it
//! writes in place. Copying a pointer costs the reference count behind it, which is most likely in
//! no cache, so the fan-out is small.

use std::sync::Arc;

/// Rows in a page.
pub(super) const PAGE: usize = 256;

/// Pages of a twig, and twigs of a branch.
const FAN: usize = 16;

type Twig<P> = Arc<[Arc<P>; FAN]>;
type Branch<P> = Arc<[Twig<P>; FAN]>;

/// An index as a `usize`. Indices have 32 bits to keep edges small.
pub(super) fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The page of a row, and the row's slot in it.
pub(super) fn split(index: u32) -> (usize, usize) {
    let place = place(index);
    (place / PAGE, place % PAGE)
}

/// Shared pages, numbered from zero.
#[derive(Debug, Clone)]
pub(super) struct Pages<P> {
    branches: Arc<Vec<Branch<P>>>,
}

impl<P> Default for Pages<P> {
    fn default() -> Self {
        Self { branches: Arc::new(Vec::new()) }
    }
}

impl<P: Clone + Default> Pages<P> {
    /// Makes sure that `page` exists; a new one is empty.
    pub(super) fn reach(&mut self, page: usize) {
        while self.branches.len() * FAN * FAN <= page {
            let empty = Arc::new(P::default());
            let twig: Twig<P> = Arc::new(std::array::from_fn(|_| Arc::clone(&empty)));
            let branch = Arc::new(std::array::from_fn(|_| Arc::clone(&twig)));
            Arc::make_mut(&mut self.branches).push(branch);
        }
    }

    pub(super) fn get(&self, page: usize) -> &P {
        &self.branches[page / (FAN * FAN)][page / FAN % FAN][page % FAN]
    }

    /// The page for changing: a copy if another version of the graph also holds it.
    pub(super) fn get_mut(&mut self, page: usize) -> &mut P {
        let branch = Arc::make_mut(&mut Arc::make_mut(&mut self.branches)[page / (FAN * FAN)]);
        let twig = Arc::make_mut(&mut branch[page / FAN % FAN]);
        Arc::make_mut(&mut twig[page % FAN])
    }

    /// All pages that exist, and empty ones after the last.
    pub(super) fn iter(&self) -> impl Iterator<Item = &P> {
        let twigs = self.branches.iter().flat_map(|branch| branch.iter());
        twigs.flat_map(|twig| twig.iter().map(AsRef::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut pages = Pages::<Vec<u32>>::default();
        pages.reach(1000);
        pages.get_mut(3).push(1);
        let copy = pages.clone();
        pages.get_mut(3).push(2);
        pages.get_mut(1000).push(3);
        assert_eq!((copy.get(3), copy.get(1000)), (&vec![1], &Vec::new()));
        assert_eq!((pages.get(3), pages.get(1000)), (&vec![1, 2], &vec![3]));
        assert!(std::ptr::eq(copy.get(4), pages.get(4)));
    }
}
