//! Applies batches to the tables. Rows of the same key in several batches are written once: the
//! last one of each.

use std::collections::BTreeMap;

use redb::WriteTransaction;

use super::batch::Batch;
use super::batch_rows::{ClockUpdate, TaskRow};
use super::list_changes::write_changes;
use super::tables::{self, id_then, then_id};
use super::{Error, clocks, history, log, rerun_chains};
use crate::task::{Status, TaskId};

/// Applies batches to the tables, in the order in which they became durable.
pub(super) fn apply(batches: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    for run in batches.chunk_by(|one, next| one.is_mergeable() && next.is_mergeable()) {
        write(run, transaction)?;
    }
    if let Some(last) = batches.last() {
        let mut meta = transaction.open_table(tables::META)?;
        let ids_until_ms = batches.iter().map(|batch| batch.ids_until_ms).max().unwrap_or(0);
        clocks::write(&mut meta, last.present(), ids_until_ms)?;
        if let Some(step) = batches.iter().filter_map(|batch| batch.newest_step).max() {
            meta.insert(tables::NEWEST_STEP_KEY, &step.0.to_le_bytes()[..])?;
        }
        // A mark that the service ran is no commit, whatever its clock showed.
        let commits = batches.iter().rev().find(|batch| batch.look != Some(ClockUpdate::Idle));
        if let Some(last) = commits {
            meta.insert(tables::LAST_COMMIT_KEY, &last.at.as_micros().to_le_bytes()[..])?;
        }
    }
    Ok(())
}

/// Writes one batch, or several that can be written as one.
fn write(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    write_submissions(run, transaction)?;
    write_tasks(run, transaction)?;
    write_parked(run, transaction)?;
    log::append(run, transaction)?;
    history::append(run, transaction)?;
    for batch in run {
        batch.write_log_readers(transaction)?;
        batch.write_records(transaction)?;
        batch.checkpoints.write(transaction)?;
    }
    write_projects(run, transaction)?;
    write_estimates(run, transaction)?;
    for batch in run {
        batch.write_identities(transaction)?;
        batch.write_dead_letters(transaction)?;
        batch.write_removals(transaction)?;
        batch.write_trim(transaction)?;
    }
    write_changes(run, transaction)
}

/// The net effect of several batches on a task: its status before the first of them, and its row
/// after the last.
struct NetChange<'a> {
    before: Option<Status>,
    row: &'a TaskRow,
}

/// The net effect of several batches on each task, in the order of the tables.
fn net_tasks<'a>(run: &[&'a Batch]) -> BTreeMap<TaskId, NetChange<'a>> {
    let mut tasks = BTreeMap::<TaskId, NetChange<'a>>::new();
    for row in run.iter().flat_map(|batch| &batch.tasks) {
        tasks.entry(row.id).and_modify(|net| net.row = row).or_insert(NetChange { before: row.before, row });
    }
    tasks
}

fn write_submissions(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    if run.iter().any(|batch| !batch.submissions.is_empty()) {
        let mut table = transaction.open_table(tables::SUBMISSIONS)?;
        for (id, bytes) in run.iter().flat_map(|batch| &batch.submissions) {
            table.insert(&id.to_bytes(), &bytes[..])?;
        }
    }
    for batch in run {
        rerun_chains::insert(transaction, &batch.reruns)?;
    }
    if run.iter().any(|batch| !batch.findings.is_empty()) {
        let mut table = transaction.open_table(tables::FINDINGS)?;
        for (id, bytes) in run.iter().flat_map(|batch| &batch.findings) {
            table.insert(&id.to_bytes(), &bytes[..])?;
        }
    }
    Ok(())
}

fn write_tasks(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    let tasks = net_tasks(run);
    if tasks.is_empty() {
        return Ok(());
    }
    let mut open = transaction.open_table(tables::OPEN_TASKS)?;
    let mut finished = transaction.open_table(tables::FINISHED_TASKS)?;
    let mut by_end = transaction.open_table(tables::FINISHED_BY_END)?;
    for (id, NetChange { before, row }) in &tasks {
        let id = id.to_bytes();
        if let Some(ended) = row.ended {
            if before.is_some() {
                open.remove(&id)?;
            }
            finished.insert(&id, &row.bytes[..])?;
            let mut value = vec![row.after.code()];
            value.extend_from_slice(row.project.as_str().as_bytes());
            by_end.insert(&then_id(ended.as_millis(), id), &value[..])?;
        } else {
            open.insert(&id, &row.bytes[..])?;
        }
    }
    let mut moved: Vec<_> = tasks.into_iter().filter(|(_, net)| net.before != Some(net.row.after)).collect();
    // Rows of one project are adjacent.
    moved.sort_by(|(_, one), (_, other)| one.row.project.cmp(&other.row.project));
    let mut by_project = transaction.open_table(tables::TASKS_BY_PROJECT)?;
    for (id, NetChange { before, row }) in moved {
        let (id, project) = (id.to_bytes(), row.project.as_str());
        if let Some(before) = before {
            by_project.remove((project, before.code(), &id))?;
        }
        by_project.insert((project, row.after.code(), &id), ())?;
    }
    Ok(())
}

fn write_parked(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    let parked: BTreeMap<_, _> = run.iter().flat_map(|batch| &batch.parked).map(|(id, row)| (*id, row)).collect();
    if parked.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(tables::PARKED)?;
    for (id, row) in parked {
        match row {
            Some(row) => drop(table.insert(&id.to_bytes(), &row[..])?),
            None => drop(table.remove(&id.to_bytes())?),
        }
    }
    Ok(())
}

fn write_projects(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    let projects: BTreeMap<_, _> = run.iter().flat_map(|batch| &batch.projects).map(|(id, row)| (id, row)).collect();
    if !projects.is_empty() {
        let mut table = transaction.open_table(tables::PROJECTS)?;
        for (id, bytes) in projects {
            table.insert(id.as_str(), &bytes[..])?;
        }
    }
    let counters: BTreeMap<_, _> = run.iter().flat_map(|batch| &batch.counters).map(|(id, row)| (id, row)).collect();
    if !counters.is_empty() {
        let mut table = transaction.open_table(tables::COUNTERS)?;
        for (id, bytes) in counters {
            table.insert(id.as_str(), &bytes[..])?;
        }
    }
    let pauses: BTreeMap<_, _> = run.iter().flat_map(|batch| &batch.tier_pauses).map(|(id, row)| (id, row)).collect();
    if !pauses.is_empty() {
        let mut table = transaction.open_table(tables::TIER_PAUSES)?;
        for (tier, bytes) in pauses {
            table.insert(tier.as_str(), &bytes[..])?;
        }
    }
    Ok(())
}

fn write_estimates(run: &[&Batch], transaction: &WriteTransaction) -> Result<(), Error> {
    let estimates: BTreeMap<_, _> = run.iter().flat_map(|batch| &batch.estimates).map(|(id, row)| (id, row)).collect();
    if estimates.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(tables::ESTIMATES)?;
    for (cohort, row) in estimates {
        match row {
            Some(row) => drop(table.insert(&cohort[..], &row[..])?),
            None => drop(table.remove(&cohort[..])?),
        }
    }
    Ok(())
}

impl Batch {
    /// Whether the batch can be written together with the batches before and after it: it removes
    /// nothing that another of them may write, and does not change the list of changes.
    fn is_mergeable(&self) -> bool {
        let Self { removed_dead_letters, removed_tasks, trim, listing, checkpoints, log_readers, .. } = self;
        removed_dead_letters.is_empty()
            && removed_tasks.is_empty()
            && trim.is_empty()
            && listing.is_empty()
            && checkpoints.is_empty()
            && log_readers.is_empty()
    }

    fn write_records(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        self.record_rows.write(transaction)?;
        if !self.records.is_empty() {
            let mut records = transaction.open_table(tables::RECORDS)?;
            for (id, bytes) in &self.records {
                records.insert(&id.to_bytes(), &bytes[..])?;
            }
        }
        if !self.lineage.is_empty() {
            let mut lineage = transaction.open_table(tables::LINEAGE)?;
            let mut by_step = transaction.open_table(tables::RECORDS_BY_STEP)?;
            for (id, step, bytes) in &self.lineage {
                if lineage.insert(&id.to_bytes(), &bytes[..])?.is_none() {
                    by_step.insert(step.0, &id.to_bytes())?;
                }
            }
        }
        self.cascades.write(transaction)?;
        self.statements.write(transaction)?;
        self.contents.write(transaction)
    }

    /// Writes changes of dead letters. The last assigned number is stored beside them, because all
    /// of them may be removed.
    fn write_dead_letters(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        self.dead_letter_removals.write(transaction)?;
        if self.dead_letters.is_empty() && self.removed_dead_letters.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(tables::DEAD_LETTERS)?;
        for (number, bytes) in &self.dead_letters {
            table.insert(*number, &bytes[..])?;
        }
        for number in &self.removed_dead_letters {
            table.remove(*number)?;
        }
        if let Some(last) = self.dead_letters.iter().map(|(number, _)| *number).max() {
            let mut meta = transaction.open_table(tables::META)?;
            meta.insert(tables::LAST_DEAD_LETTER_KEY, &last.to_le_bytes()[..])?;
        }
        Ok(())
    }

    fn write_log_readers(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.log_readers.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(tables::LOG_READERS)?;
        for (name, row) in &self.log_readers {
            match row {
                Some(row) => drop(table.insert(name.as_str(), &row[..])?),
                None => drop(table.remove(name.as_str())?),
            }
        }
        Ok(())
    }

    fn write_identities(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if let Some((seq, row)) = &self.taken_events {
            transaction.open_table(tables::TAKEN_EVENTS)?.insert(seq.0, &row[..])?;
        }
        if !self.idempotency.is_empty() {
            let mut table = transaction.open_table(tables::IDEMPOTENCY)?;
            for (seq, bytes) in &self.idempotency {
                table.insert(seq.0, &bytes[..])?;
            }
        }
        Ok(())
    }

    fn write_removals(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.removed_tasks.is_empty() {
            return Ok(());
        }
        let mut submissions = transaction.open_table(tables::SUBMISSIONS)?;
        let mut finished = transaction.open_table(tables::FINISHED_TASKS)?;
        let mut by_end = transaction.open_table(tables::FINISHED_BY_END)?;
        let mut by_project = transaction.open_table(tables::TASKS_BY_PROJECT)?;
        let mut history = transaction.open_table(tables::HISTORY)?;
        let mut findings = transaction.open_table(tables::FINDINGS)?;
        for task in &self.removed_tasks {
            let id = task.id.to_bytes();
            submissions.remove(&id)?;
            finished.remove(&id)?;
            findings.remove(&id)?;
            by_end.remove(&then_id(task.ended_at_ms, id))?;
            by_project.remove((task.project.as_str(), task.status.code(), &id))?;
            history.retain_in::<&[u8; 24], _>(&id_then(id, 0)..=&id_then(id, u64::MAX), |_, _| false)?;
        }
        rerun_chains::remove(transaction, self.removed_tasks.iter().map(|task| task.id))
    }

    fn write_trim(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if let Some(until) = self.trim.log {
            log::trim(transaction, until)?;
        }
        let trims = [(self.trim.taken_events, tables::TAKEN_EVENTS), (self.trim.idempotency, tables::IDEMPOTENCY)];
        for (until, definition) in trims {
            let Some(until) = until else { continue };
            let mut table = transaction.open_table(definition)?;
            table.retain_in(..until.0, |_, _| false)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::time::Duration;

    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::{CommitNumber, Counters, ScanFilter, Store};
    use crate::task::{
        self, Domain, ExecutionMode, Input, Moment, Now, Options, Phase, Policy, Priority, ProjectId, QaProfile,
        Resolved, Submission, Task, Tier, Timestamp,
    };

    fn submission(project: &str) -> Submission {
        Submission {
            description: "d".to_owned(),
            project: ProjectId::new(project).unwrap(),
            priority: None,
            options: Options::default(),
            metadata: None,
            execution_mode: ExecutionMode::Autonomous,
            constitution_override: None,
            traceparent: None,
            rerun_of: None,
        }
    }

    fn at(second: i64) -> Now {
        Now::aligned(Timestamp::from_micros(1_795_000_000_000_000 + second * 1_000_000))
    }

    fn new_task(id: u8, project: &str) -> Task {
        let resolved = Resolved {
            priority: Priority::Normal,
            tier: Tier::new("small").unwrap(),
            domain: Domain::new("d").unwrap(),
            qa_profile: QaProfile::new("none").unwrap(),
            timeout_seconds: 600,
            max_attempts: 3,
            routing: None,
        };
        task::submit(TaskId::from_bytes([id; 16]), &submission(project), resolved, &[], at(0), &Policy::default()).task
    }

    fn cancelled(task: &Task) -> Task {
        let cancel = Input::Cancel { reason: None };
        let now = Now::aligned(task.created_at.after(Duration::from_secs(1)));
        task::apply(task, cancel, now, &Policy::default()).unwrap().task
    }

    fn changed(task: &Task, version: u64) -> Task {
        Task { version, ..task.clone() }
    }

    fn put(batch: &mut Batch, before: Option<&Task>, task: &Task, queued: u64) {
        if before.is_none() {
            batch.put_submission(task.id, &submission(task.project.as_str())).unwrap();
        }
        batch.put_task(before.map(Task::status), task).unwrap();
        let mut counters = Counters::default();
        (0..queued).for_each(|_| counters.moved(None, Some(Phase::Queued)));
        batch.put_counters(&task.project, &counters).unwrap();
    }

    /// One task that changes five times, one that ends, one that is made and ends.
    fn batches() -> Vec<Batch> {
        let (busy, ends, short) = (new_task(1, "a"), new_task(2, "b"), new_task(3, "a"));
        let mut batches: Vec<Batch> = (0..6).map(|_| Batch::default()).collect();
        put(&mut batches[0], None, &busy, 1);
        put(&mut batches[0], None, &ends, 1);
        for version in 2..=5 {
            let place = usize::try_from(version).unwrap() - 1;
            put(&mut batches[place], Some(&busy), &changed(&busy, version), version);
        }
        put(&mut batches[2], Some(&ends), &cancelled(&ends), 0);
        put(&mut batches[2], None, &short, 2);
        put(&mut batches[4], Some(&short), &cancelled(&short), 7);
        batches
    }

    fn store() -> Store {
        let store = Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 20, 1 << 20).unwrap();
        store.list_changes(true, at(0)).unwrap();
        store
    }

    /// Everything that the tables say, and the number of the last commit.
    fn content(store: &Store) -> (String, CommitNumber) {
        let view = store.view().unwrap();
        let mut text = format!("{:?}", view.sizes().unwrap());
        for project in ["a", "b"].map(|project| ProjectId::new(project).unwrap()) {
            for status in Status::ALL {
                let scan = ScanFilter { project: Some(project.clone()), statuses: vec![status], below: None };
                let ids: Vec<_> = view.scan(&scan).unwrap().map(Result::unwrap).collect();
                let tasks: Vec<_> = ids.iter().map(|id| view.task(*id).unwrap().unwrap()).collect();
                writeln!(text, "{project} {status:?}: {tasks:?}").unwrap();
            }
            writeln!(text, "{:?}", view.counters(&project).unwrap()).unwrap();
        }
        writeln!(text, "{:?}", view.ended_before(Moment::aligned(at(100).wall), 10).unwrap()).unwrap();
        (text, view.commit_number().unwrap())
    }

    #[test]
    fn batches_give_the_same_tables_however_they_are_gathered() {
        let (alone, gathered) = (store(), store());
        for batch in batches() {
            batch.commit(&alone, at(1)).unwrap();
        }
        let durable: Vec<_> =
            batches().into_iter().map(|batch| batch.make_durable(&gathered, at(1)).unwrap()).collect();
        gathered.apply(durable).unwrap();
        assert_eq!(content(&gathered), content(&alone));
        let changes = |store: &Store| store.view().unwrap().changes(CommitNumber(1)).unwrap().count();
        assert_eq!((changes(&alone), changes(&gathered)), (5, 1));
    }

    /// Counts the work: a row of a task, of its index and of the counters is
    /// written once for a run.
    #[test]
    fn a_task_that_changes_five_times_is_written_once() {
        let batches = batches();
        let run: Vec<&Batch> = batches.iter().collect();
        let net = net_tasks(&run);
        assert_eq!(run.iter().map(|batch| batch.tasks.len()).sum::<usize>(), 9);
        let seen: Vec<_> = net.values().map(|net| (net.before, net.row.after)).collect();
        assert_eq!(seen, [(None, Status::Pending), (None, Status::Cancelled), (None, Status::Cancelled)]);
        assert!(run.iter().all(|batch| batch.is_mergeable()));
    }
}
