//! Admission: which waiting task gets the next slot of its project.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::id::{ProjectId, TaskId, Tier};
use super::line::{Line, Place, rank};
use super::request::Priority;
use super::time::Timestamp;

/// The slots and the waiting tasks of all projects.
///
/// A project has a line for each tier, and who is next is the best of their
/// heads: so a paused tier costs nothing and stands in nobody's way, and when
/// it is resumed its tasks are where they were.
#[derive(Debug, Clone)]
pub struct Admission {
    aging: Duration,
    default_limit: u32,
    lanes: HashMap<ProjectId, Lane>,
    /// Tiers whose tasks get no slots.
    paused_tiers: BTreeSet<Tier>,
    /// Projects that have both a waiting task and a free slot, in turns.
    turns: VecDeque<ProjectId>,
}

#[derive(Debug, Clone)]
struct Lane {
    limit: u32,
    in_use: u32,
    /// There are few tiers.
    lines: Vec<(Tier, Line)>,
    is_paused: bool,
    has_turn: bool,
}

impl Lane {
    fn line(&mut self, tier: &Tier) -> &mut Line {
        let known = self.lines.iter().position(|(each, _)| each == tier);
        let place = known.unwrap_or_else(|| {
            self.lines.push((tier.clone(), Line::default()));
            self.lines.len() - 1
        });
        &mut self.lines[place].1
    }

    /// The lines of tiers that are not paused.
    fn open_lines<'a>(&'a self, paused: &'a BTreeSet<Tier>) -> impl Iterator<Item = &'a (Tier, Line)> {
        self.lines.iter().filter(|(tier, _)| paused.is_empty() || !paused.contains(tier))
    }

    fn can_admit(&self, paused: &BTreeSet<Tier>) -> bool {
        !self.is_paused && self.in_use < self.limit && self.open_lines(paused).any(|(_, line)| !line.is_empty())
    }

    /// Takes who is next out of its line.
    fn take_first(&mut self, paused: &BTreeSet<Tier>, now: Timestamp, aging: Duration) -> Option<TaskId> {
        let heads = self.open_lines(paused).filter_map(|(tier, line)| Some((tier, line.first(now, aging)?)));
        let (tier, (priority, place)) =
            heads.max_by_key(|(_, (priority, place))| rank(*priority, *place, now, aging))?;
        let tier = tier.clone();
        self.line(&tier).remove(priority, place);
        Some(place.task)
    }
}

impl Admission {
    /// Nobody waits. A project that was given no limit gets `default_limit`.
    #[must_use]
    pub fn new(aging: Duration, default_limit: u32) -> Self {
        let paused_tiers = BTreeSet::new();
        Self { aging, default_limit, lanes: HashMap::new(), paused_tiers, turns: VecDeque::new() }
    }

    fn lane(&mut self, project: &ProjectId) -> &mut Lane {
        let limit = self.default_limit;
        self.lanes.entry(project.clone()).or_insert_with(|| Lane {
            limit,
            in_use: 0,
            lines: Vec::new(),
            is_paused: false,
            has_turn: false,
        })
    }

    fn refresh(&mut self, project: &ProjectId) {
        let Some(lane) = self.lanes.get_mut(project) else { return };
        if !lane.has_turn && lane.can_admit(&self.paused_tiers) {
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

    /// A paused project gets no slots; it keeps those it has.
    pub fn set_paused(&mut self, project: &ProjectId, paused: bool) {
        self.lane(project).is_paused = paused;
        self.refresh(project);
    }

    /// The tasks of a paused tier get no slots, those of other tiers go past
    /// them.
    pub fn set_tier_paused(&mut self, tier: &Tier, paused: bool) {
        if paused {
            self.paused_tiers.insert(tier.clone());
        } else if self.paused_tiers.remove(tier) {
            let mut projects: Vec<ProjectId> = self.lanes.keys().cloned().collect();
            // A map has no order of its own: who comes first must not be chance.
            projects.sort_unstable();
            for project in &projects {
                self.refresh(project);
            }
        }
    }

    /// A task joins the line of its project.
    pub fn enqueue(&mut self, project: &ProjectId, tier: &Tier, priority: Priority, place: Place) {
        self.lane(project).line(tier).insert(priority, place);
        self.refresh(project);
    }

    /// A waiting task leaves the line without a slot.
    pub fn withdraw(&mut self, project: &ProjectId, tier: &Tier, priority: Priority, place: Place) {
        self.lane(project).line(tier).remove(priority, place);
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
            let Some(lane) = self.lanes.get_mut(&project) else { continue };
            lane.has_turn = false;
            if lane.is_paused || lane.in_use >= lane.limit {
                continue;
            }
            let Some(task) = lane.take_first(&self.paused_tiers, now, self.aging) else { continue };
            lane.in_use += 1;
            self.refresh(&project);
            return Some(task);
        }
    }

    /// Slots in use and the limit of a project.
    #[must_use]
    pub fn slots(&self, project: &ProjectId) -> (u32, u32) {
        self.lanes.get(project).map_or((0, self.default_limit), |lane| (lane.in_use, lane.limit))
    }

    /// How many tasks of a project, by tier, a new one of `priority` has
    /// before it in its line.
    pub fn ahead(&self, project: &ProjectId, priority: Priority) -> impl Iterator<Item = (&Tier, usize)> {
        let lines = self.lanes.get(project).map_or(&[][..], |lane| lane.lines.as_slice());
        lines.iter().map(move |(tier, line)| (tier, line.len_from(priority)))
    }

    /// Since when the oldest of all tasks waits for a slot.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.lanes.values().flat_map(|lane| &lane.lines).filter_map(|(_, line)| line.oldest()).min()
    }

    /// Since when the oldest task of a project waits for a slot.
    #[must_use]
    pub fn oldest_waiting(&self, project: &ProjectId) -> Option<Timestamp> {
        self.lanes.get(project).and_then(|lane| lane.lines.iter().filter_map(|(_, line)| line.oldest()).min())
    }

    /// Whether a slot is free for a waiting task.
    #[must_use]
    pub fn has_next(&self) -> bool {
        // Not every turn can be taken: its task may have left the line.
        let can_admit = |lane: &Lane| lane.can_admit(&self.paused_tiers);
        self.turns.iter().any(|project| self.lanes.get(project).is_some_and(can_admit))
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

    fn small() -> Tier {
        Tier::new("small").unwrap()
    }

    fn large() -> Tier {
        Tier::new("large").unwrap()
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
            admission.enqueue(&a, &small(), Priority::Normal, place(1, task));
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
        admission.enqueue(&a, &small(), Priority::Normal, place(1, 1));
        admission.enqueue(&b, &small(), Priority::Normal, place(1, 2));
        assert!(admission.has_next());
        admission.withdraw(&a, &small(), Priority::Normal, place(1, 1));
        admission.set_limit(&b, Some(0));
        assert!(!admission.has_next());
        assert_eq!(admitted(&mut admission, 2), [0_u128; 0]);
        admission.set_limit(&b, None);
        admission.enqueue(&a, &small(), Priority::Normal, place(2, 3));
        assert_eq!(admitted(&mut admission, 2), [2, 3]);
    }

    #[test]
    fn slots_taken_outside_count_even_above_the_limit() {
        let (mut admission, a) = (Admission::new(AGING, 1), project("a"));
        admission.occupy(&a);
        admission.occupy(&a);
        admission.enqueue(&a, &small(), Priority::Normal, place(1, 1));
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
            admission.enqueue(&a, &small(), Priority::High, place(1, task));
        }
        admission.enqueue(&b, &small(), Priority::Low, place(2, 100));
        assert_eq!(admitted(&mut admission, 3), [1, 100, 2, 3, 4, 5]);
    }

    #[test]
    fn priority_first_then_age_and_waiting_raises() {
        let (mut admission, a) = (Admission::new(AGING, 1000), project("a"));
        admission.enqueue(&a, &small(), Priority::Low, place(0, 1));
        admission.enqueue(&a, &small(), Priority::Normal, place(10, 2));
        admission.enqueue(&a, &small(), Priority::High, place(20, 3));
        assert_eq!(admitted(&mut admission.clone(), 30), [3, 2, 1]);
        // After 310 s the low one counts as normal and is older than the normal one,
        // which counts as high and is older than the high one.
        assert_eq!(admitted(&mut admission.clone(), 315), [2, 3, 1]);
        assert_eq!(admitted(&mut admission, 700), [1, 2, 3]);
    }

    #[test]
    fn a_paused_project_gets_no_slots_and_keeps_its_line() {
        let (mut admission, a, b) = (Admission::new(AGING, 2), project("a"), project("b"));
        admission.enqueue(&a, &small(), Priority::Normal, place(1, 1));
        admission.set_paused(&a, true);
        admission.enqueue(&a, &small(), Priority::Normal, place(2, 2));
        admission.enqueue(&b, &small(), Priority::Normal, place(3, 3));
        assert_eq!(admitted(&mut admission, 4), [3]);
        assert!(!admission.has_next());
        admission.set_limit(&a, Some(1));
        assert!(!admission.has_next());
        admission.set_paused(&a, false);
        assert!(admission.has_next());
        assert_eq!(admitted(&mut admission, 4), [1]);
        admission.set_paused(&a, true);
        admission.release(&a);
        assert_eq!(admitted(&mut admission, 4), [0_u128; 0]);
        admission.set_paused(&a, false);
        assert_eq!(admitted(&mut admission, 4), [2]);
    }

    #[test]
    fn a_paused_tier_stands_in_nobodys_way_and_comes_back_in_order() {
        let (mut admission, a, b) = (Admission::new(AGING, 2), project("a"), project("b"));
        admission.set_tier_paused(&large(), true);
        admission.enqueue(&a, &large(), Priority::High, place(1, 1));
        admission.enqueue(&a, &large(), Priority::Normal, place(2, 2));
        admission.enqueue(&b, &large(), Priority::Normal, place(2, 3));
        assert!(!admission.has_next());
        for task in 10..13 {
            admission.enqueue(&a, &small(), Priority::Normal, place(3, task));
        }
        assert_eq!(admitted(&mut admission, 4), [10, 11]);
        admission.release(&a);
        admission.release(&a);
        admission.withdraw(&a, &large(), Priority::Normal, place(2, 2));
        admission.set_tier_paused(&large(), false);
        assert_eq!(admitted(&mut admission, 4), [1, 3, 12]);
        admission.set_tier_paused(&large(), false);
        assert!(!admission.has_next());
    }

    #[test]
    fn the_line_is_one_over_all_tiers() {
        let (mut admission, a) = (Admission::new(AGING, 1000), project("a"));
        admission.enqueue(&a, &small(), Priority::Low, place(0, 1));
        admission.enqueue(&a, &large(), Priority::Normal, place(10, 2));
        admission.enqueue(&a, &small(), Priority::Normal, place(10, 3));
        admission.enqueue(&a, &large(), Priority::High, place(20, 4));
        let ahead: Vec<_> = admission.ahead(&a, Priority::Normal).map(|(tier, count)| (tier.as_str(), count)).collect();
        assert_eq!(ahead, [("small", 1), ("large", 2)]);
        assert_eq!(admitted(&mut admission.clone(), 30), [4, 2, 3, 1]);
        assert_eq!(admitted(&mut admission, 315), [2, 3, 4, 1]);
    }
}
