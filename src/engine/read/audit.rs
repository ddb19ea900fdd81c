//! Pages of the audit trail of flags.

use std::sync::Arc;

use super::side::ReadSide;
use crate::engine::api::{AuditEntry, AuditFilter, AuditPage, AuditPlace};
use crate::lineage::{Graph, Node};
use crate::store::{self, CascadeRow, Cause, ImportedEvent, PageBudget};
use crate::task::{ArtifactId, Seq};

/// Most entries that one page looks at. A page that stops there is marked as truncated.
const MAX_LOOKED_AT: usize = 500_000;

/// About how many bytes an entry takes of a response, apart from its texts.
const ENTRY_BYTES: usize = 400;

/// Returns the entries that match a filter, from a place on.
pub(in crate::engine) fn page(
    side: &ReadSide,
    filter: &AuditFilter,
    from: Option<AuditPlace>,
    limit: usize,
) -> Result<AuditPage, store::Error> {
    let graph = side.graph();
    let wanted = filter.steps(&graph);
    let mut page = AuditPage { entries: Vec::new(), next: None, truncated: false };
    let (mut looked_at, mut budget) = (0, PageBudget::new(limit));
    let before = from.map(|from| from.step.next());
    let view = side.store.view()?;
    for row in view.cascades(before)? {
        let (step, cascade) = row?;
        let cascade = Arc::new(cascade);
        if looked_at >= MAX_LOOKED_AT {
            page.next = Some(AuditPlace { step, index: 0 });
            page.truncated = true;
            return Ok(page);
        }
        if filter.cascade.as_ref().is_some_and(|id| cascade.cascade_id != *id) {
            looked_at += 1;
            continue;
        }
        let skip = from.filter(|from| from.step == step).map_or(0, |from| from.index);
        let (mut found, mut next) = (Vec::new(), None);
        for (index, change) in view.step_changes(step)?.into_iter().enumerate().skip(skip) {
            let is_wanted = wanted.as_ref().is_none_or(|wanted| wanted.contains(&change.record));
            let is_full = page.entries.len() + found.len() == limit || looked_at >= MAX_LOOKED_AT;
            if is_full || is_wanted && !budget.admit(own_bytes(&cascade)) {
                next = Some(AuditPlace { step, index });
                break;
            }
            looked_at += 1;
            if is_wanted {
                found.push((AuditPlace { step, index }, change));
            }
        }
        let (places, changes): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        for (place, change) in places.into_iter().zip(view.with_record_ids(&changes)?) {
            page.entries.push(AuditEntry::Own { place, cascade: cascade.clone(), change });
        }
        if next.is_some() {
            page.next = next;
            page.truncated = page.entries.len() < limit;
            return Ok(page);
        }
    }
    let from = from.filter(|from| from.step == Seq(0)).map_or(u64::MAX, |from| number(from.index));
    for event in side.store.view()?.imported_events_from(from)? {
        let (number, event) = event?;
        let is_wanted = filter.matches(&event);
        let is_full = page.entries.len() == limit || looked_at >= MAX_LOOKED_AT;
        if is_full || is_wanted && !budget.admit(ENTRY_BYTES + event.original.len()) {
            page.next = Some(AuditPlace::of_imported(number));
            page.truncated = page.entries.len() < limit;
            break;
        }
        looked_at += 1;
        if is_wanted {
            page.entries.push(AuditEntry::Imported { number, event: Box::new(event) });
        }
    }
    Ok(page)
}

/// Returns about how many bytes an entry of this service takes of a response.
fn own_bytes(cascade: &CascadeRow) -> usize {
    let why = match &cascade.cause {
        Cause::Rollback { why, .. } => why.len(),
        Cause::Said { .. }
        | Cause::Arrival(_)
        | Cause::Verdict(_)
        | Cause::Import(_)
        | Cause::Upgrade
        | Cause::Undo => 0,
    };
    ENTRY_BYTES + cascade.reason.len() + why
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}

impl AuditFilter {
    /// Returns the steps that added the records that the filter names; `None`: it names none.
    fn steps(&self, graph: &Graph) -> Option<Vec<Seq>> {
        let of_record = self.record.map(|record| Vec::from_iter(graph.find(record)));
        let of_artifact = self.artifact.as_ref().map(|artifact| producers(graph, artifact));
        let nodes = match (of_record, of_artifact) {
            (Some(record), Some(producers)) => record.into_iter().filter(|node| producers.contains(node)).collect(),
            (of_record, of_artifact) => of_record.or(of_artifact)?,
        };
        Some(nodes.into_iter().filter_map(|node| graph.position_of(node)).collect())
    }

    fn matches(&self, event: &ImportedEvent) -> bool {
        self.artifact.as_ref().is_none_or(|artifact| event.artifact.as_ref() == Some(artifact))
            && self.record.is_none_or(|record| event.record == Some(record))
            && self.cascade.as_ref().is_none_or(|cascade| event.cascade == *cascade)
    }
}

fn producers(graph: &Graph, artifact: &ArtifactId) -> Vec<Node> {
    graph.find_artifact(artifact).into_iter().flat_map(|artifact| graph.producers(artifact)).collect()
}
