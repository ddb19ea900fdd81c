//! What one group of commands changes, until it is committed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::api::{Backlog, PauseChange, TaskEnd};
use super::shared::IdHash;
use crate::lineage::{Relationship, Statement};
use crate::store::{self, Batch, Checkpoint, ContentFile, Recent, Record, RecordInput, RecordOutput};
use crate::task::{
    ArtifactId, CheckpointId, Content, Findings, NewRecord, Output, ProjectId, RecordId, Seq, Status, Task, TaskId,
};
use crate::wire::Compact;

/// What the store has, be it in the tables yet or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct InStore<'a> {
    /// The store.
    pub(super) store: &'a store::Store,
    /// The rows that its tables do not have yet.
    pub(super) recent: &'a Recent,
}

/// What happens to a project in a group, beside what is counted of its tasks.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// The project itself is new or has changed.
    pub(super) is_changed: bool,
    /// Tasks of the project that ended.
    pub(super) ends: Vec<TaskEnd>,
}

/// What one group of commands changes.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Rows that are ready.
    pub(super) batch: Batch,
    /// Tasks whose row has changed, with the status that the store has.
    pub(super) touched: HashMap<TaskId, Option<Status>, IdHash>,
    /// Projects whose counters have changed.
    pub(super) counted: HashSet<ProjectId>,
    /// Findings that have changed.
    pub(super) findings: HashMap<TaskId, Findings>,
    /// Records that have changed.
    pub(super) records: HashMap<RecordId, Record>,
    /// Records that are found by other things from now on, as they were.
    pub(super) unlisted: HashMap<RecordId, Record>,
    /// Imported events, by id: what tells them from others, and the number of the last one.
    pub(super) events: (HashMap<String, [u8; 32]>, Option<u64>),
    /// What was said of records of which more was said, or less.
    pub(super) statements: HashMap<RecordId, Vec<Statement>>,
    /// The cascades of the steps that said it.
    pub(super) cascades: HashMap<Seq, String>,
    /// Checkpoints that have changed.
    pub(super) checkpoints: BTreeMap<CheckpointId, Checkpoint>,
    /// Answers under new idempotency keys.
    pub(super) answers: HashMap<Seq, Vec<u8>>,
    /// Tasks that retention removed.
    pub(super) removed: Vec<TaskId>,
    /// Answers of open tasks that were not in memory before.
    pub(super) warmed: Vec<(TaskId, Compact)>,
    /// The contents of the event under way that are in files.
    pub(super) files: Vec<Arc<ContentFile>>,
    /// What was paused or resumed.
    pub(super) pauses: Vec<PauseChange>,
    /// What has become of projects beside their counters.
    pub(super) projects: BTreeMap<ProjectId, Touched>,
    /// What waits, when it was time to look at it.
    pub(super) backlog: Option<Backlog>,
}

impl Group {
    /// A record as it is in this group, or in the store.
    pub(super) fn record(&mut self, stored: InStore<'_>, id: RecordId) -> Result<Option<&mut Record>, store::Error> {
        match self.records.entry(id) {
            Entry::Occupied(known) => Ok(Some(known.into_mut())),
            Entry::Vacant(place) => Ok(stored.recent.record(stored.store, id)?.map(|record| place.insert(record))),
        }
    }

    /// The findings of a task as they are in this group, or in the store.
    pub(super) fn findings(&mut self, stored: InStore<'_>, task: TaskId) -> Result<&mut Findings, store::Error> {
        match self.findings.entry(task) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(stored.recent.findings(stored.store, task)?.unwrap_or_default())),
        }
    }

    /// Makes the provenance record of an attempt.
    pub(super) fn store_record(
        &mut self,
        stored: InStore<'_>,
        task: &Task,
        new: &NewRecord,
    ) -> Result<&Record, store::Error> {
        let record = self.record_of(stored, task, new)?;
        Ok(self.records.entry(new.id).or_insert(record))
    }

    /// Makes a record that an output of another worker began the record of the
    /// output that counts, and keeps the other artifacts beside its own. What
    /// the graph is to learn: its inputs, and the output.
    pub(super) fn fill_record(
        &mut self,
        stored: InStore<'_>,
        task: &Task,
        new: NewRecord,
    ) -> Result<(Vec<RecordInput>, Box<Output>), store::Error> {
        let filled = self.record_of(stored, task, &new)?;
        let inputs = filled.inputs.clone();
        let Some(record) = self.record(stored, new.id)? else { return Ok((inputs, new.output)) };
        let before = std::mem::replace(record, filled);
        record.created_at = before.created_at;
        let is_new = |output: &RecordOutput| record.outputs.iter().all(|own| own.artifact.id != output.artifact.id);
        let more: Vec<RecordOutput> = before.outputs.iter().filter(|output| is_new(output)).cloned().collect();
        record.outputs.extend(more);
        let is_new = |input: &RecordInput| record.inputs.iter().all(|own| own.artifact != input.artifact);
        let more: Vec<RecordInput> = before.inputs.iter().filter(|input| is_new(input)).cloned().collect();
        record.inputs.extend(more);
        self.unlisted.entry(new.id).or_insert(before);
        Ok((inputs, new.output))
    }

    fn record_of(&mut self, stored: InStore<'_>, task: &Task, new: &NewRecord) -> Result<Record, store::Error> {
        let output = &new.output;
        let outputs = self.outputs(output);
        Ok(Record {
            id: new.id,
            task: task.id,
            project: task.project.clone(),
            attempt: Some(new.attempt),
            status: new.status,
            model_used: output.model_used.clone(),
            worker: output.sender.worker.clone(),
            tier: Some(new.tier.clone()),
            domain: Some(new.domain.clone()),
            created_at: new.completed_at,
            started_at: Some(output.started_at.unwrap_or(new.began_at)),
            completed_at: Some(new.completed_at),
            tokens_input: output.tokens_input,
            tokens_output: output.tokens_output,
            execution_time_ms: output.execution_time_ms,
            confidence: output.confidence,
            outputs,
            inputs: self.inputs(stored, task, output)?,
            verification: None,
            imported: None,
        })
    }

    /// The artifacts of an output, with their contents.
    pub(super) fn outputs(&mut self, output: &Output) -> Vec<RecordOutput> {
        let of = |artifact: crate::task::OutputArtifact| {
            let content = output.contents.get(&artifact.id).map(|content| self.keep(content));
            RecordOutput { artifact, content }
        };
        output.all_artifacts().into_iter().map(of).collect()
    }

    fn keep(&mut self, content: &Content) -> [u8; 32] {
        let sha256 = content.sha256();
        match (content.text(), self.files.iter().find(|file| file.sha256() == sha256)) {
            (Some(text), _) => self.batch.put_content(sha256, text.to_owned().into_bytes()),
            (None, Some(file)) => self.batch.put_content_file(file.clone()),
            // Who takes the text away hands over the file.
            (None, None) => {}
        }
        sha256
    }

    /// What an output used: what the worker says that it consumed, and what
    /// it was given as context besides.
    fn inputs(&self, stored: InStore<'_>, task: &Task, output: &Output) -> Result<Vec<RecordInput>, store::Error> {
        let consumed = output.inputs_consumed.iter();
        let input = |artifact: &ArtifactId, relationship| RecordInput { artifact: artifact.clone(), relationship };
        let mut inputs: Vec<_> = consumed.map(|artifact| input(artifact, Relationship::Consumed)).collect();
        if task.has_findings {
            let context = match self.findings.get(&task.id) {
                Some(findings) => findings.context.clone(),
                None => stored.recent.findings(stored.store, task.id)?.and_then(|findings| findings.context),
            };
            let sources = context.into_iter().flat_map(|context| context.sources);
            for source in sources.filter(|source| !output.inputs_consumed.contains(source)) {
                inputs.push(input(&source, Relationship::Referenced));
            }
        }
        Ok(inputs)
    }
}
