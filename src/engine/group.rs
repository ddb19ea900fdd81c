//! What one group of commands changes, until it is committed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::answer::Compact;
use super::api::Queue;
use super::pause::Changed;
use crate::store::{self, Batch, Record, RecordInput, RecordOutput, Relationship};
use crate::task::{NewRecord, Output, ProjectId, RecordId, Seq, Status, Task, TaskId};

/// What one group of commands changes.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Rows that are ready.
    pub(super) batch: Batch,
    /// Tasks whose row has changed, with the status that the store has.
    pub(super) touched: HashMap<TaskId, Option<Status>>,
    /// Projects whose counters have changed.
    pub(super) counted: HashSet<ProjectId>,
    /// Records that have changed.
    pub(super) records: HashMap<RecordId, Record>,
    /// Events that were taken.
    pub(super) hashes: Vec<[u8; 16]>,
    /// Answers under new idempotency keys.
    pub(super) answers: HashMap<Seq, Vec<u8>>,
    /// Tasks that retention removed.
    pub(super) removed: Vec<TaskId>,
    /// Answers of open tasks that were not in memory before.
    pub(super) warmed: Vec<(TaskId, Compact)>,
    /// Dead letters that were taken again.
    pub(super) requeued: HashSet<u64>,
    /// What was paused or resumed.
    pub(super) pauses: Vec<Changed>,
    /// The work queues, when it was time to look at them.
    pub(super) queues: Option<Vec<Queue>>,
}

/// What the read side learns once the group is committed.
#[derive(Debug, Default)]
pub(super) struct Publication {
    /// New answers; `None`: to be read from the store.
    pub(super) answers: Vec<(TaskId, bool, Option<Compact>)>,
    /// Tasks that are gone.
    pub(super) removed: Vec<TaskId>,
    /// What was paused or resumed.
    pub(super) pauses: Vec<Changed>,
    /// The work queues, when it was time to look at them.
    pub(super) queues: Option<Vec<Queue>>,
}

impl Publication {
    /// Whether it changes what readers see, although nothing was written.
    pub(super) const fn is_seen(&self) -> bool {
        !self.answers.is_empty() || self.queues.is_some()
    }
}

impl Group {
    /// A record as it is in this group, or in the store.
    pub(super) fn record(&mut self, store: &store::Store, id: RecordId) -> Result<Option<&mut Record>, store::Error> {
        match self.records.entry(id) {
            Entry::Occupied(known) => Ok(Some(known.into_mut())),
            Entry::Vacant(place) => Ok(store.view()?.record(id)?.map(|record| place.insert(record))),
        }
    }

    /// Makes the provenance record of an attempt.
    pub(super) fn store_record(&mut self, task: &Task, new: NewRecord) {
        let output = &new.output;
        let outputs = self.outputs(output);
        let record = Record {
            id: new.id,
            task: task.id,
            project: task.project.clone(),
            attempt: new.attempt,
            status: new.status,
            model_used: output.model_used.clone(),
            worker: output.worker.clone(),
            tier: new.tier,
            domain: new.domain,
            created_at: new.completed_at,
            started_at: output.started_at.unwrap_or(new.dispatched_at),
            completed_at: new.completed_at,
            tokens_input: output.tokens_input,
            tokens_output: output.tokens_output,
            execution_time_ms: output.execution_time_ms,
            confidence: output.confidence,
            outputs,
            inputs: consumed(output),
            verification: None,
        };
        self.records.insert(new.id, record);
    }

    /// The artifacts of an output; its content goes to the one that it names.
    pub(super) fn outputs(&mut self, output: &Output) -> Vec<RecordOutput> {
        let content = output.content.as_ref().map(|content| {
            let hash: [u8; 32] = Sha256::digest(content).into();
            self.batch.put_content(hash, content.clone().into_bytes());
            hash
        });
        let of = |artifact: crate::task::OutputArtifact| {
            let content = content.filter(|_| artifact.id == output.artifact);
            RecordOutput { artifact, content }
        };
        output.all_artifacts().into_iter().map(of).collect()
    }
}

pub(super) fn consumed(output: &Output) -> Vec<RecordInput> {
    let inputs = output.inputs_consumed.iter();
    inputs.map(|artifact| RecordInput { artifact: artifact.clone(), relationship: Relationship::Consumed }).collect()
}
