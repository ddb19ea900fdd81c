//! The copy in Postgres: equal to the store after whatever has happened to
//! either of them, and enough to make the store again.
//!
//! The database is real, and so is the service. What both hold is compared
//! here by queries of the tests' own, not by what the service says of itself.

pub(crate) mod equal;
mod faults;
mod histories;
mod late;
mod ownership;
mod pooler;
mod refusals;
mod restore;
mod world;
