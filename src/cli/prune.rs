//! `dats prune`: finished tasks out of a stopped service's store.

use std::time::Duration;

use clap::Args;

use super::args;
use super::exit::Failure;
use super::output::line;
use super::serve::Settings;
use crate::config::Config;
use crate::service;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Remove tasks that ended longer ago than this, such as 30d or 12h,
    /// in place of `engine.retention_days`.
    #[arg(long, value_parser = args::duration)]
    older_than: Option<Duration>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.settings.sources())?;
    // The chain of causes in one line.
    let report = service::prune(&config, arguments.older_than).map_err(|error| Failure::Store(format!("{error:#}")))?;
    line(&report.to_string())
}
