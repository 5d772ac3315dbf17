//! Segment files waiting for a next life.
//!
//! Invariants: a file in the pool belongs to no log; one rename moves it in or out, so it never has two owners.
//! Its old bytes do no harm: frames are checksummed with their segment's nonce. The pool holds a bounded number
//! of files. Syncing into a file that was written before is 20 to 50 times faster than growing one when many
//! shards sync side by side; one merely preallocated is slower than either.

use crate::io::{Disk, OpenMode, parent};
use bytes::Bytes;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The pool's directory, at the root of the data directory.
pub const POOL_DIRECTORY: &str = "recycle";

/// Zeros written and synced at a time while a file is prepared, in bytes: a log's sync waits for no more than this much of
/// them. Written whole and synced once, a file of 64 MiB held up the syncs of all logs on the disk for 100 to 200 ms.
const PREPARE_CHUNK_BYTES: usize = 256 << 10;

/// A file is recycled if its length differs from a segment's by at most the segment's length over this.
const LENGTH_TOLERANCE: u64 = 8;

/// The recycled and prepared files of one data directory, shared by its logs.
pub struct SegmentPool {
    disk: Arc<dyn Disk>,
    files_max: usize,
    reserve_bytes: u64,
    files: Mutex<Files>,
}

struct Files {
    free: Vec<String>,
    next_name: u64,
}

impl SegmentPool {
    /// Opens the pool, creating its directory, and keeps at most `files_max` files; half-prepared ones are removed.
    /// Nothing is prepared that would leave less than `reserve_bytes` free on the disk.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn open(disk: Arc<dyn Disk>, files_max: usize, reserve_bytes: u64) -> io::Result<Self> {
        if !disk.exists(POOL_DIRECTORY)? {
            disk.create_dir(POOL_DIRECTORY)?;
            disk.sync_dir("")?;
        }
        let mut files = Files { free: Vec::new(), next_name: 0 };
        for name in disk.list(POOL_DIRECTORY)? {
            let path = format!("{POOL_DIRECTORY}/{name}");
            let Some(number) = name.strip_suffix(".free").and_then(|number| number.parse::<u64>().ok())
            else {
                disk.remove_file(&path)?;
                continue;
            };
            files.next_name = files.next_name.max(number + 1);
            if files.free.len() < files_max { files.free.push(path) } else { disk.remove_file(&path)? }
        }
        disk.sync_dir(POOL_DIRECTORY)?;
        Ok(Self { disk, files_max, reserve_bytes, files: Mutex::new(files) })
    }

    /// Writes one more file of zeros, `segment_bytes` long, unless the pool is full. Blocking: call it off the
    /// shard's turn. Returns the bytes written, which are not write amplification of any record.
    ///
    /// # Errors
    /// `StorageFull` where it would reach into the reserve, else whatever the disk says; the pool is as before.
    pub fn prepare(&self, segment_bytes: u64) -> io::Result<u64> {
        if self.files().free.len() >= self.files_max {
            return Ok(0);
        }
        if self.disk.free_bytes()? < self.reserve_bytes.saturating_add(segment_bytes) {
            let message =
                "a prepared segment would reach into the reserve of free space; free space, or trim topics";
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        let path = self.new_path();
        let unfinished = format!("{path}.new");
        let prepared = self.write_zeros(&unfinished, segment_bytes).and_then(|written| {
            self.disk.rename(&unfinished, &path)?;
            self.disk.sync_dir(POOL_DIRECTORY)?;
            Ok(written)
        });
        match prepared {
            Ok(_) => self.files().free.push(path),
            // Only one of the two is there; what cannot be removed now is removed at the next start.
            Err(_) => [unfinished, path].iter().for_each(|left| drop(self.disk.remove_file(left))),
        }
        prepared
    }

    fn write_zeros(&self, path: &str, segment_bytes: u64) -> io::Result<u64> {
        let file = self.disk.open(path, OpenMode::CreateNew)?;
        let zeros = Bytes::from(vec![0; PREPARE_CHUNK_BYTES]);
        let mut written = 0;
        while written < segment_bytes {
            let length = (segment_bytes - written).min(PREPARE_CHUNK_BYTES as u64);
            file.write_vectored_at(&[zeros.slice(..length as usize)], written)?;
            file.sync_data()?;
            written += length;
        }
        file.sync_all()?;
        Ok(written)
    }

    /// How many files are ready.
    pub fn available(&self) -> usize {
        self.files().free.len()
    }

    /// Moves a ready file to `path`, if there is one; the caller syncs both directories.
    pub(crate) fn take(&self, path: &str) -> io::Result<bool> {
        let Some(free) = self.files().free.pop() else { return Ok(false) };
        self.disk.rename(&free, path)?;
        Ok(true)
    }

    /// Takes over the file at `path`, or removes it when the pool is full or its length is not about
    /// `segment_bytes`: a short one would grow in its next life, and a long one holds space that nobody counts. A
    /// sealed segment is rarely of exactly that length. Its directory is synced then.
    pub(crate) fn give(&self, path: &str, segment_bytes: u64) -> io::Result<()> {
        let length = self.disk.open(path, OpenMode::Read)?.len()?;
        let fits = length.abs_diff(segment_bytes) <= segment_bytes / LENGTH_TOLERANCE;
        if !fits || self.files().free.len() >= self.files_max {
            self.disk.remove_file(path)?;
            return self.disk.sync_dir(parent(path));
        }
        let free = self.new_path();
        self.disk.rename(path, &free)?;
        self.disk.sync_dir(parent(path))?;
        self.disk.sync_dir(POOL_DIRECTORY)?;
        self.files().free.push(free);
        Ok(())
    }

    fn new_path(&self) -> String {
        let mut files = self.files();
        files.next_name += 1;
        format!("{POOL_DIRECTORY}/{:020}.free", files.next_name - 1)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::FakeDisk;
    use crate::io::fake::Fault;

    #[test]
    fn a_preparation_that_fails_at_any_step_leaves_nothing_behind() {
        let counted = |fault: Option<u64>| {
            let disk = FakeDisk::new();
            let pool = SegmentPool::open(disk.clone(), 4, 0).unwrap();
            let before = disk.counters().operations;
            if let Some(operation) = fault {
                disk.plant(before + operation, Fault::Error(io::ErrorKind::StorageFull));
            }
            assert_eq!(pool.prepare(8192).is_err(), fault.is_some());
            let files = usize::from(fault.is_none());
            assert_eq!(disk.list(POOL_DIRECTORY).unwrap().len(), files, "fault at {fault:?}");
            assert_eq!(pool.available(), files);
            disk.counters().operations - before
        };
        (1..=counted(None)).for_each(|operation| {
            counted(Some(operation));
        });
    }

    #[test]
    fn only_files_of_about_a_segment_are_recycled() {
        let disk = FakeDisk::new();
        let pool = SegmentPool::open(disk.clone(), 4, 0).unwrap();
        let lengths: [(u64, usize); 6] = [(0, 0), (6999, 0), (7000, 1), (8000, 2), (9000, 3), (9001, 3)];
        for (length, available) in lengths {
            disk.open("old", OpenMode::CreateNew).unwrap().set_len(length).unwrap();
            pool.give("old", 8000).unwrap();
            assert_eq!(pool.available(), available, "after one of {length}");
            assert!(!disk.exists("old").unwrap());
        }
    }

    #[test]
    fn nothing_is_prepared_out_of_the_reserve() {
        let disk = FakeDisk::new();
        let pool = SegmentPool::open(disk.clone(), 4, 10_000).unwrap();
        disk.set_capacity(10_000 + 2 * 8192 - 1);
        assert_eq!(pool.prepare(8192).unwrap(), 8192);
        assert_eq!(pool.prepare(8192).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((pool.available(), disk.free_bytes().unwrap()), (1, 10_000 + 8191));
    }
}
