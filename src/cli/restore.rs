//! `dats restore`: a new data directory in place of a lost one.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

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
    /// What to restore from: `postgres`, which is the database of
    /// `storage.database_url`, or the directory of a backup.
    #[arg(long)]
    from: From,
    /// Take a copy in the database that was still being made too: what it
    /// lacks is lost.
    #[arg(long)]
    incomplete: bool,
}

/// What can be restored from.
#[derive(Debug, Clone)]
enum From {
    /// The canonical copy.
    Postgres,
    /// A backup.
    Directory(PathBuf),
}

impl FromStr for From {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "postgres" { Self::Postgres } else { Self::Directory(text.into()) })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.settings.sources())?;
    let report = match &arguments.from {
        From::Postgres => {
            signals::block_on_value(async { Ok(service::restore(&config, arguments.incomplete).await?) })?
        }
        From::Directory(from) => service::restore_backup(&config, from)?,
    };
    line(&format!("restored {}: {report}", config.engine.data_dir.display()))?;
    if matches!(arguments.from, From::Directory(_)) && config.storage.replica(false).is_some() {
        line("The copy in the database is of the directory that was lost: start once with `dats serve --adopt`.")?;
    }
    Ok(())
}
