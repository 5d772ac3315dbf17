//! One broker per data directory.
//!
//! Invariant: the lock is the operating system's (`flock`) and dies with the process; the file says nothing.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Holds a data directory until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Why a directory cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{} is in use by another broker: stop that one, or choose another data directory", directory.display())]
    Held {
        /// The directory.
        directory: PathBuf,
    },
    /// The lock file cannot be opened or locked.
    #[error("locking {}: {error}; the directory must exist and be writable", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

impl DirectoryLock {
    /// Takes the lock of an existing directory, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let failed = |error| LockError::Io { directory: directory.to_owned(), error };
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true);
        let file = options.open(directory.join("lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { directory: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(directory.path()).unwrap();
        assert!(matches!(DirectoryLock::acquire(directory.path()), Err(LockError::Held { .. })));
        drop(first);
        DirectoryLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_missing_directory_is_said_to_be_missing() {
        let error = DirectoryLock::acquire(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("must exist"), "{error}");
    }
}
