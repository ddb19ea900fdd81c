//! What questions about provenance have found, kept for the pages behind the
//! first: at most 60 s, 64 results and 64 MiB together, the oldest goes.

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

/// How long a result is kept.
const LIFE: Duration = Duration::from_mins(1);
/// Most results.
const MOST: usize = 64;
/// Most bytes of all of them.
const MOST_BYTES: usize = 64 << 20;
/// Most questions at work at once: they share the cores with everybody.
const AT_ONCE: usize = 4;

/// What was found, with the version of the graph that it was found in.
#[derive(Debug)]
pub(in crate::http) struct Found {
    pub(in crate::http) graph: Arc<Graph>,
    pub(in crate::http) what: What,
}

/// What was found.
#[derive(Debug)]
pub(in crate::http) enum What {
    /// Records around one.
    Walk(Walk),
    /// How far one reaches.
    Impact(Impact),
    /// Flags that change.
    Changes(Vec<FlagChange>),
    /// The way from one to another.
    Path(Vec<Node>),
}

impl Found {
    fn bytes(&self) -> usize {
        // A found record takes 12 bytes in a walk.
        let walk = |walk: &Walk| walk.len() * 12;
        match &self.what {
            What::Walk(found) => walk(found),
            What::Impact(impact) => walk(&impact.walk) + size_of_val(&*impact.tasks) + size_of_val(&*impact.projects),
            What::Changes(changes) => size_of_val(&**changes),
            What::Path(path) => size_of_val(&**path),
        }
    }
}

/// Set when nobody waits for an answer any more.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What a walk asks now and then.
    pub(in crate::http) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets a stop when what waits is dropped: the time is up, or the client gone.
struct Waits(Stop);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The results that are kept.
#[derive(Debug)]
pub(in crate::http) struct Walks {
    clock: Clock,
    kept: Arc<Mutex<Shelf>>,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// The oldest first.
    results: VecDeque<Kept>,
    bytes: usize,
    is_swept: bool,
}

#[derive(Debug)]
struct Kept {
    id: u64,
    until: Moment,
    bytes: usize,
    found: Arc<Found>,
}

impl Shelf {
    fn sweep(&mut self, now: Moment) {
        while self.results.front().is_some_and(|kept| kept.until <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(kept) = self.results.pop_front() {
            self.bytes -= kept.bytes;
        }
    }

    fn put(&mut self, id: u64, until: Moment, found: Arc<Found>) {
        let bytes = found.bytes();
        self.bytes += bytes;
        self.results.push_back(Kept { id, until, bytes, found });
        while self.results.len() > MOST || self.bytes > MOST_BYTES {
            self.drop_oldest();
        }
    }

    fn get(&self, id: u64) -> Option<Arc<Found>> {
        self.results.iter().find(|kept| kept.id == id).map(|kept| kept.found.clone())
    }
}

/// Where in which result a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Place {
    id: u64,
    offset: usize,
}

/// The place that the query's cursor names, if it has one.
pub(in crate::http) fn place(query: &mut Query, scope: &str) -> Option<Place> {
    query.cursor(scope, |place| decode(&place))
}

fn decode(bytes: &[u8]) -> Option<Place> {
    let (id, rest) = bytes.split_first_chunk()?;
    let offset = usize::try_from(u64::from_be_bytes(rest.try_into().ok()?)).ok()?;
    Some(Place { id: u64::from_be_bytes(*id), offset })
}

/// A part of a result.
#[derive(Debug)]
pub(in crate::http) struct Page {
    pub(in crate::http) found: Arc<Found>,
    pub(in crate::http) offset: usize,
    id: Option<u64>,
}

impl Walks {
    pub(in crate::http) fn new(clock: Clock) -> Self {
        Self { clock, kept: Arc::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Runs what can take long where it holds nobody up. Dropping the future
    /// sets the stop.
    pub(in crate::http) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        // Held by the work itself, which goes on until it sees the stop.
        let place = self.places.clone().acquire_owned().await;
        let stop = Stop::default();
        let _waits = Waits(stop.clone());
        let worked = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&stop)
        });
        worked.await.map_err(|_| Problem::internal())
    }

    /// The first page of a new result.
    pub(in crate::http) fn first(found: Found) -> Page {
        Page { found: Arc::new(found), offset: 0, id: None }
    }

    /// A page behind the first.
    pub(in crate::http) fn later(&self, place: Place) -> Result<Page, Problem> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sweep(self.clock.observed());
        let found = kept.get(place.id).ok_or_else(Problem::cursor_expired)?;
        Ok(Page { found, offset: place.offset, id: Some(place.id) })
    }

    /// The cursor behind a page of `shown` entries, where there is more: keeps
    /// the result.
    pub(in crate::http) fn next(&self, page: &Page, scope: &str, shown: usize, total: usize) -> Option<String> {
        let offset = page.offset.saturating_add(shown);
        if offset >= total {
            return None;
        }
        let id = page.id.unwrap_or_else(|| self.keep(page.found.clone()));
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        Some(cursor::encode(scope, &[id.to_be_bytes(), offset.to_be_bytes()].concat()))
    }

    fn keep(&self, found: Arc<Found>) -> u64 {
        // Random, so that a cursor from before a restart names nothing.
        let id = rand::random();
        let now = self.clock.observed();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sweep(now);
        kept.put(id, now.after(LIFE), found);
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(self.clock.clone(), self.kept.clone()));
        }
        id
    }
}

/// Drops what has expired, until nothing is kept: a result holds on to an
/// old version of the graph.
async fn sweep(clock: Clock, kept: Arc<Mutex<Shelf>>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut shared = kept.lock().unwrap_or_else(PoisonError::into_inner);
        shared.sweep(clock.observed());
        if shared.results.is_empty() {
            shared.is_swept = false;
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
    fn found(tasks: usize) -> Arc<Found> {
        let graph = Arc::new(Graph::default());
        let (walk, tasks) = (graph.dependents(&[], None), vec![TaskId::from_bytes([0; 16]); tasks]);
        Arc::new(Found { graph, what: What::Impact(Impact { walk, tasks, projects: Vec::new() }) })
    }

    fn at(second: i64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    #[test]
    fn results_expire() {
        let mut shelf = Shelf::default();
        shelf.put(1, at(60), found(1));
        shelf.put(2, at(70), found(2));
        shelf.sweep(at(59));
        assert!(shelf.get(1).is_some());
        shelf.sweep(at(60));
        assert!(shelf.get(1).is_none() && shelf.get(2).is_some());
        assert_eq!(shelf.bytes, 32);
    }

    #[test]
    fn number_and_size_are_bounded() {
        let mut shelf = Shelf::default();
        for id in 0..100 {
            shelf.put(id, at(60), found(1));
        }
        assert_eq!(shelf.results.len(), MOST);
        assert!(shelf.get(35).is_none() && shelf.get(36).is_some());
        shelf.put(100, at(60), found((MOST_BYTES >> 4) - 1));
        assert_eq!(shelf.results.len(), 2);
        shelf.put(101, at(60), found(MOST_BYTES));
        assert_eq!((shelf.results.len(), shelf.bytes), (0, 0));
    }

    /// Works until it is stopped, and says that it was.
    async fn stuck(walks: &Walks, stopped: &Arc<AtomicBool>) -> Reply {
        let stopped = stopped.clone();
        let work = move |stop: &Stop| {
            while !stop.is_set() {
                std::thread::yield_now();
            }
            stopped.store(true, Ordering::Relaxed);
        };
        walks.run(work).await?;
        Ok(crate::http::server::reply::no_content())
    }

    #[tokio::test]
    async fn what_takes_too_long_is_a_problem_and_is_stopped() {
        let walks = Walks::new(Clock::new());
        let stopped = Arc::new(AtomicBool::new(false));
        // More than there are places for: who waits for one runs out of time, too.
        let late = || async {
            with_walk_timeout(Duration::from_millis(20), stuck(&walks, &stopped)).await.unwrap_err().code()
        };
        let codes = tokio::join!(late(), late(), late(), late(), late());
        assert_eq!(codes, ("walk_timeout", "walk_timeout", "walk_timeout", "walk_timeout", "walk_timeout"));
        // All places are free again.
        let all = u32::try_from(AT_ONCE).unwrap();
        drop(walks.places.acquire_many(all).await.unwrap());
        assert!(stopped.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn who_goes_away_stops_the_walk() {
        let walks = Arc::new(Walks::new(Clock::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let client = tokio::spawn({
            let (walks, stopped) = (walks.clone(), stopped.clone());
            async move { with_walk_timeout(LIFE, stuck(&walks, &stopped)).await.is_ok() }
        });
        while walks.places.available_permits() == AT_ONCE {
            tokio::task::yield_now().await;
        }
        client.abort();
        drop(walks.places.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap());
        assert!(stopped.load(Ordering::Relaxed));
    }

    #[test]
    fn a_cursor_names_a_place() {
        let walks = Walks::new(Clock::new());
        let page = Page { found: found(0), offset: 50, id: Some(7) };
        let next = walks.next(&page, "s", 50, 101).unwrap();
        let mut query = Query::new(Some(&format!("cursor={next}")), &["cursor"]);
        let next_place = place(&mut query, "s");
        assert_eq!(next_place, Some(Place { id: 7, offset: 100 }));
        assert_eq!(walks.later(next_place.unwrap()).unwrap_err().code(), "cursor_expired");
        assert_eq!(walks.next(&page, "s", 50, 100), None);
        let mut query = Query::new(Some(&format!("cursor={next}")), &["cursor"]);
        assert_eq!(place(&mut query, "t"), None);
        assert!(query.finish().is_err());
    }
}
