//! What all imports may hold together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most KiB of lines that are parsed and not imported yet, of all imports: in
/// memory they take several times that.
const PARSED_KIB: usize = 8 << 10;

/// What the lines of all imports may take together.
#[derive(Debug, Clone)]
pub struct ImportBudget(Arc<Semaphore>);

impl Default for ImportBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PARSED_KIB)))
    }
}

impl ImportBudget {
    /// Waits until there is room for lines of so many bytes.
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
