//! Making, opening and locking a data directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lockstep_storage::lock::{DirectoryLock, LockError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ClusterId, DirectoryId, IdentityError};
use crate::checked_file::{self, CheckedFileError};

const IDENTITY: &str = "identity.json";
const LOCK: &str = "lock";
const PEERS: &str = "peers.json";
const SHARDS: &str = "shards.json";
const JOINED: &str = "joined.json";
const LOGS: &str = "shards";

/// The format of a data directory, as this broker makes it.
const VERSION: u32 = 1;

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The format of the directory.
    pub version: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: u64,
    /// The directory itself.
    pub directory: DirectoryId,
    /// Whether the node joined a cluster that was there already.
    pub joined: bool,
}

/// What a node was told when it joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The directory it joined with; known before anybody was asked.
    directory: DirectoryId,
    /// The voters that each copy of the metadata log begins with.
    pub founders: Vec<u64>,
    /// The brokers there were, itself included.
    pub brokers: Vec<Acquaintance>,
}

/// A broker, and how it was reached at the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquaintance {
    /// Its id.
    pub id: u64,
    /// Its data directory, if it was known.
    pub directory: Option<DirectoryId>,
    /// Where clients reached it, as `host:port`.
    pub native: String,
    /// Where other brokers reached it.
    pub peer: String,
    /// Where its admin API was.
    pub http: String,
    /// What failed together with it.
    pub rack: Option<String>,
}

/// The directories of the nodes seen so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Peers {
    directories: BTreeMap<u64, DirectoryId>,
}

/// The shards whose files are here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shards {
    shards: BTreeSet<u64>,
    /// Those whose files are being deleted.
    dropping: BTreeSet<u64>,
}

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

/// An opened and locked data directory.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    joined: Option<Joined>,
    peers: Mutex<Peers>,
    shards: Mutex<Shards>,
    /// Nothing once the directory was let go.
    lock: Mutex<Option<DirectoryLock>>,
}

impl DataDirectory {
    /// Opens and locks the directory of `node` (0: of whichever it belongs to), which must belong to `cluster` if one is
    /// given.
    ///
    /// # Errors
    /// The directory is missing, unformatted, foreign, damaged, read-only or in use.
    pub fn open(path: &Path, cluster: Option<ClusterId>, node: u64) -> Result<DataDirectory, IdentityError> {
        let identity: Identity = read(path, IDENTITY)?;
        if identity.version != VERSION {
            let path = path.join(IDENTITY);
            return Err(IdentityError::Version { path, found: identity.version, known: VERSION });
        }
        if node != 0 && identity.node != node {
            let path = path.to_owned();
            return Err(IdentityError::ForeignNode { path, found: identity.node, expected: node });
        }
        if let Some(expected) = cluster.filter(|expected| *expected != identity.cluster) {
            let path = path.to_owned();
            return Err(IdentityError::ForeignCluster { path, found: identity.cluster, expected });
        }
        let lock = Mutex::new(Some(lock(path)?));
        let joined = if identity.joined { Some(read(path, JOINED)?) } else { None };
        let peers = Mutex::new(read(path, PEERS)?);
        let shards = Mutex::new(read(path, SHARDS)?);
        make_room(path)?;
        Ok(DataDirectory { path: path.to_owned(), identity, joined, peers, shards, lock })
    }

    /// Whether there is nothing at `path` yet that could be a data directory: missing, empty, or left by a
    /// format that did not finish.
    pub fn is_blank(path: &Path) -> bool {
        match std::fs::read_dir(path) {
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            Ok(mut entries) => {
                entries.all(|entry| entry.is_ok_and(|entry| is_scrap(&entry.file_name().to_string_lossy())))
            }
        }
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who it belongs to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the node was told when it joined the cluster; nothing if the cluster began with it.
    pub fn joined(&self) -> Option<&Joined> {
        self.joined.as_ref()
    }

    /// Lets the directory go: whoever opens it next finds it free, even while something of this broker still winds down.
    /// Nothing is written to it from here on.
    pub fn release(&self) {
        drop(hold(&self.lock).take());
    }

    fn write<T: Serialize>(&self, name: &str, content: &T) -> Result<(), IdentityError> {
        let held = hold(&self.lock);
        match *held {
            Some(_) => write(&self.path, name, content),
            None => Err(IdentityError::Released { path: self.path.clone() }),
        }
    }

    /// Checks a peer's directory id against the one it was first seen with; the first is remembered durably.
    ///
    /// # Errors
    /// The peer is known with another directory, or the new id could not be written down.
    pub fn check_peer(&self, node: u64, directory: DirectoryId) -> Result<(), IdentityError> {
        let mut peers = hold(&self.peers);
        match peers.directories.get(&node) {
            Some(known) if *known == directory => Ok(()),
            Some(known) => Err(IdentityError::ForeignDirectory { node, found: directory, known: *known }),
            None => {
                let mut next = peers.clone();
                next.directories.insert(node, directory);
                self.write(PEERS, &next)?;
                *peers = next;
                Ok(())
            }
        }
    }

    /// The shards whose files were created here and not removed since.
    pub fn shards(&self) -> BTreeSet<u64> {
        hold(&self.shards).shards.clone()
    }

    /// The shards whose files were about to be deleted: they are no logs any more.
    pub fn dropping(&self) -> BTreeSet<u64> {
        hold(&self.shards).dropping.clone()
    }

    /// Remembers durably that the files of a shard are about to be deleted, until [`DataDirectory::record_shards`] removes it.
    ///
    /// # Errors
    /// The list could not be written for sure: here it is unchanged then, on the disk it may be either.
    pub fn record_dropping(&self, shard: u64) -> Result<(), IdentityError> {
        let mut shards = hold(&self.shards);
        let mut next = shards.clone();
        next.dropping.insert(shard);
        self.write(SHARDS, &next)?;
        *shards = next;
        Ok(())
    }

    /// Remembers durably which shards have files here: `added` do now, `removed` no longer.
    ///
    /// # Errors
    /// The list could not be written for sure: here it is unchanged then, on the disk it may be either.
    pub fn record_shards(&self, added: &[u64], removed: &[u64]) -> Result<(), IdentityError> {
        let mut shards = hold(&self.shards);
        let mut next = shards.clone();
        next.shards.extend(added);
        for shard in removed {
            next.shards.remove(shard);
            next.dropping.remove(shard);
        }
        if next != *shards {
            self.write(SHARDS, &next)?;
            *shards = next;
        }
        Ok(())
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write<T: Serialize>(path: &Path, name: &str, content: &T) -> Result<(), IdentityError> {
    checked_file::write(path, name, content)
        .map_err(|source| IdentityError::from_io(&path.join(name), source))
}

fn read<T: DeserializeOwned>(path: &Path, file: &'static str) -> Result<T, IdentityError> {
    match checked_file::read(path, file) {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(IdentityError::Missing { path: path.to_owned(), file }),
        Err(CheckedFileError::Io(source)) => Err(IdentityError::from_io(&path.join(file), source)),
        Err(CheckedFileError::Damaged(problem)) => {
            Err(IdentityError::Damaged { path: path.join(file), problem })
        }
    }
}

fn lock(path: &Path) -> Result<DirectoryLock, IdentityError> {
    DirectoryLock::acquire(path).map_err(|error| match error {
        LockError::Held { directory } => IdentityError::Locked { path: directory },
        LockError::Io { directory, error } => IdentityError::from_io(&directory, error),
    })
}

/// The place for the shards' logs. That it is missing says nothing: which shards were here stands elsewhere.
fn make_room(path: &Path) -> Result<(), IdentityError> {
    let shards = path.join(LOGS);
    if shards.is_dir() {
        return Ok(());
    }
    let make = std::fs::create_dir(&shards).and_then(|()| checked_file::sync_directory(path));
    make.map_err(|source| IdentityError::from_io(&shards, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterId {
        ClusterId([7; 16])
    }

    #[test]
    fn a_formatted_directory_opens_for_its_own_node_and_cluster_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let identity = format(&path, cluster(), 2).unwrap();
        let opened = DataDirectory::open(&path, Some(cluster()), 2).unwrap();
        assert_eq!(*opened.identity(), identity);
        drop(opened);
        let foreign = DataDirectory::open(&path, None, 3).unwrap_err();
        assert!(matches!(foreign, IdentityError::ForeignNode { found: 2, expected: 3, .. }));
        let foreign = DataDirectory::open(&path, Some(ClusterId([8; 16])), 2).unwrap_err();
        assert!(matches!(foreign, IdentityError::ForeignCluster { .. }));
    }

    #[test]
    fn a_directory_is_formatted_once() {
        let root = tempfile::tempdir().unwrap();
        format(root.path(), cluster(), 1).unwrap();
        let again = format(root.path(), cluster(), 1).unwrap_err();
        assert!(matches!(again, IdentityError::NotEmpty { .. }));
        assert!(!DataDirectory::is_blank(root.path()));
    }

    #[test]
    fn a_directory_with_anything_in_it_is_not_formatted() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("letters.txt"), "dear").unwrap();
        assert!(!DataDirectory::is_blank(root.path()));
        let refused = format(root.path(), cluster(), 1).unwrap_err();
        assert!(refused.to_string().contains("letters.txt"));
    }

    #[test]
    fn a_second_broker_on_a_directory_is_refused_while_the_first_holds_it() {
        let root = tempfile::tempdir().unwrap();
        format(root.path(), cluster(), 1).unwrap();
        let first = DataDirectory::open(root.path(), None, 1).unwrap();
        let second = DataDirectory::open(root.path(), None, 1).unwrap_err();
        assert!(matches!(second, IdentityError::Locked { .. }));
        drop(first);
        DataDirectory::open(root.path(), None, 1).unwrap();
    }

    #[test]
    fn a_directory_that_was_let_go_is_free_at_once_and_written_by_its_next_holder_alone() {
        let root = tempfile::tempdir().unwrap();
        format(root.path(), cluster(), 1).unwrap();
        let first = DataDirectory::open(root.path(), None, 1).unwrap();
        first.release();
        let second = DataDirectory::open(root.path(), None, 1).unwrap();
        assert!(matches!(first.record_shards(&[7], &[]), Err(IdentityError::Released { .. })));
        assert!(first.shards().is_empty());
        second.record_shards(&[8], &[]).unwrap();
        drop(second);
        assert_eq!(DataDirectory::open(root.path(), None, 1).unwrap().shards(), BTreeSet::from([8]));
    }

    #[test]
    fn a_missing_directory_is_named_and_not_made() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("gone");
        let refused = DataDirectory::open(&path, None, 1).unwrap_err();
        assert!(matches!(refused, IdentityError::Missing { .. }));
        assert!(!path.exists());
    }

    #[test]
    fn a_peer_with_another_directory_is_refused_even_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        format(root.path(), cluster(), 1).unwrap();
        let (first, other) = (DirectoryId([1; 16]), DirectoryId([2; 16]));
        let directory = DataDirectory::open(root.path(), None, 1).unwrap();
        directory.check_peer(2, first).unwrap();
        drop(directory);
        let directory = DataDirectory::open(root.path(), None, 1).unwrap();
        directory.check_peer(2, first).unwrap();
        let refused = directory.check_peer(2, other).unwrap_err();
        assert!(matches!(refused, IdentityError::ForeignDirectory { node: 2, .. }));
    }

    #[test]
    fn shards_that_were_here_are_remembered() {
        let root = tempfile::tempdir().unwrap();
        format(root.path(), cluster(), 1).unwrap();
        let directory = DataDirectory::open(root.path(), None, 1).unwrap();
        directory.record_shards(&[0, 1, 2], &[]).unwrap();
        directory.record_shards(&[], &[1]).unwrap();
        drop(directory);
        let directory = DataDirectory::open(root.path(), None, 1).unwrap();
        assert_eq!(directory.shards(), BTreeSet::from([0, 2]));
    }

    /// A directory that has seen a peer and holds a shard: every file has something in it.
    fn used() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        format(root.path(), cluster(), 1).unwrap();
        let directory = DataDirectory::open(root.path(), None, 1).unwrap();
        directory.check_peer(2, DirectoryId([5; 16])).unwrap();
        directory.record_shards(&[0, 1], &[]).unwrap();
        root
    }

    #[test]
    fn a_lost_file_is_a_fault_not_an_empty_one() {
        for lost in [IDENTITY, PEERS, SHARDS] {
            let root = used();
            std::fs::remove_file(root.path().join(lost)).unwrap();
            let refused = DataDirectory::open(root.path(), None, 1).unwrap_err();
            assert!(matches!(refused, IdentityError::Missing { file, .. } if file == lost), "{refused}");
        }
    }

    #[test]
    fn one_changed_bit_in_any_file_is_found_and_the_file_is_named() {
        for file in [IDENTITY, PEERS, SHARDS] {
            let root = used();
            let path = root.path().join(file);
            let whole = std::fs::read(&path).unwrap();
            for bit in 0..whole.len() * 8 {
                let mut bent = whole.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, &bent).unwrap();
                let refused = DataDirectory::open(root.path(), None, 1).unwrap_err();
                assert!(matches!(&refused, IdentityError::Damaged { path: named, .. } if *named == path));
                assert!(refused.to_string().contains("restore it"), "{refused}");
            }
            std::fs::write(&path, &whole).unwrap();
            DataDirectory::open(root.path(), None, 1).unwrap();
        }
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
        assert!(DataDirectory::is_blank(&path));
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
        assert!(DataDirectory::is_blank(root.path()));
        format(root.path(), cluster(), 1).unwrap();
        DataDirectory::open(root.path(), None, 1).unwrap();
    }
}
