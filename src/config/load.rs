//! Loads the settings: merges the layers and checks the result.

use super::check::check;
use super::error::{Error, Problem};
use super::origin::Origin;
use super::settings::Config;
use super::sources::Sources;
use super::tree::Node;
use crate::amqp;

/// The defaults, with a comment on every key.
pub const DEFAULTS: &str = include_str!("default.yaml");

impl Config {
    /// Reads, merges and checks all sources. The error holds every problem, not only the
    /// first.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let Merged { tree, mut problems, notices } = merge(sources);
        match check(&tree) {
            Ok(config) if problems.is_empty() => Ok(Self { notices, ..config }),
            Ok(_) => Err(Error::new(problems)),
            Err(more) => {
                problems.extend(more);
                Err(Error::new(problems))
            }
        }
    }

    /// Returns the default settings.
    ///
    /// # Panics
    /// If the compiled-in defaults are invalid, which a test rules out.
    #[must_use]
    pub fn builtin() -> Self {
        match Self::load(&Sources::default()) {
            Ok(config) => config,
            Err(error) => unreachable!("default.yaml is invalid: {error}"),
        }
    }

    /// Returns the broker settings for a description of the messages: the configured ones, or
    /// the defaults with the host `rabbitmq`.
    ///
    /// # Panics
    /// If the compiled-in defaults are invalid, which a test rules out.
    #[must_use]
    pub fn described_broker(&self) -> amqp::Settings {
        self.events.rabbitmq.clone().unwrap_or_else(|| {
            let environment = vec![("RABBITMQ_HOST".to_owned(), "rabbitmq".to_owned())];
            let config = Self::load(&Sources { environment, ..Sources::default() });
            match config.map(|config| config.events.rabbitmq) {
                Ok(Some(settings)) => settings,
                other => unreachable!("default.yaml is invalid: {other:?}"),
            }
        })
    }
}

/// All layers in one tree.
pub(super) struct Merged {
    pub(super) tree: Node,
    /// Values that have no place in the tree.
    pub(super) problems: Vec<Problem>,
    /// Variables of the environment that were ignored, each with the reason.
    pub(super) notices: Vec<String>,
}

/// Merges the defaults and all sources.
pub(super) fn merge(sources: &Sources) -> Merged {
    let (tree, problems, notices) = (defaults(), Vec::new(), Vec::new());
    let mut merged = Merged { tree, problems, notices };
    sources.apply(&mut merged.tree, &mut merged.problems, &mut merged.notices);
    merged
}

/// Parses the default file.
pub(super) fn defaults() -> Node {
    match Node::parse(DEFAULTS, &|_| Origin::Default) {
        Ok(tree) => tree,
        Err(error) => unreachable!("default.yaml is not valid YAML: {error}"),
    }
}
