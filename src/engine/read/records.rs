//! Pages of provenance records. The graph decides first; a row is read only where
//! the graph is not enough.

use super::side::ReadSide;
use crate::engine::api::{RecordFilter, RecordPage};
use crate::lineage::{Flag, Graph, Project, RecordState};
use crate::store::{self, PageBudget, Record, RecordPlace, View};

/// Most records that one page looks at. A page that stops there is marked as truncated.
const MAX_LOOKED_AT: usize = 200_000;

/// Most records of a task that are sorted for a page. For a task with more, the list
/// of all records is searched. (All records without a task count as of one task.)
const MAX_SORTED: usize = 10_000;

/// Returns the records that match a filter, newest first, before a place.
pub(in crate::engine) fn page(
    side: &ReadSide,
    filter: &RecordFilter,
    before: Option<RecordPlace>,
    limit: usize,
) -> Result<RecordPage, store::Error> {
    let graph = side.graph();
    let view = side.store.view()?;
    let mut page = RecordPage { records: Vec::new(), next: None, total: None, truncated: false };
    let project = filter.project.as_ref().map(|project| graph.find_project(project));
    if project == Some(None) {
        page.total = Some(0);
        return Ok(page);
    }
    let project = project.flatten();
    page.total = (!filter.needs_row()).then(|| filter.total(&graph, project));
    let (mut last, mut budget) = (None, PageBudget::new(limit));
    for (looked_at, place) in places(&view, &graph, filter, before)?.enumerate() {
        let place = place?;
        if page.records.len() == limit || looked_at == MAX_LOOKED_AT {
            page.next = last;
            page.truncated = page.records.len() < limit;
            break;
        }
        // A record that the graph lacks is not published yet.
        let known = graph.find(place.id()).and_then(|node| graph.record(node));
        if let Some(known) = known.filter(|known| filter.matches_node(known, project))
            && let Some((record, bytes)) = view.sized_record(place.id())?
            && filter.matches_row(&record)
        {
            if !budget.admit(bytes) {
                page.next = last;
                page.truncated = true;
                break;
            }
            page.records.push((place, record, known));
        }
        last = Some(place);
    }
    Ok(page)
}

type Places = Box<dyn Iterator<Item = Result<RecordPlace, store::Error>>>;

/// Returns the places of the records that may match, newest first.
fn places(
    view: &View,
    graph: &Graph,
    filter: &RecordFilter,
    before: Option<RecordPlace>,
) -> Result<Places, store::Error> {
    if let Some(task) = filter.task {
        let of_task = view.records_of_task(task)?.take(MAX_SORTED + 1).collect::<Result<Vec<_>, _>>()?;
        if of_task.len() <= MAX_SORTED {
            let known = of_task.into_iter().filter_map(|id| graph.find(id).and_then(|node| graph.record(node)));
            let places = known.map(|known| RecordPlace::new(known.created_at, known.id));
            let mut places: Vec<_> = places.filter(|place| before.is_none_or(|before| *place < before)).collect();
            places.sort_unstable_by(|one, other| other.cmp(one));
            return Ok(Box::new(places.into_iter().map(Ok)));
        }
    }
    Ok(Box::new(view.records_by_time(filter.created_after, filter.created_before, before)?))
}

impl RecordFilter {
    /// Returns whether a record matches by its data in the graph. `project` is the
    /// filter's project there.
    fn matches_node(&self, known: &RecordState, project: Option<Project>) -> bool {
        project.is_none_or(|project| known.project == project)
            && self.task.is_none_or(|task| known.task == task)
            && self.status.is_none_or(|status| known.status == status)
            && self.tainted.is_none_or(|tainted| (known.flag == Flag::Tainted) == tainted)
            && self.suspect.is_none_or(|suspect| (known.flag == Flag::Suspect) == suspect)
            && self.created_after.is_none_or(|after| known.created_at >= after)
            && self.created_before.is_none_or(|before| known.created_at < before)
    }

    const fn needs_row(&self) -> bool {
        self.model.is_some() || self.tier.is_some() || self.domain.is_some()
    }

    fn matches_row(&self, record: &Record) -> bool {
        self.model.as_ref().is_none_or(|model| record.model_used.as_ref() == Some(model))
            && self.tier.as_ref().is_none_or(|tier| record.tier.as_ref() == Some(tier))
            && self.domain.as_ref().is_none_or(|domain| record.domain.as_ref() == Some(domain))
    }

    /// Counts the matching records of the graph, for a filter that needs no row.
    fn total(&self, graph: &Graph, project: Option<Project>) -> u64 {
        let known = graph.nodes().filter_map(|node| graph.record(node));
        let count = known.filter(|known| self.matches_node(known, project)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}
