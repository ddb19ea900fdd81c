//! The names of events.

use std::borrow::Cow;

use crate::store::LogEntry;
use crate::task::{Change, Tier};

/// Events that this service takes.
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

/// Events that this service publishes.
pub const PUBLISHED: [&str; 4] = ["task.created", "task.ready", "task.cancelled", "task.finished"];

/// What a `task.ready` is routed by has its tier behind this.
const READY_OF_TIER: &str = "task.ready.";

/// An event's name from its `type`, which has `dats.` in front or not.
#[must_use]
pub fn bare_name(event_type: &str) -> &str {
    event_type.strip_prefix("dats.").unwrap_or(event_type)
}

/// What work for a tier is routed by.
#[must_use]
pub fn ready_key(tier: &str) -> String {
    format!("{READY_OF_TIER}{tier}")
}

/// The name an event is routed by: its own, for `task.ready` with the tier.
#[must_use]
pub fn routing_key(change: &Change) -> Cow<'_, str> {
    match change {
        Change::Ready { tier, .. } => Cow::Owned(ready_key(tier.as_str())),
        _ => Cow::Borrowed(change.name()),
    }
}

/// No event has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are no events of type `{0}`; there are {all}", all = all_names())]
pub struct UnknownType(pub String);

/// The names of all events, for people.
#[must_use]
pub fn all_names() -> String {
    let of_tier = ready_key("{tier}");
    let names: Vec<&str> = PUBLISHED.into_iter().chain([of_tier.as_str()]).chain(ACCEPTED).collect();
    names.join(", ")
}

/// Which types of events a reader wants; without any, all.
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
    /// Checks names with or without `dats.` in front.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownType> {
        let wanted = names.into_iter().map(Wanted::parse).collect::<Result<_, _>>()?;
        Ok(Self { wanted })
    }

    /// Whether the reader wants this.
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
    fn filters_know_every_name() {
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
    fn work_is_routed_by_tier() {
        assert_eq!(routing_key(&ready("tiny").change), "task.ready.tiny");
        assert_eq!(routing_key(&Change::Created), "task.created");
    }
}
