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
    /// Make nothing, only say what would be done.
    #[arg(long)]
    dry_run: bool,
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
    let dir = config.engine.data_dir.display();
    let report = match &arguments.from {
        From::Postgres => {
            let made = signals::block_on_value(async {
                let copy = service::look_at_copy(&config).await?;
                line(&copy.describe(&config.engine.data_dir))?;
                if arguments.dry_run {
                    return Ok(None);
                }
                Ok(Some(service::restore(&config, copy, arguments.incomplete).await?))
            });
            match made? {
                Some(report) => report,
                None => return line("a dry run: nothing was made"),
            }
        }
        From::Directory(from) => {
            line(&format!("makes {dir} from the backup in {}, which stays as it is", from.display()))?;
            if arguments.dry_run {
                return line("a dry run: nothing was made");
            }
            service::restore_backup(&config, from)?
        }
    };
    line(&format!("restored {dir}: {report}"))?;
    if matches!(arguments.from, From::Directory(_)) && config.storage.replica(false).is_some() {
        line("The copy in the database is of the directory that was lost: start once with `dats serve --adopt`.")?;
    }
    Ok(())
}
