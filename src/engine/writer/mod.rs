//! The writer: one named thread that orders everything. It takes the queued commands,
//! applies them, commits them in one transaction, publishes the result to the read side, and
//! only then releases the answers.

mod apply;
mod command;
mod commit;
mod growth;
mod held;
mod planned;
mod queue;
mod run;
mod tables;
mod workers;

#[cfg(test)]
mod tests;

pub(super) use command::{Command, Reply};
pub(super) use growth::Growth;
pub(super) use queue::{CommandSender, lanes};
pub(super) use run::Writer;
