//! The flags that a step has changed, in few bytes: a taint can change a hundred thousand flags,
//! and all of them are part of the commit that makes it durable.
//!
//! A record is named by the step that brought it, which never changes and is close to the steps of
//! its neighbours, while ids are random. The changes of a step mostly propagate from record to
//! record, so most entries repeat parts of the previous one and take about six bytes.
//!
//! An entry is a head, then the numbers that the head announces, as LEB128. Bits of the head: 0 and
//! 1 the flag before, 2 and 3 the flag after, 4 that the depth differs from the previous one, 5 and
//! 6 the record through which it was reached: the same as before, the entry so many places after
//! that of the last such record, any, or none. Then follow: the record, as the difference from the
//! previous one; the difference in depth; the difference in the record through which it was
//! reached.

use super::Error;
use crate::lineage::{Flag, FlagChange, Graph};
use crate::task::Seq;

const DEEPER: u8 = 1 << 4;
const THROUGH: u8 = 0b11 << 5;
const SAME: u8 = 0;
const AHEAD: u8 = 1 << 5;
const ANY: u8 = 2 << 5;
const NONE: u8 = 3 << 5;

/// A changed flag; records are named by the steps that brought them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepChange {
    /// The step that brought the record whose flag changed.
    pub record: Seq,
    /// Its flag before.
    pub from: Flag,
    /// Its flag after.
    pub to: Flag,
    /// Distance from the origin of the change.
    pub depth: u32,
    /// The step that brought the record through which the change reached it.
    pub through: Option<Seq>,
}

/// The encoded changes of a step.
#[derive(Debug, Clone, Default)]
pub struct FlagChanges {
    bytes: Vec<u8>,
    records: Vec<Seq>,
    last: Last,
    /// Entries that may still be searched for the record through which a change came. If such
    /// searches hardly ever succeed, they stop.
    looks: usize,
}

/// The state from which the next entry is encoded.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    record: Seq,
    depth: u32,
    through: Option<Seq>,
    /// Index of the entry of the last record through which another one was reached.
    place: usize,
}

impl FlagChanges {
    /// Encodes changes of flags in this version of the graph.
    #[must_use]
    pub fn of(graph: &Graph, flags: &[FlagChange]) -> Self {
        let mut changes = Self::with_capacity(flags.len());
        let (mut node, mut through) = (None, None);
        for change in flags {
            if change.through != node {
                node = change.through;
                through = node.and_then(|node| graph.position_of(node));
            }
            let Some(record) = graph.position_of(change.record) else { continue };
            changes.push(StepChange { record, from: change.from, to: change.to, depth: change.depth, through });
        }
        changes
    }

    /// Allocates room for this number of changes.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        let (bytes, records) = (Vec::with_capacity(count * 8), Vec::with_capacity(count));
        Self { bytes, records, last: Last::default(), looks: count * 2 + 64 }
    }

    /// Adds a change.
    pub fn push(&mut self, change: StepChange) {
        let through = self.through(change.through);
        let mut head = code(change.from) | code(change.to) << 2 | through.0;
        if change.depth != self.last.depth {
            head |= DEEPER;
        }
        self.bytes.push(head);
        self.number(zigzag(self.last.record.0, change.record.0));
        if change.depth != self.last.depth {
            self.number(zigzag(self.last.depth.into(), change.depth.into()));
        }
        if let Some(number) = through.1 {
            self.number(number);
        }
        self.records.push(change.record);
        self.last = Last { record: change.record, depth: change.depth, through: change.through, ..self.last };
    }

    /// Encodes the record through which a change came.
    fn through(&mut self, through: Option<Seq>) -> (u8, Option<u64>) {
        if through == self.last.through {
            return (SAME, None);
        }
        let Some(through) = through else { return (NONE, None) };
        let from = self.last.place;
        let ahead = self.records.get(from..).unwrap_or(&[]).iter().take(self.looks);
        let ahead = { ahead }.position(|record| *record == through);
        self.looks = self.looks.saturating_sub(ahead.map_or(self.records.len() - from, |ahead| ahead + 1));
        if let Some(ahead) = ahead {
            self.last.place += ahead;
            return (AHEAD, u64::try_from(ahead).ok());
        }
        (ANY, Some(zigzag(self.last.through.unwrap_or_default().0, through.0)))
    }

    fn number(&mut self, mut number: u64) {
        while let low @ 0x80.. = number {
            self.bytes.push(0x80 | u8::try_from(low & 0x7f).unwrap_or(0));
            number >>= 7;
        }
        self.bytes.push(u8::try_from(number).unwrap_or(0));
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The difference between two numbers, as a number that is small if they are close.
fn zigzag(from: u64, to: u64) -> u64 {
    let difference = to.wrapping_sub(from);
    if to >= from { difference << 1 } else { (difference.wrapping_neg() << 1) - 1 }
}

fn unzigzag(from: u64, number: u64) -> u64 {
    if number & 1 == 0 { from.wrapping_add(number >> 1) } else { from.wrapping_sub((number >> 1) + 1) }
}

const fn code(flag: Flag) -> u8 {
    match flag {
        Flag::Clean => 0,
        Flag::Suspect => 1,
        Flag::Tainted => 2,
    }
}

const fn flag(code: u8) -> Option<Flag> {
    match code & 0b11 {
        0 => Some(Flag::Clean),
        1 => Some(Flag::Suspect),
        2 => Some(Flag::Tainted),
        _ => None,
    }
}

/// Decodes a row.
pub(super) fn decode(mut bytes: &[u8]) -> Result<Vec<StepChange>, Error> {
    let detail = || Error::Corrupt { table: "cascade_changes", detail: "an entry ends too early".to_owned() };
    let (mut changes, mut last) = (Vec::<StepChange>::with_capacity(bytes.len() / 4), Last::default());
    while !bytes.is_empty() {
        changes.push(entry(&mut bytes, &changes, &mut last).ok_or_else(detail)?);
    }
    Ok(changes)
}

fn entry(bytes: &mut &[u8], before: &[StepChange], last: &mut Last) -> Option<StepChange> {
    let (&head, rest) = bytes.split_first()?;
    *bytes = rest;
    last.record = Seq(unzigzag(last.record.0, number(bytes)?));
    if head & DEEPER != 0 {
        last.depth = u32::try_from(unzigzag(last.depth.into(), number(bytes)?)).ok()?;
    }
    last.through = match head & THROUGH {
        AHEAD => {
            last.place = last.place.checked_add(usize::try_from(number(bytes)?).ok()?)?;
            Some(before.get(last.place)?.record)
        }
        ANY => Some(Seq(unzigzag(last.through.unwrap_or_default().0, number(bytes)?))),
        NONE => None,
        _ => last.through,
    };
    let (record, depth, through) = (last.record, last.depth, last.through);
    Some(StepChange { record, from: flag(head)?, to: flag(head >> 2)?, depth, through })
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(record: u64, depth: u32, through: Option<u64>) -> StepChange {
        StepChange { record: Seq(record), from: Flag::Clean, to: Flag::Suspect, depth, through: through.map(Seq) }
    }

    fn written(changes: &[StepChange]) -> Vec<u8> {
        let mut written = FlagChanges::with_capacity(changes.len());
        for change in changes {
            written.push(*change);
        }
        written.into_bytes()
    }

    #[test]
    fn changes_round_trip() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let flags = [Flag::Clean, Flag::Suspect, Flag::Tainted];
        for round in 0..200 {
            let changes: Vec<StepChange> = (0..round)
                .map(|_| {
                    let [from, to] = [next(3), next(3)].map(|at| flags[usize::try_from(at).unwrap()]);
                    let spread = [8, 1000, u64::MAX >> 33][usize::try_from(next(3)).unwrap()];
                    let through = (next(4) > 0).then(|| Seq(next(spread)));
                    let depth = u32::try_from(next(spread)).unwrap();
                    StepChange { record: Seq(next(spread) << 29), from, to, depth, through }
                })
                .collect();
            assert_eq!(decode(&written(&changes)).unwrap(), changes);
        }
        let far = [change(u64::MAX >> 2, u32::MAX, Some(1)), change(0, 0, None), change(1, 1, Some(u64::MAX >> 2))];
        assert_eq!(decode(&written(&far)).unwrap(), far);
    }

    #[test]
    fn a_cascade_takes_a_few_bytes_for_each_record() {
        // Each record reaches three more, scattered over a hundred thousand.
        let record = |at: u64| at * 7919 % 100_003 + 5;
        let reached = (1..100_000).map(|at| change(record(at), at.ilog(3), Some(record(at / 3))));
        let changes: Vec<StepChange> = std::iter::once(change(record(0), 0, None)).chain(reached).collect();
        let bytes = written(&changes);
        assert!(bytes.len() < 600_000, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes).unwrap(), changes);
    }

    #[test]
    fn damaged_changes_are_refused() {
        let bytes = written(&[change(70_000, 0, None), change(9, 1, Some(70_000))]);
        assert_eq!(decode(&bytes).unwrap().len(), 2);
        for cut in [1, 2, bytes.len() - 1] {
            assert!(matches!(decode(&bytes[..cut]), Err(Error::Corrupt { table: "cascade_changes", .. })), "{cut}");
        }
        assert!(decode(&[0b11, 0]).is_err() && decode(&[AHEAD, 0, 1]).is_err() && decode(&[0xff; 30]).is_err());
    }
}
