//! A batch on its way into the tables.

use redb::WriteTransaction;

use super::Error;
use super::batch::Batch;
use super::tables::{self, id_then, then_id};

impl Batch {
    /// Applies the batch to the tables.
    pub(super) fn apply(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        self.write(transaction)?;
        let mut meta = transaction.open_table(tables::META)?;
        meta.insert(tables::LAST_COMMIT_KEY, &self.at.as_micros().to_le_bytes()[..])?;
        Ok(())
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        self.write_tasks(transaction)?;
        self.write_log(transaction)?;
        self.write_log_readers(transaction)?;
        self.write_records(transaction)?;
        self.checkpoints.write(transaction)?;
        self.write_projects(transaction)?;
        self.write_estimates(transaction)?;
        self.write_identities(transaction)?;
        self.write_dead_letters(transaction)?;
        self.write_removals(transaction)?;
        self.write_trim(transaction)?;
        self.write_changes(transaction)
    }

    fn write_tasks(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if !self.submissions.is_empty() {
            let mut table = transaction.open_table(tables::SUBMISSIONS)?;
            for (id, bytes) in &self.submissions {
                table.insert(&id.to_bytes(), &bytes[..])?;
            }
        }
        if !self.findings.is_empty() {
            let mut table = transaction.open_table(tables::FINDINGS)?;
            for (id, bytes) in &self.findings {
                table.insert(&id.to_bytes(), &bytes[..])?;
            }
        }
        if self.tasks.is_empty() {
            return Ok(());
        }
        let mut open = transaction.open_table(tables::OPEN_TASKS)?;
        let mut finished = transaction.open_table(tables::FINISHED_TASKS)?;
        let mut by_end = transaction.open_table(tables::FINISHED_BY_END)?;
        let mut by_project = transaction.open_table(tables::TASKS_BY_PROJECT)?;
        for row in &self.tasks {
            let id = row.id.to_bytes();
            let project = row.project.as_str();
            if let Some(ended_at) = row.ended_at {
                if row.before.is_some() {
                    open.remove(&id)?;
                }
                finished.insert(&id, &row.bytes[..])?;
                let mut value = vec![row.after.code()];
                value.extend_from_slice(project.as_bytes());
                by_end.insert(&then_id(ended_at.as_millis(), id), &value[..])?;
            } else {
                open.insert(&id, &row.bytes[..])?;
            }
            if row.before != Some(row.after) {
                if let Some(before) = row.before {
                    by_project.remove((project, before.code(), &id))?;
                }
                by_project.insert((project, row.after.code(), &id), ())?;
            }
        }
        Ok(())
    }

    fn write_log(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.log.is_empty() {
            return Ok(());
        }
        let mut log = transaction.open_table(tables::LOG)?;
        for row in &self.log {
            log.insert(row.seq.0, &row.bytes[..])?;
        }
        let mut history = transaction.open_table(tables::HISTORY)?;
        for row in &self.log {
            let Some(task) = row.task else { continue };
            let bytes = row.without_event.as_ref().unwrap_or(&row.bytes);
            history.insert(&id_then(task.to_bytes(), row.seq.0), &bytes[..])?;
        }
        Ok(())
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
        self.contents.write(transaction)
    }

    fn write_projects(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if !self.projects.is_empty() {
            let mut table = transaction.open_table(tables::PROJECTS)?;
            for (id, bytes) in &self.projects {
                table.insert(id.as_str(), &bytes[..])?;
            }
        }
        if !self.counters.is_empty() {
            let mut table = transaction.open_table(tables::COUNTERS)?;
            for (id, bytes) in &self.counters {
                table.insert(id.as_str(), &bytes[..])?;
            }
        }
        if !self.tier_pauses.is_empty() {
            let mut table = transaction.open_table(tables::TIER_PAUSES)?;
            for (tier, bytes) in &self.tier_pauses {
                table.insert(tier.as_str(), &bytes[..])?;
            }
        }
        Ok(())
    }

    fn write_estimates(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.estimates.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(tables::ESTIMATES)?;
        for (cohort, row) in &self.estimates {
            match row {
                Some(row) => drop(table.insert(&cohort[..], &row[..])?),
                None => drop(table.remove(&cohort[..])?),
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

    fn write_dead_letters(&self, transaction: &WriteTransaction) -> Result<(), Error> {
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
        Ok(())
    }

    fn write_trim(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        let trims = [
            (self.trim.log, tables::LOG),
            (self.trim.taken_events, tables::TAKEN_EVENTS),
            (self.trim.idempotency, tables::IDEMPOTENCY),
        ];
        for (until, definition) in trims {
            let Some(until) = until else { continue };
            let mut table = transaction.open_table(definition)?;
            table.retain_in(..until.0, |_, _| false)?;
        }
        Ok(())
    }
}
