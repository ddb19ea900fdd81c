//! Rows as bytes: one byte for the version of the row's form, then the row in the postcard format.
//! A form is changed by adding a new version beside the old one, never in place.

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

const VERSION: u8 = 1;
/// Capacity that suffices for most rows; a buffer that grows from nothing is moved six times on the
/// way.
const ROW_BYTES: usize = 192;

pub(super) fn encode<T: Serialize>(table: &'static str, row: &T) -> Result<Vec<u8>, Error> {
    encode_large(table, row, ROW_BYTES)
}

/// As [`encode`], for a row of about `bytes` bytes: one that grows to megabytes would be copied
/// again and again.
pub(super) fn encode_large<T: Serialize>(table: &'static str, row: &T, bytes: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(bytes + 1);
    out.push(VERSION);
    postcard::to_extend(row, out).map_err(|error| Error::Corrupt { table, detail: error.to_string() })
}

/// Size of a buffer that rows share, in bytes.
const SHARED_BYTES: usize = 16 << 10;
/// Larger rows have a buffer of their own, in bytes.
const LARGE_ROW_BYTES: usize = 2 << 10;

/// Encodes rows into shared buffers. A batch has hundreds of small rows, and each buffer is freed
/// by another thread than the one that allocated it, which costs more than the row.
#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    row: Vec<u8>,
    shared: BytesMut,
}

impl RowBuffer {
    /// Encodes a row like the function [`encode`].
    pub(super) fn encode<T: Serialize>(&mut self, table: &'static str, row: &T) -> Result<Bytes, Error> {
        let mut out = std::mem::take(&mut self.row);
        out.clear();
        out.push(VERSION);
        let out = postcard::to_extend(row, out).map_err(|error| Error::Corrupt { table, detail: error.to_string() })?;
        if out.len() > LARGE_ROW_BYTES {
            return Ok(out.into());
        }
        if self.shared.capacity() < out.len() {
            self.shared = BytesMut::with_capacity(SHARED_BYTES);
        }
        self.shared.extend_from_slice(&out);
        self.row = out;
        Ok(self.shared.split().freeze())
    }
}

/// Decodes a value of which an earlier version wrote all but the last fields: these are read as
/// zero, empty or `None`.
pub(super) fn decode_grown<T: DeserializeOwned>(table: &'static str, row: &[u8]) -> Result<T, Error> {
    // In the postcard format each of these is a zero byte; remaining bytes are ignored.
    decode(table, &[row, &[0; 64]].concat())
}

/// Decodes a row that has gained fields at its end since the first version of its form. `missing`
/// zero bytes stand for missing fields, which read as zero, empty or `None`: as many as an empty
/// end takes, so that a row that is cut elsewhere stays an error.
pub(super) fn decode_added<T: DeserializeOwned>(table: &'static str, bytes: &[u8], missing: usize) -> Result<T, Error> {
    decode(table, bytes).or_else(|error| {
        let mut grown = Vec::with_capacity(bytes.len() + missing);
        grown.extend_from_slice(bytes);
        grown.resize(bytes.len() + missing, 0);
        decode(table, &grown).map_err(|_| error)
    })
}

pub(super) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, Error> {
    decode_with_rest(table, bytes).map(|(row, _)| row)
}

/// Decodes a row, and returns the bytes after it.
pub(super) fn decode_with_rest<'a, T: DeserializeOwned>(
    table: &'static str,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), Error> {
    #[cfg(test)]
    counted::ROWS.set(counted::ROWS.get() + 1);
    let corrupt = |detail: String| Error::Corrupt { table, detail };
    match bytes.split_first() {
        Some((&VERSION, row)) => postcard::take_from_bytes(row).map_err(|error| corrupt(error.to_string())),
        Some((version, _)) => Err(corrupt(format!("row version {version} is not known"))),
        None => Err(corrupt("an empty row".to_owned())),
    }
}

/// Counts what a thread has read, for tests.
#[cfg(test)]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local! {
        /// Decoded rows.
        pub(crate) static ROWS: Cell<u64> = const { Cell::new(0) };
        /// Opened views.
        pub(crate) static VIEWS: Cell<u64> = const { Cell::new(0) };
    }
}
