//! What the writer does while nothing may be written.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::command::Command;
use super::queue;
use super::run::Writer;
use crate::clock::Clock;
use crate::engine::api::{Error, LeaseRequest};
use crate::engine::read::ReadSide;
use crate::engine::shared::Shared;
use crate::engine::state::Machine;
use crate::engine::state::testing::World;
use crate::task::{Now, Phase, Tier, WorkerId};

fn read_side(machine: &mut Machine, clock: &Clock) -> Arc<ReadSide> {
    let first = machine.first_publication(Vec::new()).unwrap();
    let (store, shared, readers) = (machine.store().clone(), Shared::new(1 << 20), machine.places().clone());
    Arc::new(ReadSide::new(store, shared, first, readers, clock.clone()).unwrap())
}

#[test]
fn a_lease_that_never_reached_its_worker_is_given_back_once_there_is_room() {
    let mut world = World::new();
    let task = world.submit("p", &[]);
    let tier = Tier::new("small").unwrap();
    world.machine.next_to_lease(|_| true, world.now).unwrap();
    let (worker, lease) = (WorkerId::new("w").unwrap(), Duration::from_hours(1));
    let request = LeaseRequest { tier, worker, max: 1, lease, wait: Duration::ZERO };
    let grant = world.machine.grant(task, &request, world.now).unwrap().unwrap();
    world.commit();
    let (World { mut machine, now, .. }, clock) = (world, Clock::new());
    let read = read_side(&mut machine, &clock);
    let (_commands, queue) = queue::lanes(16);
    let mut writer = Writer::new(machine, queue, read, clock, Now::default()).unwrap();
    let phase = |writer: &Writer| World::phase(writer.machine(), task);
    writer.is_out_of_room = true;
    let (reply, answer) = oneshot::channel();
    writer.apply(Command::Release { lease: grant.lease.id, delivered: false, reply }, now).unwrap();
    drop(answer);
    assert_eq!((phase(&writer), writer.unclaimed()), (Phase::Leased, &[grant.lease.id][..]));
    // One that a worker gives back itself is refused: the worker learns of it.
    let (reply, mut answer) = oneshot::channel();
    writer.apply(Command::Release { lease: grant.lease.id, delivered: true, reply }, now).unwrap();
    assert!(matches!(answer.try_recv(), Ok(Err(Error::DiskFull { .. }))));
    writer.is_out_of_room = false;
    writer.settle(false, now).unwrap();
    assert_eq!((phase(&writer), writer.unclaimed().len()), (Phase::Queued, 0));
    writer.commit(now).unwrap();
    writer.finish_tables().unwrap();
}

/// Behind a broker a dispatch counts as published once the log was read up to the time
/// of its group: a group that is not committed is not in the log.
#[test]
fn a_group_that_is_not_committed_does_not_count_as_read() {
    let World { mut machine, now, .. } = World::new();
    let clock = Clock::new();
    let read = read_side(&mut machine, &clock);
    let (_commands, queue) = queue::lanes(16);
    let mut writer = Writer::new(machine, queue, read.clone(), clock, Now::default()).unwrap();
    let before = read.activity.committed_at();
    assert!(before < now.observed);
    writer.settle(false, now).unwrap();
    assert_eq!(read.activity.committed_at(), before);
    writer.commit(now).unwrap();
    assert_eq!(read.activity.committed_at(), now.observed);
    writer.finish_tables().unwrap();
}
