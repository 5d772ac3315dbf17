//! Which files readers keep open.
//!
//! Invariant: at most as many as was said, however many logs share this and however many segments they have; the one
//! that was not read for longest is closed first. A file is known by the nonce of its use, so one that was recycled is
//! another.

use crate::frame::Nonce;
use crate::io::DiskFile;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The files that were read last, of the logs that share this.
pub struct ReadFiles {
    files_max: usize,
    /// The one read last comes last.
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    shard: u64,
    nonce: Nonce,
    file: Arc<dyn DiskFile>,
}

impl ReadFiles {
    /// Keeps at most `files_max` files open.
    pub fn new(files_max: usize) -> Arc<Self> {
        Arc::new(Self { files_max, kept: Mutex::default() })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.kept().len()
    }

    /// The open file of this use.
    pub(crate) fn get(&self, nonce: Nonce) -> Option<Arc<dyn DiskFile>> {
        let mut kept = self.kept();
        let at = kept.iter().rposition(|kept| kept.nonce == nonce)?;
        let found = kept.remove(at)?;
        let file = Arc::clone(&found.file);
        kept.push_back(found);
        Some(file)
    }

    pub(crate) fn keep(&self, shard: u64, nonce: Nonce, file: Arc<dyn DiskFile>) {
        let mut kept = self.kept();
        kept.retain(|kept| kept.nonce != nonce);
        kept.push_back(Kept { shard, nonce, file });
        while kept.len() > self.files_max {
            kept.pop_front();
        }
    }

    /// Closes those of a shard, which may be about to be removed.
    pub(crate) fn forget(&self, shard: u64) {
        self.kept().retain(|kept| kept.shard != shard);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Disk, FakeDisk, OpenMode};

    #[test]
    fn the_file_not_read_for_longest_is_closed_first() {
        let disk = FakeDisk::new();
        let file = disk.open("file", OpenMode::CreateNew).unwrap();
        let files = ReadFiles::new(2);
        for use_of_it in [1, 2] {
            files.keep(7, [use_of_it; 16], Arc::clone(&file));
        }
        assert!(files.get([1; 16]).is_some());
        files.keep(8, [3; 16], file);
        assert_eq!(files.open(), 2);
        assert!(files.get([2; 16]).is_none() && files.get([1; 16]).is_some() && files.get([3; 16]).is_some());
        files.forget(7);
        assert!(files.get([1; 16]).is_none() && files.get([3; 16]).is_some());
    }
}
