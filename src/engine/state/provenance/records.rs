//! The provenance records and findings that a group makes or changes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::engine::state::failure::Stored;
use crate::engine::state::storage::Storage;
use crate::lineage::Relationship;
use crate::store::{Batch, ContentFile, Record, RecordInput, RecordOutput};
use crate::task::{ArtifactId, Content, Findings, NewRecord, Output, RecordId, Task, TaskId};

/// The provenance records and findings that this group makes or changes.
#[derive(Debug, Default)]
pub(in crate::engine::state) struct Records {
    changed: HashMap<RecordId, Record>,
    /// Records that are found by other values from now on, as they were before.
    unlisted: HashMap<RecordId, Record>,
    findings: HashMap<TaskId, Findings>,
    /// Files with the large contents of the event under way.
    files: Vec<Arc<ContentFile>>,
}

impl Records {
    /// Returns a record as it is in this group, or in the store, to change it.
    pub(in crate::engine::state) fn get_mut(&mut self, storage: &Storage, id: RecordId) -> Stored<Option<&mut Record>> {
        match self.changed.entry(id) {
            Entry::Occupied(known) => Ok(Some(known.into_mut())),
            Entry::Vacant(place) => Ok(storage.record(id)?.map(|record| place.insert(record))),
        }
    }

    /// Returns a record that this group has changed.
    pub(in crate::engine::state) fn changed(&self, id: RecordId) -> Option<&Record> {
        self.changed.get(&id)
    }

    /// Keeps an imported record. `before` is the one that it replaces.
    pub(in crate::engine::state) fn put_imported(&mut self, record: Record, before: Option<Record>) {
        if let Some(before) = before {
            self.unlisted.entry(record.id).or_insert(before);
        }
        self.changed.insert(record.id, record);
    }

    /// Returns the findings of a task as they are in this group, or in the store, to change
    /// them.
    pub(in crate::engine::state) fn findings_mut(&mut self, storage: &Storage, task: TaskId) -> Stored<&mut Findings> {
        match self.findings.entry(task) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(storage.findings(task)?.unwrap_or_default())),
        }
    }

    /// Returns the findings of a task as they are in this group, or in the store.
    pub(in crate::engine::state) fn findings(&self, storage: &Storage, task: TaskId) -> Stored<Option<Findings>> {
        match self.findings.get(&task) {
            Some(findings) => Ok(Some(findings.clone())),
            None => storage.findings(task),
        }
    }

    /// Sets the files with the large contents of the event under way.
    pub(in crate::engine::state) fn set_content_files(&mut self, files: Vec<Arc<ContentFile>>) {
        self.files = files;
    }

    /// Makes the record of an attempt.
    pub(super) fn make(
        &mut self,
        storage: &Storage,
        batch: &mut Batch,
        task: &Task,
        new: &NewRecord,
    ) -> Stored<&Record> {
        let record = self.record_of(storage, batch, task, new)?;
        Ok(self.changed.entry(new.id).or_insert(record))
    }

    /// Makes the record that an output of another worker began the record of the output that
    /// counts, and keeps the other artifacts beside its own. Returns what the graph is to
    /// learn: the inputs and the output.
    pub(super) fn replace_output(
        &mut self,
        storage: &Storage,
        batch: &mut Batch,
        task: &Task,
        new: NewRecord,
    ) -> Stored<(Vec<RecordInput>, Box<Output>)> {
        let filled = self.record_of(storage, batch, task, &new)?;
        let inputs = filled.inputs.clone();
        let Some(record) = self.get_mut(storage, new.id)? else { return Ok((inputs, new.output)) };
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

    /// Adds the artifacts of another output to a record.
    pub(super) fn add_outputs(
        &mut self,
        storage: &Storage,
        batch: &mut Batch,
        id: RecordId,
        output: &Output,
    ) -> Stored<()> {
        let outputs = self.outputs(batch, output);
        let Some(record) = self.get_mut(storage, id)? else { return Ok(()) };
        for output in outputs {
            let known = record.outputs.iter().any(|known| known.artifact.id == output.artifact.id);
            if !known {
                record.outputs.push(output);
            }
        }
        Ok(())
    }

    fn record_of(&self, storage: &Storage, batch: &mut Batch, task: &Task, new: &NewRecord) -> Stored<Record> {
        let output = &new.output;
        let outputs = self.outputs(batch, output);
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
            inputs: self.inputs(storage, task, output)?,
            verification: None,
            imported: None,
        })
    }

    /// The artifacts of an output, whose contents are staged.
    fn outputs(&self, batch: &mut Batch, output: &Output) -> Vec<RecordOutput> {
        let of = |artifact: crate::task::OutputArtifact| {
            let content = output.contents.get(&artifact.id).map(|content| self.put_content(batch, content));
            RecordOutput { artifact, content }
        };
        output.all_artifacts().into_iter().map(of).collect()
    }

    fn put_content(&self, batch: &mut Batch, content: &Content) -> [u8; 32] {
        let sha256 = content.sha256();
        match (content.text(), self.files.iter().find(|file| file.sha256() == sha256)) {
            (Some(text), _) => batch.put_content(sha256, text.to_owned().into_bytes()),
            (None, Some(file)) => batch.put_content_file(file.clone()),
            // A content loses its text only when it is handed over as a file.
            (None, None) => {}
        }
        sha256
    }

    /// The inputs of an output: what the worker says that it consumed, and what else it was
    /// given as context.
    fn inputs(&self, storage: &Storage, task: &Task, output: &Output) -> Stored<Vec<RecordInput>> {
        let consumed = output.inputs_consumed.iter();
        let input = |artifact: &ArtifactId, relationship| RecordInput { artifact: artifact.clone(), relationship };
        let mut inputs: Vec<_> = consumed.map(|artifact| input(artifact, Relationship::Consumed)).collect();
        if task.has_findings {
            let context = match self.findings.get(&task.id) {
                Some(findings) => findings.context.clone(),
                None => storage.findings(task.id)?.and_then(|findings| findings.context),
            };
            let sources = context.into_iter().flat_map(|context| context.sources);
            for source in sources.filter(|source| !output.inputs_consumed.contains(source)) {
                inputs.push(input(&source, Relationship::Referenced));
            }
        }
        Ok(inputs)
    }

    /// Ends the group: stages the records.
    pub(super) fn finish_records(&mut self, batch: &mut Batch) -> Stored<()> {
        for record in std::mem::take(&mut self.unlisted).values() {
            batch.unlist_record(record);
        }
        for record in std::mem::take(&mut self.changed).values() {
            batch.put_record(record)?;
        }
        Ok(())
    }

    /// Ends the group: stages the findings.
    pub(super) fn finish_findings(&mut self, batch: &mut Batch) -> Stored<()> {
        for (task, findings) in &std::mem::take(&mut self.findings) {
            batch.put_findings(*task, findings)?;
        }
        Ok(())
    }
}
