//! Tasks: submission, status, history and trees.

pub(in crate::http) mod describe;
pub(in crate::http) mod history;
pub(in crate::http) mod list;
pub(in crate::http) mod submission;
pub(in crate::http) mod submit;
pub(in crate::http) mod tree;
