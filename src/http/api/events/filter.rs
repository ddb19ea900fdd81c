//! The filter of `GET /events`.

use crate::events::TypeFilter;
use crate::http::server::query::Query;
use crate::json;
use crate::store::LogEntry;
use crate::task::{ProjectId, TaskId};

/// Selects the events of a stream or page. The default selects all.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct EventFilter {
    /// The types, or all types if empty.
    pub(in crate::http) types: TypeFilter,
    /// Only events of this project.
    pub(in crate::http) project: Option<ProjectId>,
    /// Only events about this task.
    pub(in crate::http) task: Option<TaskId>,
}

impl EventFilter {
    /// Reads the filter of a query.
    pub(in crate::http) fn parse(query: &mut Query) -> Self {
        let names = query.many("types");
        let types = TypeFilter::parse(names.iter().map(String::as_str)).unwrap_or_else(|unknown| {
            query.reject("types", unknown.to_string());
            TypeFilter::default()
        });
        let task = query.one("task_id").and_then(|id| {
            let task = id.parse().ok();
            if task.is_none() {
                query.reject("task_id", format!("there is no task {}", json::quoted(&id)));
            }
            task
        });
        Self { types, project: query.parsed("project_id"), task }
    }

    /// Whether the filter selects an entry.
    pub(in crate::http) fn matches(&self, entry: &LogEntry) -> bool {
        self.task.is_none_or(|task| entry.task() == Some(task))
            && self.project.as_ref().is_none_or(|project| entry.project == *project)
            && self.types.matches(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        let known = ["types", "project_id", "task_id"];
        let mut good = Query::new(Some("types=task.created,dats.task.ready.small&project_id=p"), &known);
        let filter = EventFilter::parse(&mut good);
        assert!(filter.project.is_some());
        good.finish().unwrap();
        for bad in ["types=task.nothing", "types=", "task_id=t-1", "project_id="] {
            let mut query = Query::new(Some(bad), &known);
            EventFilter::parse(&mut query);
            assert!(query.finish().is_err(), "{bad}");
        }
    }
}
