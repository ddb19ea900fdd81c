//! The tasks that began to use artifacts lately.

use std::collections::VecDeque;

use crate::engine::api::Version;
use crate::task::TaskId;

/// Tasks that are remembered.
const REMEMBERED: usize = 16_384;

/// The tasks that began to use artifacts lately, in the order of versions. With them a plan
/// that was made beside the writer is brought up to date.
#[derive(Debug)]
pub(super) struct RecentUsers {
    tasks: VecDeque<(Version, TaskId)>,
    /// All tasks of later versions are remembered.
    complete_after: Version,
}

impl Default for RecentUsers {
    fn default() -> Self {
        // With its whole capacity at once, so that it never moves.
        Self { tasks: VecDeque::with_capacity(REMEMBERED), complete_after: Version::default() }
    }
}

impl RecentUsers {
    /// Records that a task begins to use artifacts in the group of a version.
    pub(super) fn push(&mut self, version: Version, task: TaskId) {
        if self.tasks.len() == REMEMBERED
            && let Some((forgotten, _)) = self.tasks.pop_front()
        {
            self.complete_after = forgotten;
        }
        self.tasks.push_back((version, task));
    }

    /// The tasks that began after a version; `None`: they are no longer all remembered.
    pub(super) fn since(&self, version: Version) -> Option<impl Iterator<Item = TaskId>> {
        let newest_first = self.tasks.iter().rev().take_while(move |(begun, _)| *begun > version);
        (self.complete_after <= version).then(|| newest_first.map(|(_, task)| *task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u8) -> TaskId {
        TaskId::from_bytes([number; 16])
    }

    #[test]
    fn the_tasks_that_began_after_a_version_are_remembered_for_a_while() {
        let mut users = RecentUsers::default();
        for number in 1..=5 {
            users.push(Version(u64::from(number / 2)), task(number));
        }
        let since = |users: &RecentUsers, version| users.since(Version(version)).map(Iterator::collect::<Vec<_>>);
        assert_eq!(since(&users, 1), Some(vec![task(5), task(4)]));
        assert_eq!(since(&users, 2), Some(Vec::new()));
        let capacity = users.tasks.capacity();
        for _ in 0..REMEMBERED - 1 {
            users.push(Version(3), task(7));
        }
        // Tasks 1 to 4 are forgotten, of versions up to 2.
        assert_eq!((since(&users, 1), since(&users, 2).map(|it| it.len())), (None, Some(REMEMBERED - 1)));
        assert_eq!(users.tasks.capacity(), capacity);
    }
}
