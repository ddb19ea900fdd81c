//! The service and a real `RabbitMQ`.

mod faults;
mod garbage;
mod interop;
mod journey;
mod switching;
mod topology;
mod waiting;
mod world;
