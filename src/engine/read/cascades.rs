//! Summaries of cascades.

use std::collections::BTreeSet;

use crate::engine::api::{CascadeStep, CascadeSummary};
use crate::engine::shared::{named_by, statements_in};
use crate::lineage::{Graph, since_last_clear};
use crate::store::{self, Cause, View};
use crate::task::Seq;

/// Returns a cascade with at most `limit` of its steps after `after`; `None`: there
/// is no such cascade.
pub(in crate::engine) fn summary(
    view: &View,
    graph: &Graph,
    cascade_id: &str,
    after: Seq,
    limit: usize,
) -> Result<Option<CascadeSummary>, store::Error> {
    let (mut steps, mut stating, mut next, mut count) = (Vec::new(), BTreeSet::new(), None, 0);
    for seq in view.cascade_steps(cascade_id, Seq(0))? {
        let Some(row) = view.cascade(seq)? else { continue };
        count += 1;
        if matches!(row.cause, Cause::Said { .. } | Cause::Rollback { .. }) {
            stating.insert(seq);
        }
        if seq <= after {
            continue;
        }
        if steps.len() == limit {
            next = next.or_else(|| steps.last().map(|step: &CascadeStep| step.seq));
            continue;
        }
        let changes = view.step_changes(seq)?;
        let named = changes.iter().filter(|change| change.depth == 0).count();
        let flags = changes.iter().filter(|change| change.from != change.to).count();
        steps.push(CascadeStep { seq, row, named, flags });
    }
    if count == 0 {
        return Ok(None);
    }
    let mut standing = 0;
    for id in named_by(view, &stating)? {
        let statements = statements_in(view, graph, id)?;
        standing += since_last_clear(&statements).iter().filter(|statement| stating.contains(&statement.step)).count();
    }
    let mut invalidated = Vec::new();
    for step in &stating {
        let row = view.rollback(*step)?.filter(|row| !row.is_undone);
        invalidated.extend(row.into_iter().flat_map(|row| row.invalidated));
    }
    Ok(Some(CascadeSummary { steps, next, count, standing, invalidated }))
}
