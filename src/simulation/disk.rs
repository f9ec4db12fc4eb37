//! A disk in memory that tells what was written from what is durable, and fails or loses its power where it is told to.
//!
//! Its rules: a write is durable once its file has been synced after it, a create, a rename or a removal once its folder
//! has. Of what is not durable, any part may be left after a crash; a rename happens or does not. A sync of a file that
//! fails takes what was written for clean, as a page cache does: it can be read until a crash, and no later sync makes it
//! durable, unless it was written once more.

mod left;

use crate::ledger::{Stamp, Storage, Stored};
use std::{
    collections::{BTreeMap, HashSet},
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

pub(super) use left::Image;

type Names = BTreeMap<PathBuf, usize>;

/// The disk. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct SimDisk(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    folders: HashSet<PathBuf>,
    files: Vec<Node>,
    names: Names,
    durable_names: Names,
    /// Changes of names since the folder was last synced.
    moves: Vec<Move>,
    locked: HashSet<usize>,
    /// Changes so far, each of which can be the last one before a crash.
    operations: usize,
    syncs: usize,
    crash_after: Option<usize>,
    faults: Vec<Fault>,
    write_max_bytes: Option<usize>,
    fails_reads: bool,
    ticks: i64,
}

#[derive(Debug, Default)]
struct Node {
    visible: Vec<u8>,
    synced: Vec<u8>,
    /// Which bytes the next sync makes durable.
    dirty: Vec<bool>,
    modified: i64,
}

#[derive(Debug, Clone)]
struct Move {
    /// The name that the file had before, if it had one.
    from: Option<PathBuf>,
    name: PathBuf,
    /// The file that has the name then; `None` if it was removed.
    file: Option<usize>,
}

/// A change that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Which one, counted from 1.
    pub(super) at: usize,
    /// What the system says. A full disk fails what needs room; another error, everything.
    pub(super) error: io::ErrorKind,
    /// Whether the changes after it fail too, until the disk is mended.
    pub(super) is_lasting: bool,
}

/// The power went.
struct Crash;

/// Does something until it is done or the disk crashes.
pub(super) fn until_crash<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(crash) if crash.is::<Crash>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// Ends everything, here and now.
pub(super) fn crash() -> ! {
    resume_unwind(Box::new(Crash))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Create,
    Write,
    Sync,
    Name,
}

impl Fault {
    fn hits(self, change: Change, operation: usize) -> bool {
        let needs_room = matches!(change, Change::Create | Change::Write | Change::Sync);
        let is_hit = self.error != io::ErrorKind::StorageFull || needs_room || !self.is_lasting;
        is_hit && (operation == self.at || self.is_lasting && operation > self.at)
    }
}

impl World {
    /// Gives a file a name, or takes it away, for those who look before the folder is synced.
    fn name(&mut self, from: Option<&Path>, name: &Path, file: Option<usize>) {
        let change = Move { from: from.map(Path::to_owned), name: name.to_owned(), file };
        change.apply(&mut self.names);
        self.moves.push(change);
    }
}

impl Move {
    fn apply(&self, names: &mut Names) {
        if let Some(from) = self.from.as_ref().filter(|from| names.get(*from).copied() == self.file) {
            names.remove(from);
        }
        match self.file {
            Some(file) => names.insert(self.name.clone(), file),
            None => names.remove(&self.name),
        };
    }
}

impl SimDisk {
    /// A disk that holds just this, durably.
    pub(super) fn of(image: &Image) -> Self {
        let disk = Self::default();
        for (name, bytes) in image {
            disk.put(name, bytes);
        }
        disk
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Somebody else puts a whole new file in the place of whatever had the name, durably.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.world();
        world.folders.extend(path.parent().map(Path::to_owned));
        world.ticks += 1;
        let modified = world.ticks;
        let (visible, synced, dirty) = (bytes.to_vec(), bytes.to_vec(), vec![false; bytes.len()]);
        world.files.push(Node { visible, synced, dirty, modified });
        let file = world.files.len() - 1;
        world.names.insert(path.to_owned(), file);
        world.durable_names.insert(path.to_owned(), file);
    }

    /// Somebody else changes a file where it stands, durably.
    pub(super) fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        world.ticks += 1;
        let (file, modified) = (world.names[path], world.ticks);
        let node = &mut world.files[file];
        change(&mut node.visible);
        node.synced.clone_from(&node.visible);
        node.dirty = vec![false; node.visible.len()];
        node.modified = modified;
    }

    /// Somebody else removes a file, durably.
    pub(super) fn take_away(&self, path: &Path) {
        let mut world = self.world();
        world.names.remove(path);
        world.durable_names.remove(path);
        world.moves.retain(|change| change.name != path);
    }

    /// Somebody else removes a folder and all that is in it, durably.
    pub(super) fn take_away_folder(&self, folder: &Path) {
        for name in self.seen().keys().filter(|name| name.starts_with(folder)) {
            self.take_away(name);
        }
        self.world().folders.remove(folder);
    }

    /// What a reader sees.
    pub(super) fn text(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        world.names.get(path).map(|file| world.files[*file].visible.clone())
    }

    /// How many changes there have been.
    pub(super) fn operations(&self) -> usize {
        self.world().operations
    }

    /// How many syncs there have been, of files and folders.
    pub(super) fn syncs(&self) -> usize {
        self.world().syncs
    }

    /// Loses power right after so many changes.
    pub(super) fn crash_after(&self, operations: usize) {
        self.world().crash_after = Some(operations);
    }

    /// Fails.
    pub(super) fn fail(&self, fault: Fault) {
        self.world().faults.push(fault);
    }

    /// Fails the `nth` change from now on, or that and all after it.
    pub(super) fn fail_next(&self, nth: usize, error: io::ErrorKind, is_lasting: bool) {
        let at = self.operations() + nth;
        self.fail(Fault { at, error, is_lasting });
    }

    /// Takes no more than so many bytes in one write.
    pub(super) fn write_at_most(&self, bytes: usize) {
        self.world().write_max_bytes = Some(bytes);
    }

    /// Whether reads fail.
    pub(super) fn fail_reads(&self, fails: bool) {
        self.world().fails_reads = fails;
    }

    pub(super) fn is_failing(&self) -> bool {
        !self.world().faults.is_empty()
    }

    /// Works again. What a failed sync left in doubt stays so.
    pub(super) fn mend(&self) {
        self.world().faults.clear();
    }

    /// Makes a change, unless it is to fail, and crashes if it is the last one.
    fn change<T>(
        &self,
        change: Change,
        apply: impl FnOnce(&mut World) -> T,
        fail: impl FnOnce(&mut World),
    ) -> io::Result<T> {
        let mut world = self.world();
        world.operations += 1;
        world.ticks += 1;
        let operation = world.operations;
        let error = world.faults.iter().find(|fault| fault.hits(change, operation)).map(|fault| fault.error);
        let result = match error {
            Some(error) => {
                fail(&mut world);
                Err(error.into())
            }
            None => Ok(apply(&mut world)),
        };
        let is_last = world.crash_after == Some(operation);
        drop(world);
        if is_last {
            crash();
        }
        result
    }

    fn file(&self, file: usize) -> Box<dyn Stored> {
        Box::new(SimFile { disk: self.clone(), file, has_lock: Mutex::new(false) })
    }
}

impl Storage for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.world().folders.insert(dir.to_owned());
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        if self.world().fails_reads {
            return Err(io::Error::other("the disk cannot be read"));
        }
        Ok(self.text(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Stored>> {
        let create = |world: &mut World| {
            if world.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if path.parent().is_none_or(|folder| !world.folders.contains(folder)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            world.files.push(Node { modified: world.ticks, ..Node::default() });
            let file = world.files.len() - 1;
            world.name(None, path, Some(file));
            Ok(file)
        };
        self.change(Change::Create, create, |_| ())?.map(|file| self.file(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.world().names.contains_key(path) {
            return Ok(());
        }
        self.change(Change::Name, |world| world.name(None, path, None), |_| ())
    }

    fn open(&self, path: &Path) -> io::Result<Option<Box<dyn Stored>>> {
        let file = self.world().names.get(path).copied();
        Ok(file.map(|file| self.file(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = |world: &mut World| {
            let file = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            world.name(Some(from), to, Some(file));
            Ok(())
        };
        self.change(Change::Name, rename, |_| ())?
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let sync = |world: &mut World| {
            world.syncs += 1;
            for change in std::mem::take(&mut world.moves) {
                change.apply(&mut world.durable_names);
            }
        };
        self.change(Change::Sync, sync, |_| ())
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        let world = self.world();
        Ok(world.names.get(path).map(|file| stamp(&world, *file)))
    }
}

fn stamp(world: &World, file: usize) -> Stamp {
    let node = &world.files[file];
    Stamp { file: (0, file as u64), len: node.visible.len() as u64, modified: (node.modified, 0) }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: usize,
    has_lock: Mutex<bool>,
}

impl SimFile {
    fn put(&self, world: &mut World, bytes: &[u8], at: usize) {
        let modified = world.ticks;
        let node = &mut world.files[self.file];
        let end = at + bytes.len();
        if node.visible.len() < end {
            node.visible.resize(end, 0);
            node.dirty.resize(end, true);
        }
        node.visible[at..end].copy_from_slice(bytes);
        node.dirty[at..end].fill(true);
        node.modified = modified;
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.has_lock.lock().unwrap() {
            self.disk.world().locked.remove(&self.file);
        }
    }
}

impl Stored for SimFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).unwrap();
        let taken = &bytes[..bytes.len().min(self.disk.world().write_max_bytes.unwrap_or(usize::MAX))];
        let write = |world: &mut World| {
            self.put(world, taken, at);
            taken.len()
        };
        self.disk.change(Change::Write, write, |world| self.put(world, &taken[..taken.len() / 2], at))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.disk.world();
        if world.fails_reads {
            return Err(io::Error::other("the disk cannot be read"));
        }
        let bytes = world.files[self.file].visible.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let read = bytes.len().min(buffer.len());
        buffer[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }

    fn sync(&mut self) -> io::Result<()> {
        let sync = |world: &mut World| {
            world.syncs += 1;
            let Node { visible, synced, dirty, .. } = &mut world.files[self.file];
            synced.resize(visible.len(), 0);
            for (at, is_dirty) in dirty.iter_mut().enumerate().filter(|(_, is_dirty)| **is_dirty) {
                synced[at] = visible[at];
                *is_dirty = false;
            }
        };
        self.disk.change(Change::Sync, sync, |world| world.files[self.file].dirty.fill(false))
    }

    fn stamp(&self) -> io::Result<Stamp> {
        Ok(stamp(&self.disk.world(), self.file))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let is_free = self.disk.world().locked.insert(self.file);
        *self.has_lock.lock().unwrap() |= is_free;
        Ok(is_free)
    }

    fn lock(&self) -> io::Result<()> {
        Err(io::Error::other("nobody waits for a lock in a simulation"))
    }
}
