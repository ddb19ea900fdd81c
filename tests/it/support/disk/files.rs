//! The disk as the store sees it.

use std::fs::{File, TryLockError};
use std::io::{self, Seek, Write as _};
use std::path::{Path, PathBuf};

use dats::store::{FileLock, FileSystem};
use redb::StorageBackend;

use super::image::{Directory, Image, Number};
use super::{Disk, Node, State, names};

impl Disk {
    /// Does something that counts as one operation. One that the disk dies in
    /// may still have its effect, which nobody has synced.
    fn operate<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        let dies = state.count()?;
        let result = work(&mut state)?;
        State::finish(dies)?;
        Ok(result)
    }

    fn sync(&self, work: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        let dies = state.count()?;
        if state.syncs(dies) {
            work(&mut state)?;
        }
        State::finish(dies)
    }

    fn sync_number(&self, number: Number) -> io::Result<()> {
        let panics = self.state().panics;
        if panics {
            self.state().dead = true;
            panic!("a panic for a test");
        }
        self.sync(|state| {
            state.file(number)?.sync();
            Ok(())
        })
    }

    fn storage(&self, number: Number) -> Box<dyn StorageBackend> {
        Box::new(Backend { disk: self.clone(), number })
    }
}

fn length(image: &Image) -> u64 {
    u64::try_from(image.current.len()).expect("a length fits")
}

impl FileSystem for Disk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut made = PathBuf::from("/");
        for name in names(path) {
            made.push(name);
            if !self.exists(&made) {
                self.operate(|state| state.make(&made, Node::Directory(Directory::default())))?;
            }
        }
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.operate(|state| Ok(state.directory(directory)?.current.keys().map(|name| directory.join(name)).collect()))
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().find(path).is_ok()
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.state().directory(path).is_ok()
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.state();
        let number = state.find(path)?;
        state.file(number).map(|image| length(image))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.sync(|state| {
            state.directory(path)?.sync();
            Ok(())
        })
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let number = self.state().find(path)?;
        self.sync_number(number)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = self.operate(|state| state.create(path))?;
        self.operate(|state| {
            let image = state.file(number)?;
            image.set_length(bytes.len());
            image.write(0, bytes);
            Ok(())
        })
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64> {
        let number = self.state().find(from)?;
        let bytes = self.state().file(number)?.current.clone();
        self.write(to, &bytes)?;
        Ok(u64::try_from(bytes.len()).expect("a length fits"))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "a rename stays in its directory");
        self.operate(|state| {
            state.find(from)?;
            let name = names(to).last().expect("a name").to_owned();
            let (directory, from) = state.parent(from)?;
            directory.rename(from, &name);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(|state| {
            state.find(path)?;
            let (directory, name) = state.parent(path)?;
            directory.remove(name);
            Ok(())
        })
    }

    /// A file of the system with the same bytes.
    fn open(&self, path: &Path) -> io::Result<File> {
        let bytes = self.operate(|state| {
            let number = state.find(path)?;
            Ok(state.file(number)?.current.clone())
        })?;
        let mut file = tempfile::tempfile()?;
        file.write_all(&bytes)?;
        file.rewind()?;
        Ok(file)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.operate(|state| {
            let number = state.find(path)?;
            Ok(state.file(number)?.current.clone())
        })
    }

    fn open_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let number = self.operate(|state| state.find(path))?;
        Ok(self.storage(number))
    }

    fn create_storage(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let number = self.operate(|state| state.create(path))?;
        Ok(self.storage(number))
    }

    fn drop_cached(&self, _: &Path) {}

    fn lock(&self, _: &Path) -> Result<FileLock, TryLockError> {
        Ok(Box::new(()))
    }
}

/// One of its files.
#[derive(Debug)]
struct Backend {
    disk: Disk,
    number: Number,
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset fits into memory")
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        if state.dead {
            return Err(io::Error::other("the disk is dead"));
        }
        state.file(self.number).map(|image| length(image))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = place(offset);
        self.disk.operate(|state| {
            let bytes = state.file(self.number)?.current.get(at..at + out.len());
            out.copy_from_slice(bytes.ok_or_else(|| io::Error::other("beyond the end"))?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.operate(|state| {
            state.file(self.number)?.set_length(place(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_number(self.number)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = place(offset);
        self.disk.operate(|state| {
            let image = state.file(self.number)?;
            if image.current.len() < at + data.len() {
                return Err(io::Error::other("beyond the end"));
            }
            image.write(at, data);
            Ok(())
        })
    }
}
