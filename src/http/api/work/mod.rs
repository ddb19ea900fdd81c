//! Work queues and leases: how workers get tasks without a broker.

pub(in crate::http) mod describe;
pub(in crate::http) mod leases;
