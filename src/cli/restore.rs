//! `dats restore`: a new data directory from the copy of a lost one.

use clap::{Args, ValueEnum};

use super::exit::Failure;
use super::output::line;
use super::serve::Settings;
use super::signals;
use crate::config::Config;
use crate::service;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// What to restore from: the database of `storage.database_url`.
    #[arg(long)]
    from: From,
    /// Take a copy that was still being made too: what it lacks is lost.
    #[arg(long)]
    incomplete: bool,
}

/// What can be restored from.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// The canonical copy.
    Postgres,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let From::Postgres = arguments.from;
    let config = Config::load(&arguments.settings.sources())?;
    let restore = async {
        let restored = service::restore(&config, arguments.incomplete).await;
        restored.map_err(|error| Failure::Failed(format!("{error:#}")))
    };
    let report = signals::block_on_value(restore)?;
    line(&format!("restored {}: {report}", config.engine.data_dir.display()))
}
