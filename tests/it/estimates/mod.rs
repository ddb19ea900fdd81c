//! Estimates: what they are told from, what they learn, and whether they
//! come true.

mod day;

use std::time::Duration;

use dats::task::{
    Child, Cohort, Domain, Estimated, Estimator, Input, Moment, Resolved, Step, Task, Tier, apply, spawn, submit,
};
use proptest::prelude::*;

use crate::core_fixtures::{
    at, failed, lease_id, output, policy, present, project, record_id, resolved, submission, task_id, tier, worker,
};
use crate::support::random::Random;

fn domain(name: &str) -> Domain {
    Domain::new(name).expect("a domain")
}

/// A task that is queued since second 0, with an estimate.
fn queued(tier_name: &str, domain_name: &str, estimate: Option<Estimated>) -> Task {
    let wanted = Resolved { tier: tier(tier_name), domain: domain(domain_name), ..resolved(1, 600, "none") };
    let Step { mut task, .. } =
        submit(task_id(1), &submission(project("p"), &[], None), wanted, &[], present(at(0)), &policy(None));
    task.estimate = estimate;
    task
}

/// The same task, leased at once and ended by a report after `took`.
fn ended(task: &Task, took: Duration, good: bool) -> Task {
    let policy = policy(None);
    let task = apply(task, lease(1), present(at(0)), &policy).expect("to be leased").task;
    let report = if good { output(None, "a", &[]) } else { failed(None, false) };
    let input = Input::Report { report, record: record_id(1), raw: String::new(), event: None };
    apply(&task, input, present(at(0).after(took)), &policy).expect("to be taken").task
}

fn lease(number: u128) -> Input {
    Input::Lease { id: lease_id(number), worker: worker(), until: at(1_000_000) }
}

/// The estimate of a task for which a slot is free.
fn foretold(estimator: &Estimator, tier_name: &str, domain_name: &str) -> Option<Estimated> {
    estimator.estimate(&tier(tier_name), &domain(domain_name), [], (0, 1), Moment::default())
}

/// A task of this kind comes, gets its estimate and takes so long.
fn live(estimator: &mut Estimator, tier_name: &str, domain_name: &str, took: Duration) -> Option<Estimated> {
    let estimate = foretold(estimator, tier_name, domain_name);
    estimator.learn(&ended(&queued(tier_name, domain_name, estimate.clone()), took, true));
    estimate
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_is_told_before_something_has_completed() {
    let mut estimator = Estimator::default();
    assert_eq!(foretold(&estimator, "small", "analysis"), None);
    estimator.learn(&queued("small", "analysis", None));
    estimator.learn(&ended(&queued("small", "analysis", None), SECOND, false));
    assert_eq!(foretold(&estimator, "small", "analysis"), None, "who failed teaches nothing");
    assert_eq!(estimator.take_changed(), []);
    estimator.learn(&ended(&queued("small", "analysis", None), SECOND, true));
    let told = foretold(&estimator, "large", "documentation").expect("something to go by");
    assert_eq!((told.cohort, told.base_ms), (Cohort::All, 1000));
    assert!(told.at > at(1));
}

#[test]
fn the_nearest_cohort_with_enough_tasks_is_gone_by() {
    let mut estimator = Estimator::default();
    for _ in 0..5 {
        live(&mut estimator, "small", "analysis", SECOND);
        live(&mut estimator, "large", "analysis", SECOND * 10);
    }
    for _ in 0..4 {
        live(&mut estimator, "small", "documentation", SECOND * 3);
    }
    let kind = |name| Cohort::Kind(tier(name), domain("analysis"));
    let cohort_and_base = |tier_name, domain_name| {
        let told = foretold(&estimator, tier_name, domain_name).expect("something to go by");
        (told.cohort, told.base_ms)
    };
    assert_eq!(cohort_and_base("small", "analysis"), (kind("small"), 1000));
    assert_eq!(cohort_and_base("large", "analysis"), (kind("large"), 10_000));
    let (cohort, base) = cohort_and_base("small", "documentation");
    assert!(cohort == Cohort::Tier(tier("small")) && (1000..3000).contains(&base), "{cohort:?} {base}");
    let (cohort, base) = cohort_and_base("tiny", "analysis");
    assert!(cohort == Cohort::All && (1000..10_000).contains(&base), "{cohort:?} {base}");
}

#[test]
fn an_escalated_task_teaches_the_tier_it_was_submitted_for() {
    let mut policy = policy(None);
    policy.backoff_initial = Duration::ZERO;
    let mut task = queued("small", "analysis", None);
    task.max_attempts = 2;
    task.qa_profile = dats::task::QaProfile::new("strict").expect("a profile");
    let report = |task: &Task, report, second| {
        let input = Input::Report { report, record: record_id(1), raw: String::new(), event: None };
        apply(task, input, present(at(second)), &policy).expect("to be taken").task
    };
    let admit = |task: &Task, second| apply(task, lease(2), present(at(second)), &policy).expect("to be leased").task;
    let task = report(&admit(&task, 0), output(None, "a", &[]), 1);
    let task = report(&task, crate::core_fixtures::rejected("a"), 2);
    let task = apply(&task, Input::Tick, present(at(2)), &policy).expect("to be queued").task;
    let task = report(&admit(&task, 3), output(None, "b", &[]), 6);
    let task = report(&task, crate::core_fixtures::validated("b"), 7);
    assert_eq!(task.tier, tier("large"));
    let mut estimator = Estimator::default();
    estimator.learn(&task);
    let changed: Vec<Cohort> = estimator.take_changed().into_iter().map(|(cohort, _)| cohort).collect();
    let expected = [Cohort::All, Cohort::Tier(tier("small")), Cohort::Kind(tier("small"), domain("analysis"))];
    assert_eq!(changed, expected);
    assert_eq!(foretold(&estimator, "small", "analysis").expect("something").base_ms, 7000);
}

#[test]
fn what_was_told_is_compared_where_it_was_told() {
    let mut estimator = Estimator::default();
    for _ in 0..5 {
        live(&mut estimator, "small", "analysis", SECOND);
    }
    estimator.take_changed();
    let before = foretold(&estimator, "small", "analysis").expect("something to go by");
    let told = Some(before.clone());
    let changed = |estimator: &mut Estimator| -> Vec<Cohort> {
        estimator.take_changed().into_iter().map(|(cohort, _)| cohort).collect()
    };
    let (small, large) = (Cohort::Tier(tier("small")), Cohort::Tier(tier("large")));
    let kind = |name| Cohort::Kind(tier(name), domain("analysis"));
    // Routing found it to be of another tier: its time counts there, but how
    // good the estimate was counts here.
    let routed = ended(&queued("large", "analysis", told.clone()), SECOND * 9, true);
    estimator.learn(&routed);
    assert_eq!(changed(&mut estimator), [Cohort::All, large, kind("large"), kind("small")]);
    // One that was split took the time of its parts, which count themselves.
    let mut split = ended(&queued("small", "analysis", told), SECOND * 9, true);
    split.children = vec![task_id(2)];
    estimator.learn(&split);
    assert_eq!(changed(&mut estimator), [kind("small")]);
    let after = foretold(&estimator, "small", "analysis").expect("something to go by");
    assert_eq!(after.base_ms, before.base_ms);
    assert!(after.at > before.at);
    let mut dependent = ended(&queued("small", "analysis", Some(after)), SECOND, true);
    dependent.depends_on = vec![task_id(3)];
    estimator.learn(&dependent);
    assert_eq!(changed(&mut estimator), [Cohort::All, small, kind("small")]);
}

#[test]
fn what_was_told_of_a_whole_is_not_held_against_its_parts() {
    let mut estimator = Estimator::default();
    live(&mut estimator, "small", "analysis", SECOND);
    let whole = queued("small", "analysis", foretold(&estimator, "small", "analysis"));
    let part =
        Child { id: task_id(2), description: "x".to_owned(), domain: None, routing: None, depends_on: Vec::new() };
    let part = spawn(&whole, &part, present(at(5)), &policy(None)).task;
    assert!(whole.estimate.is_some() && part.estimate.is_none());
}

#[test]
fn one_night_away_does_not_spoil_the_next_day() {
    let mut estimator = Estimator::default();
    for _ in 0..40 {
        live(&mut estimator, "small", "analysis", SECOND * 60);
    }
    live(&mut estimator, "small", "analysis", Duration::from_hours(14));
    let told = foretold(&estimator, "small", "analysis").expect("something to go by");
    assert!(told.at < at(120), "{told:?}");
}

/// Makes up how long a task takes.
type Draw<'a> = dyn Fn(&mut Random) -> Duration + 'a;

#[test]
fn whatever_the_distribution_the_share_holds() {
    let heavy = |random: &mut Random| {
        let drawn = u32::try_from(random.below(1_000_000)).expect("a small number");
        // Pareto: without a variance.
        SECOND.mul_f64((f64::from(drawn + 1) / 1_000_000.0).powf(-0.6))
    };
    let two = |random: &mut Random| if random.chance(70) { SECOND } else { SECOND * 40 };
    let steady = |random: &mut Random| SECOND + Duration::from_millis(random.below(200));
    let cases: [(&str, &Draw<'_>); 3] = [("heavy", &heavy), ("two", &two), ("steady", &steady)];
    for (name, draw) in cases {
        let (mut estimator, mut random) = (Estimator::default(), Random::new(7));
        let (mut kept, count) = (0_u32, 3000_u32);
        for _ in 0..count {
            let took = draw(&mut random);
            let told = live(&mut estimator, "small", "analysis", took);
            kept += u32::from(told.is_some_and(|told| told.at >= Moment::default().after(took)));
        }
        let share = f64::from(kept) / f64::from(count);
        println!("{name}: {share}");
        assert!((0.77..0.83).contains(&share), "{name}: {share}");
    }
}

#[test]
fn kinds_are_bounded_and_the_one_unused_for_longest_goes() {
    let mut estimator = Estimator::default();
    let mut kept = std::collections::BTreeSet::new();
    for number in 0_u32..1500 {
        let mut task = ended(&queued("small", &format!("d{number}"), None), SECOND, true);
        task.course.ended = Some(at(i64::from(number) + 1));
        estimator.learn(&task);
        for (cohort, statistics) in estimator.take_changed() {
            if statistics.is_some() {
                kept.insert(cohort);
            } else {
                assert!(kept.remove(&cohort), "{cohort:?} was not kept");
            }
        }
    }
    assert_eq!(kept.len(), 1024 + 2);
    assert!(kept.contains(&Cohort::Kind(tier("small"), domain("d1499"))));
    assert!(!kept.contains(&Cohort::Kind(tier("small"), domain("d0"))));
}

proptest! {
    #[test]
    fn more_ahead_is_never_earlier_and_more_slots_never_later(
        took in prop::collection::vec(1_u64..100_000, 1..30),
        ahead in 0_usize..500,
        more in 0_usize..500,
        in_use in 0_u32..20,
        limit in 1_u32..20,
    ) {
        let mut estimator = Estimator::default();
        for millis in took {
            live(&mut estimator, "small", "analysis", Duration::from_millis(millis));
        }
        let (small, tiny, from) = (tier("small"), tier("tiny"), at(1000));
        let told = |ahead: usize, in_use: u32, limit: u32| {
            let ahead: [(&Tier, usize); 2] = [(&small, ahead), (&tiny, ahead / 2)];
            estimator.estimate(&small, &domain("analysis"), ahead, (in_use, limit), from).expect("something to go by")
        };
        let now = told(ahead, in_use, limit);
        prop_assert!(now.at >= from && now.from == from && now.base_ms > 0);
        prop_assert!(told(ahead + more, in_use, limit).at >= now.at);
        prop_assert!(told(ahead, in_use, limit + 1).at <= now.at);
        // While a slot is free, the tasks ahead wait only for workers: `in_use` counts the
        // workers, so one more never makes the estimate later. At the limit this need not
        // hold, because the task then also waits for a slot.
        if in_use + 1 < limit {
            prop_assert!(told(ahead, in_use + 1, limit).at <= now.at);
        }
        prop_assert!(told(ahead, limit, limit + 1).at <= told(ahead, limit, limit).at);
    }

    #[test]
    fn what_is_kept_brings_back_exactly_the_same(
        lives in prop::collection::vec((0_usize..3, 0_usize..3, 1_u64..1_000_000), 1..120),
        restart_at in 0_usize..120,
    ) {
        let (tiers, domains) = (["tiny", "small", "large"], ["analysis", "documentation", "ui-design"]);
        let mut estimator = Estimator::default();
        let mut rows = std::collections::BTreeMap::new();
        let mut other = None;
        for (number, (tier_number, domain_number, millis)) in lives.into_iter().enumerate() {
            let (tier_name, domain_name) = (tiers[tier_number], domains[domain_number]);
            let took = Duration::from_millis(millis);
            let told = live(&mut estimator, tier_name, domain_name, took);
            if let Some(other) = &mut other {
                prop_assert_eq!(live(other, tier_name, domain_name, took), told);
            }
            for (cohort, statistics) in estimator.take_changed() {
                let bytes = postcard::to_stdvec(&statistics).expect("to be written");
                prop_assert!(bytes.len() < 300, "{} bytes", bytes.len());
                rows.insert(cohort, bytes);
            }
            if number == restart_at {
                let read = |bytes: &Vec<u8>| postcard::from_bytes::<Option<_>>(bytes).expect("to be read");
                let kept = rows.iter().filter_map(|(cohort, bytes)| Some((cohort.clone(), read(bytes)?)));
                other = Some(Estimator::recovered(kept));
            }
        }
    }
}
