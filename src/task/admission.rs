//! Admission: which waiting task gets the next slot of its project.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::id::{ProjectId, TaskId};
use super::line::{Line, Place};
use super::request::Priority;
use super::time::Timestamp;

/// The slots and the waiting tasks of all projects.
#[derive(Debug, Clone)]
pub struct Admission {
    aging: Duration,
    default_limit: u32,
    lanes: HashMap<ProjectId, Lane>,
    /// Projects that have both a waiting task and a free slot, in turns.
    turns: VecDeque<ProjectId>,
}

#[derive(Debug, Clone)]
struct Lane {
    limit: u32,
    in_use: u32,
    line: Line,
    has_turn: bool,
}

impl Lane {
    fn can_admit(&self) -> bool {
        self.in_use < self.limit && !self.line.is_empty()
    }
}

impl Admission {
    /// Nobody waits. A project that was given no limit gets `default_limit`.
    #[must_use]
    pub fn new(aging: Duration, default_limit: u32) -> Self {
        Self { aging, default_limit, lanes: HashMap::new(), turns: VecDeque::new() }
    }

    fn lane(&mut self, project: &ProjectId) -> &mut Lane {
        let limit = self.default_limit;
        self.lanes.entry(project.clone()).or_insert_with(|| Lane {
            limit,
            in_use: 0,
            line: Line::default(),
            has_turn: false,
        })
    }

    fn refresh(&mut self, project: &ProjectId) {
        let lane = self.lane(project);
        if lane.can_admit() && !lane.has_turn {
            lane.has_turn = true;
            self.turns.push_back(project.clone());
        }
    }

    /// Sets a project's limit; `None` is the default. Lowering it takes no
    /// slot from anyone.
    pub fn set_limit(&mut self, project: &ProjectId, limit: Option<u32>) {
        let limit = limit.unwrap_or(self.default_limit);
        self.lane(project).limit = limit;
        self.refresh(project);
    }

    /// A task joins the line of its project.
    pub fn enqueue(&mut self, project: &ProjectId, priority: Priority, place: Place) {
        self.lane(project).line.insert(priority, place);
        self.refresh(project);
    }

    /// A waiting task leaves the line without a slot.
    pub fn withdraw(&mut self, project: &ProjectId, priority: Priority, place: Place) {
        self.lane(project).line.remove(priority, place);
    }

    /// A task holds a slot from now on, other than by [`Self::admit_next`].
    pub fn occupy(&mut self, project: &ProjectId) {
        self.lane(project).in_use += 1;
    }

    /// A task no longer holds its slot.
    pub fn release(&mut self, project: &ProjectId) {
        let lane = self.lane(project);
        lane.in_use = lane.in_use.saturating_sub(1);
        self.refresh(project);
    }

    /// Gives the next free slot to the next waiting task: projects in turns,
    /// within a project by its line. The slot is counted from here on.
    pub fn admit_next(&mut self, now: Timestamp) -> Option<TaskId> {
        loop {
            let project = self.turns.pop_front()?;
            let aging = self.aging;
            let lane = self.lane(&project);
            lane.has_turn = false;
            if lane.in_use >= lane.limit {
                continue;
            }
            let Some((priority, place)) = lane.line.first(now, aging) else { continue };
            lane.line.remove(priority, place);
            lane.in_use += 1;
            self.refresh(&project);
            return Some(place.task);
        }
    }

    /// Slots in use and the limit of a project.
    #[must_use]
    pub fn slots(&self, project: &ProjectId) -> (u32, u32) {
        self.lanes.get(project).map_or((0, self.default_limit), |lane| (lane.in_use, lane.limit))
    }

    /// Since when the oldest task of a project waits for a slot.
    #[must_use]
    pub fn oldest_waiting(&self, project: &ProjectId) -> Option<Timestamp> {
        self.lanes.get(project).and_then(|lane| lane.line.oldest())
    }

    /// Whether a slot is free for a waiting task.
    #[must_use]
    pub fn has_next(&self) -> bool {
        // Not every turn can be taken: its task may have left the line.
        self.turns.iter().any(|project| self.lanes.get(project).is_some_and(Lane::can_admit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const AGING: Duration = Duration::from_mins(5);

    fn project(name: &str) -> ProjectId {
        ProjectId::new(name).unwrap()
    }

    fn place(second: i64, task: u128) -> Place {
        Place { since: Timestamp::from_micros(second * 1_000_000), task: TaskId::new(Uuid::from_u128(task)) }
    }

    fn admitted(admission: &mut Admission, second: i64) -> Vec<u128> {
        let now = Timestamp::from_micros(second * 1_000_000);
        std::iter::from_fn(|| admission.admit_next(now)).map(|task| u128::from_be_bytes(task.to_bytes())).collect()
    }

    #[test]
    fn the_limit_holds_and_a_release_lets_the_next_in() {
        let (mut admission, a) = (Admission::new(AGING, 2), project("a"));
        for task in 1..=4 {
            admission.enqueue(&a, Priority::Normal, place(1, task));
        }
        assert_eq!(admitted(&mut admission, 2), [1, 2]);
        admission.release(&a);
        assert_eq!(admitted(&mut admission, 2), [3]);
        admission.set_limit(&a, Some(1));
        admission.release(&a);
        assert_eq!(admitted(&mut admission, 2), [0_u128; 0]);
        admission.set_limit(&a, Some(2));
        assert_eq!(admitted(&mut admission, 2), [4]);
        assert_eq!(admission.slots(&a), (2, 2));
    }

    #[test]
    fn a_turn_that_lost_its_task_or_its_slot_is_passed_over() {
        let (mut admission, a, b) = (Admission::new(AGING, 1), project("a"), project("b"));
        admission.enqueue(&a, Priority::Normal, place(1, 1));
        admission.enqueue(&b, Priority::Normal, place(1, 2));
        assert!(admission.has_next());
        admission.withdraw(&a, Priority::Normal, place(1, 1));
        admission.set_limit(&b, Some(0));
        assert!(!admission.has_next());
        assert_eq!(admitted(&mut admission, 2), [0_u128; 0]);
        admission.set_limit(&b, None);
        admission.enqueue(&a, Priority::Normal, place(2, 3));
        assert_eq!(admitted(&mut admission, 2), [2, 3]);
    }

    #[test]
    fn slots_taken_outside_count_even_above_the_limit() {
        let (mut admission, a) = (Admission::new(AGING, 1), project("a"));
        admission.occupy(&a);
        admission.occupy(&a);
        admission.enqueue(&a, Priority::Normal, place(1, 1));
        assert_eq!(admission.slots(&a), (2, 1));
        admission.release(&a);
        assert_eq!(admitted(&mut admission, 2), [0_u128; 0]);
        admission.release(&a);
        assert_eq!(admitted(&mut admission, 2), [1]);
    }

    #[test]
    fn projects_take_turns() {
        let (mut admission, a, b) = (Admission::new(AGING, 1000), project("a"), project("b"));
        for task in 1..=5 {
            admission.enqueue(&a, Priority::High, place(1, task));
        }
        admission.enqueue(&b, Priority::Low, place(2, 100));
        assert_eq!(admitted(&mut admission, 3), [1, 100, 2, 3, 4, 5]);
    }

    #[test]
    fn priority_first_then_age_and_waiting_raises() {
        let (mut admission, a) = (Admission::new(AGING, 1000), project("a"));
        admission.enqueue(&a, Priority::Low, place(0, 1));
        admission.enqueue(&a, Priority::Normal, place(10, 2));
        admission.enqueue(&a, Priority::High, place(20, 3));
        assert_eq!(admitted(&mut admission.clone(), 30), [3, 2, 1]);
        // After 310 s the low one counts as normal and is older than the normal one,
        // which counts as high and is older than the high one.
        assert_eq!(admitted(&mut admission.clone(), 315), [2, 3, 1]);
        assert_eq!(admitted(&mut admission, 700), [1, 2, 3]);
    }
}
