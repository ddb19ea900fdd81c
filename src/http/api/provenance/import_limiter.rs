//! The limits that all imports share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::server::problem::Problem;
use crate::transfer::ImportBudget;

/// The largest number of concurrent imports, each of which buffers a few MiB of lines.
const MAX_IMPORTS: usize = 8;

/// Limits the number of imports and the memory for their lines.
#[derive(Debug)]
pub(in crate::http) struct ImportLimiter {
    permits: Arc<Semaphore>,
    budget: ImportBudget,
}

impl Default for ImportLimiter {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_IMPORTS)), budget: ImportBudget::default() }
    }
}

impl ImportLimiter {
    /// Admits an import until the permit is dropped.
    pub(in crate::http) fn acquire(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| Problem::too_many_imports(MAX_IMPORTS))
    }

    /// The memory that all imports share.
    pub(in crate::http) const fn budget(&self) -> &ImportBudget {
        &self.budget
    }
}
