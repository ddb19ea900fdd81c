//! Results of a restore from a copy.

/// What followed for tasks when a store was made from a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begun {
    /// Tasks that have not ended.
    pub open: u64,
    /// Tasks whose attempt was lost and that wait for a new one.
    pub attempts: u64,
    /// Ends of other tasks of which tasks have learned.
    pub notified: u64,
}
