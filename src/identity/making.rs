//! Making a data directory out of a blank one: of a cluster's first brokers, and of one that joins.

use std::path::{Path, PathBuf};

use lockstep_storage::lock::DirectoryLock;

use super::directory::{
    Acquaintance, IDENTITY, Identity, JOINED, Joined, LOCK, PEERS, Peers, SHARDS, Shards, VERSION, lock,
    write,
};
use super::{ClusterId, DirectoryId, IdentityError};
use crate::checked_file::{self, CheckedFileError};

/// Makes a data directory of `node` in `cluster` out of a missing or empty one.
///
/// # Errors
/// The directory is not empty, or cannot be written.
pub fn format(path: &Path, cluster: ClusterId, node: u64) -> Result<Identity, IdentityError> {
    make_blank(path)?;
    let directory = DirectoryId::random().map_err(|source| IdentityError::from_io(path, source))?;
    let identity = Identity { version: VERSION, cluster, node, directory, joined: false };
    lay_out(path, &identity)?;
    Ok(identity)
}

/// A blank directory that is about to join a cluster. It has its id, durably: whoever asks again, after a crash too, asks
/// for the same one.
#[derive(Debug)]
pub struct Newborn {
    path: PathBuf,
    directory: DirectoryId,
    _lock: DirectoryLock,
}

impl Newborn {
    /// Gives a missing or empty directory its id, or finds the one it got in an attempt that did not finish.
    ///
    /// # Errors
    /// The directory is not empty, in use, or cannot be written.
    pub fn prepare(path: &Path) -> Result<Newborn, IdentityError> {
        make_blank(path)?;
        let lock = lock(path)?;
        let directory = match checked_file::read::<Joined>(path, JOINED) {
            Ok(Some(begun)) => begun.directory,
            // What is not whole was not sent to anybody.
            Ok(None) | Err(CheckedFileError::Damaged(_)) => {
                let directory =
                    DirectoryId::random().map_err(|source| IdentityError::from_io(path, source))?;
                write(path, JOINED, &Joined { directory, founders: Vec::new(), brokers: Vec::new() })?;
                sync_parent(path)?;
                directory
            }
            Err(CheckedFileError::Io(source)) => {
                return Err(IdentityError::from_io(&path.join(JOINED), source));
            }
        };
        Ok(Newborn { path: path.to_owned(), directory, _lock: lock })
    }

    /// Its id.
    pub fn directory(&self) -> DirectoryId {
        self.directory
    }

    /// Makes it the data directory of the node that it has become.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn become_node(
        self,
        cluster: ClusterId,
        node: u64,
        founders: Vec<u64>,
        brokers: Vec<Acquaintance>,
    ) -> Result<Identity, IdentityError> {
        let directory = self.directory;
        write(&self.path, JOINED, &Joined { directory, founders, brokers })?;
        let identity = Identity { version: VERSION, cluster, node, directory, joined: true };
        lay_out(&self.path, &identity)?;
        Ok(identity)
    }
}

/// Whether there is nothing at `path` yet that could be a data directory: missing, empty, or left by a format that did not
/// finish.
pub fn is_blank(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(mut entries) => {
            entries.all(|entry| entry.is_ok_and(|entry| is_scrap(&entry.file_name().to_string_lossy())))
        }
    }
}

fn make_blank(path: &Path) -> Result<(), IdentityError> {
    let io = |source| IdentityError::from_io(path, source);
    std::fs::create_dir_all(path).map_err(io)?;
    for entry in std::fs::read_dir(path).map_err(io)? {
        let found = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        if !is_scrap(&found) {
            return Err(IdentityError::NotEmpty { path: path.to_owned(), found });
        }
    }
    Ok(())
}

/// The identity comes last: a crash in between leaves a directory that is formatted again.
fn lay_out(path: &Path, identity: &Identity) -> Result<(), IdentityError> {
    write(path, SHARDS, &Shards::default())?;
    write(path, PEERS, &Peers::default())?;
    write(path, IDENTITY, identity)?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<(), IdentityError> {
    let io = |source| IdentityError::from_io(path, source);
    match path.canonicalize().map_err(io)?.parent() {
        Some(parent) => checked_file::sync_directory(parent).map_err(io),
        None => Ok(()),
    }
}

/// Whether a file of this name is no data yet: a format that did not finish leaves all but the identity, and whoever
/// locks before formatting leaves the lock.
fn is_scrap(name: &str) -> bool {
    [LOCK, SHARDS, PEERS, JOINED].contains(&name)
        || name.strip_suffix(".new").is_some_and(|name| name != LOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DataDirectory;

    fn cluster() -> ClusterId {
        ClusterId([7; 16])
    }

    #[test]
    fn a_directory_is_formatted_once() {
        let root = tempfile::tempdir().unwrap();
        format(root.path(), cluster(), 1).unwrap();
        let again = format(root.path(), cluster(), 1).unwrap_err();
        assert!(matches!(again, IdentityError::NotEmpty { .. }));
        assert!(!is_blank(root.path()));
    }

    #[test]
    fn a_directory_with_anything_in_it_is_not_formatted() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("letters.txt"), "dear").unwrap();
        assert!(!is_blank(root.path()));
        let refused = format(root.path(), cluster(), 1).unwrap_err();
        assert!(refused.to_string().contains("letters.txt"));
    }

    #[test]
    fn a_directory_that_joins_keeps_its_id_through_attempts_that_fail() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let first = Newborn::prepare(&path).unwrap();
        let id = first.directory();
        let second = Newborn::prepare(&path).unwrap_err();
        assert!(matches!(second, IdentityError::Locked { .. }), "two processes would join as one");
        drop(first);
        assert!(is_blank(&path));
        let again = Newborn::prepare(&path).unwrap();
        assert_eq!(again.directory(), id);
        let other = Acquaintance {
            id: 1,
            directory: Some(DirectoryId([1; 16])),
            native: "a:1".into(),
            peer: "a:2".into(),
            http: "a:3".into(),
            rack: None,
        };
        let identity = again.become_node(cluster(), 4, vec![1, 2, 3], vec![other.clone()]).unwrap();
        assert_eq!((identity.node, identity.directory), (4, id));
        let opened = DataDirectory::open(&path, None, 0).unwrap();
        let joined = opened.joined().unwrap();
        assert_eq!((&joined.founders[..], &joined.brokers[..]), (&[1, 2, 3][..], &[other][..]));
        drop(opened);
        std::fs::remove_file(path.join(JOINED)).unwrap();
        let lost = DataDirectory::open(&path, None, 4).unwrap_err();
        assert!(matches!(lost, IdentityError::Missing { file: JOINED, .. }));
    }

    #[test]
    fn a_format_that_was_cut_off_is_done_again() {
        let root = tempfile::tempdir().unwrap();
        format(root.path(), cluster(), 1).unwrap();
        std::fs::rename(root.path().join(IDENTITY), root.path().join(format!("{IDENTITY}.new"))).unwrap();
        assert!(is_blank(root.path()));
        format(root.path(), cluster(), 1).unwrap();
        DataDirectory::open(root.path(), None, 1).unwrap();
    }
}
