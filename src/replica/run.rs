//! The task that follows the store's commits and writes them to the copy, through all failures of
//! the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::ownership::{self, HEARTBEAT, Ownership};
use super::portion::{self, Limits, Portion, Reader};
use super::position::{Phase, Position};
use super::session::Session;
use super::settings::Settings;
use super::status::Status;
use crate::clock::{Clock, Stopwatch};
use crate::engine::{self, Engine};

/// Interval between looks for new commits. The pause lets several changes of one row come together.
const POLL: Duration = Duration::from_millis(50);
/// Pause after a transaction for each row in it, and its upper limit. A single change is copied
/// soon, and a stream of changes makes few transactions.
const GATHER_EACH: Duration = Duration::from_millis(2);
const GATHER: Duration = Duration::from_millis(250);
/// Interval between updates of the lag.
const WATCH: Duration = Duration::from_secs(1);
/// First pause before a retry; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Time limit at a stop for copying what is left.
const FINISH: Duration = Duration::from_secs(5);

/// Copies what the store commits, until it is stopped.
#[derive(Debug)]
pub struct Replicator {
    engine: Engine,
    settings: Arc<Settings>,
    status: Arc<Status>,
    clock: Clock,
    ownership: Ownership,
    /// Rows per transaction; lowered while the database is too slow.
    rows: usize,
    /// Whether this process has resumed at the position of an earlier one.
    has_begun: bool,
}

impl Replicator {
    /// Creates the replicator of an engine's store. The store must list its changes.
    #[must_use]
    pub fn new(engine: Engine, settings: Settings, ownership: Ownership, clock: Clock) -> Self {
        let status = Arc::new(Status::new(settings.address.to_string()));
        let rows = settings.batch_rows;
        Self { engine, settings: Arc::new(settings), status, clock, ownership, rows, has_begun: false }
    }

    /// Returns the shared status.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Copies until `stop` is cancelled, then for at most five seconds what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        let late = async {
            stop.cancelled().await;
            sleep(FINISH).await;
        };
        let (engine, status) = (self.engine.clone(), self.status.clone());
        tokio::select! {
            () = self.keep_following(&stop) => {}
            () = watch(&engine, &status) => {}
            () = late => tracing::info!("stopped before all changes were copied; the next start resumes"),
        }
    }

    async fn keep_following(&mut self, stop: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.follow(stop, &mut pause).await {
                Ok(()) | Err(Error::Engine(engine::Error::ShuttingDown)) => return,
                Err(error) => error,
            };
            self.status.record_error(&error, self.clock.wall());
            let wait = match error {
                Error::Lost(_) => {
                    // Later changes would never be copied.
                    self.engine.halt();
                    stop.cancelled().await;
                    return;
                }
                Error::Setup(_) | Error::Foreign(_) | Error::Row { .. } => self.settings.retry_max,
                Error::Slow(_) => {
                    self.rows = (self.rows / 2).max(1);
                    pause
                }
                Error::Away(_) | Error::Conflict(_) | Error::Engine(_) | Error::Store(_) => pause,
            };
            pause = pause.saturating_mul(2).min(self.settings.retry_max);
            // Randomized, so that many services do not reconnect at the same moment.
            let wait = wait.mul_f64(rand::random_range(0.5..1.0));
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Copies over one connection, until it fails or `stop` is cancelled.
    async fn follow(&mut self, stop: &CancellationToken, pause: &mut Duration) -> Result<(), Error> {
        let mut session = Session::open(self.settings.clone()).await?;
        let local = ownership::local(&self.engine).await?;
        let mut at = session.begin(&self.ownership, local, self.settings.adopt).await?;
        if !self.has_begun {
            session.restart_commit(local.store, &mut at).await?;
            self.has_begun = true;
        }
        self.record_rejects(&session).await?;
        let (mut gather, mut ahead) = (Duration::ZERO, None);
        let mut signed: Option<Stopwatch> = None;
        loop {
            if signed.as_ref().is_none_or(|signed| signed.elapsed() >= HEARTBEAT) {
                if !session.write_heartbeat(local.store, &self.ownership).await? {
                    return Err(Error::Away("the copy has another owner; it is checked again".to_owned()));
                }
                signed = Some(Stopwatch::start());
            }
            self.engine.replication().confirm(at.commit);
            self.status.record_position(&at);
            let _ = timeout(std::mem::take(&mut gather), stop.cancelled()).await;
            match self.step(&mut session, &mut at, &mut ahead).await {
                Ok(Some(until_next)) => {
                    *pause = FIRST_PAUSE;
                    gather = until_next;
                    self.rows = self.rows.saturating_mul(2).min(self.settings.batch_rows);
                }
                Ok(None) if stop.is_cancelled() => return session.clear_heartbeat(local.store).await,
                Ok(None) => self.wait(&session, &at, (stop, signed.as_ref())).await?,
                Err(Error::Conflict(reason)) => {
                    tracing::debug!(reason, "transaction conflict; retrying");
                    sleep(POLL.mul_f64(rand::random_range(0.1..1.0))).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes one transaction and returns the pause after it; `None` if there was nothing to copy.
    /// If more than one transaction is pending, reads the next portion while the database writes
    /// this one.
    async fn step(
        &self,
        session: &mut Session,
        at: &mut Position,
        ahead: &mut Option<Portion>,
    ) -> Result<Option<Duration>, Error> {
        if matches!(at.scan, Some((Phase::Sweep, _))) {
            let left = session.sweep(self.engine.store_id(), at).await?;
            if !left {
                at.scan = None;
                tracing::info!("scan complete; following changes");
            }
            return Ok(Some(Duration::ZERO));
        }
        // Taken out of `ahead`: after a failure the portion is read again.
        let portion = match ahead.take() {
            Some(portion) => portion,
            None => match self.read(at.clone()).await? {
                Some(portion) => portion,
                None => return Ok(None),
            },
        };
        let is_behind = portion.is_full || at.scan.is_some();
        let goes_on = is_behind && !matches!(portion.to.scan, Some((Phase::Sweep, _)));
        let (written, next) = tokio::join!(session.write(self.engine.store_id(), at, &portion), async {
            if goes_on { self.read(portion.to.clone()).await } else { Ok(None) }
        });
        let written = written?;
        *at = portion.to;
        *ahead = next?;
        self.status.record_rows(written.rows);
        if session.has_rejects {
            self.record_rejects(session).await?;
        }
        let gather = GATHER_EACH.saturating_mul(u32::try_from(written.rows).unwrap_or(u32::MAX)).min(GATHER);
        Ok(Some(if is_behind { Duration::ZERO } else { gather }))
    }

    async fn read(&self, from: Position) -> Result<Option<Portion>, Error> {
        let limits = Limits { rows: self.rows, contents: self.settings.contents };
        let read = self.engine.replication().read(move |view, graph| {
            let reader = Reader::new(view, graph, limits)?;
            match from.scan.clone() {
                Some((phase, after)) => reader.scan(&from, phase, after.as_deref()).map(Some),
                None => reader.changes(&from),
            }
        });
        Ok(read.await?)
    }

    async fn record_rejects(&self, session: &Session) -> Result<(), Error> {
        let sql = "SELECT count(*) FROM replication_rejects";
        let count = async { Ok(session.client.query_one(sql, &[]).await?.try_get::<_, i64>(0)?) };
        let count = Session::within(self.settings.client_timeout(), count).await?;
        self.status.record_rejects(u64::try_from(count).unwrap_or(0));
        Ok(())
    }

    /// Waits until there is more to copy or a heartbeat is due.
    async fn wait(
        &self,
        session: &Session,
        at: &Position,
        (stop, signed): (&CancellationToken, Option<&Stopwatch>),
    ) -> Result<(), Error> {
        let is_due = || signed.is_none_or(|signed| signed.elapsed() >= HEARTBEAT);
        while self.engine.replication().commit_number() <= at.commit && !stop.is_cancelled() && !is_due() {
            if session.client.is_closed() {
                return Err(Error::Away("the database has closed the connection".to_owned()));
            }
            // The loop condition checks `stop`.
            let _ = timeout(POLL, stop.cancelled()).await;
        }
        Ok(())
    }
}

/// Updates the lag once a second, whether the database is reachable or not.
async fn watch(engine: &Engine, status: &Status) {
    loop {
        let at = status.at();
        let look = engine.replication().read(move |view, _| {
            let at = match at {
                Some(at) => at,
                None => view.changes_from()?.unwrap_or_default(),
            };
            portion::lag(view, at)
        });
        if let Ok((changes, since)) = look.await {
            status.record_lag(changes, since);
        }
        sleep(WATCH).await;
    }
}
