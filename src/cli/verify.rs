//! `dats verify`: checks the store of a stopped service, and compares its copy in the database.

use clap::Args;

use super::exit::Failure;
use super::output::line;
use super::serve::Settings;
use super::signals;
use crate::config::Config;
use crate::service;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats verify --data-dir /var/lib/dats/data")]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Correct rows that differ in the configured database, and retry rows that it refused.
    #[arg(long)]
    repair: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.settings.sources())?;
    let verify = async {
        let verified = service::verify(&config, arguments.repair).await;
        verified.map_err(|error| Failure::Store(format!("{error:#}")))
    };
    let report = signals::block_on_value(verify)?;
    line(&format!("the store in {} is sound", config.engine.data_dir.display()))?;
    let Some(report) = report else { return Ok(()) };
    if report.is_sound() {
        return line(&format!("the copy is equal: {report}"));
    }
    Err(Failure::Failed(format!("the copy differs: {report}; correct it with --repair")))
}
