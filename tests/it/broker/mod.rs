//! The service and a real `RabbitMQ`.

mod accepted;
mod commits;
mod described;
mod encryption;
mod faults;
mod garbage;
mod interop;
mod journey;
mod refusing;
mod storage;
mod switching;
mod topology;
mod traces;
mod waiting;
mod world;
