//! Whatever the order in which records come, in groups of any size, and
//! however often they are imported again: the flags are those of the rule,
//! which is written down here once more in the plainest way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dats::engine::{Engine, Import, ImportOutcome, NewCheckpoint};
use dats::lineage::{Flag, Relationship};
use dats::store::{Imported, ImportedTaint, Record, RecordInput, RecordOutput};
use dats::task::{ArtifactId, OutputArtifact, RecordId, RecordStatus, TaskId, Timestamp};

use sha2::{Digest, Sha256};

use crate::support::fixtures::{artifact, project, settings};
use crate::support::random::{Random, from_environment};
use crate::support::service::Service;

/// A record in numbers.
#[derive(Debug, Clone)]
struct Plain {
    number: usize,
    created: i64,
    failed: bool,
    tainted: bool,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

impl Plain {
    fn id(&self) -> RecordId {
        RecordId::of_text(&format!("record {}", self.number))
    }

    fn project(&self) -> &'static str {
        if self.number.is_multiple_of(3) { "a" } else { "b" }
    }

    fn record(&self) -> Record {
        let named = |number: &usize| artifact(&format!("artifact {number}"));
        let at = Timestamp::from_micros(self.created);
        let output = |id: ArtifactId| RecordOutput {
            artifact: OutputArtifact { id, kind: None, path: None, language: None, checksum: None, size_bytes: None },
            content: None,
        };
        let text = format!("{self:?}");
        let imported = Imported {
            id: format!("record {}", self.number),
            task: format!("task {}", self.number % 7),
            digest: Sha256::digest(&text).into(),
            was_suspect: false,
            taint: self.tainted.then_some(ImportedTaint { at: None, reason: None, by: None }),
            tainted_in: None,
            original: "{}".to_owned(),
        };
        let input = |number| RecordInput { artifact: named(number), relationship: Relationship::Consumed };
        Record {
            id: self.id(),
            task: TaskId::of_text(&imported.task),
            project: project(self.project()),
            attempt: None,
            status: if self.failed { RecordStatus::Failed } else { RecordStatus::Passed },
            model_used: None,
            worker: None,
            tier: None,
            domain: None,
            created_at: at,
            started_at: None,
            completed_at: None,
            tokens_input: None,
            tokens_output: None,
            execution_time_ms: None,
            confidence: None,
            outputs: self.outputs.iter().map(named).map(output).collect(),
            inputs: self.inputs.iter().map(input).collect(),
            verification: None,
            imported: Some(Box::new(imported)),
        }
    }
}

/// Records without cycles: each uses what earlier ones made. Many are made
/// at the same time, some artifacts are made again, by records that fail too.
fn world(random: &mut Random, count: usize) -> Vec<Plain> {
    let mut world: Vec<Plain> = Vec::new();
    let mut sound = BTreeSet::new();
    let mut created = 0;
    for number in 0..count {
        created += i64::from(random.chance(40));
        let failed = random.chance(15);
        let known: Vec<usize> = sound.iter().copied().collect();
        let inputs =
            if known.is_empty() { Vec::new() } else { (0..random.index(4)).map(|_| *random.pick(&known)).collect() };
        let mut outputs = vec![number];
        // Made again only in a later moment than whoever used it before.
        if random.chance(15) && !known.is_empty() && random.chance(50) {
            created += 1;
            outputs.push(*random.pick(&known));
        }
        if !failed {
            sound.insert(number);
        }
        let inputs: BTreeSet<usize> = inputs.into_iter().filter(|input| !outputs.contains(input)).collect();
        let inputs = inputs.into_iter().collect();
        world.push(Plain { number, created, failed, tainted: random.chance(8), inputs, outputs });
    }
    world
}

/// The rule: of the own project before others, no later than the one that uses
/// it, one that has not failed before one that has, the newest; else the
/// earliest later one.
fn maker_of<'a>(world: &'a [Plain], user: &Plain, input: usize) -> Option<&'a Plain> {
    let makers = world.iter().filter(|maker| maker.number != user.number && maker.outputs.contains(&input));
    let class = |maker: &Plain| (maker.project() != user.project(), maker.failed);
    let age = |maker: &Plain| (maker.created, maker.id());
    let earlier = makers.clone().filter(|maker| maker.created <= user.created);
    let newest = earlier.min_by_key(|maker| (class(maker), Reverse(age(maker))));
    newest.or_else(|| makers.min_by_key(|maker| (class(maker), age(maker))))
}

fn flags(world: &[Plain]) -> BTreeMap<RecordId, Flag> {
    let mut above: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for user in world {
        for input in &user.inputs {
            if let Some(maker) = maker_of(world, user, *input) {
                above.entry(user.number).or_default().push(maker.number);
            }
        }
    }
    let flag = |plain: &Plain| {
        if plain.tainted {
            return Flag::Tainted;
        }
        let (mut open, mut seen) = (vec![plain.number], BTreeSet::new());
        while let Some(number) = open.pop() {
            for next in above.get(&number).into_iter().flatten() {
                if world[*next].tainted {
                    return Flag::Suspect;
                }
                if seen.insert(*next) {
                    open.push(*next);
                }
            }
        }
        Flag::Clean
    };
    world.iter().map(|plain| (plain.id(), flag(plain))).collect()
}

fn found(engine: &Engine) -> BTreeMap<RecordId, Flag> {
    let graph = engine.provenance().graph();
    graph.nodes().filter_map(|node| graph.record(node)).map(|known| (known.id, known.flag)).collect()
}

fn shuffled(random: &mut Random, world: &[Plain]) -> Vec<Plain> {
    let mut order = world.to_vec();
    for at in (1..order.len()).rev() {
        order.swap(at, random.index(at + 1));
    }
    order
}

/// Imports in groups, and once more what was refused, as long as that helps;
/// how many were refused in the end, and how many of each other outcome.
async fn import(engine: &Engine, random: &mut Random, order: &[Plain]) -> (usize, [usize; 3]) {
    let (mut counts, mut waiting) = ([0; 3], order.to_vec());
    loop {
        let (refused, more) = import_once(engine, random, &waiting).await;
        counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        if refused.is_empty() || refused.len() == waiting.len() {
            return (refused.len(), counts);
        }
        waiting = refused;
    }
}

async fn import_once(engine: &Engine, random: &mut Random, order: &[Plain]) -> (Vec<Plain>, [usize; 3]) {
    let (mut refused, mut counts, mut rest) = (Vec::new(), [0; 3], order);
    while !rest.is_empty() {
        let (group, others) = rest.split_at(1 + random.index(rest.len().min(60)));
        rest = others;
        let items = group.iter().map(|plain| Import::Record(Box::new(plain.record()))).collect();
        for (plain, result) in group.iter().zip(engine.transfer().import(Arc::new(items)).await.unwrap()) {
            match result.outcome {
                ImportOutcome::Created => counts[0] += 1,
                ImportOutcome::Updated => counts[1] += 1,
                ImportOutcome::Unchanged => counts[2] += 1,
                ImportOutcome::Refused(_) => refused.push(plain.clone()),
            }
        }
    }
    (refused, counts)
}

#[tokio::test]
async fn no_order_of_arrival_changes_a_flag() {
    let first = from_environment("DATS_SEED", 1);
    let rounds = from_environment("DATS_ROUNDS", 6);
    let mut suspects = 0;
    for seed in first..first + rounds {
        println!("DATS_SEED={seed} DATS_ROUNDS=1");
        let mut random = Random::new(seed);
        let mut world = world(&mut random, 120);
        let mut service = Service::new(settings());
        let order = shuffled(&mut random, &world);
        assert_eq!(import(service.engine(), &mut random, &order).await, (0, [120, 0, 0]));
        let expected = flags(&world);
        assert_eq!(found(service.engine()), expected);
        suspects += expected.values().filter(|flag| **flag == Flag::Suspect).count();
        assert_eq!(import(service.engine(), &mut random, &order).await, (0, [0, 0, 120]));
        service = service.restart();
        assert_eq!(found(service.engine()), expected);
        // Files that have changed: other verdicts, taints and uses.
        for _ in 0..30 {
            let number = random.index(world.len());
            let before = world[number].clone();
            let plain = &mut world[number];
            match random.below(3) {
                0 => plain.tainted = !plain.tainted,
                1 => drop(plain.inputs.pop()),
                _ => plain.failed = !plain.failed,
            }
            let changed = world[number].clone();
            let (refused, _) = import(service.engine(), &mut random, std::slice::from_ref(&changed)).await;
            // Without this record, one that was made later can be next in line,
            // and depend on who asks.
            if refused > 0 {
                world[number] = before;
            }
        }
        let counts = service.engine().projects().status(project("a")).await.unwrap().records;
        let of_a = world.iter().filter(|plain| plain.number.is_multiple_of(3)).collect::<Vec<_>>();
        let expected = flags(&world);
        assert_eq!(found(service.engine()), expected);
        let count = |flag| of_a.iter().filter(|plain| expected[&plain.id()] == flag).count();
        let told = [counts.records, counts.tainted, counts.suspect].map(|count| usize::try_from(count).unwrap());
        assert_eq!(told, [of_a.len(), count(Flag::Tainted), count(Flag::Suspect)]);
        service = service.restart();
        assert_eq!(found(service.engine()), expected);
    }
    assert!(suspects > 50, "only {suspects} suspects");
}

/// Records come again as older or newer ones, and in the other project.
#[tokio::test]
async fn the_newest_record_of_a_project_is_known_whatever_comes_again() {
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    let service = Service::new(settings());
    let mut known: BTreeMap<usize, Record> = BTreeMap::new();
    for step in 0..80 {
        let number = random.index(6);
        let created = i64::try_from(random.index(20)).unwrap();
        let plain = Plain { number, created, failed: false, tainted: false, inputs: Vec::new(), outputs: vec![number] };
        let mut record = plain.record();
        record.project = project(["a", "b"][random.index(2)]);
        record.imported.as_mut().unwrap().digest = Sha256::digest(format!("{step}")).into();
        let items = Arc::new(vec![Import::Record(Box::new(record.clone()))]);
        service.engine().transfer().import(items).await.unwrap();
        known.insert(number, record);
        for name in ["a", "b"] {
            let of_project = known.values().filter(|record| record.project == project(name));
            let newest = of_project.map(|record| (record.created_at, record.id)).max();
            let made = service.engine().checkpoints().create(project(name), NewCheckpoint::default()).await;
            let Ok(checkpoint) = made else { continue };
            assert_eq!(checkpoint.last_provenance_id, newest.map(|(_, id)| id.to_string()), "{name} after step {step}");
        }
    }
}
