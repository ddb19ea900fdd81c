//! Housekeeping goes by rounds, however much there is to do: no round holds up the commands
//! that wait.

use std::sync::Arc;
use std::time::Duration;

use super::testing::World;
use crate::engine::api::{IdempotencyKey, Settings};
use crate::engine::state::housekeeping::{FORGET_ROUND, ROUND};
use crate::task::{EventHash, Now, Seq};

/// Runs one round, and commits it. Returns whether there is more to do.
fn round(world: &mut World) -> bool {
    let more = world.machine.run_housekeeping(world.now).unwrap();
    world.commit();
    more
}

#[test]
fn tasks_that_ended_at_once_are_removed_round_by_round() {
    let mut world = World::new();
    let settings = Settings { retention: Some(Duration::ZERO), ..(*world.machine.settings).clone() };
    let tasks: Vec<_> = (0..4 * ROUND + 7).map(|_| world.submit("p", &[])).collect();
    for task in &tasks {
        world.machine.cancel(*task, None, world.now).unwrap();
    }
    world.commit();
    world.machine.settings = Arc::new(settings);
    let mut left = tasks.len();
    for number in 1.. {
        let more = round(&mut world);
        let still = usize::try_from(world.machine.state.projects.totals().total()).unwrap();
        assert!(left - still <= ROUND, "round {number} removes {}", left - still);
        left = still;
        if !more {
            assert_eq!((number, left), (5, 0), "the rest waits for a second");
            return;
        }
    }
}

#[test]
fn event_ids_and_keys_are_forgotten_round_by_round() {
    let mut world = World::new();
    let number = |number: usize| u64::try_from(number).unwrap();
    let hash = |each: u64| EventHash([each.to_be_bytes(), [0; 8]].concat().try_into().unwrap());
    let all = number(3 * FORGET_ROUND);
    for each in 0..all {
        world.machine.state.inbox.taken.insert(hash(each));
        if each % 512 == 511 {
            world.submit("p", &[]);
        }
    }
    for each in 1..=number(3 * ROUND) {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&each.to_be_bytes());
        world.machine.keys.remember(Seq(each), world.now.observed, IdempotencyKey { key, body: [0; 16] });
    }
    world.now = Now::aligned(world.now.wall.after(Duration::from_hours(80)));
    let known = |world: &World| (0..all).filter(|each| world.machine.state.inbox.taken.contains(hash(*each))).count();
    for number in 1..=3 {
        let more = round(&mut world);
        assert_eq!((known(&world), world.machine.keys.len()), ((3 - number) * FORGET_ROUND, (3 - number) * ROUND));
        assert_eq!(more, number < 3, "round {number}");
    }
}
