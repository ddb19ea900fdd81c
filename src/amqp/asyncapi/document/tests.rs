//! Tests of the completeness of the document.

use std::collections::BTreeSet;

use super::*;
use crate::amqp::outgoing::tests::settings;
use crate::amqp::topology::bound_keys;
use crate::events::{ACCEPTED, PUBLISHED};

#[test]
fn every_event_has_a_channel_an_operation_and_data_of_its_own() {
    let settings = settings();
    let document = document(&settings);
    let keys: BTreeSet<&str> = bound_keys(&settings).into_iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
    assert_eq!(keys, ACCEPTED.into(), "the bound keys are not the accepted events");
    let operations = document["operations"].as_object().unwrap();
    for (names, action) in [(&PUBLISHED[..], "send"), (&ACCEPTED[..], "receive")] {
        for name in names {
            let channel = format!("#/channels/{name}");
            let acts = |one: &Value| one["action"] == action && one["channel"]["$ref"] == channel.as_str();
            assert!(operations.values().any(acts), "no operation: {action} {name}");
        }
    }
    let (published, accepted) = (events::published(), events::accepted());
    let data: BTreeSet<&str> = published.iter().chain(&accepted).map(|each| each.data.as_str()).collect();
    assert_eq!(data.len(), PUBLISHED.len() + ACCEPTED.len());
}

#[test]
fn schemas_of_one_name_are_equal() {
    let (published, accepted) = (events::published(), events::accepted());
    let all = schemas(&published, &accepted);
    for (name, schema) in published.iter().chain(&accepted).flat_map(|each| &each.schemas) {
        assert_eq!(&all[name], schema, "{name}");
    }
}
