//! Reads JSON from outside, within limits, and reports all errors at once.
//!
//! [`decode`] checks size and depth before it parses, and reads with simd-json
//! straight into the wanted type. If that fails, or the text may contain U+0000,
//! `serde_json` reads the text again and decides: it is slower, but it can say what
//! is wrong at which place, and it accepts an integer that is written as `60.0`. All
//! wrong fields are found in one call, by removing each of them and reading again.

mod decode;
mod depth;
mod duplicate_keys;
mod error;
mod findings;
mod integer_forms;
mod integer_range;
mod nul;
mod single_pass;
mod text;

pub use decode::{Object, decode, decode_all, from_value_all};
pub use depth::{MAX_DEPTH, check, find_too_deep};
pub use duplicate_keys::{DuplicateKey, find_duplicate_keys, is_duplicate_key_error};
pub use error::Invalid;
pub use findings::{FieldError, Findings, MAX_ERRORS};
pub use integer_range::{allowed_integers, check_integers, find_oversized_integer};
pub use single_pass::try_single_pass;
pub use text::{child, minify, nearest, quoted};
