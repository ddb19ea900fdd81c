//! Verdicts, facts and flags of all records, and the rule that derives a flag.

use fixedbitset::FixedBitSet;

use super::pages::{PAGE, Pages, split};
use super::record::{Fact, Flag};
use crate::task::RecordStatus;

const STATUS: u8 = 0b11;
const TAINTED: u8 = 0b100;
const SUSPECT: u8 = 0b1000;

/// The mutable part of the records of a page. Numbers that most records never need are allocated
/// when a record of the page needs one.
#[derive(Debug, Clone)]
struct MarkPage {
    bits: [u8; PAGE],
    facts: Option<Box<[u64; PAGE]>>,
    exposures: Option<Box<[u64; PAGE]>>,
}

impl Default for MarkPage {
    fn default() -> Self {
        Self { bits: [0; PAGE], facts: None, exposures: None }
    }
}

fn number_at(numbers: Option<&[u64; PAGE]>, slot: usize) -> u64 {
    numbers.map_or(0, |numbers| numbers[slot])
}

/// Verdicts, facts and flags of all records.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Pages<MarkPage>);

impl Marks {
    /// Makes room for the records of a page.
    pub(super) fn reach(&mut self, page: usize) {
        self.0.reach(page);
    }

    pub(super) fn status(&self, node: u32) -> RecordStatus {
        let (page, slot) = split(node);
        match self.0.get(page).bits[slot] & STATUS {
            0 => RecordStatus::Pending,
            1 => RecordStatus::Passed,
            2 => RecordStatus::HumanApproved,
            _ => RecordStatus::Failed,
        }
    }

    pub(super) fn set_status(&mut self, node: u32, status: RecordStatus) {
        let (page, slot) = split(node);
        let code = match status {
            RecordStatus::Pending => 0,
            RecordStatus::Passed => 1,
            RecordStatus::HumanApproved => 2,
            RecordStatus::Failed => 3,
        };
        let bits = &mut self.0.get_mut(page).bits[slot];
        *bits = *bits & !STATUS | code;
    }

    pub(super) fn flag(&self, node: u32) -> Flag {
        let (page, slot) = split(node);
        flag_of(self.0.get(page).bits[slot])
    }

    pub(super) fn fact(&self, node: u32) -> Option<Fact> {
        let (page, slot) = split(node);
        Fact::unpack(number_at(self.0.get(page).facts.as_deref(), slot))
    }

    /// Position of the newest path from a tainted ancestor; zero if there is none.
    pub(super) fn exposure(&self, node: u32) -> u64 {
        let (page, slot) = split(node);
        number_at(self.0.get(page).exposures.as_deref(), slot)
    }

    /// The position that a record passes on to its dependents: its exposure or its own taint,
    /// whichever is newer; zero if neither exists.
    pub(super) fn passed_on(&self, node: u32) -> u64 {
        let (page, slot) = split(node);
        let page = self.0.get(page);
        let exposure = number_at(page.exposures.as_deref(), slot);
        if page.bits[slot] & TAINTED == 0 {
            return exposure;
        }
        match Fact::unpack(number_at(page.facts.as_deref(), slot)) {
            Some(Fact::Tainted(at)) => at.0.max(exposure),
            _ => exposure,
        }
    }

    /// Sets the fact and returns the flags before and after.
    pub(super) fn set_fact(&mut self, node: u32, fact: Option<Fact>) -> (Flag, Flag) {
        let (page, slot) = split(node);
        let page = self.0.get_mut(page);
        page.facts.get_or_insert_with(|| Box::new([0; PAGE]))[slot] = Fact::pack(fact);
        page.derive(slot)
    }

    /// Sets the exposure and returns the flags before and after.
    pub(super) fn set_exposure(&mut self, node: u32, exposure: u64) -> (Flag, Flag) {
        let (page, slot) = split(node);
        let page = self.0.get_mut(page);
        page.exposures.get_or_insert_with(|| Box::new([0; PAGE]))[slot] = exposure;
        page.derive(slot)
    }

    /// Sets the same exposure for many records.
    pub(super) fn set_exposures(&mut self, nodes: &FixedBitSet, exposure: u64) {
        let mut nodes = nodes.ones().peekable();
        while let Some(number) = nodes.peek().map(|node| node / PAGE) {
            let page = self.0.get_mut(number);
            while let Some(node) = nodes.next_if(|node| node / PAGE == number) {
                page.exposures.get_or_insert_with(|| Box::new([0; PAGE]))[node % PAGE] = exposure;
                page.derive(node % PAGE);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let numbers = |numbers: &Option<Box<[u64; PAGE]>>| numbers.as_ref().map_or(0, |_| size_of::<[u64; PAGE]>());
        self.0.iter().map(|page| size_of_val(page) + numbers(&page.facts) + numbers(&page.exposures)).sum()
    }
}

impl MarkPage {
    /// Derives the flag of one record from its fact and exposure, and returns the flags before and
    /// after.
    fn derive(&mut self, slot: usize) -> (Flag, Flag) {
        let before = flag_of(self.bits[slot]);
        let exposure = number_at(self.exposures.as_deref(), slot);
        let flag = match Fact::unpack(number_at(self.facts.as_deref(), slot)) {
            Some(Fact::Tainted(_)) => TAINTED,
            Some(Fact::Cleared(at)) if exposure <= at.0 => 0,
            None if exposure == 0 => 0,
            Some(Fact::Marked(_) | Fact::Cleared(_)) | None => SUSPECT,
        };
        self.bits[slot] = self.bits[slot] & STATUS | flag;
        (before, flag_of(flag))
    }
}

fn flag_of(bits: u8) -> Flag {
    if bits & TAINTED != 0 {
        Flag::Tainted
    } else if bits & SUSPECT != 0 {
        Flag::Suspect
    } else {
        Flag::Clean
    }
}
