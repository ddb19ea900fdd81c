//! The names of the events, and filters by name.

use std::borrow::Cow;

use crate::store::LogEntry;
use crate::task::{Change, Tier};

/// The events that the service accepts.
pub const ACCEPTED: [&str; 10] = [
    "task.started",
    "task.output.created",
    "task.validated",
    "task.rejected",
    "task.failed",
    "review.requested",
    "review.completed",
    "artifact.tainted",
    "artifact.suspect",
    "rollback.requested",
];

/// The events that the service publishes.
pub const PUBLISHED: [&str; 4] = ["task.created", "task.ready", "task.cancelled", "task.finished"];

/// The prefix of the routing keys of `task.ready`. The tier follows.
const READY_OF_TIER: &str = "task.ready.";

/// Returns the name of an event from its `type`, which may have the prefix `dats.`.
#[must_use]
pub fn bare_name(event_type: &str) -> &str {
    event_type.strip_prefix("dats.").unwrap_or(event_type)
}

/// Returns the routing key of `task.ready` for a tier.
#[must_use]
pub fn ready_key(tier: &str) -> String {
    format!("{READY_OF_TIER}{tier}")
}

/// Returns the routing key of a change: its name, for `task.ready` with the tier.
#[must_use]
pub fn routing_key(change: &Change) -> Cow<'_, str> {
    match change {
        Change::Ready { tier, .. } => Cow::Owned(ready_key(tier.as_str())),
        _ => Cow::Borrowed(change.name()),
    }
}

/// The name is not the name of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are no events of type `{0}`; the types are {all}", all = all_names())]
pub struct UnknownType(pub String);

/// Returns the names of all events, separated by commas.
#[must_use]
pub fn all_names() -> String {
    let of_tier = ready_key("{tier}");
    let names: Vec<&str> = PUBLISHED.into_iter().chain([of_tier.as_str()]).chain(ACCEPTED).collect();
    names.join(", ")
}

/// The types of events that a reader wants. An empty filter matches all events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeFilter {
    wanted: Vec<Wanted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Named(&'static str),
    ReadyOf(Tier),
}

impl TypeFilter {
    /// Returns the filter of names, each with or without the prefix `dats.`.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownType> {
        let wanted = names.into_iter().map(Wanted::parse).collect::<Result<_, _>>()?;
        Ok(Self { wanted })
    }

    /// Whether the reader wants this entry.
    #[must_use]
    pub fn matches(&self, entry: &LogEntry) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted.matches(&entry.change))
    }
}

impl Wanted {
    fn parse(name: &str) -> Result<Self, UnknownType> {
        let bare = bare_name(name);
        if let Some(known) = PUBLISHED.into_iter().chain(ACCEPTED).find(|known| *known == bare) {
            return Ok(Self::Named(known));
        }
        let tier = bare.strip_prefix(READY_OF_TIER).and_then(|tier| Tier::new(tier).ok());
        tier.map(Self::ReadyOf).ok_or_else(|| UnknownType(name.to_owned()))
    }

    fn matches(&self, change: &Change) -> bool {
        match self {
            Self::Named(name) => change.name() == *name,
            Self::ReadyOf(wanted) => matches!(change, Change::Ready { tier, .. } if tier == wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::envelope::tests::entry;
    use crate::task::Domain;

    fn ready(tier: &str) -> LogEntry {
        let (tier, domain) = (Tier::new(tier).unwrap(), Domain::new("analysis").unwrap());
        entry(Change::Ready { attempt: 1, tier, domain, previous: None })
    }

    #[test]
    fn a_filter_matches_names_and_tiers() {
        let filter = TypeFilter::parse(["dats.task.created", "task.ready.small", "review.completed"]).unwrap();
        assert!(filter.matches(&entry(Change::Created)));
        assert!(filter.matches(&ready("small")));
        assert!(!filter.matches(&ready("large")));
        assert!(TypeFilter::parse(["task.ready"]).unwrap().matches(&ready("large")));
        assert!(TypeFilter::default().matches(&ready("large")));
        assert_eq!(TypeFilter::parse(["task.queued"]), Err(UnknownType("task.queued".to_owned())));
        assert!(TypeFilter::parse(["task.ready."]).is_err());
    }

    #[test]
    fn task_ready_is_routed_by_tier() {
        assert_eq!(routing_key(&ready("tiny").change), "task.ready.tiny");
        assert_eq!(routing_key(&Change::Created), "task.created");
    }
}
