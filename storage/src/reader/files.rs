//! Which files readers keep open.
//!
//! Invariant: at most as many as was said, however many logs share this and however many segments they have; the one
//! that was not read for longest is closed first. A file is known by its place and the nonce of its use: one that was
//! recycled is another, and two that claim one nonce, as damage may make them, are two.

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
    key: FileKey,
    file: Arc<dyn DiskFile>,
}

/// One use of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileKey {
    pub(crate) shard: u64,
    /// Of the segment.
    pub(crate) number: u64,
    pub(crate) nonce: Nonce,
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
    pub(crate) fn get(&self, key: FileKey) -> Option<Arc<dyn DiskFile>> {
        let mut kept = self.kept();
        let at = kept.iter().rposition(|kept| kept.key == key)?;
        let found = kept.remove(at)?;
        let file = Arc::clone(&found.file);
        kept.push_back(found);
        Some(file)
    }

    pub(crate) fn keep(&self, key: FileKey, file: Arc<dyn DiskFile>) {
        let mut kept = self.kept();
        kept.retain(|kept| kept.key != key);
        kept.push_back(Kept { key, file });
        while kept.len() > self.files_max {
            kept.pop_front();
        }
    }

    /// Closes those of a shard, which may be about to be removed.
    pub(crate) fn forget(&self, shard: u64) {
        self.kept().retain(|kept| kept.key.shard != shard);
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
        let key = |shard, nonce| FileKey { shard, number: 1, nonce: [nonce; 16] };
        for nonce in [1, 2] {
            files.keep(key(7, nonce), Arc::clone(&file));
        }
        assert!(files.get(key(7, 1)).is_some());
        files.keep(key(8, 3), file);
        assert_eq!(files.open(), 2);
        assert!(files.get(key(7, 2)).is_none());
        assert!(files.get(key(7, 1)).is_some() && files.get(key(8, 3)).is_some());
        files.forget(7);
        assert!(files.get(key(7, 1)).is_none() && files.get(key(8, 3)).is_some());
    }

    #[test]
    fn two_segments_that_claim_one_nonce_are_two_files() {
        let disk = FakeDisk::new();
        let files = ReadFiles::new(2);
        let key = |number| FileKey { shard: 7, number, nonce: [1; 16] };
        files.keep(key(1), disk.open("one", OpenMode::CreateNew).unwrap());
        assert!(files.get(key(2)).is_none(), "the other one is not read instead");
    }
}
