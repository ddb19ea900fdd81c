//! `dats prune`: removes finished tasks from the store of a stopped service.

use std::time::Duration;

use clap::Args;

use super::args;
use super::exit::Failure;
use super::output::line;
use super::serve::Settings;
use crate::config::Config;
use crate::service;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats prune --older-than 90d --data-dir /var/lib/dats/data")]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Remove tasks that ended longer ago than this, such as 30d or 12h; overrides
    /// `engine.retention_days`.
    #[arg(long, value_parser = args::duration)]
    older_than: Option<Duration>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.settings.sources())?;
    let report = service::prune(&config, arguments.older_than).map_err(|error| Failure::Store(format!("{error:#}")))?;
    line(&report.to_string())
}
