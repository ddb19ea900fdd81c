//! Results of a restore from a copy.

/// Effect of a restore on the tasks of a store that was made from a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begun {
    /// Number of open tasks.
    pub open: u64,
    /// Number of tasks that lost their attempt and wait for a new one.
    pub attempts: u64,
    /// Number of ends of dependencies, parents and children that tasks were notified of.
    pub notified: u64,
}
