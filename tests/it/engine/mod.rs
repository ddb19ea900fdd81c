//! What the engine does with tasks, seen through its handle, on a directory
//! of its own.

mod answered;
mod bindings;
mod checkpoints;
mod clock;
mod estimates;
mod events;
mod families;
mod held;
mod life;
mod lists;
mod parts;
mod pauses;
mod plans;
mod projects;
mod provenance;
mod queues;
mod readers;
mod reruns;
mod restart;
mod retention;
mod rollback;
