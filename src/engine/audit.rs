//! The audit trail of all flags, one entry for each record that a taint, a
//! mark or a clear has changed.

use std::sync::Arc;

use super::api::Error;
use super::handle::Engine;
use super::read::ReadSide;
use crate::lineage::{Graph, Node};
use crate::store::{self, CascadeRow, Cause, ChangeRow, ImportedEvent, PageBudget};
use crate::task::{ArtifactId, RecordId, Seq};

/// Most entries that one page looks at; a page that stops here says so.
const MAX_LOOKED_AT: usize = 500_000;

/// What an entry takes of an answer beside its texts, about.
const ENTRY_BYTES: usize = 400;

/// Which entries to list; every field narrows.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of records that name this artifact as an output.
    pub artifact: Option<ArtifactId>,
    /// Of this record.
    pub record: Option<RecordId>,
    /// Of this cascade.
    pub cascade: Option<String>,
}

/// An entry's place in the trail: the step, and its place in there. Imported
/// events come after all steps, at step zero, each with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPlace {
    /// The step.
    pub step: Seq,
    /// The place among the changes of the step.
    pub index: usize,
}

/// An entry of the trail.
#[derive(Debug, Clone)]
pub enum AuditEntry {
    /// What was done here.
    Own {
        /// Where it stands.
        place: AuditPlace,
        /// The step that made the change.
        cascade: Arc<CascadeRow>,
        /// The change.
        change: ChangeRow,
    },
    /// What was done elsewhere.
    Imported {
        /// The number of the event.
        number: u64,
        /// The event, as it came.
        event: Box<ImportedEvent>,
    },
}

impl AuditEntry {
    /// Where it stands in the trail.
    #[must_use]
    pub fn place(&self) -> AuditPlace {
        match self {
            Self::Own { place, .. } => *place,
            Self::Imported { number, .. } => AuditPlace::of_imported(*number),
        }
    }
}

impl AuditPlace {
    fn of_imported(number: u64) -> Self {
        Self { step: Seq(0), index: usize::try_from(number).unwrap_or(usize::MAX) }
    }
}

/// A page of the trail, the newest step first; within a step what is nearest
/// to where it began.
#[derive(Debug, Clone)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins.
    pub next: Option<AuditPlace>,
    /// The page ends before its number of entries: it is full of bytes, or the
    /// search stopped before it had looked at the whole trail.
    pub truncated: bool,
}

impl Engine {
    /// The audit trail from a place on.
    pub async fn audit(&self, filter: AuditFilter, from: Option<AuditPlace>, limit: usize) -> Result<AuditPage, Error> {
        self.read(move |side| page(side, &filter, from, limit)).await
    }
}

fn page(
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
        for (place, change) in places.into_iter().zip(view.named(&changes)?) {
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
        let is_wanted = filter.fits(&event);
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

/// What an entry of our own takes of an answer, about.
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
    /// The steps that brought the records that entries are wanted of; `None`: of all.
    fn steps(&self, graph: &Graph) -> Option<Vec<Seq>> {
        let of_record = self.record.map(|record| Vec::from_iter(graph.find(record)));
        let of_artifact = self.artifact.as_ref().map(|artifact| producers(graph, artifact));
        let nodes = match (of_record, of_artifact) {
            (Some(record), Some(producers)) => record.into_iter().filter(|node| producers.contains(node)).collect(),
            (of_record, of_artifact) => of_record.or(of_artifact)?,
        };
        Some(nodes.into_iter().filter_map(|node| graph.brought_by(node)).collect())
    }

    fn fits(&self, event: &ImportedEvent) -> bool {
        self.artifact.as_ref().is_none_or(|artifact| event.artifact.as_ref() == Some(artifact))
            && self.record.is_none_or(|record| event.record == Some(record))
            && self.cascade.as_ref().is_none_or(|cascade| event.cascade == *cascade)
    }
}

fn producers(graph: &Graph, artifact: &ArtifactId) -> Vec<Node> {
    graph.find_artifact(artifact).into_iter().flat_map(|artifact| graph.producers(artifact)).collect()
}
