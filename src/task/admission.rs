//! Admission: which waiting task gets the next free slot of its project.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::id::{ProjectId, TaskId, Tier};
use super::line::{Line, Place, rank};
use super::moment::Moment;
use super::request::Priority;

/// Slots and waiting tasks of all projects.
///
/// A project has one line for each tier. The caller, which has workers or places at a broker to
/// assign, asks for the next task on the tiers that are open: a tier without workers or a paused
/// tier costs nothing and blocks nothing. Projects take turns on each tier: the project served
/// longest ago on that tier is next, and within it the best of the heads of its open lines. If that
/// head stands in another line than the one whose turn it was, both lines have had their turn. So a
/// project that is served on one tier loses nothing on the others, and no project is passed twice
/// by another one on a tier where it waits. A project whose last waiting task leaves a line loses
/// its turn there: its next task waits behind the other projects.
///
/// Every call costs the number of tiers times the logarithm of the number of waiting tasks and
/// projects. No container moves its content when it grows.
#[derive(Debug, Clone)]
pub struct Admission {
    aging: Duration,
    default_limit: u32,
    lanes: BTreeMap<ProjectId, Lane>,
    tiers: BTreeMap<Tier, TierLine>,
    /// The next turn to assign. A project with a lower turn goes first.
    next_turn: u64,
}

/// The waiting tasks of a tier.
#[derive(Debug, Clone, Default)]
struct TierLine {
    /// Projects that have both a waiting task on this tier and a free slot, by turn.
    turns: BTreeSet<(u64, ProjectId)>,
    /// All tasks waiting on this tier, oldest first.
    waiting: BTreeSet<Place>,
}

#[derive(Debug, Clone)]
struct Lane {
    limit: u32,
    in_use: u32,
    /// One line for each tier; there are few tiers.
    lines: Vec<LaneLine>,
    is_paused: bool,
}

/// The waiting tasks of a project on one tier.
#[derive(Debug, Clone)]
struct LaneLine {
    tier: Tier,
    line: Line,
    /// The project's turn on this tier while it has one.
    turn: Option<u64>,
}

impl Lane {
    fn line(&mut self, tier: &Tier) -> &mut Line {
        let known = self.lines.iter().position(|each| each.tier == *tier);
        let place = known.unwrap_or_else(|| {
            self.lines.push(LaneLine { tier: tier.clone(), line: Line::default(), turn: None });
            self.lines.len() - 1
        });
        &mut self.lines[place].line
    }

    /// Whether a waiting task of the project can get a slot.
    const fn has_slot(&self) -> bool {
        !self.is_paused && self.in_use < self.limit
    }

    /// Tier, class and place of the next task on the open tiers.
    fn first(&self, is_open: &impl Fn(&Tier) -> bool, now: Moment, aging: Duration) -> Option<(Tier, Priority, Place)> {
        let open = self.lines.iter().filter(|each| is_open(&each.tier));
        let heads = open.filter_map(|each| Some((&each.tier, each.line.first(now, aging)?)));
        let (tier, (priority, place)) =
            heads.max_by_key(|(_, (priority, place))| rank(*priority, *place, now, aging))?;
        Some((tier.clone(), priority, place))
    }
}

impl Admission {
    /// An empty admission. Projects without a limit of their own get `default_limit`.
    #[must_use]
    pub fn new(aging: Duration, default_limit: u32) -> Self {
        Self { aging, default_limit, lanes: BTreeMap::new(), tiers: BTreeMap::new(), next_turn: 0 }
    }

    fn lane(&mut self, project: &ProjectId) -> &mut Lane {
        let limit = self.default_limit;
        self.lanes.entry(project.clone()).or_insert_with(|| Lane {
            limit,
            in_use: 0,
            lines: Vec::new(),
            is_paused: false,
        })
    }

    /// Updates the project's turns. On the tiers in `served` it has just had its turn.
    fn refresh(&mut self, project: &ProjectId, served: &[&Tier]) {
        let Some(lane) = self.lanes.get_mut(project) else { return };
        let has_slot = lane.has_slot();
        for LaneLine { tier, line, turn } in &mut lane.lines {
            let is_ready = has_slot && !line.is_empty();
            let before = *turn;
            *turn = match before {
                Some(turn) if is_ready && !served.contains(&&*tier) => Some(turn),
                Some(_) | None if is_ready => {
                    self.next_turn += 1;
                    Some(self.next_turn)
                }
                Some(_) | None => None,
            };
            if before == *turn {
                continue;
            }
            let tier = self.tiers.entry(tier.clone()).or_default();
            if let Some(turn) = before {
                tier.turns.remove(&(turn, project.clone()));
            }
            if let Some(turn) = *turn {
                tier.turns.insert((turn, project.clone()));
            }
        }
    }

    /// Sets the limit of a project; `None` is the default. A lower limit takes no slot away.
    pub fn set_limit(&mut self, project: &ProjectId, limit: Option<u32>) {
        let limit = limit.unwrap_or(self.default_limit);
        self.lane(project).limit = limit;
        self.refresh(project, &[]);
    }

    /// Pauses or resumes a project. A paused project gets no new slots and keeps those it has.
    pub fn set_paused(&mut self, project: &ProjectId, paused: bool) {
        self.lane(project).is_paused = paused;
        self.refresh(project, &[]);
    }

    /// Adds a task to the line of its project.
    pub fn enqueue(&mut self, project: &ProjectId, tier: &Tier, priority: Priority, place: Place) {
        self.lane(project).line(tier).insert(priority, place);
        self.tiers.entry(tier.clone()).or_default().waiting.insert(place);
        self.refresh(project, &[]);
    }

    /// Removes a waiting task from its line.
    pub fn withdraw(&mut self, project: &ProjectId, tier: &Tier, priority: Priority, place: Place) {
        if self.lane(project).line(tier).remove(priority, place) {
            self.tiers.entry(tier.clone()).or_default().waiting.remove(&place);
            self.refresh(project, &[]);
        }
    }

    /// Counts a slot as used by a task.
    pub fn occupy(&mut self, project: &ProjectId) {
        self.lane(project).in_use += 1;
        self.refresh(project, &[]);
    }

    /// Counts a slot as free again.
    pub fn release(&mut self, project: &ProjectId) {
        let lane = self.lane(project);
        lane.in_use = lane.in_use.saturating_sub(1);
        self.refresh(project, &[]);
    }

    /// Removes and returns the next task that waits on an open tier and whose project has a free
    /// slot. The caller must give it the slot.
    pub fn take_next(&mut self, is_open: impl Fn(&Tier) -> bool, now: Moment) -> Option<(TaskId, Tier)> {
        let open = self.tiers.iter().filter(|(tier, _)| is_open(tier));
        let firsts = open.filter_map(|(tier, line)| line.turns.first().map(|(turn, project)| (turn, project, tier)));
        let (_, project, due) = firsts.min()?;
        let (project, due) = (project.clone(), due.clone());
        let lane = self.lanes.get_mut(&project)?;
        let (tier, priority, place) = lane.first(&is_open, now, self.aging)?;
        lane.line(&tier).remove(priority, place);
        self.tiers.entry(tier.clone()).or_default().waiting.remove(&place);
        self.refresh(&project, &[&due, &tier]);
        Some((place.task, tier))
    }

    /// Whether [`Self::take_next`] would return a task.
    #[must_use]
    pub fn has_next(&self, is_open: impl Fn(&Tier) -> bool) -> bool {
        self.tiers.iter().any(|(tier, line)| !line.turns.is_empty() && is_open(tier))
    }

    /// Slots in use, and the limit of a project.
    #[must_use]
    pub fn slots(&self, project: &ProjectId) -> (u32, u32) {
        self.lanes.get(project).map_or((0, self.default_limit), |lane| (lane.in_use, lane.limit))
    }

    /// Number of tasks, by tier, that stand before a new task of `priority` in the line of a
    /// project.
    pub fn ahead(&self, project: &ProjectId, priority: Priority) -> impl Iterator<Item = (&Tier, usize)> {
        let lines = self.lanes.get(project).map_or(&[][..], |lane| lane.lines.as_slice());
        lines.iter().map(move |each| (&each.tier, each.line.len_from(priority)))
    }

    /// Since when the oldest of all tasks has waited.
    #[must_use]
    pub fn oldest(&self) -> Option<Moment> {
        self.tiers.values().filter_map(|line| line.waiting.first()).map(|place| place.since).min()
    }

    /// Since when the oldest task of a project has waited.
    #[must_use]
    pub fn oldest_waiting(&self, project: &ProjectId) -> Option<Moment> {
        self.lanes.get(project).and_then(|lane| lane.lines.iter().filter_map(|each| each.line.oldest()).min())
    }

    /// Number of tasks waiting on a tier, and since when the oldest has waited.
    #[must_use]
    pub fn waiting(&self, tier: &Tier) -> (usize, Option<Moment>) {
        let waiting = self.tiers.get(tier).map(|line| &line.waiting);
        waiting.map_or((0, None), |waiting| (waiting.len(), waiting.first().map(|place| place.since)))
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
        Place { since: Moment::from_micros(second * 1_000_000), task: TaskId::new(Uuid::from_u128(task)) }
    }

    fn admitted(admission: &mut Admission, second: i64) -> Vec<u128> {
        let now = Moment::from_micros(second * 1_000_000);
        admitted_on(admission, now, &|_| true)
    }

    fn admitted_on(admission: &mut Admission, now: Moment, is_open: &impl Fn(&Tier) -> bool) -> Vec<u128> {
        let mut admitted = Vec::new();
        while let Some((task, _)) = admission.take_next(is_open, now) {
            let number = u128::from_be_bytes(task.to_bytes());
            // The task's number gives its project.
            admission.occupy(&project(if number < 100 { "a" } else { "b" }));
            admitted.push(number);
        }
        assert!(!admission.has_next(is_open));
        admitted
    }

    fn has_next(admission: &Admission) -> bool {
        admission.has_next(|_| true)
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
        admission.enqueue(&b, &small(), Priority::Normal, place(1, 102));
        assert!(has_next(&admission));
        admission.withdraw(&a, &small(), Priority::Normal, place(1, 1));
        admission.set_limit(&b, Some(0));
        assert!(!has_next(&admission));
        assert_eq!(admitted(&mut admission, 2), [0_u128; 0]);
        admission.set_limit(&b, None);
        admission.enqueue(&a, &small(), Priority::Normal, place(2, 3));
        assert_eq!(admitted(&mut admission, 2), [102, 3]);
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
        admission.enqueue(&b, &small(), Priority::Normal, place(3, 103));
        assert_eq!(admitted(&mut admission, 4), [103]);
        assert!(!has_next(&admission));
        admission.set_limit(&a, Some(1));
        assert!(!has_next(&admission));
        admission.set_paused(&a, false);
        assert!(has_next(&admission));
        assert_eq!(admitted(&mut admission, 4), [1]);
        admission.set_paused(&a, true);
        admission.release(&a);
        assert_eq!(admitted(&mut admission, 4), [0_u128; 0]);
        admission.set_paused(&a, false);
        assert_eq!(admitted(&mut admission, 4), [2]);
    }

    #[test]
    fn a_closed_tier_holds_nothing_and_comes_back_in_order() {
        let (mut admission, a, b) = (Admission::new(AGING, 2), project("a"), project("b"));
        let now = Moment::from_micros(4_000_000);
        let only_small = |tier: &Tier| *tier == small();
        admission.enqueue(&a, &large(), Priority::High, place(1, 1));
        admission.enqueue(&a, &large(), Priority::Normal, place(2, 2));
        admission.enqueue(&b, &large(), Priority::Normal, place(2, 103));
        assert!(!admission.has_next(only_small) && has_next(&admission));
        for task in 10..13 {
            admission.enqueue(&a, &small(), Priority::Normal, place(3, task));
        }
        assert_eq!(admitted_on(&mut admission, now, &only_small), [10, 11]);
        assert_eq!(admission.waiting(&large()), (3, Some(place(1, 1).since)));
        admission.release(&a);
        admission.release(&a);
        admission.withdraw(&a, &large(), Priority::Normal, place(2, 2));
        // The slots of one project go to its best task, whatever the tier.
        assert_eq!(admitted(&mut admission, 4), [103, 1, 12]);
        assert_eq!(admission.waiting(&large()), (0, None));
        assert_eq!(admission.oldest(), None);
    }

    #[test]
    fn a_project_that_waits_for_a_tier_keeps_its_turn_on_the_others() {
        let (mut admission, a, b) = (Admission::new(AGING, 1000), project("a"), project("b"));
        let now = Moment::from_micros(4_000_000);
        let only_small = |tier: &Tier| *tier == small();
        admission.enqueue(&a, &large(), Priority::Normal, place(1, 1));
        for task in [2, 3] {
            admission.enqueue(&a, &small(), Priority::Normal, place(1, task));
        }
        for task in [102, 103] {
            admission.enqueue(&b, &small(), Priority::Normal, place(2, task));
        }
        assert_eq!(admitted_on(&mut admission, now, &only_small), [2, 102, 3, 103]);
        assert_eq!(admitted(&mut admission, 4), [1]);
    }

    #[test]
    fn turns_follow_from_waiting_tasks_in_any_order_of_calls() {
        let mut admission = Admission::new(AGING, 2);
        let names = ["a", "b"].map(project);
        let tiers = [small(), large()];
        let mut seed = 7_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        for step in 0..2000_i64 {
            let (which, tier) = (random(2), random(2));
            let task = u128::try_from(step).unwrap() % 100 + if which == 0 { 0 } else { 100 };
            let (project, tier) = (&names[which], &tiers[tier]);
            let place = place(1, task);
            match random(6) {
                0 | 1 => admission.enqueue(project, tier, Priority::Normal, place),
                2 => admission.withdraw(project, tier, Priority::Normal, place),
                3 => admission.set_paused(project, random(2) == 0),
                4 => admission.release(project),
                _ => {
                    let taken = admission.take_next(|each| each == tier, Moment::from_micros(step));
                    if taken.is_some() {
                        admission.occupy(project);
                    }
                }
            }
            for (tier, line) in &admission.tiers {
                let open = admission.lanes.iter().filter(|(_, lane)| lane.has_slot());
                let lines = open.flat_map(|(id, lane)| lane.lines.iter().map(move |each| (id, each)));
                let ready = lines.filter(|(_, each)| each.tier == *tier && !each.line.is_empty());
                let expected: BTreeSet<_> = ready.map(|(id, each)| (each.turn.unwrap(), id.clone())).collect();
                assert_eq!(line.turns, expected);
                let count: usize = admission
                    .lanes
                    .values()
                    .flat_map(|lane| &lane.lines)
                    .filter(|each| each.tier == *tier)
                    .map(|each| each.line.len())
                    .sum();
                assert!(line.waiting.len() <= count);
            }
        }
    }

    #[test]
    fn a_line_covers_all_tiers() {
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
