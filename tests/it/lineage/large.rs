//! Sizes at which a careless implementation falls over: a chain of a million
//! records, an artifact that everybody uses, rows in the worst order.

use std::cell::Cell;
use std::collections::BTreeSet;

use dats::lineage::{Action, Cancelled, Flag, Graph, Link, Record, Relationship, RestoredRecord, Step, WorkStart};
use dats::task::{ArtifactId, ProjectId, RecordStatus, Seq, Timestamp};

use super::model::{artifact, at, project, record_id, task_id};
use super::picture;
use crate::support::random::{Random, from_environment};

/// One record a second, each with an artifact of its own.
fn record(number: usize, project: &ProjectId, inputs: &[usize]) -> Record {
    let created_at = Timestamp::from_micros(i64::try_from(number).unwrap() * 1_000_000);
    Record {
        id: record_id(number),
        task: task_id(number / 2),
        project: project.clone(),
        status: RecordStatus::Passed,
        created_at,
        started_at: None,
        began: WorkStart::After(Seq(u64::try_from(number).unwrap())),
        inputs: inputs.iter().map(|input| (artifact(*input), Relationship::Consumed)).collect(),
        outputs: vec![artifact(number)],
    }
}

fn restored(record: Record, number: usize) -> RestoredRecord {
    let seq = Seq(u64::try_from(number).unwrap() + 1);
    RestoredRecord { record, seq, fact: None, rebound: Vec::new(), refused: Vec::new() }
}

fn seq(number: usize) -> Seq {
    Seq(u64::try_from(number).unwrap() + 1)
}

#[test]
fn a_chain_of_a_million_records() {
    const LEN: usize = 1_000_000;
    let project = project(1);
    let rows = (0..LEN).map(|number| {
        let before: Vec<usize> = number.checked_sub(1).into_iter().collect();
        restored(record(number, &project, &before), number)
    });
    let (mut graph, _) = Graph::restore(rows, seq(LEN)).unwrap();
    let [first, last] = [0, LEN - 1].map(|number| graph.find(record_id(number)).unwrap());
    let depth = u32::try_from(LEN - 1).unwrap();
    let walk = graph.dependents(&[first], None);
    assert_eq!((walk.len(), walk.max_depth()), (LEN - 1, depth));
    assert_eq!(graph.dependencies(&[last], Some(10)).len(), 10);
    assert_eq!(graph.path(first, last, None).unwrap().len(), LEN);
    let step = graph.apply(Action::Taint, &[record_id(0)], seq(LEN + 1)).unwrap();
    assert_eq!((step.flags.len(), step.flags.last().unwrap().depth), (LEN, depth));
    let causes = graph.root_causes(last, None);
    assert_eq!(causes.iter().collect::<Vec<_>>(), [(first, depth)]);
    assert_eq!(causes.path(0).len(), LEN);
    let step = graph.apply(Action::Clear, &[record_id(0)], seq(LEN + 2)).unwrap();
    assert_eq!(step.flags.len(), LEN);
    assert_eq!(graph.record(last).unwrap().flag, Flag::Clean);
}

/// A question that is stopped has no answer, and the stop is looked at often
/// enough that nobody waits for it.
#[test]
fn questions_can_be_stopped() {
    const LEN: usize = 100_000;
    let project = project(1);
    let rows = (0..LEN).map(|number| {
        let before: Vec<usize> = number.checked_sub(1).into_iter().collect();
        restored(record(number, &project, &before), number)
    });
    let (mut graph, _) = Graph::restore(rows, seq(LEN)).unwrap();
    let [first, last] = [0, LEN - 1].map(|number| graph.find(record_id(number)).unwrap());
    graph.apply(Action::Taint, &[record_id(0)], seq(LEN + 1)).unwrap();
    for most in [0, 1, 7] {
        let looks = Cell::new(0);
        let stop = || looks.replace(looks.get() + 1) >= most;
        let questions = graph.cancellable(stop);
        let stopped = [
            questions.dependents(&[first], None).err(),
            questions.dependencies(&[last], None).err(),
            questions.impact(&[first], None).err(),
            questions.root_causes(last, None).err(),
            questions.path(first, last, None).err(),
            questions.preview(Action::Clear, &[record_id(0)], None).err(),
        ];
        assert_eq!(stopped, [Some(Cancelled); 6], "{most}");
        assert_eq!(looks.get(), most + 6);
    }
    let looks = Cell::new(0);
    let questions = graph.cancellable(|| looks.replace(looks.get() + 1) > LEN);
    assert_eq!(questions.dependents(&[first], None).unwrap(), graph.dependents(&[first], None));
    assert!((LEN / 5000..LEN / 1000).contains(&looks.get()), "{looks:?}");
    let preview = |action| questions.preview(action, &[record_id(0)], None).unwrap().unwrap();
    assert_eq!(preview(Action::Clear), graph.preview(Action::Clear, &[record_id(0)], None).unwrap());
    assert_eq!(preview(Action::Clear).flags.len(), LEN);
}

/// What is tainted above is found without a look at all that is above.
#[test]
fn clean_dependencies_are_not_walked() {
    const LEN: usize = 100_000;
    let project = project(1);
    // A chain, a tainted record beside it, and one that uses both.
    let rows = (0..=LEN).map(|number| {
        let inputs: Vec<usize> = match number {
            0 | 1 => Vec::new(),
            LEN => vec![0, LEN - 1],
            _ => vec![number - 1],
        };
        restored(record(number, &project, &inputs), number)
    });
    let (mut graph, _) = Graph::restore(rows, seq(LEN)).unwrap();
    graph.apply(Action::Taint, &[record_id(0)], seq(LEN + 1)).unwrap();
    let [tainted, last] = [0, LEN].map(|number| graph.find(record_id(number)).unwrap());
    assert_eq!(graph.dependencies(&[last], None).len(), LEN);
    let looks = Cell::new(0);
    let questions = graph.cancellable(|| looks.replace(looks.get() + 1) > LEN);
    assert_eq!(questions.tainted_dependencies(last), Ok(vec![tainted]));
    assert!(looks.get() <= 2, "{} looks at whether to go on", looks.get());
}

/// The path that a new edge would make a cycle of is found among the records that
/// such a cycle can have.
#[test]
fn a_cycle_is_told_without_a_walk_around_it() {
    const MANY: usize = 40_000;
    let project = project(1);
    // A chain in which each uses a younger one. Its begin uses many old ones, too, and
    // below its end are as many young ones.
    let (begin, end, below) = (MANY, MANY + 9, MANY + 10);
    let inputs = |number: usize| -> Vec<usize> {
        match number {
            _ if number < begin => Vec::new(),
            _ if number == begin => (0..begin).chain([begin + 1]).collect(),
            _ if number < end => vec![number + 1],
            _ if number == end => Vec::new(),
            _ if number == below => vec![end],
            _ => vec![below],
        }
    };
    let rows = (0..2 * MANY).map(|number| restored(record(number, &project, &inputs(number)), number));
    let (graph, _) = Graph::restore(rows, seq(2 * MANY)).unwrap();
    let node = |number| graph.find(record_id(number)).unwrap();
    let looks = Cell::new(0);
    let questions = graph.cancellable(|| looks.replace(looks.get() + 1) > MANY);
    let expected: Vec<_> = (begin..=end).rev().map(node).collect();
    assert_eq!(questions.path(node(end), node(begin), None).unwrap().as_ref(), Some(&expected));
    assert!(looks.replace(0) > 5, "it does not go around the cycle");
    assert_eq!(questions.path_in_cycle(node(end), node(begin)).unwrap(), Some(expected));
    assert!(looks.get() < 3, "{} looks at whether to go on", looks.get());
}

/// All records are of the same moment, each out of three of any others that
/// make no cycle, and a reader keeps the version before.
#[test]
fn records_of_one_moment() {
    let len = from_environment("DATS_RECORDS", 100_000);
    let len = usize::try_from(len).unwrap();
    let mut random = Random::new(from_environment("DATS_SEED", 5));
    let project = project(1);
    let mut records: Vec<Record> = (0..len)
        .map(|number| {
            let inputs: Vec<usize> = (0..number.min(3)).map(|_| random.index(number)).collect();
            Record { created_at: at(7), ..record(number, &project, &inputs) }
        })
        .collect();
    for place in (1..len).rev() {
        records.swap(place, random.index(place + 1));
    }
    let (mut graph, mut bound) = (Graph::default(), 0);
    for (step, record) in records.iter().enumerate() {
        let before = graph.clone();
        let step = graph.insert(record, seq(step)).unwrap();
        assert!(step.refused.is_empty());
        bound += step.bound.len();
        assert_eq!(usize::try_from(before.len()).unwrap() + 1, usize::try_from(graph.len()).unwrap());
    }
    let uses = records.iter().map(|record| {
        let artifacts: BTreeSet<&ArtifactId> = record.inputs.iter().map(|(artifact, _)| artifact).collect();
        artifacts.len()
    });
    assert_eq!(bound, uses.sum::<usize>());
}

/// Every record waits for the next to come.
#[test]
fn a_chain_that_comes_from_its_end() {
    const LEN: usize = 100_000;
    let (mut graph, project) = (Graph::default(), project(1));
    for (step, number) in (0..LEN).rev().enumerate() {
        let before: Vec<usize> = number.checked_sub(1).into_iter().collect();
        let step = graph.insert(&record(number, &project, &before), seq(step)).unwrap();
        assert_eq!(step.bound.len(), usize::from(number < LEN - 1));
    }
    let [first, last] = [0, LEN - 1].map(|number| graph.find(record_id(number)).unwrap());
    assert_eq!(graph.dependencies(&[last], None).iter().last().unwrap().record, first);
}

/// A hundred thousand records use one artifact, before it exists and after;
/// versions of it come, fail and recover in between, and a reader holds each
/// version of the graph for a while.
#[test]
fn an_artifact_that_everybody_uses() {
    const USERS: usize = 100_000;
    let (mut graph, project) = (Graph::default(), project(1));
    let mut held = graph.clone();
    let mut next = 0;
    let mut at_next = || {
        next += 1;
        Seq(next)
    };
    for number in 1..=USERS {
        if number == USERS / 2 {
            let step = graph.insert(&record(0, &project, &[]), at_next()).unwrap();
            assert_eq!(step.bound.len(), USERS / 2 - 1);
        }
        let step = graph.insert(&record(number, &project, &[0]), at_next()).unwrap();
        assert_eq!(step.bound.len(), usize::from(number >= USERS / 2));
        if number % 64 == 0 {
            held = graph.clone();
        }
    }
    assert_eq!(u64::from(held.len()), held.edge_count() + 1);
    let root = graph.find(record_id(0)).unwrap();
    assert_eq!(graph.dependents(&[root], None).len(), USERS);
    // A version from the middle of time takes over the later half, and gives it back.
    let mut version = record(USERS + 1, &project, &[]);
    (version.created_at, version.outputs) = (at(u64::try_from(USERS).unwrap() * 3 / 4 + 1), vec![artifact(0)]);
    version.began = WorkStart::Elsewhere;
    let step = graph.insert(&version, at_next()).unwrap();
    assert_eq!((step.bound.len(), step.unbound.len()), (USERS / 4, USERS / 4));
    graph.apply(Action::Taint, &[version.id], at_next()).unwrap();
    let step = graph.set_status(version.id, RecordStatus::Failed, at_next()).unwrap();
    assert_eq!((step.bound.len(), step.unbound.len(), step.flags.len()), (USERS / 4, USERS / 4, USERS / 4));
    assert_eq!(graph.dependents(&[root], None).len(), USERS);
}

/// Histories too long for the model: whatever came in whatever order, the
/// graph built from its rows, shuffled, is the same.
#[test]
fn long_histories_follow_from_their_rows() {
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    for artifacts in [2, 5, 40] {
        let (mut graph, mut records) = (Graph::default(), Vec::<Record>::new());
        let mut most_dependents = 0;
        for step in 0..3000 {
            let any = |random: &mut Random, records: &[Record]| record_id(random.index(records.len()));
            match random.below(100) {
                0..80 => {
                    let number = records.len();
                    let mut record = record(number, &project(1), &[]);
                    let created = (step / 4 + random.below(60)).saturating_sub(random.below(60));
                    let started = created.saturating_sub(random.below(10)) + random.below(6) / 5 * 40;
                    (record.created_at, record.started_at) = (at(created), Some(at(started)));
                    let count = random.index(4);
                    let input = |_| (artifact(random.index(artifacts)), Relationship::Consumed);
                    record.inputs = (0..count).map(input).collect();
                    record.outputs =
                        if random.chance(1) { vec![artifact(random.index(artifacts))] } else { Vec::new() };
                    graph.insert(&record, Seq(step + 1)).unwrap();
                    records.push(record);
                }
                _ if records.is_empty() => {}
                80..90 => {
                    let record = random.index(records.len());
                    let status = *random.pick(&[RecordStatus::Passed, RecordStatus::Failed]);
                    records[record].status = status;
                    graph.set_status(record_id(record), status, Seq(step + 1)).unwrap();
                }
                taint => {
                    let action = if taint < 94 { Action::Taint } else { Action::Clear };
                    graph.apply(action, &[any(&mut random, &records)], Seq(step + 1)).unwrap();
                }
            }
            if step % 300 == 299 {
                let rows = shuffled(records.iter().map(|record| row_of(&graph, record)).collect(), &mut random);
                let (restored, contradictions) = Graph::restore(rows, Seq(step + 1)).unwrap();
                assert_eq!(contradictions, Step::default());
                assert_eq!(picture(&restored, records.iter()), picture(&graph, records.iter()));
                let dependents = graph.nodes().map(|node| graph.dependents(&[node], Some(1)).len()).max().unwrap();
                most_dependents = most_dependents.max(dependents);
            }
        }
        assert!(most_dependents > 200 || artifacts == 40, "{most_dependents}");
    }
}

fn shuffled<T>(mut items: Vec<T>, random: &mut Random) -> Vec<T> {
    for at in (1..items.len()).rev() {
        items.swap(at, random.index(at + 1));
    }
    items
}

/// The row that a store would have kept, from what the graph says.
fn row_of(graph: &Graph, record: &Record) -> RestoredRecord {
    let node = graph.find(record.id).unwrap();
    let known = graph.record(node).unwrap();
    let (mut rebound, mut refused) = (Vec::new(), Vec::new());
    for (input, _, link) in graph.inputs(node) {
        let artifact = ArtifactId::new(graph.artifact_id(input).unwrap()).unwrap();
        rebound.extend(graph.rebound_at(node, input).map(|seq| (artifact.clone(), seq)));
        if matches!(link, Link::Refused(_)) {
            refused.push(artifact);
        }
    }
    RestoredRecord { record: record.clone(), seq: known.seq, fact: known.fact, rebound, refused }
}

/// A reader goes on in its version while the writer goes on in the next.
#[test]
fn a_reader_is_not_disturbed() {
    const LEN: usize = 3000;
    let (mut graph, project) = (Graph::default(), project(1));
    for number in 0..LEN {
        graph.insert(&record(number, &project, &[number / 2, number / 3]), seq(number)).unwrap();
    }
    let (held, root) = (graph.clone(), graph.find(record_id(1)).unwrap());
    let expected = held.dependents(&[root], None);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| (0..200).all(|_| held.dependents(&[root], None) == expected));
        for number in LEN..2 * LEN {
            graph.insert(&record(number, &project, &[number / 2, number / 3]), seq(number)).unwrap();
        }
        graph.apply(Action::Taint, &[record_id(0)], seq(2 * LEN)).unwrap();
        assert!(reader.join().unwrap());
    });
    assert!(graph.dependents(&[root], None).len() > expected.len());
    assert_eq!(held.record(root).unwrap().flag, Flag::Clean);
}

/// Imported records can have times to the second only, or the same for all:
/// half of their edges are backward then, in one large span.
#[test]
fn records_of_one_second_in_any_order() {
    const LEN: usize = 50_000;
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    let project = project(1);
    let mut rows: Vec<RestoredRecord> = (0..LEN)
        .map(|number| {
            let inputs: Vec<usize> = (0..number.min(3)).map(|_| number - 1 - random.index(number.min(40))).collect();
            let mut record = record(number, &project, &inputs);
            record.created_at = at(1);
            restored(record, number)
        })
        .collect();
    rows = shuffled(rows, &mut random);
    let mut graph = Graph::default();
    for (step, row) in rows.iter().take(1000).enumerate() {
        assert!(graph.insert(&row.record, seq(step)).unwrap().refused.is_empty());
    }
    let (mut graph, step) = Graph::restore(rows.iter().cloned(), seq(LEN)).unwrap();
    assert_eq!((step, graph.edge_count() > 140_000), (Step::default(), true));
    assert!(petgraph::algo::toposort(&graph, None).is_ok());
    // A new record that closes no cycle, although it uses something of everywhere.
    let last = record(LEN, &project, &[0, LEN / 2, LEN - 1]);
    assert_eq!(graph.insert(&last, seq(LEN + 1)).unwrap().bound.len(), 3);
}

/// The oldest record uses what the youngest made, and the rows do not say
/// which edge was refused.
#[test]
fn rows_that_contradict_themselves() {
    const LEN: usize = 300;
    let project = project(1);
    let rows = (0..LEN).map(|number| {
        let mut record = record(number, &project, &[(number + LEN - 1) % LEN, number / 2]);
        record.created_at = at(1);
        restored(record, number)
    });
    let (graph, step) = Graph::restore(rows, seq(LEN)).unwrap();
    assert!(!step.refused.is_empty() && step.bound.is_empty() && step.unbound.is_empty(), "{step:?}");
    assert!(petgraph::algo::toposort(&graph, None).is_ok());
    for edge in step.refused {
        assert!(graph.path(edge.dependent, edge.dependency, None).is_some(), "{edge:?} would have closed no cycle");
    }
}

/// What the module says of its memory.
#[test]
fn records_and_edges_are_small() {
    const LEN: usize = 100_000;
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    let (mut graph, project) = (Graph::default(), project(1));
    let mut edges = 0;
    for number in 0..LEN {
        let inputs: Vec<usize> = (0..number.min(3)).map(|_| number - 1 - random.index(number.min(10_000))).collect();
        edges += graph.insert(&record(number, &project, &inputs), seq(number)).unwrap().bound.len();
    }
    let footprint = graph.footprint();
    let names: usize = (0..LEN).map(|number| ArtifactId::as_str(&artifact(number)).len()).sum();
    let per = |bytes: usize, count: usize| bytes / count;
    println!("{footprint:?}: {edges} edges, {names} bytes of names");
    assert!(per(footprint.records, LEN) <= 90, "{footprint:?}");
    assert!(per(footprint.edges, edges) <= 17, "{footprint:?}");
    assert!(per(footprint.artifacts - names, LEN) <= 30, "{footprint:?}");
}
