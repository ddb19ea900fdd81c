//! Synthetic work: stand-ins for the services around this one, the demo's story, the load
//! generator, the success criteria, and a day of work with a ledger outside of the service.
//! The command line, the benches and the tests take their work from here.
//!
//! Everything here talks to a server through its public HTTP interface (and, for the
//! workers of a day, the broker) alone. Numbers, texts and the plan of a day depend on
//! their seed alone, on every machine and in every version.
//!
//! ```
//! use dats::workload::Random;
//!
//! let mut random = Random::new(7);
//! let size = random.size(100, 900_000);
//! assert_eq!(random.text(size).len(), size);
//! ```

mod console;
pub mod criteria;
pub mod day;
pub mod demo;
mod error;
mod event;
pub mod load;
mod random;
mod server;
pub mod simulate;
mod target;

pub use console::Console;
pub use error::Error;
pub use random::{Random, mixed};
pub use server::{PrivateServer, Program, TemporaryDirectory};
pub use target::Target;
