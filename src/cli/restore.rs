//! `dats restore`: creates a data directory from a backup or from the database.

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
#[command(
    after_help = "Examples:\n  dats restore --from /backup/dats --data-dir /var/lib/dats/data\n  dats restore --from postgres --dry-run"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Source: the directory of a backup, or `postgres` for the database of
    /// `storage.database_url`.
    #[arg(long)]
    from: Source,
    /// Accept a copy in the database that was never completed. Data that it lacks is lost.
    #[arg(long)]
    incomplete: bool,
    /// Print what would be done, and create nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Source of a restore.
#[derive(Debug, Clone)]
enum Source {
    /// The canonical copy.
    Postgres,
    /// The directory of a backup.
    Directory(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "postgres" { Self::Postgres } else { Self::Directory(text.into()) })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.settings.sources())?;
    let dir = config.engine.data_dir.display();
    let report = match &arguments.from {
        Source::Postgres => {
            let restored = signals::block_on_value(async {
                let copy = service::look_at_copy(&config).await?;
                line(&copy.describe(&config.engine.data_dir))?;
                if arguments.dry_run {
                    return Ok(None);
                }
                Ok(Some(service::restore(&config, copy, arguments.incomplete).await?))
            });
            match restored? {
                Some(report) => report,
                None => return line("dry run: nothing was created"),
            }
        }
        Source::Directory(from) => {
            line(&format!("creates {dir} from the backup in {}, which is not changed", from.display()))?;
            if arguments.dry_run {
                return line("dry run: nothing was created");
            }
            service::restore_backup(&config, from)?
        }
    };
    line(&format!("restored {dir}: {report}"))?;
    if matches!(arguments.from, Source::Directory(_)) && config.storage.replica(false).is_some() {
        line(
            "the copy in the database belongs to the lost directory: start once with `dats serve --adopt` to replace it",
        )?;
    }
    Ok(())
}
