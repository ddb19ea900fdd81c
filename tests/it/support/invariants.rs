//! What must hold of every store at every commit, checked through its public
//! reads. A check gives what it found, so that a later one can tell whether
//! anything went back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use dats::lineage::{Flag, Graph, fact_of, statements_of};
use dats::store::{
    Cause, Checkpoint, Counters, LogEntry, PageBudget, Record, RecordPlace, Recovered, ScanFilter, Standing, Store,
    View,
};
use dats::task::{
    Change, EventHash, Moment, Outcome, Phase, ProjectId, RecordId, Seq, Status, Task, TaskId, Timestamp,
};
use sha2::{Digest, Sha256};

/// What a store held when it was checked.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) entries: Vec<(Seq, LogEntry)>,
    pub(crate) head: u64,
}

/// The most slots that a project was ever allowed.
pub(crate) type HighestLimit<'a> = &'a dyn Fn(&ProjectId) -> u32;

/// Checks a store that nobody is writing to, whose log was never trimmed.
pub(crate) fn check(store: &Store, highest_limit: HighestLimit<'_>) -> Result<Snapshot> {
    check_after(store, highest_limit, &|_, _| false)
}

/// As [`check`], of a store that was upgraded from format 5 and that no engine
/// has opened yet. The upgrade changes tasks and leaves the log as it is, so a
/// dispatched task still stands in the log as format 5 had it: `running`.
pub(crate) fn check_upgraded(store: &Store, highest_limit: HighestLimit<'_>) -> Result<Snapshot> {
    check_after(store, highest_limit, &|logged, task| {
        let was_dispatched = logged.status == Status::Running && logged.phase == Phase::Dispatched;
        let is_converted = task.status() == Status::Pending && task.phase() == Phase::Dispatched;
        was_dispatched && is_converted && task.version > logged.version
    })
}

/// Whether a task may have another status than its last entry in the log says.
type MayDiffer<'a> = &'a dyn Fn(&Standing, &Task) -> bool;

fn check_after(store: &Store, highest_limit: HighestLimit<'_>, may_differ: MayDiffer<'_>) -> Result<Snapshot> {
    let (recovered, view) = (store.recover()?, store.view()?);
    let tasks = tasks(&recovered, &view).context("tasks")?;
    indexes(&recovered, &view, &tasks).context("indexes")?;
    counters(&recovered, &tasks).context("counters")?;
    let entries = log(&recovered, &view).context("log")?;
    histories(&view, &tasks, &entries).context("histories")?;
    lives(&tasks, &entries, may_differ).context("lives")?;
    slots(&tasks, &entries, highest_limit).context("slots")?;
    super::families::check(&tasks, &entries).context("families")?;
    events(&recovered, &entries).context("events")?;
    records(&view, &tasks).context("records")?;
    lineage(&recovered, &view).context("lineage")?;
    checkpoints(&recovered, &view, &tasks).context("checkpoints")?;
    dead_letters(&recovered, &view).context("dead letters")?;
    readers(&recovered).context("readers of the log")?;
    Ok(Snapshot { tasks, entries, head: recovered.head.0 })
}

impl Snapshot {
    /// Nothing that `older` saw has gone back.
    pub(crate) fn follows(&self, older: &Self) -> Result<()> {
        ensure!(self.head >= older.head, "the log went back from {} to {}", older.head, self.head);
        for (id, before) in &older.tasks {
            let now = self.tasks.get(id).with_context(|| format!("task {id} is gone"))?;
            ensure!(now.version >= before.version, "the version of {id} went back");
            ensure!(now.created_at == before.created_at, "task {id} was created twice");
            if before.status().is_terminal() {
                ensure!(now.state == before.state, "{id} left its end: {:?} -> {:?}", before.state, now.state);
            }
        }
        ensure!(self.entries.starts_with(&older.entries), "the log was rewritten");
        Ok(())
    }
}

/// Every task is in exactly one table.
fn tasks(recovered: &Recovered, view: &View) -> Result<BTreeMap<TaskId, Task>> {
    let sizes = view.sizes()?;
    let mut tasks = BTreeMap::new();
    for row in &recovered.open {
        let task = &row.task()?;
        ensure!(row.id == task.id, "{} has the row of {}", row.id, task.id);
        ensure!(!task.status().is_terminal(), "{} has ended and is among the open", task.id);
        ensure!(view.task(task.id)?.as_ref() == Some(task), "{} is open and finished", task.id);
        ensure!(tasks.insert(task.id, task.clone()).is_none(), "{} is open twice", task.id);
    }
    let finished = view.ended_before(Moment::from_micros(i64::MAX), usize::MAX)?;
    for (id, project, status, ended_at_ms) in &finished {
        let task = view.task(*id)?.with_context(|| format!("{id} has ended and has no row"))?;
        ensure!(task.id == *id && task.status() == *status && task.project == *project, "the end of {id} is wrong");
        ensure!(task.ended().map(Moment::as_millis) == Some(*ended_at_ms), "the time of the end of {id} is wrong");
        ensure!(tasks.insert(*id, task).is_none(), "{id} is in two tables");
    }
    let (open, ended) = (u64::try_from(recovered.open.len())?, u64::try_from(finished.len())?);
    ensure!(sizes.open_tasks == open && sizes.finished_tasks == ended && sizes.finished_by_end == ended, "{sizes:?}");
    ensure!(sizes.submissions == open + ended, "{sizes:?}");
    for id in tasks.keys() {
        ensure!(view.submission(*id)?.is_some(), "{id} has no submission");
    }
    Ok(tasks)
}

/// The lists show every task once, newest first, under its state.
fn indexes(recovered: &Recovered, view: &View, tasks: &BTreeMap<TaskId, Task>) -> Result<()> {
    let all: Vec<TaskId> = view.scan(&ScanFilter::default())?.collect::<Result<_, _>>()?;
    ensure!(all.iter().rev().eq(tasks.keys()), "the list of all tasks is wrong");
    ensure!(view.sizes()?.tasks_by_project == view.task_count()?, "the index has rows too many");
    for project in &recovered.projects {
        for status in Status::ALL {
            let filter =
                ScanFilter { project: Some(project.id.clone()), statuses: vec![status], ..ScanFilter::default() };
            let listed: Vec<TaskId> = view.scan(&filter)?.collect::<Result<_, _>>()?;
            let of_it = |task: &&Task| task.project == project.id && task.status() == status;
            let expected: Vec<TaskId> = tasks.values().filter(of_it).map(|task| task.id).rev().collect();
            ensure!(listed == expected, "{status:?} tasks of {}: {listed:?}, not {expected:?}", project.id);
        }
    }
    Ok(())
}

fn counters(recovered: &Recovered, tasks: &BTreeMap<TaskId, Task>) -> Result<()> {
    let mut counted: HashMap<ProjectId, Counters> = HashMap::new();
    for task in tasks.values() {
        counted.entry(task.project.clone()).or_default().moved(None, Some(task.phase()));
        let known = recovered.projects.iter().any(|project| project.id == task.project);
        ensure!(known, "{} belongs to no project", task.id);
    }
    for (project, kept) in &recovered.counters {
        let scanned = counted.remove(project).unwrap_or_default();
        ensure!(*kept == scanned, "counters of {project}: {kept:?}, a scan gives {scanned:?}");
    }
    ensure!(counted.is_empty(), "projects without counters: {:?}", counted.keys());
    Ok(())
}

fn log(recovered: &Recovered, view: &View) -> Result<Vec<(Seq, LogEntry)>> {
    let entries = view.log(Seq(0), usize::MAX)?.collect::<Result<Vec<_>, _>>()?;
    for (place, (seq, _)) in (1..).zip(&entries) {
        ensure!(seq.0 == place, "position {seq} stands where {place} should");
    }
    ensure!(u64::try_from(entries.len())? == recovered.head.0, "the head is {}", recovered.head);
    ensure!(entries.is_sorted_by_key(|(_, entry)| entry.moment()), "observed time went back");
    Ok(entries)
}

fn histories(view: &View, tasks: &BTreeMap<TaskId, Task>, entries: &[(Seq, LogEntry)]) -> Result<()> {
    let mut expected: HashMap<TaskId, Vec<(Seq, LogEntry)>> = HashMap::new();
    let mut count = 0;
    for (seq, entry) in entries {
        let Some(task) = entry.task() else { continue };
        expected
            .entry(task)
            .or_default()
            .push((*seq, LogEntry { event: None, observed: Moment::default(), ..entry.clone() }));
        count += 1;
    }
    for id in tasks.keys() {
        let history = view.history(*id, Seq(0), PageBudget::UNLIMITED)?.entries;
        ensure!(history.iter().all(|each| each.left_out == 0), "{id}: a short history leaves something out");
        let history: Vec<_> = history.into_iter().map(|each| (each.seq, each.entry)).collect();
        ensure!(expected.remove(id).unwrap_or_default() == history, "the history of {id} is not what the log has");
    }
    ensure!(expected.is_empty(), "the log tells of unknown tasks: {:?}", expected.keys());
    ensure!(view.sizes()?.history == count, "histories have entries too many");
    Ok(())
}

/// The entries about tasks, and where these stand after them.
fn of_tasks(entries: &[(Seq, LogEntry)]) -> impl Iterator<Item = (Seq, &LogEntry, Standing)> {
    entries.iter().filter_map(|(seq, entry)| Some((*seq, entry, entry.standing()?)))
}

/// Each life begins once, ends at most once, and leads to the task's state.
fn lives(tasks: &BTreeMap<TaskId, Task>, entries: &[(Seq, LogEntry)], may_differ: MayDiffer<'_>) -> Result<()> {
    let mut last: HashMap<TaskId, (&LogEntry, Standing)> = HashMap::new();
    for (seq, entry, now) in of_tasks(entries) {
        let before = last.insert(now.task, (entry, now));
        ensure!(before.is_none() == matches!(entry.change, Change::Created), "{seq}: {:?}", entry.change);
        let Some((older, before)) = before else { continue };
        ensure!(now.version >= before.version, "{seq}: the version went back");
        if before.status.is_terminal() {
            let (from, to) = (before.status.as_str(), now.status.as_str());
            ensure!(now.status == before.status, "{seq}: {from} became {to}");
        }
        if matches!(older.change, Change::Finished { .. }) {
            ensure!(!matches!(entry.change, Change::Finished { .. }), "{seq}: a second end");
        }
    }
    for task in tasks.values() {
        let (_, last) = last.get(&task.id).with_context(|| format!("{} is not in the log", task.id))?;
        let is_as_logged = last.status == task.status() || may_differ(last, task);
        ensure!(is_as_logged, "{}: the log says {}", task.id, last.status.as_str());
        ensure!(last.version <= task.version, "{}: the log is ahead", task.id);
    }
    Ok(())
}

/// At no position of the log does a project hold more slots than it ever had.
fn slots(tasks: &BTreeMap<TaskId, Task>, entries: &[(Seq, LogEntry)], highest: HighestLimit<'_>) -> Result<()> {
    let mut held: HashMap<&ProjectId, HashSet<TaskId>> = HashMap::new();
    for (seq, entry, now) in of_tasks(entries) {
        let of_project = held.entry(&entry.project).or_default();
        match now.phase {
            Phase::Dispatched | Phase::Leased | Phase::Started => drop(of_project.insert(now.task)),
            // With the slot that it had; none where an output came unasked.
            Phase::Validating => {}
            _ => drop(of_project.remove(&now.task)),
        }
        let limit = highest(&entry.project);
        let used = of_project.len();
        ensure!(used <= usize::try_from(limit)?, "{seq}: {} holds {used} of {limit} slots", entry.project);
    }
    for task in tasks.values() {
        let logged = held.get(&task.project).is_some_and(|held| held.contains(&task.id));
        ensure!(task.holds_slot() == logged, "{} is {:?}, the log disagrees", task.id, task.phase());
    }
    Ok(())
}

/// What an accepted event is known by, if by anything.
pub(crate) fn identity(entry: &LogEntry) -> Option<(&str, Outcome)> {
    match &entry.change {
        Change::Accepted { outcome, .. } => entry.event.as_deref().map(|event| (event, *outcome)),
        _ => None,
    }
}

fn events(recovered: &Recovered, entries: &[(Seq, LogEntry)]) -> Result<()> {
    let (mut accepted, mut identified) = (HashMap::new(), 0);
    for (seq, entry) in entries {
        let Some((event, outcome)) = identity(entry).filter(|(event, _)| event.contains("\"id\"")) else { continue };
        identified += 1;
        // One that waited in vain may be sent again.
        let before = accepted.insert(event, outcome);
        ensure!(before.is_none_or(|before| before == Outcome::Parked), "{seq}: {event} was taken twice");
    }
    let hashes: Vec<EventHash> = recovered.taken_events.iter().flat_map(|taken| taken.hashes.clone()).collect();
    let distinct: HashSet<&EventHash> = hashes.iter().collect();
    let forgotten: usize = recovered.taken_events.iter().map(|taken| taken.forgotten.len()).sum();
    ensure!(distinct.len() + forgotten >= hashes.len(), "an event is remembered twice");
    ensure!(hashes.len() == identified, "{} events remembered, {identified} in the log", hashes.len());
    let keys: HashSet<[u8; 16]> = recovered.idempotency.iter().map(|(_, row)| row.key).collect();
    ensure!(keys.len() == recovered.idempotency.len(), "an idempotency key is remembered twice");
    Ok(())
}

fn records(view: &View, tasks: &BTreeMap<TaskId, Task>) -> Result<()> {
    let records: Vec<Record> = view.records()?.collect::<Result<_, _>>()?;
    let mut outputs = BTreeSet::new();
    for record in &records {
        if record.imported.is_none() {
            let task = tasks.get(&record.task).with_context(|| format!("record {} has no task", record.id))?;
            let attempt = record.attempt.with_context(|| format!("record {} is of no attempt", record.id))?;
            ensure!(record.project == task.project && attempt <= task.attempts(), "record {} is wrong", record.id);
        }
        for output in &record.outputs {
            outputs.insert((output.artifact.id.clone(), record.id));
            let Some(hash) = output.content else { continue };
            let content = view.content(hash)?.with_context(|| format!("record {} lost its content", record.id))?;
            ensure!(<[u8; 32]>::from(Sha256::digest(content)) == hash, "record {} has other content", record.id);
        }
    }
    for (artifact, record) in &outputs {
        ensure!(view.records_of_artifact(artifact)?.contains(record), "{artifact} does not lead to {record}");
    }
    let sizes = view.sizes()?;
    ensure!(sizes.records_by_artifact == u64::try_from(outputs.len())?, "artifacts lead to records too many");
    ensure!(sizes.records == u64::try_from(records.len())?, "{sizes:?}");
    let mut places: Vec<_> = records.iter().map(|record| RecordPlace::new(record.created_at, record.id)).collect();
    places.sort_unstable();
    let by_time: Vec<_> = view.records_by_time(None, None, None)?.collect::<Result<_, _>>()?;
    ensure!(by_time.iter().rev().eq(&places), "the list of records by time is wrong");
    for record in &records {
        let of_task: Vec<_> = view.records_of_task(record.task)?.collect::<Result<_, _>>()?;
        ensure!(of_task.contains(&record.id), "{} is not found by its task", record.id);
    }
    let [by_time, by_task, events, event_ids] = view.list_sizes()?;
    ensure!(by_time == sizes.records && by_task == sizes.records, "the lists of records have rows too many");
    ensure!(events == event_ids, "{events} imported events have {event_ids} ids");
    let known: HashSet<_> = records.iter().map(|record| record.id).collect();
    for task in tasks.values() {
        let closed = task.closed.iter().filter_map(|closed| closed.product.as_ref().map(|(record, _)| *record));
        for record in closed.chain(task.product().map(|product| product.record)) {
            ensure!(known.contains(&record), "{} names {record}, which does not exist", task.id);
        }
    }
    Ok(())
}

fn dead_letters(recovered: &Recovered, view: &View) -> Result<()> {
    let letters = view.dead_letters(None, PageBudget::UNLIMITED)?.entries;
    let known: Vec<u64> = recovered.dead_letters.iter().rev().map(|(number, _)| *number).collect();
    let kept: Vec<u64> = letters.iter().map(|(number, _)| *number).collect();
    ensure!(kept == known, "dead letters {kept:?}, {known:?} counted");
    // No number is given twice: what is gone stays gone.
    let last = recovered.last_dead_letter;
    for entry in view.dead_letter_removals_before(None)? {
        let (_, removal) = entry?;
        for (first, end) in removal.runs {
            let back = kept.iter().find(|number| (first..=end).contains(*number));
            ensure!(
                back.is_none() && end <= last,
                "dead letters {first} to {end} of {last} are gone, {back:?} is there"
            );
        }
    }
    Ok(())
}

/// No reader has taken what is not there.
fn readers(recovered: &Recovered) -> Result<()> {
    for (name, place) in &recovered.log_readers {
        let ordered = place.joined <= place.read_to && place.read_to <= recovered.head;
        ensure!(ordered, "{name} is at {place:?}, the head is {}", recovered.head);
    }
    Ok(())
}

/// Every checkpoint is found by its project, newest first, and by its id.
fn checkpoints(recovered: &Recovered, view: &View, tasks: &BTreeMap<TaskId, Task>) -> Result<()> {
    let all: Vec<Checkpoint> = view.checkpoints()?.collect::<Result<_, _>>()?;
    let sizes = view.sizes()?;
    let count = u64::try_from(all.len())?;
    ensure!(sizes.checkpoints == count && sizes.checkpoints_by_project == count, "{sizes:?}");
    let mut listed = 0;
    for project in &recovered.projects {
        let of_it: Vec<Checkpoint> = view.checkpoints_of(&project.id, None)?.collect::<Result<_, _>>()?;
        ensure!(
            of_it.is_sorted_by_key(|each| std::cmp::Reverse(each.place())),
            "those of {} are out of order",
            project.id
        );
        for checkpoint in &of_it {
            ensure!(checkpoint.project == project.id, "{} is listed for {}", checkpoint.id, project.id);
            ensure!(view.checkpoint(&checkpoint.id)?.as_ref() == Some(checkpoint), "{} is not found", checkpoint.id);
        }
        for target in &of_it {
            let Some(at) = target.rolled_back_at else { continue };
            let undone = |made: Timestamp| made > target.created_at && made < at;
            let valid = of_it.iter().find(|each| undone(each.created_at) && each.is_valid);
            ensure!(valid.is_none(), "{valid:?} is valid behind a rollback to {}", target.id);
            // What an earlier rollback has submitted again may go on, with its parts, and so
            // may what only waited.
            let fresh = |task: &&Task| task.rerun_of.is_none() && task.parent.is_none() && task.project == project.id;
            let ran = |task: &&Task| task.open_attempt().is_some_and(|attempt| attempt.opened_at < at);
            let open = tasks.values().filter(fresh).find(|task| undone(task.created_at) && ran(task));
            ensure!(open.is_none(), "{open:?} runs behind a rollback to {}", target.id);
        }
        listed += of_it.len();
    }
    ensure!(listed == all.len(), "{} checkpoints, {listed} are listed", all.len());
    Ok(())
}

/// The graph that a start builds has every record, as it is stored.
fn lineage(recovered: &Recovered, view: &View) -> Result<()> {
    let graph = &recovered.graph;
    let mut count = 0;
    for record in view.records()? {
        let record = record?;
        let node = graph.find(record.id).with_context(|| format!("{} is not in the graph", record.id))?;
        let known = graph.record(node).context("a record")?;
        ensure!(known.status == record.status && known.task == record.task, "{} is another one there", record.id);
        ensure!(graph.outputs(node).count() == record.outputs.len(), "{} has other outputs there", record.id);
        ensure!(graph.inputs(node).count() == record.inputs.len(), "{} has other inputs there", record.id);
        count += 1;
    }
    ensure!(graph.len() == count, "the graph has {} records, the store {count}", graph.len());
    statements(recovered, view).context("statements")?;
    trail(graph, view).context("the audit trail")
}

/// What was said of records leads to their facts, and stands where these do not
/// say it all, and only there. Each has its step in the trail.
fn statements(recovered: &Recovered, view: &View) -> Result<()> {
    for id in &recovered.stated {
        let statements = view.statements(*id)?.with_context(|| format!("{id} has no row"))?;
        let known = recovered.graph.find(*id).and_then(|node| recovered.graph.record(node));
        let fact = known.with_context(|| format!("{id} is no record"))?.fact;
        ensure!(statements.is_sorted_by_key(|each| each.step), "{id}: {statements:?}");
        ensure!(fact_of(&statements) == fact, "{id} has the fact {fact:?}, and {statements:?}");
        ensure!(statements_of(fact) != statements, "{id}: its fact says it all");
        for each in &statements {
            ensure!(view.cascade(each.step)?.is_some(), "{id}: nothing is known of step {}", each.step);
        }
    }
    Ok(())
}

/// The trail tells of every change of a flag: from its beginning it leads to
/// what the flags are.
fn trail(graph: &Graph, view: &View) -> Result<()> {
    let mut flags: HashMap<RecordId, Flag> = HashMap::new();
    let rows: Vec<_> = view.cascades(None)?.collect::<Result<_, _>>()?;
    for (seq, row) in rows.into_iter().rev() {
        let is_listed = matches!(row.cause, Cause::Import(_))
            || view.cascade_steps(&row.cascade_id, Seq(seq.0 - 1))?.first() == Some(&seq);
        ensure!(is_listed, "step {seq} is not listed under cascade {}", row.cascade_id);
        for change in view.cascade_changes(seq)? {
            let before = flags.insert(change.record, change.to).unwrap_or(Flag::Clean);
            ensure!(before == change.from, "{seq}: {} was {before:?}, not {:?}", change.record, change.from);
        }
    }
    for known in graph.nodes().filter_map(|node| graph.record(node)) {
        let told = flags.remove(&known.id).unwrap_or(Flag::Clean);
        ensure!(told == known.flag, "{} is {:?}, the trail says {told:?}", known.id, known.flag);
    }
    ensure!(flags.is_empty(), "the trail tells of unknown records: {flags:?}");
    Ok(())
}
