//! What goes over the wire: the status answer of a task, kept in few bytes, and
//! the data of published events.

mod answer;
mod context;
mod data;
mod runs;
mod values;

pub use answer::{Answer, Hold, Revision};
pub(crate) use answer::{Compact, Fixed, compact};
pub(crate) use context::{context, has_context};
pub(crate) use data::{leased_task, published_data};
