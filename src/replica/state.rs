//! The row in `replication_state`: the owner of the copy and its position.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::Error;
use super::cells::SqlTime;
use super::position::{Phase, Position};
use super::session::Session;
use super::tables::Table;
use crate::store::CommitNumber;
use crate::task::{Seq, Timestamp};

/// An owner whose last heartbeat is younger than this is considered alive.
pub(super) const ALIVE_SECONDS: i64 = 60;

/// The row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) store: Uuid,
    pub(super) epoch: i64,
    pub(super) at: Position,
    pub(super) newest_change: CommitNumber,
    pub(super) log_position: Seq,
    /// Time of the last written transaction.
    pub(super) written_at: Timestamp,
    /// Address at which the owner can be reached.
    pub(super) owner_address: Option<String>,
    /// The owner's last heartbeat; `None` after an orderly stop, or if there was none yet.
    pub(super) seen: Option<Seen>,
}

/// A heartbeat by the clock of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: Timestamp,
    pub(super) seconds_ago: i64,
}

impl State {
    /// Returns the owner's address for messages.
    pub(super) fn owner(&self) -> &str {
        self.owner_address.as_deref().unwrap_or("an unknown address")
    }
}

/// Positions of the local store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local {
    pub(super) store: Uuid,
    /// The last commit.
    pub(super) newest: CommitNumber,
    /// The list of changes contains every commit after this one.
    pub(super) listed_from: CommitNumber,
}

/// Where the copy resumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begin {
    /// At its position.
    At(Position),
    /// With a scan, because the copy is new or has missed changes.
    Scan,
    /// With a scan, because the copy belonged to another store.
    Adopt,
}

/// Time limit for taking over the rows of another store's copy.
const ADOPTION: Duration = Duration::from_hours(1);

/// Reads the row, if there is one.
pub(super) async fn load(client: &impl GenericClient) -> Result<Option<State>, Error> {
    // Columns are read by name, because an older schema lacks some of them.
    let row = client.query_opt("SELECT *, now() AS seen_from FROM replication_state", &[]).await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<State, Error> {
    let whole = |name: &str| -> Result<u64, Error> { Ok(u64::try_from(row.try_get::<_, i64>(name)?).unwrap_or(0)) };
    let phase: Option<String> = row.try_get("scan_table")?;
    let scan = match phase {
        Some(name) => {
            let unknown = || Error::Setup(format!("replication_state has the unknown scan_table {name:?}"));
            Some((Phase::named(&name).ok_or_else(unknown)?, row.try_get("scan_after")?))
        }
        None => None,
    };
    let done = usize::try_from(whole("done")?).unwrap_or(usize::MAX);
    let seen_from = row.try_get::<_, SqlTime>("seen_from")?.0;
    let seen = row.try_get::<_, Option<SqlTime>>("seen_at").ok().flatten().map(|SqlTime(at)| {
        let seconds_ago = seen_from.as_micros().saturating_sub(at.as_micros()) / 1_000_000;
        Seen { at, seconds_ago }
    });
    Ok(State {
        store: row.try_get("store_id")?,
        epoch: row.try_get("epoch")?,
        at: Position { commit: CommitNumber(whole("commit")?), done, scan },
        newest_change: CommitNumber(whole("newest_change")?),
        log_position: Seq(whole("log_position")?),
        written_at: row.try_get::<_, SqlTime>("written_at")?.0,
        owner_address: row.try_get("owner_address").ok().flatten(),
        seen,
    })
}

/// Decides where the copy resumes. Fails if this store may not write it.
pub(super) fn begin(found: Option<&State>, local: Local, adopt: bool) -> Result<Begin, Error> {
    let Some(found) = found else { return Ok(Begin::Adopt) };
    if found.store != local.store {
        return if adopt { Ok(Begin::Adopt) } else { Err(foreign(found.store, local.store)) };
    }
    if found.at.commit > local.newest {
        return if adopt {
            Ok(Begin::Adopt)
        } else {
            Err(Error::Foreign(format!(
                "the database is ahead of this data directory, by {} changes: the directory is an older copy of \
                 itself; restore it with `dats restore --from postgres`, or start with --adopt to make the database \
                 its copy again",
                found.at.commit.0 - local.newest.0
            )))
        };
    }
    if found.at.commit < local.listed_from {
        return Ok(Begin::Scan);
    }
    Ok(Begin::At(found.at.clone()))
}

fn foreign(theirs: Uuid, ours: Uuid) -> Error {
    Error::Foreign(format!(
        "the database holds the copy of another data directory (store {theirs}, not {ours}): restore this one from \
         it with `dats restore --from postgres`, or start with --adopt to replace the copy"
    ))
}

/// The reason for which a scan may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanReason {
    /// This store owns the copy.
    Owner,
    /// This store becomes the owner: the copy is new, or `--adopt` was given.
    Adoption,
    /// This store was restored from the copy and becomes its owner, unless the present owner is
    /// alive.
    Heir {
        /// Also from an owner that is alive.
        takes_over: bool,
    },
}

impl Session {
    /// Begins a scan and makes this store the owner. Fails with [`Error::Away`] if the owner is not
    /// the one that was found, or if it has come back.
    pub(super) async fn begin_scan(
        &mut self,
        local: Local,
        found: Option<&State>,
        reason: ScanReason,
    ) -> Result<Position, Error> {
        let at = Position::scanning(local.newest);
        let names = self.settings.provenance_table.clone();
        let adopts = reason != ScanReason::Owner;
        let limit = if adopts { ADOPTION } else { self.settings.client_timeout() };
        let transaction = self.client.transaction().await?;
        let work = async {
            if adopts {
                // Runs once, and can touch many rows.
                transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
            }
            // First in the transaction, because the row's lock excludes other writers until the
            // commit.
            if take_state(&transaction, local, found, reason).await? != 1 {
                let reason = "the copy was given to another owner, or its owner came back; it is checked again";
                return Err(Error::Away(reason.to_owned()));
            }
            if adopts {
                // Commit numbers of another store have no meaning here.
                for table in Table::ALL {
                    let name = table.name(&names);
                    transaction.execute(&format!("UPDATE {name} SET change = 0 WHERE change <> 0"), &[]).await?;
                }
                transaction.execute("UPDATE replication_rejects SET change = 0 WHERE change <> 0", &[]).await?;
            }
            transaction.commit().await?;
            Ok(at)
        };
        Self::within(limit, work).await
    }

    /// Returns to the beginning of a commit that is partly written. After a crash the list can
    /// contain more rows for that commit than before, so the count of written rows is void. Writing
    /// rows again changes nothing.
    pub(super) async fn restart_commit(&self, store: Uuid, at: &mut Position) -> Result<(), Error> {
        if at.done == 0 {
            return Ok(());
        }
        let sql = "UPDATE replication_state SET done = 0 WHERE store_id = $1 AND commit = $2 AND done = $3";
        let done = i64::try_from(at.done).unwrap_or(i64::MAX);
        let update = async { Ok(self.client.execute(sql, &[&store, &signed(at.commit.0), &done]).await?) };
        if Self::within(self.settings.client_timeout(), update).await? != 1 {
            return Err(position_conflict());
        }
        at.done = 0;
        Ok(())
    }
}

/// Writes the state of a new scan if the row is still the one that was found. Returns the number of
/// changed rows, 0 or 1.
async fn take_state(
    client: &impl GenericClient,
    local: Local,
    found: Option<&State>,
    reason: ScanReason,
) -> Result<u64, Error> {
    let (commit, phase) = (signed(local.newest.0), Phase::Projects.as_str());
    let Some(found) = found else {
        let sql = "INSERT INTO replication_state \
                   (store_id, epoch, commit, done, scan_table, scan_after, newest_change, log_position) \
                   VALUES ($1, 1, $2, 0, $3, NULL, 0, 0) ON CONFLICT (single) DO NOTHING";
        return Ok(client.execute(sql, &[&local.store, &commit, &phase]).await?);
    };
    let sql = "UPDATE replication_state SET store_id = $1, epoch = epoch + (store_id <> $1)::int, \
               seen_at = NULL, owner_address = NULL, commit = $2, done = 0, scan_table = $3, scan_after = NULL, \
               written_at = now() WHERE store_id = $4 AND epoch = $5 \
               AND ($6 OR seen_at IS NULL OR seen_at < now() - make_interval(secs => $7::int))";
    let also_from_living = match reason {
        ScanReason::Owner | ScanReason::Adoption => true,
        ScanReason::Heir { takes_over } => takes_over,
    };
    let alive = i32::try_from(ALIVE_SECONDS).unwrap_or(i32::MAX);
    let values: [&(dyn ToSql + Sync); 7] =
        [&local.store, &commit, &phase, &found.store, &found.epoch, &also_from_living, &alive];
    Ok(client.execute(sql, &values).await?)
}

fn position_conflict() -> Error {
    Error::Away("another process has advanced the copy's position; it is read again".to_owned())
}

/// Advances the position if it is still `from`. Called first in a transaction, because the row's
/// lock serializes writers.
pub(super) async fn advance(
    client: &impl GenericClient,
    store: Uuid,
    from: &Position,
    to: &Position,
    (newest, log_position): (CommitNumber, Seq),
) -> Result<(), Error> {
    let phase = |position: &Position| position.scan.as_ref().map(|(phase, _)| phase.as_str());
    let after = |position: &Position| position.scan.as_ref().and_then(|(_, after)| after.clone());
    let done = |position: &Position| i64::try_from(position.done).unwrap_or(i64::MAX);
    let moved = client
        .execute(
            "UPDATE replication_state SET commit = $1, done = $2, scan_table = $3, scan_after = $4, \
             newest_change = greatest(newest_change, $5), log_position = greatest(log_position, $6), \
             written_at = now() WHERE store_id = $7 AND commit = $8 AND done = $9 \
             AND scan_table IS NOT DISTINCT FROM $10 AND scan_after IS NOT DISTINCT FROM $11",
            &[
                &signed(to.commit.0),
                &done(to),
                &phase(to),
                &after(to),
                &signed(newest.0),
                &signed(log_position.0),
                &store,
                &signed(from.commit.0),
                &done(from),
                &phase(from),
                &after(from),
            ],
        )
        .await?;
    if moved == 1 {
        return Ok(());
    }
    Err(position_conflict())
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(store: Uuid, commit: u64) -> State {
        State {
            store,
            epoch: 1,
            at: Position { commit: CommitNumber(commit), done: 0, scan: None },
            newest_change: CommitNumber(commit),
            log_position: Seq(1),
            written_at: Timestamp::from_micros(0),
            owner_address: None,
            seen: None,
        }
    }

    #[test]
    fn only_its_own_copy_is_written() {
        let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let local = Local { store: ours, newest: CommitNumber(10), listed_from: CommitNumber(5) };
        let of = |state: Option<State>, adopt| begin(state.as_ref(), local, adopt);
        assert_eq!(of(None, false).unwrap(), Begin::Adopt);
        assert_eq!(of(Some(state(ours, 7)), false).unwrap(), Begin::At(state(ours, 7).at));
        assert_eq!(of(Some(state(ours, 4)), false).unwrap(), Begin::Scan);
        assert!(matches!(of(Some(state(theirs, 7)), false), Err(Error::Foreign(_))));
        assert_eq!(of(Some(state(theirs, 7)), true).unwrap(), Begin::Adopt);
        assert!(matches!(of(Some(state(ours, 11)), false), Err(Error::Foreign(_))));
    }
}
