//! `dats verify`: whether the store of a stopped service is sound, and whether
//! its copy is the same.

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
    /// Write to the configured database what differs there, and try again
    /// what it has refused.
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
        return line(&format!("the copy is the same: {report}"));
    }
    Err(Failure::Failed(format!("the copy is not the same: {report}")))
}
