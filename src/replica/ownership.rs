//! Decides which data directory may write the copy.
//!
//! The row in `replication_state` names one store. The owner writes a heartbeat there, and records
//! its ownership in a file of its data directory. A restored directory records the state of the
//! copy that it was restored from. It can therefore take over the copy at its first start, and a
//! directory that finds another store in the row can tell whether it has lost the copy or never
//! owned it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Error;
use super::position::Position;
use super::session::Session;
use super::state::{self, ALIVE_SECONDS, Begin, Local, ScanReason, State, signed};

/// Interval between heartbeats of the owner.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);
/// Name of the ownership file in the data directory.
const FILE: &str = "ownership.json";

/// The state of the copy that a store was restored from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The store that wrote the copy.
    pub store: Uuid,
    /// Number of times that the copy has changed its owner.
    pub epoch: i64,
    /// The last commit that the copy contained completely.
    pub commit: u64,
    /// Number of rows of the following commit that it contained.
    pub done: u64,
}

impl Origin {
    pub(super) fn of(state: &State) -> Self {
        let done = u64::try_from(state.at.done).unwrap_or(u64::MAX);
        Self { store: state.store, epoch: state.epoch, commit: state.at.commit.0, done }
    }
}

/// What a data directory records about its role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The state that the directory was restored from, until it takes over the copy.
    #[serde(default)]
    pub restored_from: Option<Origin>,
    /// Whether the directory owns the copy or has owned it.
    #[serde(default)]
    pub is_owner: bool,
}

impl Claim {
    /// Reads the file of a data directory; returns the default if there is none.
    pub fn load(dir: &Path) -> io::Result<Self> {
        match fs::read(dir.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes the file durably.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        let (path, new) = (dir.join(FILE), dir.join(format!("{FILE}.new")));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(new, path)?;
        File::open(dir)?.sync_all()
    }
}

/// The role of this data directory towards the copy. Clones share their state.
#[derive(Debug, Clone)]
pub struct Ownership {
    dir: Option<PathBuf>,
    claim: Arc<Mutex<Claim>>,
    pub(super) address: String,
    take_over: bool,
    lost: CancellationToken,
}

impl Ownership {
    /// Creates the role of a data directory whose service listens on `address`. `take_over` allows
    /// taking over from an owner that is alive.
    pub fn of_directory(dir: &Path, address: String, take_over: bool) -> Result<Self, Error> {
        let claim = Claim::load(dir).map_err(|error| of_file(dir, &error))?;
        Ok(Self { dir: Some(dir.to_owned()), ..Self::new(claim, address, take_over) })
    }

    /// Creates the role of a store without a data directory, which records nothing.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Claim::default(), String::new(), false)
    }

    fn new(claim: Claim, address: String, take_over: bool) -> Self {
        let claim = Arc::new(Mutex::new(claim));
        Self { dir: None, claim, address, take_over, lost: CancellationToken::new() }
    }

    /// Returns a token that is cancelled once another data directory is known to be the owner.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Returns whether this directory was restored and has not taken over the copy yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.claim().restored_from.is_some()
    }

    /// Returns whether this directory may take over from an owner that is alive.
    #[must_use]
    pub const fn takes_over(&self) -> bool {
        self.take_over
    }

    fn claim(&self) -> Claim {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that this directory owns the copy. Called before the first write as the owner.
    pub(super) fn record_ownership(&self) -> Result<(), Error> {
        let claim = Claim { restored_from: None, is_owner: true };
        let mut known = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != claim {
            if let Some(dir) = &self.dir {
                claim.save(dir).map_err(|error| of_file(dir, &error))?;
            }
            *known = claim;
        }
        Ok(())
    }

    /// Classifies a copy that another store owns.
    pub(super) fn relation_to(&self, found: &State) -> Relation {
        let claim = self.claim();
        match claim.restored_from {
            Some(origin) if origin.store == found.store && origin.epoch == found.epoch => Relation::Heir(origin),
            Some(_) | None if claim.is_owner => Relation::Lost,
            Some(_) | None => Relation::Stranger,
        }
    }

    pub(super) fn lose(&self) {
        self.lost.cancel();
    }

    /// Fails if the owner is alive, unless taking over from it is allowed.
    pub(super) fn check_alive(&self, found: &State) -> Result<(), Error> {
        match &found.seen {
            Some(seen) if seen.seconds_ago < ALIVE_SECONDS && !self.take_over => Err(Error::Foreign(format!(
                "the copy in the database is still owned by the service at {}, which was last seen at {}, {} s ago: \
                 stop it, and start this one when it has not been seen for {ALIVE_SECONDS} s, or start with --take-over",
                found.owner(),
                seen.at,
                seen.seconds_ago.max(0),
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

/// The relation of this directory to a copy of another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// This directory was restored from the copy and takes it over.
    Heir(Origin),
    /// This directory owned the copy before.
    Lost,
    /// This directory has no relation to the copy.
    Stranger,
}

fn of_file(dir: &Path, error: &io::Error) -> Error {
    Error::Setup(format!("{} can't be read or written: {error}", dir.join(FILE).display()))
}

impl Session {
    /// Takes over the copy that this store was restored from. If the copy was written since,
    /// everything is scanned again.
    pub(super) async fn take_over(
        &mut self,
        ownership: &Ownership,
        (local, origin): (Local, Origin),
        found: &State,
    ) -> Result<Position, Error> {
        ownership.check_alive(found)?;
        let moved = Origin::of(found) != origin;
        tracing::info!(
            from = found.owner(),
            seen = found.seen.as_ref().map(|seen| seen.at.to_string()),
            moved,
            "taking over the copy that this data directory was restored from"
        );
        if moved {
            let reason = ScanReason::Heir { takes_over: ownership.take_over };
            let at = self.begin_scan(local, Some(found), reason).await?;
            ownership.record_ownership()?;
            return Ok(at);
        }
        let limit = self.settings.client_timeout();
        let done = i64::try_from(found.at.done).unwrap_or(i64::MAX);
        let alive = i32::try_from(ALIVE_SECONDS).unwrap_or(i32::MAX);
        let log = found.log_position.next_epoch();
        let take = async {
            let sql = "UPDATE replication_state SET store_id = $1, epoch = epoch + 1, commit = $2, done = 0, \
                       scan_table = NULL, scan_after = NULL, newest_change = greatest(newest_change, $2), \
                       log_position = $3, written_at = now(), owner_address = $4, seen_at = now() \
                       WHERE store_id = $5 AND epoch = $6 AND commit = $7 AND done = $8 \
                       AND ($9 OR seen_at IS NULL OR seen_at < now() - make_interval(secs => $10::int))";
            let taken = self
                .client
                .execute(
                    sql,
                    &[
                        &local.store,
                        &signed(local.listed_from.0),
                        &signed(log.0),
                        &ownership.address,
                        &found.store,
                        &found.epoch,
                        &signed(found.at.commit.0),
                        &done,
                        &ownership.take_over,
                        &alive,
                    ],
                )
                .await?;
            if taken == 1 {
                return Ok(Position { commit: local.listed_from, done: 0, scan: None });
            }
            Err(Error::Away("the copy was written during the take-over; it is checked again".to_owned()))
        };
        let at = Self::within(limit, take).await?;
        ownership.record_ownership()?;
        Ok(at)
    }

    /// Writes a heartbeat. Returns `false` if the copy belongs to another store.
    pub(super) async fn write_heartbeat(&self, store: Uuid, ownership: &Ownership) -> Result<bool, Error> {
        let sql = "UPDATE replication_state SET owner_address = $2, seen_at = now() WHERE store_id = $1";
        let sign = async { Ok(self.client.execute(sql, &[&store, &ownership.address]).await?) };
        Ok(Self::within(self.settings.client_timeout(), sign).await? == 1)
    }

    /// Clears the heartbeat at an orderly stop, so that another owner need not wait for it to age.
    pub(super) async fn clear_heartbeat(&self, store: Uuid) -> Result<(), Error> {
        let sql = "UPDATE replication_state SET seen_at = NULL WHERE store_id = $1";
        let leave = async { Ok(self.client.execute(sql, &[&store]).await?) };
        Self::within(self.settings.client_timeout(), leave).await.map(drop)
    }

    /// Determines where the copy resumes, and makes this store the owner if it may be.
    pub(super) async fn begin(&mut self, ownership: &Ownership, local: Local, adopt: bool) -> Result<Position, Error> {
        let limit = self.settings.client_timeout();
        let found = Self::within(limit, state::load(&self.client)).await?;
        let foreign = found.as_ref().filter(|found| found.store != local.store && !adopt);
        if let Some(found) = foreign {
            match ownership.relation_to(found) {
                Relation::Heir(origin) => return self.take_over(ownership, (local, origin), found).await,
                Relation::Lost => {
                    ownership.lose();
                    return Err(Error::Lost(format!(
                        "the data directory of the service at {} (store {}) has taken over the copy: this service accepts no \
                         writes any more; stop it, or start it with --adopt to make the copy its own again",
                        found.owner(),
                        found.store,
                    )));
                }
                Relation::Stranger => {}
            }
        }
        let at = match state::begin(found.as_ref(), local, adopt)? {
            Begin::At(at) => at,
            Begin::Scan => {
                tracing::info!("the copy has missed changes; scanning all tables");
                self.begin_scan(local, found.as_ref(), ScanReason::Owner).await?
            }
            Begin::Adopt => {
                tracing::info!("creating the copy; scanning all tables");
                self.begin_scan(local, found.as_ref(), ScanReason::Adoption).await?
            }
        };
        ownership.record_ownership()?;
        Ok(at)
    }
}

/// Takes over the copy that the engine's store was restored from, before the copy is used in any
/// other way. Does nothing if the store was not restored.
pub async fn take_over(
    engine: &crate::engine::Engine,
    settings: super::Settings,
    ownership: &Ownership,
) -> Result<(), Error> {
    if !ownership.is_waiting() {
        return Ok(());
    }
    let mut session = Session::open(Arc::new(settings)).await?;
    let local = local(engine).await?;
    session.begin(ownership, local, false).await.map(drop)
}

/// Returns the positions of an engine's store.
pub(super) async fn local(engine: &crate::engine::Engine) -> Result<Local, Error> {
    let look = engine.replication().read(move |view, _| Ok((view.commit_number()?, view.changes_from()?)));
    let (newest, listed_from) = look.await?;
    Ok(Local { store: engine.store_id(), newest, listed_from: listed_from.unwrap_or(newest) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::CommitNumber;
    use crate::task::{Seq, Timestamp};

    fn found(store: u128, epoch: i64, seconds_ago: Option<i64>) -> State {
        let at = Timestamp::from_micros(0);
        State {
            store: Uuid::from_u128(store),
            epoch,
            at: Position { commit: CommitNumber(7), done: 0, scan: None },
            newest_change: CommitNumber(7),
            log_position: Seq(1),
            written_at: at,
            owner_address: Some("there:8000".to_owned()),
            seen: seconds_ago.map(|seconds_ago| state::Seen { at, seconds_ago }),
        }
    }

    #[test]
    fn a_claim_says_what_a_foreign_copy_means() {
        let of = |restored_from, is_owner| Ownership::new(Claim { restored_from, is_owner }, String::new(), false);
        let state = found(1, 3, None);
        let origin = Origin::of(&state);
        assert_eq!(of(Some(origin), false).relation_to(&state), Relation::Heir(origin));
        // It has changed hands since: somebody else has taken it over, or its owner has it again.
        assert_eq!(of(Some(origin), false).relation_to(&found(1, 4, None)), Relation::Stranger);
        assert_eq!(of(Some(origin), false).relation_to(&found(2, 3, None)), Relation::Stranger);
        assert_eq!(of(None, true).relation_to(&state), Relation::Lost);
        assert_eq!(of(None, false).relation_to(&state), Relation::Stranger);
    }

    #[test]
    fn a_living_owner_is_named() {
        let heir = Ownership::new(Claim::default(), String::new(), false);
        assert!(heir.check_alive(&found(1, 1, None)).is_ok() && heir.check_alive(&found(1, 1, Some(60))).is_ok());
        let refused = heir.check_alive(&found(1, 1, Some(59))).unwrap_err().to_string();
        assert!(refused.contains("there:8000") && refused.contains("59 s ago") && refused.contains("--take-over"));
        assert!(Ownership::new(Claim::default(), String::new(), true).check_alive(&found(1, 1, Some(0))).is_ok());
    }

    #[test]
    fn what_is_remembered_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Claim::load(dir.path()).unwrap(), Claim::default());
        let claim = Claim { restored_from: Some(Origin::of(&found(1, 3, None))), is_owner: false };
        claim.save(dir.path()).unwrap();
        assert_eq!(Claim::load(dir.path()).unwrap(), claim);
        let ownership = Ownership::of_directory(dir.path(), "here:1".to_owned(), false).unwrap();
        assert!(ownership.is_waiting());
        ownership.record_ownership().unwrap();
        assert_eq!(Claim::load(dir.path()).unwrap(), Claim { restored_from: None, is_owner: true });
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Ownership::of_directory(dir.path(), String::new(), false).is_err());
    }
}
