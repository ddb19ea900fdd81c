//! Events: reports that come in, the log as a stream, dead letters.

pub(in crate::http) mod dead_letters;
pub(in crate::http) mod describe;
pub(in crate::http) mod feed;
pub(in crate::http) mod filter;
pub(in crate::http) mod follow;
pub(in crate::http) mod intake;
