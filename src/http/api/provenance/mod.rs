//! Provenance: records, artifacts, walks, taints and cascades.

pub(in crate::http) mod artifacts;
pub(in crate::http) mod cascades;
pub(in crate::http) mod describe;
pub(in crate::http) mod export;
pub(in crate::http) mod flags;
pub(in crate::http) mod media_type;
pub(in crate::http) mod path;
pub(in crate::http) mod record;
pub(in crate::http) mod records;
pub(in crate::http) mod results;
pub(in crate::http) mod taint_events;
pub(in crate::http) mod transfer;
pub(in crate::http) mod walks;
