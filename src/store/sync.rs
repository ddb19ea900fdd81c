//! Locks, condition variables and atomics of the store.
//!
//! In unit tests with the feature `model` they are those of shuttle, which runs the threads of a
//! test in many orders (`store/model.rs`), so that the tested code is the code that runs. Shuttle's
//! waits with a time limit end by a notification alone: a lost wake-up is a deadlock there, not a
//! delay.

#[cfg(all(test, feature = "model"))]
pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(all(test, feature = "model")))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, atomic};

pub(super) use std::sync::PoisonError;
