//! Which files readers keep open.
//!
//! Invariant: at most as many as was said, however many logs share this and however many segments they have; the one
//! that was not read for longest is closed first. A log's instance is given what it opened itself and nothing else: files
//! may have been replaced since an earlier one read them, and damage may make two segments claim one nonce.

use crate::frame::Nonce;
use crate::io::DiskFile;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The files that were read last, of the logs that share this.
pub struct ReadFiles {
    files_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Instances of logs so far.
    instances: u64,
    /// The one read last comes last.
    kept: VecDeque<Kept>,
}

struct Kept {
    key: FileKey,
    file: Arc<dyn DiskFile>,
}

/// One use of one file, by one instance of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileKey {
    pub(crate) instance: u64,
    /// Of the segment.
    pub(crate) number: u64,
    pub(crate) nonce: Nonce,
}

impl ReadFiles {
    /// Keeps at most `files_max` files open.
    pub fn new(files_max: usize) -> Arc<Self> {
        Arc::new(Self { files_max, state: Mutex::default() })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.state().kept.len()
    }

    /// What an instance of a log that begins is known by.
    pub(crate) fn begin(&self) -> u64 {
        let mut state = self.state();
        state.instances += 1;
        state.instances
    }

    /// The open file of this use.
    pub(crate) fn get(&self, key: FileKey) -> Option<Arc<dyn DiskFile>> {
        let kept = &mut self.state().kept;
        let at = kept.iter().rposition(|kept| kept.key == key)?;
        let found = kept.remove(at)?;
        let file = Arc::clone(&found.file);
        kept.push_back(found);
        Some(file)
    }

    pub(crate) fn keep(&self, key: FileKey, file: Arc<dyn DiskFile>) {
        let kept = &mut self.state().kept;
        kept.retain(|kept| kept.key != key);
        kept.push_back(Kept { key, file });
        while kept.len() > self.files_max {
            kept.pop_front();
        }
    }

    /// Closes those of an instance, which may be about to be removed.
    pub(crate) fn forget(&self, instance: u64) {
        self.state().kept.retain(|kept| kept.key.instance != instance);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let key = |instance, nonce| FileKey { instance, number: 1, nonce: [nonce; 16] };
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
    fn an_instance_is_not_given_what_an_earlier_one_of_the_same_log_opened() {
        let disk = FakeDisk::new();
        let files = ReadFiles::new(2);
        let key = |instance| FileKey { instance, number: 1, nonce: [1; 16] };
        let (earlier, later) = (files.begin(), files.begin());
        files.keep(key(earlier), disk.open("file", OpenMode::CreateNew).unwrap());
        assert!(files.get(key(later)).is_none() && files.get(key(earlier)).is_some());
        files.forget(later);
        assert_eq!(files.open(), 1, "nor does its end close what is another's");
    }

    #[test]
    fn two_segments_that_claim_one_nonce_are_two_files() {
        let disk = FakeDisk::new();
        let files = ReadFiles::new(2);
        let key = |number| FileKey { instance: 7, number, nonce: [1; 16] };
        files.keep(key(1), disk.open("one", OpenMode::CreateNew).unwrap());
        assert!(files.get(key(2)).is_none(), "the other one is not read instead");
    }
}
