//! That the document says all there is to say.

use std::collections::BTreeSet;

use super::*;
use crate::amqp::outgoing::tests::settings;
use crate::amqp::topology::heard;
use crate::events::{ACCEPTED, PUBLISHED};

#[test]
fn every_event_has_a_channel_an_operation_and_data_of_its_own() {
    let settings = settings();
    let document = document(&settings);
    let keys: BTreeSet<&str> = heard(&settings).into_iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
    assert_eq!(keys, ACCEPTED.into(), "what is bound is what is taken");
    let operations = document["operations"].as_object().unwrap();
    for (names, action) in [(&PUBLISHED[..], "send"), (&ACCEPTED[..], "receive")] {
        for name in names {
            let channel = format!("#/channels/{name}");
            let acts = |one: &Value| one["action"] == action && one["channel"]["$ref"] == channel.as_str();
            assert!(operations.values().any(acts), "nobody does it: {action} {name}");
        }
    }
    let (published, accepted) = (events::published(), events::accepted());
    let data: BTreeSet<&str> = published.iter().chain(&accepted).map(|each| each.data.as_str()).collect();
    assert_eq!(data.len(), PUBLISHED.len() + ACCEPTED.len());
}

/// Schemas of one name are one.
#[test]
fn no_two_schemas_have_one_name() {
    let (published, accepted) = (events::published(), events::accepted());
    let all = schemas(&published, &accepted);
    for (name, schema) in published.iter().chain(&accepted).flat_map(|each| &each.schemas) {
        assert_eq!(&all[name], schema, "{name}");
    }
}
