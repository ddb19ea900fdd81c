//! Runs queries on the provenance graph, and caches their results for further pages: for 60 seconds, and at most 64
//! results and 64 MiB together. Beyond that, the oldest result is dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::http::server::cursor;
use crate::http::server::problem::Problem;
use crate::http::server::query::Query;
use crate::lineage::{FlagChange, Graph, Impact, Node, Walk};
use crate::task::Moment;

/// How long a result is cached.
const RESULT_LIFETIME: Duration = Duration::from_mins(1);
/// The largest number of cached results.
const MAX_RESULTS: usize = 64;
/// The largest size of all cached results, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// The largest number of concurrent queries, which share the cores with all other work.
const MAX_CONCURRENT: usize = 4;

/// A result with the version of the graph that it refers to.
#[derive(Debug)]
pub(in crate::http) struct QueryResult {
    pub(in crate::http) graph: Arc<Graph>,
    pub(in crate::http) what: ResultKind,
}

/// The records, flags or path that a query found.
#[derive(Debug)]
pub(in crate::http) enum ResultKind {
    /// Records that a walk reached.
    Walk(Walk),
    /// The impact of a record.
    Impact(Impact),
    /// Changes of flags.
    Changes(Vec<FlagChange>),
    /// A path between two records.
    Path(Vec<Node>),
}

impl QueryResult {
    fn bytes(&self) -> usize {
        // A walk stores 12 bytes for each record.
        let walk = |walk: &Walk| walk.len() * 12;
        match &self.what {
            ResultKind::Walk(found) => walk(found),
            ResultKind::Impact(impact) => {
                walk(&impact.walk) + size_of_val(&*impact.tasks) + size_of_val(&*impact.projects)
            }
            ResultKind::Changes(changes) => size_of_val(&**changes),
            ResultKind::Path(path) => size_of_val(&**path),
        }
    }
}

/// A flag that stops a query whose response is no longer needed.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Whether the query is to stop. Queries check this regularly.
    pub(in crate::http) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets the flag when the waiting request is dropped, after its time limit or with its connection.
struct StopOnDrop(StopFlag);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs queries and caches their results.
#[derive(Debug)]
pub(in crate::http) struct Queries {
    clock: Clock,
    cache: Arc<Mutex<ResultCache>>,
    permits: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct ResultCache {
    /// The results, oldest first.
    results: VecDeque<CachedResult>,
    bytes: usize,
    has_sweeper: bool,
}

#[derive(Debug)]
struct CachedResult {
    id: u64,
    until: Moment,
    bytes: usize,
    found: Arc<QueryResult>,
}

impl ResultCache {
    fn drop_expired(&mut self, now: Moment) {
        while self.results.front().is_some_and(|kept| kept.until <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(kept) = self.results.pop_front() {
            self.bytes -= kept.bytes;
        }
    }

    fn insert(&mut self, id: u64, until: Moment, found: Arc<QueryResult>) {
        let bytes = found.bytes();
        self.bytes += bytes;
        self.results.push_back(CachedResult { id, until, bytes, found });
        while self.results.len() > MAX_RESULTS || self.bytes > MAX_BYTES {
            self.drop_oldest();
        }
    }

    fn get(&self, id: u64) -> Option<Arc<QueryResult>> {
        self.results.iter().find(|kept| kept.id == id).map(|kept| kept.found.clone())
    }
}

/// The start of a page in a cached result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Position {
    id: u64,
    offset: usize,
}

/// Returns the position in the cursor of the query.
pub(in crate::http) fn parse_position(query: &mut Query, scope: &str) -> Option<Position> {
    query.cursor(scope, |bytes| decode_position(&bytes))
}

fn decode_position(bytes: &[u8]) -> Option<Position> {
    let (id, rest) = bytes.split_first_chunk()?;
    let offset = usize::try_from(u64::from_be_bytes(rest.try_into().ok()?)).ok()?;
    Some(Position { id: u64::from_be_bytes(*id), offset })
}

/// A page of a result.
#[derive(Debug)]
pub(in crate::http) struct ResultPage {
    pub(in crate::http) found: Arc<QueryResult>,
    pub(in crate::http) offset: usize,
    id: Option<u64>,
}

impl Queries {
    pub(in crate::http) fn new(clock: Clock) -> Self {
        Self { clock, cache: Arc::default(), permits: Arc::new(Semaphore::new(MAX_CONCURRENT)) }
    }

    /// Runs a query on a blocking thread. Dropping the future stops the query.
    pub(in crate::http) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StopFlag) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        // The query itself holds the permit, because it runs until it checks the flag.
        let permit = self.permits.clone().acquire_owned().await;
        let stop = StopFlag::default();
        let _stop_on_drop = StopOnDrop(stop.clone());
        let worked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&stop)
        });
        worked.await.map_err(|_| Problem::internal())
    }

    /// Returns the first page of a new result.
    pub(in crate::http) fn first(found: QueryResult) -> ResultPage {
        ResultPage { found: Arc::new(found), offset: 0, id: None }
    }

    /// Returns a further page of a cached result.
    pub(in crate::http) fn further(&self, place: Position) -> Result<ResultPage, Problem> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.drop_expired(self.clock.observed());
        let found = cache.get(place.id).ok_or_else(Problem::cursor_expired)?;
        Ok(ResultPage { found, offset: place.offset, id: Some(place.id) })
    }

    /// Returns the cursor after a page of `shown` entries, and caches the result, if there are more entries.
    pub(in crate::http) fn next_cursor(
        &self,
        page: &ResultPage,
        scope: &str,
        shown: usize,
        total: usize,
    ) -> Option<String> {
        let offset = page.offset.saturating_add(shown);
        if offset >= total {
            return None;
        }
        let id = page.id.unwrap_or_else(|| self.cache_result(page.found.clone()));
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        Some(cursor::encode(scope, &[id.to_be_bytes(), offset.to_be_bytes()].concat()))
    }

    fn cache_result(&self, found: Arc<QueryResult>) -> u64 {
        // Random, so that a cursor from before a restart has expired.
        let id = rand::random();
        let now = self.clock.observed();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.drop_expired(now);
        cache.insert(id, now.after(RESULT_LIFETIME), found);
        if !std::mem::replace(&mut cache.has_sweeper, true) {
            tokio::spawn(drop_expired_results(self.clock.clone(), self.cache.clone()));
        }
        id
    }
}

/// Drops expired results until the cache is empty, because a result keeps an old version of the graph in memory.
async fn drop_expired_results(clock: Clock, cache: Arc<Mutex<ResultCache>>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut shared = cache.lock().unwrap_or_else(PoisonError::into_inner);
        shared.drop_expired(clock.observed());
        if shared.results.is_empty() {
            shared.has_sweeper = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server::read_pool::with_walk_timeout;
    use crate::http::server::reply::Reply;
    use crate::task::TaskId;

    /// A result of 16 bytes a task.
    fn found(tasks: usize) -> Arc<QueryResult> {
        let graph = Arc::new(Graph::default());
        let (walk, tasks) = (graph.dependents(&[], None), vec![TaskId::from_bytes([0; 16]); tasks]);
        Arc::new(QueryResult { graph, what: ResultKind::Impact(Impact { walk, tasks, projects: Vec::new() }) })
    }

    fn at(second: i64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    #[test]
    fn results_expire() {
        let mut cache = ResultCache::default();
        cache.insert(1, at(60), found(1));
        cache.insert(2, at(70), found(2));
        cache.drop_expired(at(59));
        assert!(cache.get(1).is_some());
        cache.drop_expired(at(60));
        assert!(cache.get(1).is_none() && cache.get(2).is_some());
        assert_eq!(cache.bytes, 32);
    }

    #[test]
    fn number_and_size_are_bounded() {
        let mut cache = ResultCache::default();
        for id in 0..100 {
            cache.insert(id, at(60), found(1));
        }
        assert_eq!(cache.results.len(), MAX_RESULTS);
        assert!(cache.get(35).is_none() && cache.get(36).is_some());
        cache.insert(100, at(60), found((MAX_BYTES >> 4) - 1));
        assert_eq!(cache.results.len(), 2);
        cache.insert(101, at(60), found(MAX_BYTES));
        assert_eq!((cache.results.len(), cache.bytes), (0, 0));
    }

    /// Runs a query until it is stopped.
    async fn run_until_stopped(queries: &Queries, stopped: &Arc<AtomicBool>) -> Reply {
        let stopped = stopped.clone();
        let work = move |stop: &StopFlag| {
            while !stop.is_set() {
                std::thread::yield_now();
            }
            stopped.store(true, Ordering::Relaxed);
        };
        queries.run(work).await?;
        Ok(crate::http::server::reply::no_content())
    }

    #[tokio::test]
    async fn a_query_over_the_time_limit_is_stopped() {
        let queries = Queries::new(Clock::new());
        let stopped = Arc::new(AtomicBool::new(false));
        // More than there are permits for; a request that waits for a permit reaches the limit too.
        let late = || async {
            let query = run_until_stopped(&queries, &stopped);
            with_walk_timeout(Duration::from_millis(20), query).await.unwrap_err().code()
        };
        let codes = tokio::join!(late(), late(), late(), late(), late());
        assert_eq!(codes, ("walk_timeout", "walk_timeout", "walk_timeout", "walk_timeout", "walk_timeout"));
        // All permits are returned.
        let all = u32::try_from(MAX_CONCURRENT).unwrap();
        drop(queries.permits.acquire_many(all).await.unwrap());
        assert!(stopped.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_dropped_request_stops_its_query() {
        let queries = Arc::new(Queries::new(Clock::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let client = tokio::spawn({
            let (queries, stopped) = (queries.clone(), stopped.clone());
            async move { with_walk_timeout(RESULT_LIFETIME, run_until_stopped(&queries, &stopped)).await.is_ok() }
        });
        while queries.permits.available_permits() == MAX_CONCURRENT {
            tokio::task::yield_now().await;
        }
        client.abort();
        drop(queries.permits.acquire_many(u32::try_from(MAX_CONCURRENT).unwrap()).await.unwrap());
        assert!(stopped.load(Ordering::Relaxed));
    }

    #[test]
    fn a_cursor_names_a_position() {
        let queries = Queries::new(Clock::new());
        let page = ResultPage { found: found(0), offset: 50, id: Some(7) };
        let next = queries.next_cursor(&page, "s", 50, 101).unwrap();
        let mut query = Query::new(Some(&format!("cursor={next}")), &["cursor"]);
        let next_place = parse_position(&mut query, "s");
        assert_eq!(next_place, Some(Position { id: 7, offset: 100 }));
        assert_eq!(queries.further(next_place.unwrap()).unwrap_err().code(), "cursor_expired");
        assert_eq!(queries.next_cursor(&page, "s", 50, 100), None);
        let mut query = Query::new(Some(&format!("cursor={next}")), &["cursor"]);
        assert_eq!(parse_position(&mut query, "t"), None);
        assert!(query.finish().is_err());
    }
}
