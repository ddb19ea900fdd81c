//! Synthetic work, generated from a seed: numbers, texts of every size, and the plan of
//! a day. `dats bench`, the benches and the tests take their work from here.
//!
//! Everything in this module is pure: the same seed gives the same work, on every
//! machine and in every version.
//!
//! ```
//! use dats::workload::Random;
//!
//! let mut random = Random::new(7);
//! let size = random.size(100, 900_000);
//! assert_eq!(random.text(size).len(), size);
//! ```

mod day;
mod random;

pub use day::{Day, Hour, Project, TIER_WITHOUT_WORKERS, TIERS, Task, Worker};
pub use random::Random;
