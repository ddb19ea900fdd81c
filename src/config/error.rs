//! What is wrong with the settings, and where.

use std::fmt;

use super::tree::Origin;

/// All the problems found in the settings. Secrets are never part of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Each problem, in the order in which they were found.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// One setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: String,
    key: String,
    message: String,
}

impl Problem {
    pub(super) fn at(place: &Origin, key: &str, message: impl Into<String>) -> Self {
        Self { place: place.to_string(), key: key.to_owned(), message: message.into() }
    }

    /// A problem with a whole source, not with one key.
    pub(super) fn source(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), key: String::new(), message: message.into() }
    }

    /// The dotted path of the setting; empty where the source itself is bad.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        write!(f, "{}", self.message)
    }
}
