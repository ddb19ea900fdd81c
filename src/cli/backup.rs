//! `dats backup`: copies the data directory of a stopped service.

use std::path::PathBuf;

use clap::Args;

use super::exit::Failure;
use super::output::line;
use super::serve::Settings;
use crate::config::Config;
use crate::service;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats backup /backup/dats --data-dir /var/lib/dats/data")]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Directory of the copy, which is created.
    to: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.settings.sources())?;
    let report = service::backup(&config, &arguments.to)?;
    line(&format!("backed up {} to {}: {report}", config.engine.data_dir.display(), arguments.to.display()))
}
