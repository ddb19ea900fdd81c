//! Counts of records by flag, as they change.

use super::api::RecordCounts;
use super::plan::FlagCounts;
use crate::lineage::Flag;

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
