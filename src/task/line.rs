//! Waiting lines: within a project by priority with aging, between projects in turns.

use crate::planted::{self, Fault};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::id::{ProjectId, TaskId};
use super::moment::Moment;
use super::request::Priority;

/// A place in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Start of the wait, from which the task's age counts.
    pub since: Moment,
    /// The waiting task.
    pub task: TaskId,
}

/// The waiting tasks of one project: highest class first, then oldest. A task rises one class for
/// each `aging` that it has waited.
///
/// Within a class the oldest task is also the one that has risen most, so only the heads of the
/// three classes can be next.
#[derive(Debug, Clone, Default)]
pub struct Line {
    classes: [BTreeSet<Place>; 3],
}

impl Line {
    /// Adds a place. Returns false if it was there already.
    pub fn insert(&mut self, priority: Priority, place: Place) -> bool {
        self.classes.get_mut(priority.class()).is_some_and(|class| class.insert(place))
    }

    /// Removes a place. Returns whether it was there.
    pub fn remove(&mut self, priority: Priority, place: Place) -> bool {
        self.classes.get_mut(priority.class()).is_some_and(|class| class.remove(&place))
    }

    /// The next task at `now`, with its class.
    #[must_use]
    pub fn first(&self, now: Moment, aging: Duration) -> Option<(Priority, Place)> {
        let heads = Priority::ALL.into_iter().filter_map(|priority| {
            let place = *self.classes.get(priority.class())?.first()?;
            Some((priority, place))
        });
        heads.max_by_key(|(priority, place)| rank(*priority, *place, now, aging))
    }

    /// Number of tasks in the class of `priority` and above.
    #[must_use]
    pub fn len_from(&self, priority: Priority) -> usize {
        self.classes.get(priority.class()..).map_or(0, |classes| classes.iter().map(BTreeSet::len).sum())
    }

    /// Number of waiting tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.iter().map(BTreeSet::len).sum()
    }

    /// Whether no task waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(BTreeSet::is_empty)
    }

    /// Since when the oldest task has waited.
    #[must_use]
    pub fn oldest(&self) -> Option<Moment> {
        self.classes.iter().filter_map(|class| class.first().map(|place| place.since)).min()
    }
}

/// Orders tasks at `now`: the higher class first, then the longer wait.
pub(super) fn rank(priority: Priority, place: Place, now: Moment, aging: Duration) -> (u128, Reverse<Place>) {
    (risen_class(priority, now.since(place.since), aging), Reverse(place))
}

/// The class after a wait of `waited`, at most the highest.
fn risen_class(priority: Priority, waited: Duration, aging: Duration) -> u128 {
    let steps = if aging.is_zero() { 0 } else { waited.as_micros() / aging.as_micros() };
    let class = match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    };
    (class + steps).min(2)
}

/// The tasks of one tier that wait for a worker, in lines of many projects that take turns, so that
/// a long line delays no other project. A held project takes no turn, and its tasks keep their
/// places.
#[derive(Debug, Clone, Default)]
pub struct FairLine {
    lines: BTreeMap<ProjectId, Turn>,
    turns: VecDeque<ProjectId>,
    held: BTreeSet<ProjectId>,
    len: usize,
}

/// The line of one project, and whether the project stands among the turns.
#[derive(Debug, Clone, Default)]
struct Turn {
    line: Line,
    has_turn: bool,
}

impl FairLine {
    /// Adds a task to the line of its project.
    pub fn insert(&mut self, project: &ProjectId, priority: Priority, place: Place) {
        let turn = self.lines.entry(project.clone()).or_default();
        if turn.line.insert(priority, place) {
            self.len += 1;
        }
        self.take_turn(project);
    }

    /// Removes a task from the line of its project.
    pub fn remove(&mut self, project: &ProjectId, priority: Priority, place: Place) {
        let Some(turn) = self.lines.get_mut(project) else { return };
        if turn.line.remove(priority, place) {
            self.len -= 1;
        }
    }

    /// Holds the tasks of a project back, or lets them continue.
    pub fn set_held(&mut self, project: &ProjectId, held: bool) {
        if held {
            self.held.insert(project.clone());
        } else if self.held.remove(project) {
            self.take_turn(project);
        }
    }

    /// Puts a project among the turns unless it is there already or held.
    fn take_turn(&mut self, project: &ProjectId) {
        let Some(turn) = self.lines.get_mut(project).filter(|turn| !turn.has_turn) else { return };
        if !self.held.contains(project) && !planted::is_now(Fault::TurnLost) {
            turn.has_turn = true;
            self.turns.push_back(project.clone());
        }
    }

    /// Removes and returns the next task: the first of the project whose turn it is.
    pub fn pop(&mut self, now: Moment, aging: Duration) -> Option<TaskId> {
        loop {
            let project = self.turns.pop_front()?;
            let Some(turn) = self.lines.get_mut(&project) else { continue };
            turn.has_turn = false;
            let Some((priority, place)) = turn.line.first(now, aging) else {
                self.lines.remove(&project);
                continue;
            };
            if self.held.contains(&project) {
                continue;
            }
            turn.line.remove(priority, place);
            self.len -= 1;
            self.take_turn(&project);
            return Some(place.task);
        }
    }

    /// Whether a project stands among the turns. If none does, [`Self::pop`] returns `None`.
    #[must_use]
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Number of waiting tasks.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no task waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Since when the oldest task has waited.
    #[must_use]
    pub fn oldest(&self) -> Option<Moment> {
        self.lines.values().filter_map(|turn| turn.line.oldest()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const AGING: Duration = Duration::from_mins(5);

    fn place(second: i64, task: u128) -> Place {
        Place { since: Moment::from_micros(second * 1_000_000), task: TaskId::new(Uuid::from_u128(task)) }
    }

    fn popped(line: &mut FairLine) -> Vec<u128> {
        let now = Moment::from_micros(10_000_000);
        std::iter::from_fn(|| line.pop(now, AGING)).map(|task| u128::from_be_bytes(task.to_bytes())).collect()
    }

    #[test]
    fn a_long_line_delays_no_other_project() {
        let (a, b) = (ProjectId::new("a").unwrap(), ProjectId::new("b").unwrap());
        let mut line = FairLine::default();
        for task in 1..=3 {
            line.insert(&a, Priority::High, place(1, task));
        }
        line.insert(&b, Priority::Low, place(9, 10));
        line.insert(&b, Priority::Low, place(9, 11));
        assert_eq!(popped(&mut line), [1, 10, 2, 11, 3]);
        assert!(line.is_empty());
    }

    #[test]
    fn every_place_is_taken_however_many_turns_there_are() {
        let mut line = FairLine::default();
        let projects = ["a", "b", "c"].map(|name| ProjectId::new(name).unwrap());
        for round in 0..100 {
            for (project, number) in projects.iter().zip(0..) {
                line.insert(project, Priority::Normal, place(round, 1000 * number + u128::try_from(round).unwrap()));
            }
        }
        assert_eq!(popped(&mut line).len(), 300);
        assert!(line.is_empty() && !line.has_turns());
    }

    #[test]
    fn a_place_counts_once_however_often_it_comes_and_goes() {
        let a = ProjectId::new("a").unwrap();
        let mut line = FairLine::default();
        line.insert(&a, Priority::Normal, place(1, 1));
        line.insert(&a, Priority::Normal, place(1, 1));
        assert_eq!((line.len(), line.oldest()), (1, Some(place(1, 1).since)));
        line.remove(&a, Priority::Normal, place(1, 1));
        line.remove(&a, Priority::Normal, place(1, 1));
        assert_eq!((line.len(), line.oldest()), (0, None));
        line.insert(&a, Priority::Normal, place(2, 2));
        assert_eq!(popped(&mut line), [2]);
    }

    #[test]
    fn a_held_project_takes_no_turn_and_keeps_its_places() {
        let (a, b) = (ProjectId::new("a").unwrap(), ProjectId::new("b").unwrap());
        let mut line = FairLine::default();
        line.set_held(&a, true);
        line.insert(&a, Priority::Normal, place(2, 2));
        line.insert(&b, Priority::Normal, place(3, 3));
        line.insert(&b, Priority::Normal, place(4, 4));
        line.set_held(&b, true);
        assert_eq!(popped(&mut line), [0_u128; 0]);
        assert!(!line.has_turns() && line.len() == 3);
        line.insert(&a, Priority::Normal, place(1, 1));
        assert!(!line.has_turns());
        line.set_held(&b, false);
        line.set_held(&b, false);
        assert_eq!(popped(&mut line), [3, 4]);
        line.set_held(&a, false);
        assert_eq!(popped(&mut line), [1, 2]);
        line.insert(&b, Priority::Normal, place(5, 5));
        assert_eq!(popped(&mut line), [5]);
    }

    #[test]
    fn tasks_ahead_are_counted_by_class() {
        let mut line = Line::default();
        line.insert(Priority::Low, place(1, 1));
        line.insert(Priority::High, place(9, 2));
        assert_eq!(Priority::ALL.map(|priority| line.len_from(priority)).iter().sum::<usize>(), 4);
        assert_eq!(line.len_from(Priority::High), 1);
    }

    #[test]
    fn without_aging_classes_stay_apart_and_time_going_back_does_no_harm() {
        let mut line = Line::default();
        line.insert(Priority::Low, place(1, 1));
        line.insert(Priority::High, place(9, 2));
        let later = Moment::from_micros(i64::MAX);
        assert_eq!(line.first(later, Duration::ZERO), Some((Priority::High, place(9, 2))));
        assert_eq!(line.first(Moment::default(), AGING), Some((Priority::High, place(9, 2))));
    }
}
