//! The end of a command: exit codes and error messages.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use crate::client;
use crate::workload;

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The task or check failed, or the request was refused: exit code 1.
    Failed(String),
    /// Wrong usage or settings: exit code 2.
    Usage(String),
    /// The server is unreachable: exit code 3.
    Unreachable(String),
    /// The store failed: exit code 4.
    Store(String),
    /// The reader of the output has closed it: exit code 0, without a message.
    Closed,
    /// Stopped by Ctrl-C: exit code 130, as shells expect.
    Interrupted,
    /// The service ended with this code, and has logged the reason.
    Logged(u8),
}

impl Failure {
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Store(_) => 4,
            Self::Interrupted => 130,
            Self::Logged(code) => *code,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::Unreachable(text) | Self::Store(text) => f.write_str(text),
            Self::Closed | Self::Interrupted | Self::Logged(_) => Ok(()),
        }
    }
}

/// For errors of work on the data directory of a stopped service. The message has the chain
/// of causes in one line.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let is_of_store = error.chain().any(<dyn std::error::Error>::is::<crate::store::Error>);
        let text = format!("{error:#}");
        if is_of_store { Self::Store(text) } else { Self::Failed(text) }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Unreachable { .. } => Self::Unreachable(format!(
                "{error}\ncheck that the server runs: start it with `dats serve`, or give its address with --url or DATS_URL"
            )),
            client::Error::Problem(_) | client::Error::Protocol(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<workload::Error> for Failure {
    fn from(error: workload::Error) -> Self {
        match error {
            workload::Error::Client(error) => error.into(),
            workload::Error::Usage(text) => Self::Usage(text),
            workload::Error::Failed(text) => Self::Failed(text),
        }
    }
}

impl From<crate::config::Error> for Failure {
    fn from(error: crate::config::Error) -> Self {
        let problems = error.to_string().replace('\n', "\n  ");
        Self::Usage(format!("the settings can't be used\n  {problems}"))
    }
}

/// Prints the error on stderr and returns the exit code.
pub(super) fn report(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    let text = failure.to_string();
    if !text.is_empty() {
        warn(&format!("error: {text}"));
    }
    ExitCode::from(failure.code())
}

/// Prints a line on stderr, which is not part of the output.
pub(super) fn warn(text: &str) {
    // A closed stderr can't be reported anywhere.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_contract() {
        let unreachable = client::Error::Unreachable { url: "http://x".into(), reason: "refused".into() };
        let refused = client::Error::Problem(Box::default());
        assert_eq!(Failure::from(unreachable).code(), 3);
        assert_eq!(Failure::from(refused).code(), 1);
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(Failure::Store(String::new()).code(), 4);
    }
}
