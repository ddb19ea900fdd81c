//! Commands on the data directory of a stopped service.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::settings::{MIB, engine_settings, to_usize};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine;
use crate::replica;
use crate::store::{self, Store};
use crate::task::Now;

/// Name of the store's file, which every data directory has.
const STORE: &str = "dats.redb";

/// Counts of a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneReport {
    /// Finished tasks that were removed.
    pub tasks: u64,
    /// Content files without a record that were removed.
    pub contents: u64,
}

impl fmt::Display for PruneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} finished tasks removed", self.tasks)?;
        match self.contents {
            0 => Ok(()),
            contents => write!(f, ", {contents} contents without a record"),
        }
    }
}

/// Removes tasks that ended longer ago than `older_than`, or than the configured retention.
pub fn prune(config: &Config, older_than: Option<Duration>) -> anyhow::Result<PruneReport> {
    let Some(age) = older_than.or(config.engine.retention) else {
        anyhow::bail!("engine.retention_days is 0, which keeps finished tasks for ever: give an age with --older-than");
    };
    require_store(config)?;
    let store = Store::open(&config.engine.data_dir, to_usize(config.engine.store_cache_bytes))?;
    let now = current_time(&store)?;
    let tasks = engine::prune(&store, engine_settings(config), now.before(age), now)?;
    let contents = store.sweep_contents()?;
    Ok(PruneReport { tasks, contents })
}

/// Returns the time as the service would see it now. Fails if the last commit of the store is
/// in the future.
fn current_time(store: &Store) -> Result<Now, store::Error> {
    let clock = Clock::new();
    store.check_clock(clock.wall())?;
    clock.resume(store.view()?.clocks()?.last);
    Ok(clock.now())
}

/// Checks every page of the store and every content file against its checksum, and compares
/// the copy in the configured database with the store. With `repair`, corrects the copy.
/// Returns `None` without a database.
pub async fn verify(config: &Config, repair: bool) -> anyhow::Result<Option<replica::Report>> {
    require_store(config)?;
    let (dir, cache) = (&config.engine.data_dir, to_usize(config.engine.store_cache_bytes));
    Store::verify(dir, cache)?;
    let Some(settings) = config.storage.replica(false) else { return Ok(None) };
    let store = Store::open(dir, cache)?;
    let recovered = store.recover()?;
    let report = replica::verify(&store, &recovered.graph, settings, repair).await?;
    store.checkpoint()?;
    Ok(Some(report))
}

/// Counts of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupReport {
    /// Bytes of the store and of the content files.
    pub bytes: u64,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, every page and content checked", self.bytes.div_ceil(MIB))
    }
}

/// Copies the data directory to the new directory `to`, and checks every page and content of the
/// copy against its checksum.
pub fn backup(config: &Config, to: &Path) -> anyhow::Result<BackupReport> {
    require_store(config)?;
    let (dir, cache_bytes) = (&config.engine.data_dir, to_usize(config.engine.store_cache_bytes));
    let unfinished = Unfinished::new(to)?;
    if unfinished.path.canonicalize()?.starts_with(dir.canonicalize()?) {
        anyhow::bail!("{} is inside the data directory {}: choose another directory", to.display(), dir.display());
    }
    let store = Store::open(dir, cache_bytes)?;
    let bytes = store.copy_to(&unfinished.path)?;
    drop(store);
    Store::verify(&unfinished.path, cache_bytes).context("the copy is damaged and was removed")?;
    unfinished.finish()?;
    Ok(BackupReport { bytes })
}

/// Creates a data directory from a backup, which is not changed.
pub fn restore_backup(config: &Config, from: &Path) -> anyhow::Result<RestoreReport> {
    if !from.join(STORE).exists() {
        anyhow::bail!("there is no store in {}: give the directory of a backup", from.display());
    }
    let cache_bytes = to_usize(config.engine.store_cache_bytes);
    let unfinished = Unfinished::new(&config.engine.data_dir)?;
    Store::copy_files(from, &unfinished.path)?;
    let clock = Clock::new();
    let checked = complete(&unfinished.path, cache_bytes, &clock);
    checked.with_context(|| format!("the backup in {} can't be restored", from.display()))?;
    let now = clock.now();
    let store = Store::open_as_another(&unfinished.path, cache_bytes, now)?;
    let begun = engine::begin_again(&store, engine_settings(config), now)?;
    drop(store);
    unfinished.finish()?;
    Ok(RestoreReport { restored: None, begun })
}

/// Applies the journal of a copied store, and checks every page and content against its
/// checksum. The clock continues from the last commit of the store.
fn complete(copy: &Path, cache_bytes: usize, clock: &Clock) -> Result<(), store::Error> {
    // The store may have an earlier format, and a journal to apply.
    let store = Store::open(copy, cache_bytes)?;
    clock.resume(store.view()?.clocks()?.last);
    store.checkpoint()?;
    drop(store);
    Store::verify(copy, cache_bytes)
}

/// Reads the state of the copy in the configured database, before a restore. Changes nothing.
pub async fn look_at_copy(config: &Config) -> anyhow::Result<replica::Restore> {
    let Some(settings) = config.storage.replica(false) else {
        anyhow::bail!("storage.database_url is not set: set it to the database of the copy");
    };
    Ok(replica::Restore::look(settings).await?)
}

/// Creates a data directory from the copy. The directory takes the copy over at its first start;
/// until then nothing changes in the database.
pub async fn restore(config: &Config, copy: replica::Restore, incomplete: bool) -> anyhow::Result<RestoreReport> {
    let unfinished = Unfinished::new(&config.engine.data_dir)?;
    let store = Store::open(&unfinished.path, to_usize(config.engine.store_cache_bytes))?;
    let now = Clock::new().now();
    let (restored, claim) = copy.load(&store, incomplete, now).await?;
    let begun = engine::begin_again(&store, engine_settings(config), now)?;
    drop(store);
    claim.save(&unfinished.path).context("failed to store the origin of the restored directory")?;
    unfinished.finish()?;
    Ok(RestoreReport { restored: Some(restored), begun })
}

/// A data directory that gets its name once it is complete, so that a service can't start on an
/// incomplete store. Removed when dropped before that.
struct Unfinished<'a> {
    path: PathBuf,
    name: &'a Path,
}

impl<'a> Unfinished<'a> {
    fn new(name: &'a Path) -> anyhow::Result<Self> {
        if fs::read_dir(name).is_ok_and(|mut entries| entries.next().is_some()) {
            anyhow::bail!("{} is not empty: choose a new directory", name.display());
        }
        let Some(last) = name.file_name() else {
            anyhow::bail!("{} has no name: choose a new directory", name.display());
        };
        let path = name.with_file_name([last, ".unfinished".as_ref()].into_iter().collect::<OsString>());
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Self { path, name })
    }

    fn finish(self) -> anyhow::Result<()> {
        let name = self.name.display();
        if self.name.exists() {
            fs::remove_dir(self.name).with_context(|| format!("failed to replace {name}"))?;
        }
        fs::rename(&self.path, self.name)
            .with_context(|| format!("failed to move {} to {name}", self.path.display()))?;
        // The new name survives a power failure once its directory is synced.
        let parent = self.name.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        let synced = fs::File::open(parent).and_then(|parent| parent.sync_all());
        synced.with_context(|| format!("failed to sync {}", parent.display()))
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // A finished directory has another name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The result of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreReport {
    /// Counts of the copy; `None` if the source was a backup.
    pub restored: Option<replica::Restored>,
    /// Counts of the tasks that continue.
    pub begun: engine::Begun,
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine::Begun { open, attempts, .. } = self.begun;
        if let Some(restored) = &self.restored {
            write!(f, "{restored}; ")?;
        }
        write!(f, "{open} tasks continue, {attempts} of them with a new attempt")
    }
}

/// Fails if the data directory has no store, for commands that must not create one.
pub fn require_store(config: &Config) -> anyhow::Result<()> {
    if !config.engine.data_dir.join(STORE).exists() {
        anyhow::bail!("there is no store in {}: give its directory with --data-dir", config.engine.data_dir.display());
    }
    Ok(())
}
