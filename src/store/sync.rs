//! The locks, condition variables and atomics of the store.
//!
//! In the unit tests of the feature `model` they are those of shuttle, which
//! runs the threads of a test in every order it can think of
//! (`store/model.rs`). So what is modelled is what runs. Shuttle's waits with a time
//! limit end by a notification alone: a wake-up that is lost is a deadlock there, not
//! a delay.

#[cfg(all(test, feature = "model"))]
pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(all(test, feature = "model")))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, atomic};

pub(super) use std::sync::PoisonError;
