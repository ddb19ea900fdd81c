//! Settings, from their sources to one checked [`Config`].
//!
//! `default.yaml` is the only source of defaults, and defines which keys exist. The file
//! given with `--config`, the environment and the flags override it, in this order. The
//! merged settings are checked as a whole: a [`Config`] can only be made by
//! [`Config::load`], and an unknown key or an invalid value stops the start with its place,
//! its key, its value and the allowed values. No setting is ignored silently.
//!
//! The layers are merged by hand: an error names file, line and key, and all errors are
//! reported at once. `figment` and `config` stop at the first error of a value and do not
//! know its line.
//!
//! ```
//! use dats::config::{Config, Sources};
//!
//! let environment = vec![("SERVICE_PORT".to_owned(), "9000".to_owned())];
//! let config = Config::load(&Sources { environment, ..Sources::default() })?;
//! assert_eq!(config.server.listen.port(), 9000);
//! # Ok::<(), dats::config::Error>(())
//! ```

mod check;
mod error;
mod load;
mod origin;
mod rabbitmq;
mod reader;
mod rules;
mod secret;
mod settings;
mod show;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;

pub use error::{Error, Problem};
pub use load::DEFAULTS;
pub use secret::{REDACTED, Secret};
pub use settings::{
    Config, Engine, Events, Fallback, LogFormat, LogLevel, Routing, Security, Server, Storage, TaskManagement,
    Telemetry,
};
pub use show::{show_json, show_yaml};
pub use sources::{Flag, Sources};
