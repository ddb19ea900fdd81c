//! The data of the events that the service accepts, by type.

mod attempt;
mod cascades;
mod contents;
mod fields;
mod output;
mod report;
mod review;
mod verdict;

pub(super) use attempt::{FailedData, StartedData};
pub(super) use cascades::{RollbackData, SuspectData, TaintedData, read_rollback, read_suspicion, read_taint};
pub(super) use fields::InvalidData;
pub(super) use output::OutputData;
pub(super) use report::read_report;
pub(super) use review::{CompletedData, RequestedData};
pub(super) use verdict::{RejectedData, ValidatedData};
