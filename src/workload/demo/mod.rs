//! The story of `dats demo`: a few submissions, the stand-ins that work on them, and the
//! steps of the tasks in the order of the event log.

mod follow;
mod stand_ins;
mod story;

pub use follow::{Step, follow};
pub use stand_ins::start_stand_ins;
pub use story::{SCRIPT, StoryTask, rejected_once, submit_first, submit_last};
