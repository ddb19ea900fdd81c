//! The ledger of a day: what the service has acknowledged, recorded outside of the service.
//! It detects answers that contradict earlier ones. Pure: times come from the caller.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::workload::random::Random;

/// How many random tasks are tried to find one with the wanted property.
const MAX_DRAWS: u32 = 8;

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Completed,
    Failed,
    Cancelled,
}

impl End {
    /// Returns the end that a status means; `None` for the status of an open task.
    pub(super) fn of(status: &str) -> Option<Self> {
        match status {
            "completed" => Some(Self::Completed),
            "failed" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// A description of an answer that contradicts the ledger.
pub(super) type Contradiction = String;

/// A task whose submission was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct KnownTask {
    pub(super) project: String,
    /// Whether an output completes it; `None` if not known.
    pub(super) is_unchecked: Option<bool>,
    /// When it was submitted.
    pub(super) submitted: Submitted,
    /// Newest version in an answer.
    pub(super) version: u64,
    /// How it ended.
    pub(super) end: Option<KnownEnd>,
    leases: Vec<Lease>,
}

/// Times of a submission, from the start of the day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Submitted {
    /// When the submission was sent; zero if the service created the task itself.
    pub(super) sent: Duration,
    /// When the acknowledgement arrived.
    pub(super) acknowledged: Duration,
}

/// The end of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownEnd {
    pub(super) end: End,
    /// When an answer first showed it.
    pub(super) at: Duration,
}

/// A lease of a task.
#[derive(Debug, Clone)]
struct Lease {
    id: String,
    /// Until when its holder certainly has the task.
    certain_until: Duration,
    /// Whether its holder has reported or released it.
    is_over: bool,
}

/// An output that was acknowledged as applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) task: String,
    pub(super) artifact: String,
    pub(super) bytes: usize,
    /// SHA-256 of the content, in lowercase hexadecimal.
    pub(super) digest: String,
}

/// What was known of a task when a request about it was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KnownBefore {
    pub(super) version: u64,
    pub(super) end: Option<End>,
    /// Whether another worker leased the task after the lease in question.
    pub(super) is_superseded: bool,
    /// Until when another holder certainly has the task.
    pub(super) other_until: Option<Duration>,
}

/// All acknowledgements so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    tasks: BTreeMap<String, KnownTask>,
    /// Tasks in the order of their acknowledgement.
    order: Vec<String>,
    /// Tasks whose end was not known when they were last looked at.
    open: Vec<String>,
    by_project: BTreeMap<String, Vec<String>>,
    pub(super) outputs: Vec<Output>,
    /// Ids of imported records.
    pub(super) imported: Vec<String>,
}

impl Ledger {
    /// Records an acknowledged submission. A task that is known already stays as it is.
    pub(super) fn record_submission(
        &mut self,
        task: &str,
        project: &str,
        is_unchecked: Option<bool>,
        submitted: Submitted,
    ) {
        if self.tasks.contains_key(task) {
            return;
        }
        let project = project.to_owned();
        self.by_project.entry(project.clone()).or_default().push(task.to_owned());
        let known = KnownTask { project, is_unchecked, submitted, version: 0, end: None, leases: Vec::new() };
        self.tasks.insert(task.to_owned(), known);
        self.order.push(task.to_owned());
        self.open.push(task.to_owned());
    }

    pub(super) fn task(&self, task: &str) -> Option<&KnownTask> {
        self.tasks.get(task)
    }

    /// Returns the ids of all tasks, in the order of their acknowledgement.
    pub(super) fn all(&self) -> &[String] {
        &self.order
    }

    /// Returns the ids of the tasks of a project, in the order of their acknowledgement.
    pub(super) fn of_project(&self, project: &str) -> &[String] {
        self.by_project.get(project).map_or(&[], Vec::as_slice)
    }

    /// Returns what is known now of a task, for a request by the holder of `lease`.
    pub(super) fn known_before(&self, task: &str, lease: &str) -> KnownBefore {
        let Some(known) = self.tasks.get(task) else { return KnownBefore::default() };
        let own = known.leases.iter().position(|each| each.id == lease);
        let other = known.leases.last().filter(|newest| newest.id != lease && !newest.is_over);
        KnownBefore {
            version: known.version,
            end: known.end.map(|known| known.end),
            is_superseded: own.is_some_and(|own| own + 1 < known.leases.len()),
            other_until: other.map(|newest| newest.certain_until),
        }
    }

    /// Records status and version of a task from an answer to a request that was sent when
    /// `before` was known.
    pub(super) fn record_answer(
        &mut self,
        task: &str,
        status: &str,
        version: u64,
        before: KnownBefore,
        at: Duration,
    ) -> Result<(), Contradiction> {
        if version < before.version {
            return Err(format!(
                "task {task} is at version {version}, and an earlier answer showed version {}",
                before.version
            ));
        }
        if let Some(known) = self.tasks.get_mut(task) {
            known.version = known.version.max(version);
        }
        match (End::of(status), before.end) {
            (None, Some(end)) => Err(format!("task {task} is {status}, and an earlier answer said that it is {end:?}")),
            (Some(end), _) => self.record_end(task, end, at),
            (None, None) => Ok(()),
        }
    }

    /// Records how a task ended.
    pub(super) fn record_end(&mut self, task: &str, end: End, at: Duration) -> Result<(), Contradiction> {
        let Some(known) = self.tasks.get_mut(task) else { return Ok(()) };
        let first = known.end.get_or_insert(KnownEnd { end, at }).end;
        if first == end {
            return Ok(());
        }
        Err(format!("task {task} ended twice: first {first:?}, then {end:?}"))
    }

    /// Records a lease that its holder certainly has until then.
    pub(super) fn record_lease(
        &mut self,
        task: &str,
        lease: &str,
        certain_until: Duration,
    ) -> Result<(), Contradiction> {
        let Some(known) = self.tasks.get_mut(task) else { return Ok(()) };
        known.leases.push(Lease { id: lease.to_owned(), certain_until, is_over: false });
        match known.end {
            Some(KnownEnd { end, .. }) => {
                Err(format!("task {task} was leased after an answer said that it is {end:?}"))
            }
            None => Ok(()),
        }
    }

    /// Records that the holder of a lease reports or releases it, so that the lease may be
    /// over from now on.
    pub(super) fn record_lease_end(&mut self, task: &str, lease: &str) {
        let leases = self.tasks.get_mut(task).map(|known| &mut known.leases);
        if let Some(lease) = leases.and_then(|leases| leases.iter_mut().find(|each| each.id == lease)) {
            lease.is_over = true;
        }
    }

    /// Checks the outcome of a failure that a worker reported.
    pub(super) fn check_failure(task: &str, before: KnownBefore, outcome: &str) -> Result<(), Contradiction> {
        let is_applied = outcome == "applied";
        if is_applied && before.is_superseded {
            return Err(format!(
                "a failure of task {task} was applied, and its sender had lost the lease to another worker"
            ));
        }
        Self::check_after_end(task, before, outcome)
    }

    /// Records the outcome of an output that a worker reported.
    pub(super) fn record_output(
        &mut self,
        output: Output,
        before: KnownBefore,
        outcome: &str,
        at: Duration,
    ) -> Result<(), Contradiction> {
        let task = output.task.clone();
        if outcome != "applied" {
            return Ok(());
        }
        self.outputs.push(output);
        if before.other_until.is_some_and(|until| at < until) {
            return Err(format!("an output of task {task} was applied, and another worker held its lease throughout"));
        }
        Self::check_after_end(&task, before, outcome)?;
        let is_unchecked = self.tasks.get(&task).and_then(|known| known.is_unchecked);
        if is_unchecked == Some(true) { self.record_end(&task, End::Completed, at) } else { Ok(()) }
    }

    /// Checks that no event is applied to a task that has ended.
    pub(super) fn check_after_end(task: &str, before: KnownBefore, outcome: &str) -> Result<(), Contradiction> {
        match before.end {
            Some(end) if outcome == "applied" => {
                Err(format!("an event was applied to task {task}, and an earlier answer said that it is {end:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Chooses a task that has probably not ended.
    pub(super) fn pick_open(&mut self, random: &mut Random) -> Option<String> {
        for _ in 0..MAX_DRAWS {
            if self.open.is_empty() {
                return None;
            }
            // New tasks are chosen more often, because they change most.
            let window = if random.chance(60) { self.open.len().min(64) } else { self.open.len() };
            let index = self.open.len() - 1 - random.index(window);
            let task = self.open.get(index)?;
            if self.tasks.get(task).is_some_and(|known| known.end.is_none()) {
                return Some(task.clone());
            }
            self.open.swap_remove(index);
        }
        None
    }

    /// Chooses any task.
    pub(super) fn pick(&self, random: &mut Random) -> Option<String> {
        random.choose(&self.order).cloned()
    }

    /// Chooses a task that has ended.
    pub(super) fn pick_ended(&self, random: &mut Random) -> Option<String> {
        let mut candidates = (0..MAX_DRAWS).filter_map(|_| random.choose(&self.order));
        candidates.find(|task| self.tasks.get(*task).is_some_and(|known| known.end.is_some())).cloned()
    }

    /// Chooses an output that was applied.
    pub(super) fn pick_output(&self, random: &mut Random) -> Option<Output> {
        random.choose(&self.outputs).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(1);

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.record_submission("t", "p", Some(true), Submitted { sent: T, acknowledged: T });
        ledger
    }

    fn output() -> Output {
        Output { task: "t".to_owned(), artifact: "a".to_owned(), bytes: 1, digest: String::new() }
    }

    #[test]
    fn an_end_is_final_and_versions_grow() {
        let mut ledger = ledger();
        let before = ledger.known_before("t", "");
        ledger.record_answer("t", "running", 3, before, T).unwrap();
        let before = ledger.known_before("t", "");
        assert!(ledger.record_answer("t", "running", 2, before, T).is_err_and(|error| error.contains("version 2")));
        ledger.record_answer("t", "completed", 4, before, T).unwrap();
        // An answer to an earlier request may still show the earlier state.
        ledger.record_answer("t", "running", 3, before, T).unwrap();
        let before = ledger.known_before("t", "");
        assert!(ledger.record_answer("t", "running", 5, before, T).is_err());
        assert!(ledger.record_end("t", End::Failed, T).is_err());
        assert!(ledger.record_lease("t", "l", 2 * T).is_err());
    }

    #[test]
    fn a_failure_without_the_lease_must_not_count() {
        let mut ledger = ledger();
        ledger.record_lease("t", "first", 2 * T).unwrap();
        assert_eq!(Ledger::check_failure("t", ledger.known_before("t", "first"), "applied"), Ok(()));
        ledger.record_lease("t", "second", 4 * T).unwrap();
        let before = ledger.known_before("t", "first");
        assert!(before.is_superseded);
        assert!(Ledger::check_failure("t", before, "applied").is_err());
        assert_eq!(Ledger::check_failure("t", before, "stale"), Ok(()));
        assert_eq!(Ledger::check_failure("t", ledger.known_before("t", "second"), "applied"), Ok(()));
    }

    #[test]
    fn a_late_output_counts_only_while_no_other_worker_holds_the_task() {
        let mut ledger = ledger();
        ledger.record_lease("t", "first", 2 * T).unwrap();
        ledger.record_lease("t", "second", 9 * T).unwrap();
        let before = ledger.known_before("t", "first");
        assert!(ledger.record_output(output(), before, "applied", 8 * T).is_err());
        ledger.record_lease_end("t", "second");
        let before = ledger.known_before("t", "first");
        ledger.record_output(output(), before, "applied", 8 * T).unwrap();
        assert_eq!(ledger.task("t").unwrap().end.unwrap().end, End::Completed);
        let before = ledger.known_before("t", "second");
        assert!(ledger.record_output(output(), before, "applied", 10 * T).is_err());
    }

    #[test]
    fn open_tasks_are_chosen_until_they_have_ended() {
        let (mut ledger, mut random) = (ledger(), Random::new(1));
        assert_eq!(ledger.pick_open(&mut random).as_deref(), Some("t"));
        ledger.record_end("t", End::Failed, T).unwrap();
        assert_eq!(ledger.pick_open(&mut random), None);
        assert_eq!(ledger.pick_ended(&mut random).as_deref(), Some("t"));
        assert_eq!(ledger.of_project("p"), ["t"]);
    }
}
