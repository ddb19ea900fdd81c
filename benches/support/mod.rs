//! Shared code of the benches: the limits with which the service is compared, servers, and
//! data. The load generator is `dats::workload::load`.

pub(crate) mod engine;
pub(crate) mod limits;
pub(crate) mod linked;
pub(crate) mod lives;
pub(crate) mod pace;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod upsert;
