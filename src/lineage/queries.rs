//! Queries of one version of the graph.

use super::cancellation::{CancelWhen, NeverCancelled};
use super::graph::Graph;

/// Queries of one version of the graph that `cancellation` can end early.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a, C> {
    pub(super) graph: &'a Graph,
    pub(super) cancellation: C,
}

impl Graph {
    /// Queries that are cancelled once `stop` returns true.
    pub fn cancellable<F: Fn() -> bool>(&self, stop: F) -> Queries<'_, CancelWhen<F>> {
        Queries { graph: self, cancellation: CancelWhen(stop) }
    }

    pub(super) fn queries(&self) -> Queries<'_, NeverCancelled> {
        Queries { graph: self, cancellation: NeverCancelled }
    }
}
