//! What comes in goes out with the same values under every key.

use dats::legacy::{Kind, Line, Record, Taint, digest};
use dats::task::RecordStatus;
use serde_json::Value;

use crate::support::old_files::OldFiles;
use crate::support::random::{Random, from_environment};

fn parse(object: &Value) -> Line {
    Line::parse(object.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}\n{object:#}"))
}

fn record(object: &Value) -> Box<Record> {
    match parse(object) {
        Line::Record(record) => record,
        other => panic!("{other:?}"),
    }
}

/// Equal in every key, and written in the same order.
fn assert_same(before: &Value, after: &Value, seed: u64) {
    assert_eq!(before, after, "seed {seed}");
    assert_eq!(before.to_string(), after.to_string(), "seed {seed}");
}

#[test]
fn unchanged_objects_are_the_same_in_every_key() {
    let seed = from_environment("DATS_SEED", 20_260_109);
    let mut files = OldFiles::new(seed);
    let mut digests = std::collections::HashSet::new();
    for _ in 0..from_environment("DATS_ROUNDS", 3000) {
        let object = files.any_record();
        let read = record(&object);
        assert_same(&object, &read.to_json(read.status, &read.taint), seed);
        assert!(digests.insert(read.digest().unwrap()), "two records with the same digest: {object:#}");

        let object = files.event(&[]);
        let Line::TaintEvent(event) = parse(&object) else { panic!("{object:#}") };
        assert_same(&object, &event.to_json(), seed);

        let object = files.checkpoint();
        let Line::Checkpoint(checkpoint) = parse(&object) else { panic!("{object:#}") };
        assert_same(&object, &checkpoint.to_json(checkpoint.is_valid), seed);
        assert_eq!(checkpoint.to_json(!checkpoint.is_valid)["is_valid"], Value::Bool(!checkpoint.is_valid));
    }
}

fn any_standing(random: &mut Random) -> (RecordStatus, Taint) {
    let statuses = [RecordStatus::Pending, RecordStatus::Passed, RecordStatus::Failed, RecordStatus::HumanApproved];
    let mut taint = Taint::default();
    match random.below(3) {
        0 => {}
        1 => {
            taint.is_tainted = true;
            taint.tainted_at = Some("2026-02-01T00:00:00.123456Z".parse().unwrap());
            taint.tainted_reason = random.chance(70).then(|| "bad".to_owned());
        }
        _ => {
            taint.is_suspect = true;
            taint.suspect_source = random.chance(70).then(|| "a".to_owned());
        }
    }
    (*random.pick(&statuses), taint)
}

/// Whatever happens to a record, who reads its file finds the verdict and the
/// flags, and everything else as it was.
#[test]
fn changed_records_differ_in_what_has_changed_alone() {
    let seed = from_environment("DATS_SEED", 20_260_110);
    let mut files = OldFiles::new(seed);
    for _ in 0..from_environment("DATS_ROUNDS", 3000) {
        let object = files.any_record();
        let before = record(&object);
        let (status, taint) = any_standing(&mut files.random);
        let mut written = before.to_json(status, &taint);
        let after = record(&written);
        let flags = |taint: &Taint| (taint.is_tainted, taint.is_suspect);
        assert_eq!(flags(&after.taint), flags(&taint), "seed {seed}: {object:#}\n{written:#}");
        if flags(&taint) == (false, false) {
            assert_eq!(after.status, status, "seed {seed}: {object:#}\n{written:#}");
        }
        if taint.is_tainted {
            let told = if before.taint.is_tainted { &before.taint } else { &taint };
            let reason = taint.tainted_reason.as_ref().or(told.tainted_reason.as_ref());
            assert_eq!(after.taint.tainted_reason.as_ref(), reason, "seed {seed}: {object:#}\n{written:#}");
            assert_eq!(after.taint.tainted_at, taint.tainted_at);
        }
        // Take out what may differ; the rest is the same, in the same order.
        let mut expected = object.clone();
        for one in [&mut written, &mut expected] {
            let members = one.as_object_mut().unwrap();
            members.shift_remove("taint");
            members.shift_remove("verification_status");
            if let Some(Value::Object(verification)) = members.get_mut("verification") {
                verification.shift_remove("status");
            }
            if members.get("verification").is_some_and(|value| value.is_null() || value == &serde_json::json!({})) {
                members.shift_remove("verification");
            }
        }
        assert_same(&expected, &written, seed);
    }
}

#[test]
fn a_record_of_our_own_reads_the_same_again() {
    let seed = from_environment("DATS_SEED", 20_260_111);
    let mut files = OldFiles::new(seed);
    for _ in 0..from_environment("DATS_ROUNDS", 1000) {
        let mut own = record(&files.any_record());
        let (status, taint) = any_standing(&mut files.random);
        own.original = None;
        let written = own.to_json(status, &taint);
        let again = record(&written);
        assert_eq!(again.to_json(again.status, &again.taint), written, "seed {seed}");
        assert_eq!(
            (&again.id, &again.outputs.len(), &again.inputs, again.made_at(), &again.model, &again.taint),
            (&own.id, &own.outputs.len(), &own.inputs, own.made_at(), &own.model, &taint),
            "seed {seed}"
        );
        assert!(again.confidence.is_some_and(|share| (share - own.confidence.unwrap_or(0.0)).abs() <= 0.0));
    }
}

/// Seventeen digits come back as they were: one wrong in the last place would
/// be another value.
#[test]
fn floats_keep_their_last_digit() {
    let mut random = Random::new(from_environment("DATS_SEED", 20_260_112));
    for _ in 0..20_000 {
        let share = f64::from_bits(random.below(0x3ff0_0000_0000_0000));
        let text = format!("{{\"id\":\"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\",\"confidence\":{share:.16e}}}");
        let Ok(Line::Record(read)) = Line::parse(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(read.confidence.unwrap().to_bits(), share.to_bits(), "{text}");
    }
}

#[test]
fn a_digest_tells_any_change() {
    let mut files = OldFiles::new(from_environment("DATS_SEED", 20_260_113));
    for _ in 0..300 {
        let object = files.any_record();
        let members = object.as_object().unwrap();
        for key in members.keys() {
            let mut changed = members.clone();
            changed.insert(key.clone(), serde_json::json!("changed"));
            assert_ne!(digest(members), digest(&changed), "{key}");
            changed.shift_remove(key);
            assert_ne!(digest(members), digest(&changed), "{key}");
        }
        assert_eq!(parse(&object).kind(), Kind::Record);
    }
}
