//! The disk as storage sees it, and the contract every implementation keeps.
//!
//! ```text
//!   write_vectored_at ──► volatile ──sync_data/sync_all──► durable      (contents)
//!   create, rename, remove ──► volatile ──sync_dir──────► durable      (names)
//! ```
//!
//! 1. What was written is read back at once, durable or not.
//! 2. A crash keeps all that is durable, and of the volatile any part: sectors of 512 bytes in any order.
//! 3. A name is durable only after [`Disk::sync_dir`] of its directory; its contents only after a sync of the file.
//! 4. A rename happens whole or not at all, and replaces what stood under the new name.
//! 5. After a sync failed nothing is known of what it covered, and a later success says nothing either: callers
//!    must never retry it.
//!
//! Paths are relative to the root of the data directory, with `/` between names and no `.` or `..`.

pub mod fake;
pub mod real;

#[cfg(test)]
mod conformance;

pub use fake::FakeDisk;
pub use real::RealDisk;

use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
}

/// The files of one data directory. See the module for the contract.
pub trait Disk: Send + Sync + 'static {
    /// Opens or creates a file.
    ///
    /// # Errors
    /// `NotFound` for a missing one, `AlreadyExists` for [`OpenMode::CreateNew`] on one that is there.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Moves a file or directory, replacing a file of the new name.
    ///
    /// # Errors
    /// `NotFound` if there is nothing at `from` or no directory for `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    fn remove_file(&self, path: &str) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Creates one directory; its parent must exist.
    ///
    /// # Errors
    /// `AlreadyExists` if it is there.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound` if it is not there, `DirectoryNotEmpty` if something is in it.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a directory durable. The empty path is the root.
    ///
    /// # Errors
    /// Any; then the state of the names is unknown.
    fn sync_dir(&self, directory: &str) -> io::Result<()>;

    /// Whether a file or directory is there.
    ///
    /// # Errors
    /// Any but `NotFound`.
    fn exists(&self, path: &str) -> io::Result<bool>;

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// Any.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. See the module for the contract.
pub trait DiskFile: Send + Sync {
    /// Writes all of `buffers`, one behind the other, from byte `position` on.
    ///
    /// # Errors
    /// Any; then any part may have been written.
    fn write_vectored_at(&self, buffers: &[Bytes], position: u64) -> io::Result<()>;

    /// Reads `length` bytes from `position`; fewer only at the end of the file.
    ///
    /// # Errors
    /// Any.
    fn read_at(&self, length: usize, position: u64) -> io::Result<Bytes>;

    /// What stands there will be read soon: it may be fetched meanwhile. A hint, which nobody has to follow.
    fn will_read(&self, _length: usize, _position: u64) {}

    /// Makes contents and length durable (`fdatasync`).
    ///
    /// # Errors
    /// Any; never retry, see the contract.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and all attributes durable (`fsync`).
    ///
    /// # Errors
    /// Any; never retry, see the contract.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// Any.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Any.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// Any.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// The directory part of a path; empty for one at the root.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Replaces the file at `path`, or makes it, durably: written whole as `temporary` in the same directory, synced, renamed.
/// What a crash leaves is the old file or the new, and perhaps a `temporary`, which the next attempt removes.
///
/// # Errors
/// Whatever the disk says; either file may stand then.
pub fn replace_file(disk: &dyn Disk, temporary: &str, path: &str, content: Bytes) -> io::Result<()> {
    if disk.exists(temporary)? {
        disk.remove_file(temporary)?;
    }
    let file = disk.open(temporary, OpenMode::CreateNew)?;
    file.write_vectored_at(&[content], 0)?;
    file.sync_all()?;
    disk.rename(temporary, path)?;
    disk.sync_dir(parent(path))
}
