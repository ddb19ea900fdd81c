//! Rows as bytes: one byte for the version of the row's form, then the row in
//! the postcard format. A form is changed by a new version beside the old
//! one, never in place.

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

const VERSION: u8 = 1;
/// What most rows have room in: a buffer that grows from nothing is moved six
/// times on the way.
const ROW_BYTES: usize = 192;

pub(super) fn encode<T: Serialize>(table: &'static str, row: &T) -> Result<Vec<u8>, Error> {
    encode_large(table, row, ROW_BYTES)
}

/// The same of a row that will have about so many bytes: one that grows to
/// megabytes is copied again and again.
pub(super) fn encode_large<T: Serialize>(table: &'static str, row: &T, bytes: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(bytes + 1);
    out.push(VERSION);
    postcard::to_extend(row, out).map_err(|error| Error::Corrupt { table, detail: error.to_string() })
}

/// Bytes of a buffer that rows share.
const SHARED_BYTES: usize = 16 << 10;
/// A larger row has a buffer of its own, in bytes.
const LARGE_ROW_BYTES: usize = 2 << 10;

/// Encodes rows into buffers that they share: a batch has hundreds of small ones, and each
/// buffer is freed by another thread than the one that made it, which costs more than the
/// row.
#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    row: Vec<u8>,
    shared: BytesMut,
}

impl RowBuffer {
    /// As [`encode`].
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

/// Decodes a value of which an earlier version has written all but the last
/// fields: these are read as zero, empty or `None`.
pub(super) fn decode_grown<T: DeserializeOwned>(table: &'static str, row: &[u8]) -> Result<T, Error> {
    // In the postcard format each of these is a zero byte; what is left over is not looked at.
    decode(table, &[row, &[0; 64]].concat())
}

/// Reads a row that has gained fields at its end since the first version of its
/// form. Where they are missing, `missing` zero bytes stand for them, which read
/// as zero, empty or `None`: as many as an empty end takes, so that a row that
/// is cut elsewhere stays an error.
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

/// The same, and the bytes behind the row.
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

/// What a thread has read, for tests of what is read.
#[cfg(test)]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local! {
        /// Rows that were decoded.
        pub(crate) static ROWS: Cell<u64> = const { Cell::new(0) };
        /// Views that were opened.
        pub(crate) static VIEWS: Cell<u64> = const { Cell::new(0) };
    }
}
