//! Contents of artifacts and checkpoints, as one commit has them.

use std::ops::Bound;
use std::path::Path;

use redb::{AccessGuard, ReadOnlyTable, ReadableTable, Value};
use sha2::{Digest, Sha256};

use super::snapshot::View;
use crate::store::checkpoint::{Checkpoint, CheckpointProgress};
use crate::store::codec::decode;
use crate::store::contents::{DIRECTORY, KeptContent};
use crate::store::error::Error;
use crate::store::files::failed;
use crate::store::page::{Page, PageBudget, read_page};
use crate::store::tables;
use crate::task::{CheckpointId, InvalidId, ProjectId, Timestamp, hex};

impl View {
    /// Reads a whole content by its SHA-256.
    pub fn content(&self, sha256: [u8; 32]) -> Result<Option<Vec<u8>>, Error> {
        let Some(content) = self.open_content(sha256)? else { return Ok(None) };
        content.into_bytes().map(Some).map_err(failed("read", Path::new(DIRECTORY)))
    }

    /// Opens a content by its SHA-256. Fails if it is damaged.
    pub fn open_content(&self, sha256: [u8; 32]) -> Result<Option<KeptContent>, Error> {
        if let Some(row) = self.table(tables::CONTENTS)?.get(&sha256)? {
            let found: [u8; 32] = Sha256::digest(row.value()).into();
            let detail = || format!("the content {} hashes to {}", hex(sha256), hex(found));
            let sound = found == sha256;
            return if sound { Ok(Some(KeptContent::Bytes(row.value().to_vec()))) } else { Err(corrupt(detail())) };
        }
        let Some(length) = self.table(tables::CONTENT_FILES)?.get(&sha256)?.map(|row| row.value()) else {
            return Ok(None);
        };
        match self.files() {
            Some(files) => files.open(sha256, length).map(Some),
            None => Err(corrupt(format!("the content {} is in a file, the store in none", hex(sha256)))),
        }
    }

    /// Length of a content in bytes, without reading it.
    pub fn content_length(&self, sha256: [u8; 32]) -> Result<Option<u64>, Error> {
        if let Some(length) = self.table(tables::CONTENT_FILES)?.get(&sha256)? {
            return Ok(Some(length.value()));
        }
        let row = self.table(tables::CONTENTS)?.get(&sha256)?;
        Ok(row.map(|row| u64::try_from(row.value().len()).unwrap_or(u64::MAX)))
    }

    pub(in crate::store) fn has_content_file(&self, sha256: [u8; 32]) -> Result<bool, Error> {
        Ok(self.table(tables::CONTENT_FILES)?.get(&sha256)?.is_some())
    }

    /// Checks every content against its SHA-256.
    pub(in crate::store) fn check_contents(&self) -> Result<(), Error> {
        for row in self.table(tables::CONTENTS)?.iter()? {
            self.open_content(*row?.0.value())?;
        }
        for row in self.table(tables::CONTENT_FILES)?.iter()? {
            self.open_content(*row?.0.value())?;
        }
        Ok(())
    }

    /// SHA-256 of contents after one of them, in rows and files.
    pub fn contents_after(&self, after: Option<[u8; 32]>, limit: usize) -> Result<Vec<[u8; 32]>, Error> {
        let mut hashes = hashes_after(&self.table(tables::CONTENTS)?, after, limit)?;
        hashes.extend(hashes_after(&self.table(tables::CONTENT_FILES)?, after, limit)?);
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(limit);
        Ok(hashes)
    }

    /// Reads a checkpoint.
    pub fn checkpoint(&self, id: &CheckpointId) -> Result<Option<Checkpoint>, Error> {
        let row = self.table(tables::CHECKPOINTS)?.get(id.as_str())?;
        row.map(|row| decode("checkpoints", row.value())).transpose()
    }

    /// The checkpoints of a project, newest first, before one of them.
    pub fn checkpoints_of(
        &self,
        project: &ProjectId,
        before: Option<&(Timestamp, CheckpointId)>,
    ) -> Result<impl Iterator<Item = Result<Checkpoint, Error>> + use<>, Error> {
        Ok(self.checkpoint_rows_of(project, before)?.map(|row| decode("checkpoints", row?.value())))
    }

    /// A page of the checkpoints of a project, newest first, before one of them.
    pub fn checkpoint_page(
        &self,
        project: &ProjectId,
        before: Option<&(Timestamp, CheckpointId)>,
        mut budget: PageBudget,
    ) -> Result<Page<Checkpoint>, Error> {
        let mut page = Page::empty();
        for row in self.checkpoint_rows_of(project, before)? {
            let row = row?;
            if !page.has_room(&mut budget, row.value().len()) {
                break;
            }
            page.entries.push(decode("checkpoints", row.value())?);
        }
        Ok(page)
    }

    fn checkpoint_rows_of(
        &self,
        project: &ProjectId,
        before: Option<&(Timestamp, CheckpointId)>,
    ) -> Result<impl Iterator<Item = Result<AccessGuard<'static, tables::Bytes>, Error>> + use<>, Error> {
        let (project, rows) = (project.as_str(), self.table(tables::CHECKPOINTS)?);
        let by_project = self.table(tables::CHECKPOINTS_BY_PROJECT)?;
        let keys = match before {
            Some((at, id)) => by_project.range((project, i64::MIN, "")..(project, at.as_micros(), id.as_str()))?,
            // No id is empty, and no checkpoint has the largest time.
            None => by_project.range((project, i64::MIN, "")..(project, i64::MAX, ""))?,
        };
        Ok(keys.rev().map(move |key| {
            let (key, _) = key?;
            let (_, _, id) = key.value();
            let missing = || Error::Corrupt { table: "checkpoints", detail: format!("checkpoint {id} has no row") };
            rows.get(id)?.ok_or_else(missing)
        }))
    }

    /// Tasks completed since the newest checkpoints, by project.
    pub fn checkpoint_progress(&self) -> Result<Vec<(ProjectId, CheckpointProgress)>, Error> {
        let corrupt = |error: InvalidId| Error::Corrupt { table: "checkpoint_progress", detail: error.to_string() };
        let mut progress = Vec::new();
        for row in self.table(tables::CHECKPOINT_PROGRESS)?.iter()? {
            let (key, value) = row?;
            let project = ProjectId::new(key.value()).map_err(corrupt)?;
            progress.push((project, decode("checkpoint_progress", value.value())?));
        }
        Ok(progress)
    }

    /// A page of checkpoints by id, after one of them.
    pub fn checkpoints_after(
        &self,
        after: Option<&CheckpointId>,
        budget: PageBudget,
    ) -> Result<Page<Checkpoint>, Error> {
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
        let rows = self.table(tables::CHECKPOINTS)?.range::<&str>((start, Bound::Unbounded))?;
        read_page(rows, budget, |_, row| decode("checkpoints", row))
    }

    /// Up to `limit` ids of checkpoints after one of them, in order.
    pub fn checkpoint_ids_after(&self, after: Option<&CheckpointId>, limit: usize) -> Result<Vec<CheckpointId>, Error> {
        let corrupt = |error: InvalidId| Error::Corrupt { table: "checkpoints", detail: error.to_string() };
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
        let rows = self.table(tables::CHECKPOINTS)?.range::<&str>((start, Bound::Unbounded))?;
        rows.take(limit).map(|row| CheckpointId::new(row?.0.value()).map_err(corrupt)).collect()
    }

    /// All checkpoints, by id.
    pub fn checkpoints(&self) -> Result<impl Iterator<Item = Result<Checkpoint, Error>> + use<>, Error> {
        let rows = self.table(tables::CHECKPOINTS)?.range::<&str>(..)?;
        Ok(rows.map(|row| decode("checkpoints", row?.1.value())))
    }
}

fn hashes_after<V: Value + 'static>(
    table: &ReadOnlyTable<&'static [u8; 32], V>,
    after: Option<[u8; 32]>,
    limit: usize,
) -> Result<Vec<[u8; 32]>, Error> {
    let rows = match &after {
        Some(after) => table.range::<&[u8; 32]>((Bound::Excluded(after), Bound::Unbounded))?,
        None => table.iter()?,
    };
    rows.take(limit).map(|row| Ok(*row?.0.value())).collect()
}

fn corrupt(detail: String) -> Error {
    Error::Corrupt { table: "contents", detail }
}
