//! What the engine reads at start.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crossbeam_channel::Sender;
use redb::{ReadOnlyTable, ReadableTable};

use super::batch_rows::IdempotencyRow;
use super::checkpoint::{Checkpoint, CheckpointProgress};
use super::clocks::Clocks;
use super::codec::decode;
use super::lineage::LineageRow;
use super::log_readers::ReaderPosition;
use super::rows::{Counters, Project, TierPause, ended_as, project_id, task_of_row};
use super::tables::{self, number_of};
use super::taken_events::TakenEvents;
use super::{Error, View};
use crate::lineage::{self, Graph, RestoredRecord};
use crate::task::{
    Cohort, Moment, Parked, ProjectId, RecordId, Seq, Statistics, Status, Task, TaskId, Tier, Timestamp,
};

type LineageTable = ReadOnlyTable<tables::Id, tables::Bytes>;

const DAY: Duration = Duration::from_hours(24);

/// The engine's memory as of the last commit.
#[derive(Debug)]
pub struct Recovered {
    /// Tasks that have not ended.
    pub open: Vec<OpenRow>,
    /// Parked reports by task; the rows of `open` lack them.
    pub parked: Vec<(TaskId, Vec<Parked>)>,
    /// Every project, including deleted ones.
    pub projects: Vec<Project>,
    /// Number of tasks by phase, for each project that ever had one.
    pub counters: HashMap<ProjectId, Counters>,
    /// Tiers that are or were paused.
    pub tier_pauses: Vec<(Tier, TierPause)>,
    /// Statistics of execution times.
    pub estimates: Vec<(Cohort, Statistics)>,
    /// The provenance graph.
    pub graph: Graph,
    /// Records about which their fact does not say everything.
    pub stated: HashSet<RecordId>,
    /// Checkpoints that the service made by itself, oldest first.
    pub automatic_checkpoints: Vec<Checkpoint>,
    /// Tasks completed since the newest checkpoints, by project.
    pub checkpoint_progress: Vec<(ProjectId, CheckpointProgress)>,
    /// Position of the last change.
    pub head: Seq,
    /// First position that the log still has.
    pub tail: Seq,
    /// Readers of the log with their positions.
    pub log_readers: Vec<(String, ReaderPosition)>,
    /// Events that were taken, by commit, oldest first.
    pub taken_events: Vec<TakenEvents>,
    /// Id in the key of the row.
    pub idempotency: Vec<(Seq, IdempotencyRow)>,
    /// Tasks that ended in the day before the last commit: when, how, where.
    pub recent_ends: Vec<(Moment, Status, ProjectId)>,
    /// The numbers of the dead letters, oldest first, each with the bytes of its row.
    pub dead_letters: Vec<(u64, u64)>,
    /// The last number that a dead letter was given.
    pub last_dead_letter: u64,
    /// The entries of the audit trail of dead letters, oldest first, each with its time.
    pub dead_letter_removals: Vec<(u64, Moment)>,
    /// When the last commit was made.
    pub last_commit_at: Timestamp,
    /// What the clocks showed when they were last kept.
    pub clocks: Clocks,
}

/// A task that has not ended, as its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRow {
    /// Id in the key of the row.
    pub id: TaskId,
    /// Its row in the table of open tasks.
    pub bytes: Box<[u8]>,
}

impl OpenRow {
    /// Decodes the row.
    pub fn task(&self) -> Result<Task, Error> {
        open_task(&self.bytes)
    }
}

/// Decodes a row of the table of open tasks, which [`Batch::put_task`](super::Batch::put_task) returns.
pub fn open_task(row: &[u8]) -> Result<Task, Error> {
    task_of_row("open_tasks", row)
}

impl Recovered {
    pub(super) fn read(view: &View) -> Result<Self, Error> {
        let (last_commit_at, clocks) = (view.last_commit_at()?, view.clocks()?);
        let head = view.log_head()?;
        let tail = view.log_tail()?.unwrap_or(head.next());
        Ok(Self {
            open: open_tasks(view)?,
            parked: parked(view)?,
            projects: projects(view)?,
            counters: counters(view)?,
            tier_pauses: view.tier_pauses()?,
            estimates: estimates(view)?,
            graph: graph(view)?,
            stated: view.stated_records()?,
            automatic_checkpoints: automatic_checkpoints(view)?,
            checkpoint_progress: view.checkpoint_progress()?,
            head,
            tail,
            log_readers: view.log_readers()?,
            taken_events: view.taken_events(Seq(0), Seq(u64::MAX))?,
            idempotency: idempotency(view)?,
            recent_ends: recent_ends(view, clocks.last.observed)?,
            dead_letters: view.dead_letter_sizes()?,
            last_dead_letter: view.last_dead_letter()?,
            dead_letter_removals: view.dead_letter_removal_times()?,
            last_commit_at,
            clocks,
        })
    }
}

/// Rows that are read at once.
const CHUNK: usize = 1024;
/// Chunks that are read ahead.
const AHEAD: usize = 16;

type Chunk = (Vec<RestoredRecord>, Seq);

/// Builds the graph while another thread reads its rows; each takes about half of the time.
fn graph(view: &View) -> Result<Graph, Error> {
    let table = view.table(tables::LINEAGE)?;
    let (mut newest, mut failed) = (Seq(0), None);
    let built = std::thread::scope(|scope| {
        let (sender, chunks) = crossbeam_channel::bounded(AHEAD);
        scope.spawn(move || read_lineage(&table, &sender));
        let rows = chunks.into_iter().map_while(|chunk: Result<Chunk, Error>| match chunk {
            Ok((rows, position)) => {
                newest = newest.max(position);
                Some(rows)
            }
            // The first row that cannot be read ends the iteration.
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        Graph::restore(rows.flatten(), Seq(0))
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let corrupt = |error: lineage::Error| Error::Corrupt { table: "lineage", detail: error.to_string() };
    let (mut graph, step) = built.map_err(corrupt)?;
    if !step.refused.is_empty() || !step.bound.is_empty() {
        let (refused, bound) = (step.refused.len(), step.bound.len());
        tracing::warn!(refused, bound, "provenance links differed from the stored ones and were rebuilt");
    }
    // A clear can leave no trace in any record, but no later step may have its position.
    let last_cascade = view.table(tables::CASCADES)?.last()?.map_or(0, |(key, _)| key.value());
    graph.continue_after(newest.max(Seq(last_cascade)).max(newest_step(view)?));
    Ok(graph)
}

/// The stored newest step of the graph. A verdict can leave no trace of its step, although attempts
/// say that they began after it.
fn newest_step(view: &View) -> Result<Seq, Error> {
    let corrupt = || Error::Corrupt { table: "meta", detail: "the newest step has not 8 bytes".to_owned() };
    if let Some(step) = view.table(tables::META)?.get(tables::NEWEST_STEP_KEY)? {
        return step.value().try_into().map(|step| Seq(u64::from_le_bytes(step))).map_err(|_| corrupt());
    }
    // Earlier versions and replicas do not store it. The open tasks are read elsewhere.
    let mut newest = Seq(0);
    for row in view.table(tables::FINISHED_TASKS)?.iter()? {
        let task = task_of_row("finished_tasks", row?.1.value())?;
        newest = newest.max(task.newest_began_after());
    }
    Ok(newest)
}

/// Sends the rows of the graph in chunks, each with the newest position in it.
fn read_lineage(table: &LineageTable, chunks: &Sender<Result<Chunk, Error>>) {
    let mut chunk = (Vec::with_capacity(CHUNK), Seq(0));
    let result = table.iter().map_err(Error::from).and_then(|rows| {
        for row in rows {
            let (key, value) = row?;
            let row: LineageRow = decode("lineage", value.value())?;
            chunk.1 = chunk.1.max(row.newest());
            chunk.0.push(row.restored(RecordId::from_bytes(*key.value())));
            if chunk.0.len() == CHUNK {
                let full = std::mem::replace(&mut chunk, (Vec::with_capacity(CHUNK), Seq(0)));
                if chunks.send(Ok(full)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    });
    // If the builder has stopped, it needs no more rows.
    let _ = chunks.send(result.map(|()| chunk));
}

fn open_tasks(view: &View) -> Result<Vec<OpenRow>, Error> {
    let mut tasks = Vec::new();
    for row in view.table(tables::OPEN_TASKS)?.iter()? {
        let (key, value) = row?;
        tasks.push(OpenRow { id: TaskId::from_bytes(*key.value()), bytes: value.value().into() });
    }
    Ok(tasks)
}

fn parked(view: &View) -> Result<Vec<(TaskId, Vec<Parked>)>, Error> {
    let mut parked = Vec::new();
    let Some(table) = view.table_if_made(tables::PARKED)? else { return Ok(parked) };
    for row in table.iter()? {
        let (key, value) = row?;
        parked.push((TaskId::from_bytes(*key.value()), decode("parked", value.value())?));
    }
    Ok(parked)
}

fn projects(view: &View) -> Result<Vec<Project>, Error> {
    let mut projects = Vec::new();
    for row in view.table(tables::PROJECTS)?.iter()? {
        projects.push(decode("projects", row?.1.value())?);
    }
    Ok(projects)
}

fn counters(view: &View) -> Result<HashMap<ProjectId, Counters>, Error> {
    let mut counters = HashMap::new();
    for row in view.table(tables::COUNTERS)?.iter()? {
        let (key, value) = row?;
        counters.insert(project_id("counters", key.value())?, decode("counters", value.value())?);
    }
    Ok(counters)
}

fn estimates(view: &View) -> Result<Vec<(Cohort, Statistics)>, Error> {
    let mut estimates = Vec::new();
    for row in view.table(tables::ESTIMATES)?.iter()? {
        let (key, value) = row?;
        estimates.push((decode("estimates", key.value())?, decode("estimates", value.value())?));
    }
    Ok(estimates)
}

fn automatic_checkpoints(view: &View) -> Result<Vec<Checkpoint>, Error> {
    let mut checkpoints = Vec::new();
    for checkpoint in view.checkpoints()? {
        let checkpoint = checkpoint?;
        checkpoints.extend(checkpoint.is_automatic().then_some(checkpoint));
    }
    // Made here, so their ids are in the order of the log.
    checkpoints.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    Ok(checkpoints)
}

fn idempotency(view: &View) -> Result<Vec<(Seq, IdempotencyRow)>, Error> {
    let mut rows = Vec::new();
    for row in view.table(tables::IDEMPOTENCY)?.iter()? {
        let (key, value) = row?;
        rows.push((Seq(key.value()), decode("idempotency", value.value())?));
    }
    Ok(rows)
}

fn recent_ends(view: &View, last: Moment) -> Result<Vec<(Moment, Status, ProjectId)>, Error> {
    let day_ms = u64::try_from(DAY.as_millis()).unwrap_or(u64::MAX);
    let first = tables::then_id(last.as_millis().saturating_sub(day_ms), [0; 16]);
    let mut ends = Vec::new();
    for row in view.table(tables::FINISHED_BY_END)?.range::<&[u8; 24]>(&first..)? {
        let (key, value) = row?;
        let millis = i64::try_from(number_of(key.value())).unwrap_or(i64::MAX);
        let (status, project) = ended_as(value.value())?;
        ends.push((Moment::from_micros(millis.saturating_mul(1000)), status, project));
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::{Batch, Store};
    use crate::task::{
        self, Domain, ExecutionMode, Input, Now, Options, Policy, Priority, QaProfile, Resolved, Submission,
    };

    fn finished_task(began_after: Seq) -> Task {
        let submission = Submission {
            description: "d".to_owned(),
            project: ProjectId::new("p").unwrap(),
            priority: None,
            options: Options::default(),
            metadata: None,
            execution_mode: ExecutionMode::Autonomous,
            constitution_override: None,
            traceparent: None,
            rerun_of: None,
        };
        let resolved = Resolved {
            priority: Priority::Normal,
            tier: Tier::new("small").unwrap(),
            domain: Domain::new("d").unwrap(),
            qa_profile: QaProfile::new("none").unwrap(),
            timeout_seconds: 600,
            max_attempts: 3,
            routing: None,
        };
        let (policy, now) = (Policy::default(), Now::aligned(Timestamp::from_micros(1)));
        let task = task::submit(TaskId::from_bytes([1; 16]), &submission, resolved, &[], now, &policy).task;
        let mut task = task::apply(&task, Input::Cancel { reason: None }, now, &policy).unwrap().task;
        task.set_began_after(1, began_after);
        task
    }

    fn commit(store: &Store, change: impl FnOnce(&mut Batch)) -> Seq {
        let mut batch = Batch::default();
        change(&mut batch);
        batch.commit(store, Now::aligned(Timestamp::from_micros(1))).unwrap();
        store.recover().unwrap().graph.newest()
    }

    #[test]
    fn the_position_of_the_graph_never_goes_back() {
        let store = Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 20, 1 << 20).unwrap();
        assert_eq!(store.recover().unwrap().graph.newest(), Seq(0));
        // An earlier version stored only the positions in the attempts.
        let newest = commit(&store, |batch| drop(batch.put_task(None, &finished_task(Seq(7))).unwrap()));
        assert_eq!(newest, Seq(7));
        assert_eq!(commit(&store, |batch| batch.keep_newest_step(Seq(9))), Seq(9));
        assert_eq!(commit(&store, |batch| batch.put_content([1; 32], vec![1])), Seq(9));
    }

    #[test]
    fn the_position_of_the_graph_is_in_the_journal() {
        let mut batch = Batch::default();
        batch.keep_newest_step(Seq(300));
        assert!(!batch.is_empty());
        assert_eq!(Batch::of_journal(&batch.to_journal().unwrap()).unwrap().newest_step, Some(Seq(300)));
    }
}
