//! Every path and method there is, in one table: routing, `405`, the labels of
//! the metrics and the paths of the `OpenAPI` document come from it.

use std::collections::BTreeMap;

use hyper::Method;
use hyper::header::HeaderValue;

/// What all paths begin with; health, metrics and the description of the
/// interface answer without it too.
pub(in crate::http) const BASE: &str = "/api/v1";

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Endpoint {
    ListTasks,
    SubmitTask,
    SubmitBatch,
    GetTask,
    CancelTask,
    RerunTask,
    TaskHistory,
    TaskStream,
    TaskTree,
    ListProjects,
    CreateProject,
    GetProject,
    UpdateProject,
    DeleteProject,
    ProjectStatus,
    PauseProject,
    ResumeProject,
    ListQueues,
    PauseTier,
    ResumeTier,
    Lease,
    RenewLease,
    ReleaseLease,
    FollowEvents,
    TakeEvents,
    ListProvenance,
    GetProvenance,
    ProvenancePath,
    ImportLines,
    ExportLines,
    Dependents,
    Dependencies,
    Impact,
    Affected,
    RootCause,
    ExportProvenance,
    Taint,
    MarkSuspect,
    Clear,
    TaintEvents,
    GetCascade,
    ClearCascade,
    TakenBack,
    ProjectConsistency,
    GetArtifact,
    ListCheckpoints,
    CreateCheckpoint,
    GetCheckpoint,
    Rollback,
    RolledBack,
    ArtifactContent,
    ListDeadLetters,
    ListLetterRemovals,
    ShowDeadLetter,
    RequeueDeadLetter,
    DiscardDeadLetter,
    DiscardDeadLetters,
    Health,
    HealthDetailed,
    Live,
    Ready,
    Metrics,
    OpenApi,
    AsyncApi,
    Docs,
    DocsFile,
}

/// A method that some resource has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::http) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// `HEAD` is answered as `GET`; the server leaves the body out.
    fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Some(Self::Get),
            Method::POST => Some(Self::Post),
            Method::PATCH => Some(Self::Patch),
            Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }
}

/// The table.
const TABLE: [(Verb, &str, Endpoint); 66] = [
    (Verb::Get, "/tasks", Endpoint::ListTasks),
    (Verb::Post, "/tasks", Endpoint::SubmitTask),
    (Verb::Post, "/tasks/batch", Endpoint::SubmitBatch),
    (Verb::Get, "/tasks/{id}", Endpoint::GetTask),
    (Verb::Post, "/tasks/{id}/cancel", Endpoint::CancelTask),
    (Verb::Post, "/tasks/{id}/rerun", Endpoint::RerunTask),
    (Verb::Get, "/tasks/{id}/events", Endpoint::TaskHistory),
    (Verb::Get, "/tasks/{id}/stream", Endpoint::TaskStream),
    (Verb::Get, "/tasks/{id}/tree", Endpoint::TaskTree),
    (Verb::Get, "/projects", Endpoint::ListProjects),
    (Verb::Post, "/projects", Endpoint::CreateProject),
    (Verb::Get, "/projects/{id}", Endpoint::GetProject),
    (Verb::Patch, "/projects/{id}", Endpoint::UpdateProject),
    (Verb::Delete, "/projects/{id}", Endpoint::DeleteProject),
    (Verb::Get, "/projects/{id}/status", Endpoint::ProjectStatus),
    (Verb::Get, "/projects/{id}/consistency", Endpoint::ProjectConsistency),
    (Verb::Get, "/projects/{id}/checkpoints", Endpoint::ListCheckpoints),
    (Verb::Post, "/projects/{id}/checkpoints", Endpoint::CreateCheckpoint),
    (Verb::Get, "/checkpoints/{id}", Endpoint::GetCheckpoint),
    (Verb::Post, "/checkpoints/{id}/rollback", Endpoint::Rollback),
    (Verb::Get, "/checkpoints/{id}/affected", Endpoint::RolledBack),
    (Verb::Post, "/projects/{id}/pause", Endpoint::PauseProject),
    (Verb::Post, "/projects/{id}/resume", Endpoint::ResumeProject),
    (Verb::Get, "/queues", Endpoint::ListQueues),
    (Verb::Post, "/queues/{id}/pause", Endpoint::PauseTier),
    (Verb::Post, "/queues/{id}/resume", Endpoint::ResumeTier),
    (Verb::Post, "/queues/{id}/lease", Endpoint::Lease),
    (Verb::Post, "/leases/{id}/renew", Endpoint::RenewLease),
    (Verb::Post, "/leases/{id}/release", Endpoint::ReleaseLease),
    (Verb::Get, "/events", Endpoint::FollowEvents),
    (Verb::Post, "/events", Endpoint::TakeEvents),
    (Verb::Get, "/provenance", Endpoint::ListProvenance),
    (Verb::Get, "/provenance/path", Endpoint::ProvenancePath),
    (Verb::Post, "/provenance/import", Endpoint::ImportLines),
    (Verb::Get, "/provenance/export", Endpoint::ExportLines),
    (Verb::Get, "/provenance/{id}", Endpoint::GetProvenance),
    (Verb::Get, "/provenance/{id}/dependents", Endpoint::Dependents),
    (Verb::Get, "/provenance/{id}/dependencies", Endpoint::Dependencies),
    (Verb::Get, "/provenance/{id}/impact", Endpoint::Impact),
    (Verb::Get, "/provenance/{id}/affected", Endpoint::Affected),
    (Verb::Get, "/provenance/{id}/root-cause", Endpoint::RootCause),
    (Verb::Get, "/provenance/{id}/export", Endpoint::ExportProvenance),
    (Verb::Post, "/provenance/{id}/taint", Endpoint::Taint),
    (Verb::Post, "/provenance/{id}/suspect", Endpoint::MarkSuspect),
    (Verb::Post, "/provenance/{id}/clear", Endpoint::Clear),
    (Verb::Get, "/taint-events", Endpoint::TaintEvents),
    (Verb::Get, "/cascades/{id}", Endpoint::GetCascade),
    (Verb::Post, "/cascades/{id}/clear", Endpoint::ClearCascade),
    (Verb::Get, "/cascades/{id}/affected", Endpoint::TakenBack),
    (Verb::Get, "/artifacts/{id}", Endpoint::GetArtifact),
    (Verb::Get, "/artifacts/{id}/content", Endpoint::ArtifactContent),
    (Verb::Get, "/dead-letters", Endpoint::ListDeadLetters),
    (Verb::Delete, "/dead-letters", Endpoint::DiscardDeadLetters),
    (Verb::Get, "/dead-letters/removals", Endpoint::ListLetterRemovals),
    (Verb::Get, "/dead-letters/{id}", Endpoint::ShowDeadLetter),
    (Verb::Delete, "/dead-letters/{id}", Endpoint::DiscardDeadLetter),
    (Verb::Post, "/dead-letters/{id}/requeue", Endpoint::RequeueDeadLetter),
    (Verb::Get, "/health", Endpoint::Health),
    (Verb::Get, "/health/detailed", Endpoint::HealthDetailed),
    (Verb::Get, "/livez", Endpoint::Live),
    (Verb::Get, "/readyz", Endpoint::Ready),
    (Verb::Get, "/metrics", Endpoint::Metrics),
    (Verb::Get, "/openapi.json", Endpoint::OpenApi),
    (Verb::Get, "/asyncapi.json", Endpoint::AsyncApi),
    (Verb::Get, "/docs", Endpoint::Docs),
    (Verb::Get, "/docs/{id}", Endpoint::DocsFile),
];

impl Endpoint {
    /// Whether it also answers without the base path.
    pub(in crate::http) const fn is_operational(self) -> bool {
        matches!(
            self,
            Self::Health
                | Self::HealthDetailed
                | Self::Live
                | Self::Ready
                | Self::Metrics
                | Self::OpenApi
                | Self::AsyncApi
                | Self::Docs
                | Self::DocsFile
        )
    }

    /// Whether it goes through provenance, which may be large: then its
    /// answer has a deadline.
    pub(in crate::http) const fn is_walk(self) -> bool {
        matches!(
            self,
            Self::ListProvenance
                | Self::ProvenancePath
                | Self::Dependents
                | Self::Dependencies
                | Self::Impact
                | Self::RootCause
                | Self::ExportProvenance
                | Self::TaintEvents
                | Self::GetArtifact
        )
    }

    /// Whether its answer is read on a thread of its own: it can be as large as
    /// a page, or look at many rows. `GET /events` decides by itself, since a
    /// stream waits for most of its time.
    pub(in crate::http) const fn is_expensive(self) -> bool {
        self.is_walk()
            || matches!(
                self,
                Self::ListTasks
                    | Self::TaskHistory
                    | Self::TaskTree
                    | Self::ListProjects
                    | Self::GetProvenance
                    | Self::Affected
                    | Self::GetCascade
                    | Self::TakenBack
                    | Self::ListCheckpoints
                    | Self::RolledBack
                    | Self::ListDeadLetters
                    | Self::ListLetterRemovals
                    | Self::ShowDeadLetter
            )
    }

    /// Whether it answers callers that do not know the key.
    pub(in crate::http) const fn is_public(self) -> bool {
        matches!(self, Self::Health | Self::Live | Self::Ready)
    }
}

/// All rows, for the description of the interface.
pub(in crate::http) fn table() -> impl Iterator<Item = (Verb, &'static str, Endpoint)> {
    TABLE.into_iter()
}

/// Method and path of each endpoint, in the order of their numbers.
pub(in crate::http) fn labels() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.iter().map(|(verb, path, _)| (verb.as_str(), *path))
}

/// Whether the endpoint of that number tells how the service is.
pub(in crate::http) fn is_operational(number: usize) -> bool {
    TABLE.get(number).is_some_and(|(_, _, endpoint)| endpoint.is_operational())
}

/// What one path has.
#[derive(Debug)]
pub(in crate::http) struct Route {
    endpoints: Vec<(Verb, Endpoint, usize)>,
    allow: HeaderValue,
}

impl Route {
    /// What a method asks for here, and its number in the table.
    pub(in crate::http) fn endpoint(&self, method: &Method) -> Option<(Endpoint, usize)> {
        let verb = Verb::of(method)?;
        self.endpoints.iter().find(|(each, ..)| *each == verb).map(|(_, endpoint, number)| (*endpoint, *number))
    }

    /// The methods there are, for `Allow`.
    pub(in crate::http) const fn allow(&self) -> &HeaderValue {
        &self.allow
    }

    fn new(mut endpoints: Vec<(Verb, Endpoint, usize)>) -> Self {
        endpoints.sort_unstable_by_key(|(verb, ..)| *verb);
        let words: Vec<&str> = endpoints.iter().flat_map(|(verb, ..)| verb.allows()).copied().collect();
        let allow = HeaderValue::from_str(&words.join(", ")).unwrap_or(HeaderValue::from_static(""));
        Self { endpoints, allow }
    }
}

impl Verb {
    const fn allows(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["GET", "HEAD"],
            Self::Post => &["POST"],
            Self::Patch => &["PATCH"],
            Self::Delete => &["DELETE"],
        }
    }
}

/// All paths.
#[derive(Debug)]
pub(in crate::http) struct Routes {
    router: matchit::Router<Route>,
}

impl Routes {
    pub(in crate::http) fn new() -> Self {
        let mut by_path: BTreeMap<String, Vec<(Verb, Endpoint, usize)>> = BTreeMap::new();
        for (number, (verb, path, endpoint)) in TABLE.into_iter().enumerate() {
            by_path.entry(format!("{BASE}{path}")).or_default().push((verb, endpoint, number));
            if endpoint.is_operational() {
                by_path.entry(path.to_owned()).or_default().push((verb, endpoint, number));
            }
        }
        let mut router = matchit::Router::new();
        for (path, endpoints) in by_path {
            // The table is fixed; a test shows that each of its paths is found.
            let _ = router.insert(path, Route::new(endpoints));
        }
        Self { router }
    }

    /// What a path has, and the id in it.
    pub(in crate::http) fn find<'a>(&self, path: &'a str) -> Option<(&Route, &'a str)> {
        let found = self.router.at(path).ok()?;
        Some((found.value, found.params.iter().next().map_or("", |(_, id)| id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_found() {
        let routes = Routes::new();
        for (number, (verb, path, endpoint)) in TABLE.into_iter().enumerate() {
            let path = format!("{BASE}{}", path.replace("{id}", "a%2Fb"));
            let (route, id) = routes.find(&path).unwrap();
            let method: Method = verb.as_str().parse().unwrap();
            assert_eq!(route.endpoint(&method), Some((endpoint, number)), "{path}");
            assert_eq!(id, if path.contains('%') { "a%2Fb" } else { "" });
        }
    }

    #[test]
    fn other_methods_and_paths_are_told_apart() {
        let routes = Routes::new();
        let (route, _) = routes.find("/api/v1/projects/p").unwrap();
        assert_eq!(route.endpoint(&Method::PUT), None);
        assert_eq!(route.allow(), "GET, HEAD, PATCH, DELETE");
        assert!(routes.find("/tasks").is_none());
        assert!(routes.find("/api/v1/tasks/").is_none());
        assert!(routes.find("/api/v1/tasks/x/trees").is_none());
        assert_eq!(routes.find("/livez").unwrap().0.endpoint(&Method::HEAD).unwrap().0, Endpoint::Live);
    }
}
