//! Output of a workload while it runs.

/// Functions that a workload calls with lines for the user. The workload goes on when
/// nothing reads them any more: a server may be waiting for it.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// Writes a line of output.
    pub line: fn(&str),
    /// Writes a warning, which is not part of the output.
    pub warn: fn(&str),
}

impl Console {
    /// A console that discards every line.
    pub const SILENT: Self = Self { line: |_| {}, warn: |_| {} };
}
