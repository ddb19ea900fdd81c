//! The wire: the status answer of a task, and the data of published events.
//!
//! Each object on the wire is one struct, which is both rendered and described
//! in the `OpenAPI` and `AsyncAPI` documents. The engine renders them, `events`
//! wraps event data in envelopes, and `http` and `amqp` describe them.
//!
//! * `answer` holds the fields of the status answer. `compact` encodes the
//!   answer for memory, with `values` and `token_runs`.
//! * `events` holds the data of published events and of leased tasks, `context`
//!   the part of it that helps a worker.

mod answer;
mod compact;
mod context;
mod events;
mod time;
mod token_runs;
mod truncate;
mod values;
mod waiting;

pub use answer::{Answer, Hold, Revision};
pub(crate) use compact::{CompactAnswer, FixedValues, PauseKeys};
pub(crate) use context::TaskContext;
pub(crate) use events::{LeasedTask, TaskCancelled, TaskCreated, TaskFinished, TaskReady, published_data};
pub(crate) use time::Time;
