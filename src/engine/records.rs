//! Provenance records in number and in pages: what the graph knows decides
//! first, rows are read only where that is not enough.

use super::api::Error;
use super::handle::Engine;
use super::plan::FlagCounts;
use super::read::ReadSide;
use crate::lineage::{Flag, Graph, Known, Project};
use crate::store::{self, PageBudget, Record, RecordPlace, View};
use crate::task::{Domain, ProjectId, RecordStatus, TaskId, Tier, Timestamp};

/// Most records that one page looks at; a page that stops here says so.
const MAX_LOOKED_AT: usize = 200_000;

/// Most records of a task that are sorted at once; of one with more, the list
/// of all records is gone through. Records without a task have one in common.
const MAX_SORTED: usize = 10_000;

/// The records of a project by flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordCounts {
    /// All.
    pub records: u64,
    /// The tainted ones.
    pub tainted: u64,
    /// The suspect ones.
    pub suspect: u64,
}

/// What is to be done about a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Too much of it is bad: go back to a checkpoint.
    Rollback,
    /// Look at it before it goes on.
    Pause,
    /// Go on.
    Continue,
}

impl Advice {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Pause => "pause",
            Self::Continue => "continue",
        }
    }
}

impl RecordCounts {
    pub(super) const fn add(&mut self) {
        self.records += 1;
    }

    /// A record with a flag goes elsewhere.
    pub(super) fn give_up(&mut self, flag: Flag) {
        self.records = self.records.saturating_sub(1);
        self.flag(flag, Flag::Clean);
    }

    /// Flags of several records have changed.
    pub(super) const fn change(&mut self, by: FlagCounts) {
        self.suspect = self.suspect.saturating_add_signed(by.suspect);
        self.tainted = self.tainted.saturating_add_signed(by.tainted);
    }

    pub(super) fn flag(&mut self, from: Flag, to: Flag) {
        let mut count = |flag, change: fn(u64) -> u64| match flag {
            Flag::Clean => {}
            Flag::Suspect => self.suspect = change(self.suspect),
            Flag::Tainted => self.tainted = change(self.tainted),
        };
        count(from, |count| count.saturating_sub(1));
        count(to, |count| count + 1);
    }

    /// Rollback when more than 30 % are tainted, pause when more than 20 are
    /// suspect or more than 5 tainted.
    #[must_use]
    pub const fn advice(&self) -> Advice {
        if self.tainted * 10 > self.records * 3 {
            Advice::Rollback
        } else if self.suspect > 20 || self.tainted > 5 {
            Advice::Pause
        } else {
            Advice::Continue
        }
    }
}

/// Which records to list; every field narrows.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Of this task.
    pub task: Option<TaskId>,
    /// With this verdict.
    pub status: Option<RecordStatus>,
    /// Tainted, or not.
    pub tainted: Option<bool>,
    /// Suspect, or not.
    pub suspect: Option<bool>,
    /// Made by this model.
    pub model: Option<String>,
    /// Made on this tier.
    pub tier: Option<Tier>,
    /// Of this kind.
    pub domain: Option<Domain>,
    /// Made at this time or later.
    pub created_after: Option<Timestamp>,
    /// Made before this time.
    pub created_before: Option<Timestamp>,
}

/// A page of records, newest first.
#[derive(Debug, Clone)]
pub struct RecordPage {
    /// The records, each with its place in the list and with what the graph
    /// knows of it.
    pub records: Vec<(RecordPlace, Record, Known)>,
    /// Where the next page begins: before this one.
    pub next: Option<RecordPlace>,
    /// How many match in all, where the graph alone can tell.
    pub total: Option<u64>,
    /// The page ends before its number of entries: it is full of bytes, or the
    /// search stopped before it had looked at every record.
    pub truncated: bool,
}

impl RecordFilter {
    /// What the graph can tell; `project` is the project's place in it.
    fn fits(&self, known: &Known, project: Option<Project>) -> bool {
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

    fn fits_row(&self, record: &Record) -> bool {
        self.model.as_ref().is_none_or(|model| record.model_used.as_ref() == Some(model))
            && self.tier.as_ref().is_none_or(|tier| record.tier.as_ref() == Some(tier))
            && self.domain.as_ref().is_none_or(|domain| record.domain.as_ref() == Some(domain))
    }

    fn total(&self, graph: &Graph, project: Option<Project>) -> u64 {
        let known = graph.nodes().filter_map(|node| graph.record(node));
        let count = known.filter(|known| self.fits(known, project)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

impl Engine {
    /// Provenance records, newest first, before one of them.
    pub async fn records(
        &self,
        filter: RecordFilter,
        before: Option<RecordPlace>,
        limit: usize,
    ) -> Result<RecordPage, Error> {
        self.read(move |side| page(side, &filter, before, limit)).await
    }
}

fn page(
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
        // A record that the graph does not know is not published yet.
        let known = graph.find(place.id()).and_then(|node| graph.record(node));
        if let Some(known) = known.filter(|known| filter.fits(known, project))
            && let Some((record, bytes)) = view.sized_record(place.id())?
            && filter.fits_row(&record)
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

/// The records that can fit, newest first.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_the_counts() {
        let advice = |records, tainted, suspect| RecordCounts { records, tainted, suspect }.advice();
        assert_eq!(advice(0, 0, 0), Advice::Continue);
        assert_eq!(advice(10, 3, 0), Advice::Continue);
        assert_eq!(advice(10, 4, 0), Advice::Rollback);
        assert_eq!(advice(100, 5, 20), Advice::Continue);
        assert_eq!(advice(100, 6, 0), Advice::Pause);
        assert_eq!(advice(100, 0, 21), Advice::Pause);
        assert_eq!(advice(100, 31, 21), Advice::Rollback);
    }

    #[test]
    fn counts_follow_flags() {
        let mut counts = RecordCounts::default();
        counts.add();
        counts.flag(Flag::Clean, Flag::Suspect);
        counts.flag(Flag::Suspect, Flag::Tainted);
        assert_eq!(counts, RecordCounts { records: 1, tainted: 1, suspect: 0 });
        counts.flag(Flag::Tainted, Flag::Clean);
        assert_eq!(counts, RecordCounts { records: 1, tainted: 0, suspect: 0 });
    }
}
