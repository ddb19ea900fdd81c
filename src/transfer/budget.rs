//! The memory limit shared by all imports.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limit in KiB for lines that are parsed but not imported yet, over all imports. Parsed lines take
/// several times that in memory.
const PARSED_KIB: usize = 8 << 10;

/// A budget of bytes shared by all imports.
#[derive(Debug, Clone)]
pub struct ImportBudget(Arc<Semaphore>);

impl Default for ImportBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PARSED_KIB)))
    }
}

impl ImportBudget {
    /// Waits until the budget has room for lines of this many bytes.
    pub(super) async fn share(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let share = u32::try_from(bytes.div_ceil(1024).min(PARSED_KIB)).unwrap_or(u32::MAX);
        self.0.clone().acquire_many_owned(share).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn imports_share_one_budget() {
        let (budget, bytes) = (ImportBudget::default(), PARSED_KIB << 10);
        let (one, other) = (budget.share(bytes / 2).await.unwrap(), budget.clone().share(bytes / 2).await.unwrap());
        let third = |bytes| tokio::time::timeout(Duration::from_millis(10), budget.share(bytes));
        assert!(third(1).await.is_err());
        drop(one);
        assert!(third(1).await.is_ok());
        drop(other);
        assert!(third(bytes * 9).await.is_ok(), "a group that is larger than everything allowed takes all of it");
    }
}
