//! How the counts of a project's records change.

use crate::engine::api::RecordCounts;
use crate::lineage::{Flag, FlagChange, Graph, Project};

/// How many more records of a project a step makes suspect and tainted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FlagCounts {
    suspect: i64,
    tainted: i64,
}

impl FlagCounts {
    fn count(&mut self, flag: Flag, by: i64) {
        match flag {
            Flag::Clean => {}
            Flag::Suspect => self.suspect += by,
            Flag::Tainted => self.tainted += by,
        }
    }

    /// Counts changes of flags, once for each project.
    pub(super) fn of(graph: &Graph, flags: &[FlagChange]) -> Vec<(Project, Self)> {
        let mut counts: Vec<(Project, Self)> = Vec::new();
        for change in flags {
            let Some(project) = graph.project_of(change.record) else { continue };
            if counts.last().is_none_or(|(last, _)| *last != project) {
                counts.push((project, Self::default()));
            }
            if let Some((_, count)) = counts.last_mut() {
                count.count(change.from, -1);
                count.count(change.to, 1);
            }
        }
        counts.sort_by_key(|(project, _)| *project);
        counts.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1.suspect += next.1.suspect;
                kept.1.tainted += next.1.tainted;
            }
            is_same
        });
        counts
    }

    /// Adds the changes to the counts of the project.
    pub(super) const fn add_to(self, counts: &mut RecordCounts) {
        counts.suspect = counts.suspect.saturating_add_signed(self.suspect);
        counts.tainted = counts.tainted.saturating_add_signed(self.tainted);
    }
}

/// Removes a record with a flag from the counts.
pub(super) fn remove(counts: &mut RecordCounts, flag: Flag) {
    counts.records = counts.records.saturating_sub(1);
    change_flag(counts, flag, Flag::Clean);
}

/// Counts a record whose flag changes.
pub(super) fn change_flag(counts: &mut RecordCounts, from: Flag, to: Flag) {
    let mut count = |flag, change: fn(u64) -> u64| match flag {
        Flag::Clean => {}
        Flag::Suspect => counts.suspect = change(counts.suspect),
        Flag::Tainted => counts.tainted = change(counts.tainted),
    };
    count(from, |count| count.saturating_sub(1));
    count(to, |count| count + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_flags() {
        let mut counts = RecordCounts { records: 1, ..RecordCounts::default() };
        change_flag(&mut counts, Flag::Clean, Flag::Suspect);
        change_flag(&mut counts, Flag::Suspect, Flag::Tainted);
        assert_eq!(counts, RecordCounts { records: 1, tainted: 1, suspect: 0 });
        change_flag(&mut counts, Flag::Tainted, Flag::Clean);
        assert_eq!(counts, RecordCounts { records: 1, tainted: 0, suspect: 0 });
    }
}
