//! What the service has acknowledged, kept outside of it, and whether an answer
//! contradicts it. Pure: times come from the caller.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::workload::Random;

/// How often a draw among tasks is repeated until one fits.
const DRAWS: u32 = 8;

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Completed,
    Failed,
    Cancelled,
}

impl End {
    /// The end that a status names; `None` of an open task.
    pub(super) fn of(status: &str) -> Option<Self> {
        match status {
            "completed" => Some(Self::Completed),
            "failed" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// An answer that the ledger contradicts, in words.
pub(super) type Contradiction = String;

/// A task whose submission was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) project: String,
    /// Whether an output completes it; `None`: not known.
    pub(super) is_unchecked: Option<bool>,
    /// When its submission was sent; zero where others submitted it.
    pub(super) sent: Duration,
    /// When the acknowledgement came.
    pub(super) at: Duration,
    /// The newest version that an answer showed.
    pub(super) version: u64,
    /// How it ended, and when an answer first said so.
    pub(super) end: Option<(End, Duration)>,
    grants: Vec<Grant>,
}

/// A lease that was given.
#[derive(Debug, Clone)]
struct Grant {
    lease: String,
    /// Until when its holder certainly has it.
    certain_until: Duration,
    /// Its holder has reported, or given it back.
    is_over: bool,
}

/// An output that was acknowledged as applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) task: String,
    pub(super) artifact: String,
    pub(super) bytes: usize,
    /// SHA-256 of the content, in lowercase hex.
    pub(super) digest: String,
}

/// What was known of a task when a request about it was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) version: u64,
    pub(super) end: Option<End>,
    /// Somebody else was given the task after the lease in question.
    pub(super) is_superseded: bool,
    /// Until when another holder certainly has it.
    pub(super) other_until: Option<Duration>,
}

/// The acknowledgements so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    tasks: BTreeMap<String, Known>,
    order: Vec<String>,
    /// Tasks of which no end is known; some may have ended since.
    open: Vec<String>,
    by_project: BTreeMap<String, Vec<String>>,
    pub(super) outputs: Vec<Output>,
    /// Records that were imported.
    pub(super) imported: Vec<String>,
}

impl Ledger {
    /// A submission that was sent then is acknowledged at a time.
    pub(super) fn submitted(
        &mut self,
        task: &str,
        project: &str,
        is_unchecked: Option<bool>,
        [sent, at]: [Duration; 2],
    ) {
        if self.tasks.contains_key(task) {
            return;
        }
        let project = project.to_owned();
        self.by_project.entry(project.clone()).or_default().push(task.to_owned());
        let known = Known { project, is_unchecked, sent, at, version: 0, end: None, grants: Vec::new() };
        self.tasks.insert(task.to_owned(), known);
        self.order.push(task.to_owned());
        self.open.push(task.to_owned());
    }

    pub(super) fn task(&self, task: &str) -> Option<&Known> {
        self.tasks.get(task)
    }

    /// All tasks, in the order of their acknowledgement.
    pub(super) fn all(&self) -> &[String] {
        &self.order
    }

    /// The tasks of a project, in the order of their acknowledgement.
    pub(super) fn of_project(&self, project: &str) -> &[String] {
        self.by_project.get(project).map_or(&[], Vec::as_slice)
    }

    /// What is known now of a task, for a request by the holder of `lease`.
    pub(super) fn before(&self, task: &str, lease: &str) -> Before {
        let Some(known) = self.tasks.get(task) else { return Before::default() };
        let own = known.grants.iter().position(|grant| grant.lease == lease);
        let other = known.grants.last().filter(|newest| newest.lease != lease && !newest.is_over);
        Before {
            version: known.version,
            end: known.end.map(|(end, _)| end),
            is_superseded: own.is_some_and(|own| own + 1 < known.grants.len()),
            other_until: other.map(|newest| newest.certain_until),
        }
    }

    /// An answer showed a task with this status and version, asked when the rest was
    /// as `before`.
    pub(super) fn saw(
        &mut self,
        task: &str,
        status: &str,
        version: u64,
        before: Before,
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
            (Some(end), _) => self.ended(task, end, at),
            (None, None) => Ok(()),
        }
    }

    /// An answer said that a task has ended like this.
    pub(super) fn ended(&mut self, task: &str, end: End, at: Duration) -> Result<(), Contradiction> {
        let Some(known) = self.tasks.get_mut(task) else { return Ok(()) };
        let (first, _) = *known.end.get_or_insert((end, at));
        if first == end {
            return Ok(());
        }
        Err(format!("task {task} ended twice: first {first:?}, then {end:?}"))
    }

    /// A lease was given that its holder certainly has until then.
    pub(super) fn granted(&mut self, task: &str, lease: &str, certain_until: Duration) -> Result<(), Contradiction> {
        let Some(known) = self.tasks.get_mut(task) else { return Ok(()) };
        known.grants.push(Grant { lease: lease.to_owned(), certain_until, is_over: false });
        match known.end {
            Some((end, _)) => Err(format!("task {task} was leased after an answer said that it is {end:?}")),
            None => Ok(()),
        }
    }

    /// The holder of a lease reports or gives it back: it may be over from now on.
    pub(super) fn lease_over(&mut self, task: &str, lease: &str) {
        let grants = self.tasks.get_mut(task).map(|known| &mut known.grants);
        if let Some(grant) = grants.and_then(|grants| grants.iter_mut().find(|grant| grant.lease == lease)) {
            grant.is_over = true;
        }
    }

    /// The outcome of a worker's failure.
    pub(super) fn failure(task: &str, before: Before, outcome: &str) -> Result<(), Contradiction> {
        let is_applied = outcome == "applied";
        if is_applied && before.is_superseded {
            return Err(format!(
                "a failure of task {task} was applied, and its sender had lost the lease to another worker"
            ));
        }
        Self::after_end(task, before, outcome)
    }

    /// The outcome of a worker's output; `unchecked` where it completes the task.
    pub(super) fn output(
        &mut self,
        output: Output,
        before: Before,
        outcome: &str,
        at: Duration,
    ) -> Result<(), Contradiction> {
        let task = output.task.clone();
        if outcome != "applied" {
            return Ok(());
        }
        self.outputs.push(output);
        if before.other_until.is_some_and(|until| at < until) {
            return Err(format!(
                "an output of task {task} was applied, and another worker held its lease all the time"
            ));
        }
        Self::after_end(&task, before, outcome)?;
        let is_unchecked = self.tasks.get(&task).and_then(|known| known.is_unchecked);
        if is_unchecked == Some(true) { self.ended(&task, End::Completed, at) } else { Ok(()) }
    }

    /// Nothing is applied to a task that has ended.
    pub(super) fn after_end(task: &str, before: Before, outcome: &str) -> Result<(), Contradiction> {
        match before.end {
            Some(end) if outcome == "applied" => {
                Err(format!("an event was applied to task {task}, and an earlier answer said that it is {end:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A task that has probably not ended.
    pub(super) fn pick_open(&mut self, random: &mut Random) -> Option<String> {
        for _ in 0..DRAWS {
            if self.open.is_empty() {
                return None;
            }
            // New ones more often: they are where things happen.
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

    /// Any task.
    pub(super) fn pick(&self, random: &mut Random) -> Option<String> {
        random.choose(&self.order).cloned()
    }

    /// Any task that has ended.
    pub(super) fn pick_ended(&self, random: &mut Random) -> Option<String> {
        let mut draws = (0..DRAWS).filter_map(|_| random.choose(&self.order));
        draws.find(|task| self.tasks.get(*task).is_some_and(|known| known.end.is_some())).cloned()
    }

    /// Any output that was applied.
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
        ledger.submitted("t", "p", Some(true), [T; 2]);
        ledger
    }

    fn output() -> Output {
        Output { task: "t".to_owned(), artifact: "a".to_owned(), bytes: 1, digest: String::new() }
    }

    #[test]
    fn an_end_is_final_and_versions_grow() {
        let mut ledger = ledger();
        let before = ledger.before("t", "");
        ledger.saw("t", "running", 3, before, T).unwrap();
        let before = ledger.before("t", "");
        assert!(ledger.saw("t", "running", 2, before, T).is_err_and(|error| error.contains("version 2")));
        ledger.saw("t", "completed", 4, before, T).unwrap();
        // An answer that was under way meanwhile may still show what was before.
        ledger.saw("t", "running", 3, before, T).unwrap();
        let before = ledger.before("t", "");
        assert!(ledger.saw("t", "running", 5, before, T).is_err());
        assert!(ledger.ended("t", End::Failed, T).is_err());
        assert!(ledger.granted("t", "l", 2 * T).is_err());
    }

    #[test]
    fn a_failure_without_the_lease_must_not_count() {
        let mut ledger = ledger();
        ledger.granted("t", "first", 2 * T).unwrap();
        assert_eq!(Ledger::failure("t", ledger.before("t", "first"), "applied"), Ok(()));
        ledger.granted("t", "second", 4 * T).unwrap();
        let before = ledger.before("t", "first");
        assert!(before.is_superseded);
        assert!(Ledger::failure("t", before, "applied").is_err());
        assert_eq!(Ledger::failure("t", before, "stale"), Ok(()));
        assert_eq!(Ledger::failure("t", ledger.before("t", "second"), "applied"), Ok(()));
    }

    #[test]
    fn a_late_output_counts_only_while_nobody_else_holds_the_task() {
        let mut ledger = ledger();
        ledger.granted("t", "first", 2 * T).unwrap();
        ledger.granted("t", "second", 9 * T).unwrap();
        let before = ledger.before("t", "first");
        assert!(ledger.output(output(), before, "applied", 8 * T).is_err());
        ledger.lease_over("t", "second");
        let before = ledger.before("t", "first");
        ledger.output(output(), before, "applied", 8 * T).unwrap();
        assert_eq!(ledger.task("t").unwrap().end.unwrap().0, End::Completed);
        let before = ledger.before("t", "second");
        assert!(ledger.output(output(), before, "applied", 10 * T).is_err());
    }

    #[test]
    fn open_tasks_are_drawn_until_they_have_ended() {
        let (mut ledger, mut random) = (ledger(), Random::new(1));
        assert_eq!(ledger.pick_open(&mut random).as_deref(), Some("t"));
        ledger.ended("t", End::Failed, T).unwrap();
        assert_eq!(ledger.pick_open(&mut random), None);
        assert_eq!(ledger.pick_ended(&mut random).as_deref(), Some("t"));
        assert_eq!(ledger.of_project("p"), ["t"]);
    }
}
