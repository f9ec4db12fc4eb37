//! Real files on a disk that fails where a test says so: the one home for faults in these tests.

use super::disk::{RealDisk, Stamp, Storage, Stored};
use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

/// What a test has ordered, and what has happened so far.
#[derive(Debug, Default)]
struct Orders {
    /// Syncs of files whose name has this in it fail, so many times.
    failing_syncs: (String, usize),
    /// Writes fail after so many bytes, so many times.
    failing_writes: Option<(usize, usize)>,
    /// Syncs wait while this is set.
    is_held: bool,
    syncs: usize,
}

/// The disk. Its clones share their orders.
#[derive(Debug, Clone, Default)]
pub(super) struct FaultyDisk(Arc<(Mutex<Orders>, Condvar)>);

impl FaultyDisk {
    fn with<T>(&self, change: impl FnOnce(&mut Orders) -> T) -> T {
        let result = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        result
    }

    pub(super) fn fail_syncs(&self, name: &str, times: usize) {
        self.with(|orders| orders.failing_syncs = (name.to_owned(), times));
    }

    pub(super) fn fail_writes_after(&self, bytes: usize, times: usize) {
        self.with(|orders| orders.failing_writes = Some((bytes, times)));
    }

    pub(super) fn mend(&self) {
        self.with(|orders| *orders = Orders { syncs: orders.syncs, ..Orders::default() });
    }

    pub(super) fn hold_syncs(&self, is_held: bool) {
        self.with(|orders| orders.is_held = is_held);
    }

    pub(super) fn syncs(&self) -> usize {
        self.with(|orders| orders.syncs)
    }

    /// Waits until a sync has begun since there were `before` of them.
    pub(super) fn wait_for_a_sync_after(&self, before: usize) {
        let orders = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(orders, |orders| orders.syncs == before).unwrap());
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut orders = self.0.0.lock().unwrap();
        orders.syncs += 1;
        self.0.1.notify_all();
        orders = self.0.1.wait_while(orders, |orders| orders.is_held).unwrap();
        if orders.failing_syncs.1 > 0 && name.contains(&orders.failing_syncs.0) {
            orders.failing_syncs.1 -= 1;
            return Err(io::Error::other("the disk failed"));
        }
        Ok(())
    }

    fn file(&self, path: &Path, file: Box<dyn Stored>) -> Box<dyn Stored> {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Box::new(FaultyFile { disk: self.clone(), name, file })
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    name: String,
    file: Box<dyn Stored>,
}

impl Storage for FaultyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        RealDisk.read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Stored>> {
        RealDisk.create(path).map(|file| self.file(path, file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn open(&self, path: &Path) -> io::Result<Option<Box<dyn Stored>>> {
        Ok(RealDisk.open(path)?.map(|file| self.file(path, file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync("directory")?;
        RealDisk.sync_dir(dir)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        RealDisk.stamp(path)
    }
}

impl Stored for FaultyFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let failing = self.disk.with(|orders| {
            let (after, times) = orders.failing_writes?;
            orders.failing_writes = (times > 1).then_some((after, times - 1));
            Some(after)
        });
        match failing {
            Some(after) => {
                self.file.write_at(&bytes[..after.min(bytes.len())], offset)?;
                Err(io::ErrorKind::StorageFull.into())
            }
            None => self.file.write_at(bytes, offset),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync(&self.name)?;
        self.file.sync()
    }

    fn stamp(&self) -> io::Result<Stamp> {
        self.file.stamp()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }
}
