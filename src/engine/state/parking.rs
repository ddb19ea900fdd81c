//! Verdicts that wait for the outputs they are about. They are kept beside the tasks, in
//! memory and in a table of their own, so that no other change of a task writes them again.
//! They have a bound in all, beyond which the oldest becomes a dead letter.

use std::collections::{BTreeSet, HashMap};

use crate::engine::shared::IdHash;
use crate::task::{Moment, Parked, TaskId};

/// Most verdicts that are parked in all.
const MAX_PARKED: usize = 16_384;
/// Most bytes of their events.
const MAX_PARKED_BYTES: usize = 64 * 1024 * 1024;
/// Most tasks that give up a verdict in one commit.
const ROUND: usize = 64;

/// The parked verdicts, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Parking {
    by_task: HashMap<TaskId, Vec<Parked>, IdHash>,
    /// Their tasks, by the time until which the oldest verdict of each waits.
    order: BTreeSet<(Moment, TaskId)>,
    count: usize,
    bytes: usize,
}

impl Parking {
    /// The parked verdicts of a task.
    pub(super) fn of(&self, task: TaskId) -> &[Parked] {
        self.by_task.get(&task).map_or(&[], Vec::as_slice)
    }

    /// Replaces the parked verdicts of a task.
    pub(super) fn set(&mut self, task: TaskId, parked: Vec<Parked>) {
        if let Some(old) = self.by_task.remove(&task) {
            self.order.remove(&(first_end(&old), task));
            self.count -= old.len();
            self.bytes -= bytes(&old);
        }
        if !parked.is_empty() {
            self.order.insert((first_end(&parked), task));
            self.count += parked.len();
            self.bytes += bytes(&parked);
            self.by_task.insert(task, parked);
        }
    }

    /// Returns the tasks whose verdicts have waited longest, as many as must give one up to
    /// get below the bounds. Each gives up one; what is still too much comes with the next
    /// group.
    pub(super) fn excess(&self) -> Vec<TaskId> {
        let by_count = self.count.saturating_sub(MAX_PARKED);
        let needed = if self.bytes > MAX_PARKED_BYTES { by_count.max(1) } else { by_count };
        self.order.iter().take(needed.min(ROUND)).map(|(_, task)| *task).collect()
    }
}

fn first_end(parked: &[Parked]) -> Moment {
    parked.iter().map(|parked| parked.until).min().unwrap_or_default()
}

fn bytes(parked: &[Parked]) -> usize {
    parked.iter().map(|parked| parked.raw.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{ArtifactId, Decision, Report, Verdict};

    fn parked(second: i64, bytes: usize) -> Parked {
        let verdict = Verdict {
            artifact: ArtifactId::new("a").unwrap(),
            decision: Decision::Validated,
            details: "{}".to_owned(),
        };
        let until = Moment::from_micros(second * 1_000_000);
        Parked { until, report: Report::Verdict(verdict), raw: "r".repeat(bytes), event: None }
    }

    fn task(number: u16) -> TaskId {
        let mut bytes = [7; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        bytes[14..].copy_from_slice(&number.to_be_bytes());
        TaskId::from_bytes(bytes)
    }

    #[test]
    fn the_oldest_gives_way_when_there_are_too_many_or_too_large_ones() {
        let mut parking = Parking::default();
        for number in 0..2049 {
            parking.set(task(number), (0..8).map(|n| parked(i64::from(number) + n, 1)).collect());
        }
        assert_eq!((parking.count, parking.excess()), (16_392, (0..8).map(task).collect::<Vec<_>>()));
        parking.set(task(0), Vec::new());
        assert_eq!((parking.count, parking.excess()), (16_384, Vec::new()));
        parking.set(task(1), vec![parked(9, 1)]);
        parking.set(task(2), vec![parked(1, MAX_PARKED_BYTES)]);
        assert_eq!(parking.excess(), [task(2)], "the one that ends first");
        parking.set(task(2), vec![parked(1, 1)]);
        assert_eq!((parking.excess(), parking.of(task(1)).len(), parking.of(task(0)).len()), (Vec::new(), 1, 0));
        for number in 0..2049 {
            parking.set(task(number), Vec::new());
        }
        assert_eq!((parking.count, parking.bytes, parking.order.len()), (0, 0, 0));
    }
}
