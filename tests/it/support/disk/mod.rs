//! A disk that can lose power. The bytes of a file reach the durable image with
//! a sync of that file alone; its name, another name or the removal of one with
//! a sync of the directory. The disk dies at a given operation; of what was not
//! synced some is there then, torn at sectors, and some is not, as a real disk
//! may do. A variant acknowledges syncs that it does not make.

mod files;
mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dats::store::{FileSystem, Store};

use self::image::{Directory, Image, Number};
use super::random::Random;

/// Where the store is on it.
const DATA: &str = "/srv/data";
const ROOT: Number = 0;

/// A handle to a disk; clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    journal_bytes: u64,
}

#[derive(Debug)]
struct State {
    nodes: BTreeMap<Number, Node>,
    /// The number of the next file or directory.
    next: Number,
    random: Random,
    operations: u64,
    dies_at: Option<u64>,
    dead: bool,
    /// How many syncs out of a hundred are not made.
    lies: u64,
    /// The next sync of a file panics, as the database may over a damaged one.
    panics: bool,
}

#[derive(Debug)]
enum Node {
    File(Image),
    Directory(Directory),
}

impl Disk {
    /// An empty disk. A small journal makes many checkpoints.
    pub(crate) fn new(seed: u64, journal_bytes: u64) -> Self {
        Self::lying(seed, journal_bytes, 0)
    }

    /// An empty disk that leaves out so many of a hundred syncs.
    pub(crate) fn lying(seed: u64, journal_bytes: u64, percent: u64) -> Self {
        let nodes = [(ROOT, Node::Directory(Directory::default()))].into();
        Self::with_nodes(nodes, Random::new(seed), percent, journal_bytes)
    }

    fn with_nodes(nodes: BTreeMap<Number, Node>, random: Random, lies: u64, journal_bytes: u64) -> Self {
        let next = nodes.keys().last().copied().unwrap_or(ROOT) + 1;
        let state = State { nodes, next, random, operations: 0, dies_at: None, dead: false, lies, panics: false };
        Self { state: Arc::new(Mutex::new(state)), journal_bytes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the store on it, or makes one.
    pub(crate) fn open_store(&self, cache_bytes: usize) -> Result<Store, dats::store::Error> {
        let files: Arc<dyn FileSystem> = Arc::new(self.clone());
        Store::open_on(&files, Path::new(DATA), self.journal_bytes, cache_bytes)
    }

    /// Copies a data directory to it, durably.
    pub(crate) fn load(&self, from: &Path) {
        self.load_into(from, Path::new(DATA)).unwrap();
    }

    fn load_into(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.create_directory(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let copy = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.load_into(&entry.path(), &copy)?;
            } else {
                self.write(&copy, &std::fs::read(entry.path())?)?;
                self.sync_file(&copy)?;
            }
        }
        to.ancestors().try_for_each(|directory| self.sync_directory(directory))
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// From now on the operation after so many others fails, and all after it.
    pub(crate) fn die_after(&self, operations: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + operations);
    }

    /// Every operation fails from now on.
    pub(crate) fn die(&self) {
        self.state().dead = true;
    }

    /// The next sync of a file panics, and every operation after it fails.
    pub(crate) fn panic_next(&self) {
        self.state().panics = true;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The disk after a power cut. The old handle is dead.
    pub(crate) fn crash(&self) -> Self {
        let mut state = self.state();
        state.dead = true;
        let mut random = state.random.fork();
        // Nearly nothing, about half, nearly everything, or all of it.
        let percent = *random.pick(&[3, 50, 97, 100]);
        // A disk that lies keeps to the order: what it leaves is whole and
        // too old, so that only who knows what was acknowledged can tell.
        let percent = if state.lies > 0 { 0 } else { percent };
        let nodes = std::mem::take(&mut state.nodes);
        let mut left: BTreeMap<Number, Node> = nodes
            .into_iter()
            .map(|(number, node)| match node {
                Node::File(image) => (number, Node::File(image.crash(percent, &mut random))),
                Node::Directory(names) => (number, Node::Directory(names.crash(percent, &mut random))),
            })
            .collect();
        let named = reachable(&left);
        left.retain(|number, _| named.contains(number));
        Self::with_nodes(left, random.fork(), state.lies, self.journal_bytes)
    }
}

/// Everything that has a name, and stands in a directory that has one.
fn reachable(nodes: &BTreeMap<Number, Node>) -> BTreeSet<Number> {
    let (mut named, mut open) = (BTreeSet::from([ROOT]), vec![ROOT]);
    while let Some(number) = open.pop() {
        if let Some(Node::Directory(names)) = nodes.get(&number) {
            open.extend(names.current.values().filter(|number| named.insert(**number)));
        }
    }
    named
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_str().expect("a name in UTF-8")),
        _ => None,
    })
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    /// Counts an operation; whether it is the one that the disk dies in.
    fn count(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("the disk is dead"));
        }
        let dies = self.dies_at == Some(self.operations);
        self.operations += 1;
        self.dead = dies;
        Ok(dies)
    }

    fn finish(dies: bool) -> io::Result<()> {
        if dies { Err(io::Error::other("the disk dies")) } else { Ok(()) }
    }

    /// Whether a sync is made.
    fn syncs(&mut self, dies: bool) -> bool {
        let leaves_out = self.lies > 0 && self.random.chance(self.lies);
        !dies && !leaves_out
    }

    fn find(&self, path: &Path) -> io::Result<Number> {
        names(path).try_fold(ROOT, |number, name| match self.nodes.get(&number) {
            Some(Node::Directory(names)) => names.current.get(name).copied().ok_or_else(not_found),
            _ => Err(not_found()),
        })
    }

    fn file(&mut self, number: Number) -> io::Result<&mut Image> {
        match self.nodes.get_mut(&number) {
            Some(Node::File(image)) => Ok(image),
            _ => Err(not_found()),
        }
    }

    fn directory(&mut self, path: &Path) -> io::Result<&mut Directory> {
        let number = self.find(path)?;
        match self.nodes.get_mut(&number) {
            Some(Node::Directory(names)) => Ok(names),
            _ => Err(not_found()),
        }
    }

    /// The directory that a path is in, and its name there.
    fn parent<'a>(&mut self, path: &'a Path) -> io::Result<(&mut Directory, &'a str)> {
        let name = names(path).last().ok_or_else(not_found)?;
        Ok((self.directory(path.parent().unwrap_or(path))?, name))
    }

    /// An empty file, in place of one that has the path.
    fn create(&mut self, path: &Path) -> io::Result<Number> {
        if let Ok(number) = self.find(path) {
            self.file(number)?.set_length(0);
            return Ok(number);
        }
        self.make(path, Node::File(Image::default()))
    }

    fn make(&mut self, path: &Path, node: Node) -> io::Result<Number> {
        let number = self.next;
        let (names, name) = self.parent(path)?;
        names.put(name, number);
        self.nodes.insert(number, node);
        self.next += 1;
        Ok(number)
    }
}
