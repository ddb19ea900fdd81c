//! What the tests share.

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod disk;
pub(crate) mod families;
pub(crate) mod fixtures;
pub(crate) mod front;
pub(crate) mod invariants;
pub(crate) mod old_files;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod rabbitmq;
pub(crate) mod random;
pub(crate) mod schemas;
pub(crate) mod service;
pub(crate) mod small_disk;
pub(crate) mod stand_in;
pub(crate) mod strace;
