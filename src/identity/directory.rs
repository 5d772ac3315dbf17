//! A data directory that is opened and locked, and what it remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lockstep_storage::lock::{DirectoryLock, LockError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ClusterId, DirectoryId, IdentityError};
use crate::checked_file::{self, CheckedFileError};

pub(super) const IDENTITY: &str = "identity.json";
pub(super) const LOCK: &str = "lock";
pub(super) const PEERS: &str = "peers.json";
pub(super) const SHARDS: &str = "shards.json";
pub(super) const JOINED: &str = "joined.json";
const BROKERS: &str = "brokers.json";
const LOGS: &str = "shards";

/// The format of a data directory, as this broker makes it.
pub(super) const VERSION: u32 = 1;

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
    pub(super) directory: DirectoryId,
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
pub(super) struct Peers {
    directories: BTreeMap<u64, DirectoryId>,
}

/// The brokers there were when this one last wrote that down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Brokers {
    brokers: Vec<Acquaintance>,
}

/// The shards whose files are here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shards {
    shards: BTreeSet<u64>,
    /// Those whose files are being deleted.
    dropping: BTreeSet<u64>,
}

/// An opened and locked data directory.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    joined: Option<Joined>,
    peers: Mutex<Peers>,
    shards: Mutex<Shards>,
    brokers: Mutex<Brokers>,
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
        let brokers = Mutex::new(remembered(path));
        make_room(path)?;
        Ok(DataDirectory { path: path.to_owned(), identity, joined, peers, shards, brokers, lock })
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

    /// The brokers of the cluster, as this one knew them when it last followed the metadata; none before that.
    pub fn brokers(&self) -> Vec<Acquaintance> {
        hold(&self.brokers).brokers.clone()
    }

    /// Remembers durably which brokers the cluster has.
    ///
    /// # Errors
    /// The list could not be written for sure: here it is unchanged then, on the disk it may be either.
    pub fn record_brokers(&self, brokers: Vec<Acquaintance>) -> Result<(), IdentityError> {
        let mut known = hold(&self.brokers);
        if known.brokers != brokers {
            let next = Brokers { brokers };
            self.write(BROKERS, &next)?;
            *known = next;
        }
        Ok(())
    }

    /// The shards whose files were created here and not removed since.
    pub fn shards(&self) -> BTreeSet<u64> {
        hold(&self.shards).shards.clone()
    }

    /// Whether a shard is one of them.
    pub fn has_shard(&self, shard: u64) -> bool {
        hold(&self.shards).shards.contains(&shard)
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

pub(super) fn write<T: Serialize>(path: &Path, name: &str, content: &T) -> Result<(), IdentityError> {
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

pub(super) fn lock(path: &Path) -> Result<DirectoryLock, IdentityError> {
    DirectoryLock::acquire(path).map_err(|error| match error {
        LockError::Held { directory } => IdentityError::Locked { path: directory },
        LockError::Io { directory, error } => IdentityError::from_io(&directory, error),
    })
}

/// What is remembered of the brokers. Nothing hangs on it but whom to ask: a file that cannot be read is as good as none.
fn remembered(path: &Path) -> Brokers {
    let problem = match checked_file::read(path, BROKERS) {
        Ok(known) => return known.unwrap_or_default(),
        Err(CheckedFileError::Io(error)) => error.to_string(),
        Err(CheckedFileError::Damaged(problem)) => problem,
    };
    tracing::warn!(file = BROKERS, problem, "what it said of the other brokers is forgotten");
    Brokers::default()
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
    use crate::identity::format;

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
    fn brokers_are_remembered_and_a_damaged_memory_is_none() {
        let root = used();
        let other = Acquaintance {
            id: 4,
            directory: Some(DirectoryId([1; 16])),
            native: "a:1".into(),
            peer: "a:2".into(),
            http: "a:3".into(),
            rack: None,
        };
        let directory = DataDirectory::open(root.path(), None, 1).unwrap();
        assert_eq!(directory.brokers(), []);
        directory.record_brokers(vec![other.clone()]).unwrap();
        drop(directory);
        assert_eq!(DataDirectory::open(root.path(), None, 1).unwrap().brokers(), [other]);
        std::fs::write(root.path().join(BROKERS), "{").unwrap();
        assert_eq!(DataDirectory::open(root.path(), None, 1).unwrap().brokers(), []);
    }
}
