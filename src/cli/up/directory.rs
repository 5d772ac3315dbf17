//! The directory of a local cluster: made and formatted once, opened ever after.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::cluster_file::{CLUSTER_FILE, ClusterFile};
use super::node::LocalNode;
use crate::cli::exit::CliError;
use crate::identity::{self, ClusterId};

/// Held locked while a process runs the cluster.
const LOCK_FILE: &str = "up.lock";
/// Nodes of a new cluster.
const NODES_DEFAULT: u64 = 3;
/// The first port of a new cluster.
const PORT_BASE_DEFAULT: u16 = 7400;

/// An opened cluster, locked for this process.
#[derive(Debug)]
pub(crate) struct ClusterDirectory {
    pub(crate) path: PathBuf,
    pub(crate) file: ClusterFile,
    pub(crate) nodes: Vec<LocalNode>,
    /// Whether this call made it.
    pub(crate) is_new: bool,
    _lock: File,
}

impl ClusterDirectory {
    /// Opens the cluster at `path`, or makes one where there is nothing.
    pub(crate) fn open(path: &Path, count: Option<u64>, port_base: Option<u16>) -> Result<Self, CliError> {
        fs::create_dir_all(path).map_err(|error| unusable(path, &error))?;
        let path = path.canonicalize().map_err(|error| unusable(path, &error))?;
        let lock = lock(&path)?;
        let found = ClusterFile::read(&path).map_err(|error| {
            let file = path.join(CLUSTER_FILE);
            CliError::Failed(format!(
                "{} cannot be used: {error}. Restore it as it last was, or choose another --data",
                file.display()
            ))
        })?;
        let count = node_count(&path, found.as_ref(), count)?;
        let port_base = port_base.or_else(|| found.as_ref()?.port_base()).unwrap_or(PORT_BASE_DEFAULT);
        let nodes = LocalNode::all(&path, count, port_base)?;
        nodes.iter().try_for_each(LocalNode::check_ports)?;
        let mut file = match &found {
            Some(found) => ClusterFile { formed: found.formed, ..ClusterFile::new(found.cluster, &nodes) },
            None => ClusterFile::new(new_cluster_id(&path)?, &nodes),
        };
        let is_new = !file.formed;
        file.pid = Some(std::process::id());
        // Before the first data directory: whoever goes on after a crash must find the cluster's id.
        file.write(&path)?;
        let mut opened = Self { path, file, nodes, is_new, _lock: lock };
        if is_new {
            opened.format()?;
        }
        opened.write_configs()?;
        Ok(opened)
    }

    /// Formats what an earlier, cut off attempt left unformatted.
    fn format(&mut self) -> Result<(), CliError> {
        for node in &self.nodes {
            if identity::is_blank(&node.data()) {
                identity::format(&node.data(), self.file.cluster, node.id)?;
            }
        }
        self.file.formed = true;
        Ok(self.file.write(&self.path)?)
    }

    fn write_configs(&self) -> Result<(), CliError> {
        for node in &self.nodes {
            fs::create_dir_all(node.directory())?;
            fs::write(node.config_file(), node.config(self.file.cluster, &self.nodes).effective())?;
        }
        Ok(())
    }
}

/// How many nodes there are, or are to be.
fn node_count(path: &Path, found: Option<&ClusterFile>, asked: Option<u64>) -> Result<u64, CliError> {
    let Some(found) = found else { return Ok(asked.unwrap_or(NODES_DEFAULT)) };
    let count = found.nodes.len() as u64;
    let (wanted, path) = (asked.unwrap_or(count), path.display());
    if wanted == count {
        return Ok(count);
    }
    let way = match found.nodes.first() {
        Some(first) if wanted > count => format!(
            "let a broker join it while it runs: lockstep serve --data DIR --join {} --port-base PORT",
            first.native
        ),
        _ => "choose another --data".to_owned(),
    };
    Err(CliError::Usage(format!("the cluster in {path} has {count} nodes: leave --nodes away, or {way}")))
}

/// An id for a cluster in an empty directory.
fn new_cluster_id(path: &Path) -> Result<ClusterId, CliError> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name != LOCK_FILE && name != format!("{CLUSTER_FILE}.new") {
            return Err(CliError::Failed(format!(
                "{} is not empty and no cluster ({CLUSTER_FILE} is missing): choose another --data, or empty it",
                path.display()
            )));
        }
    }
    Ok(ClusterId::random()?)
}

fn lock(path: &Path) -> Result<File, CliError> {
    let name = path.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|error| unusable(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CliError::Failed(format!(
            "another `lockstep up` runs the cluster in {}: use that one, stop it, or choose another --data",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unusable(&name, &error)),
    }
}

fn unusable(path: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!("cannot use {}: {error}. Choose another directory with --data", path.display()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    /// Ports that nothing else here uses: below those that outgoing connections and other tests are given.
    fn free_port_base() -> u16 {
        static GIVEN_OUT: AtomicU16 = AtomicU16::new(0);
        let start = 2_000 + (std::process::id() % 200) as u16 * 30;
        let free = |base: &u16| (0..30).all(|offset| TcpListener::bind(("127.0.0.1", base + offset)).is_ok());
        let mut bases = (0..100).map(|_| start + GIVEN_OUT.fetch_add(1, Ordering::Relaxed) * 30);
        bases.find(free).unwrap()
    }

    fn open(path: &Path, count: Option<u64>) -> Result<ClusterDirectory, CliError> {
        ClusterDirectory::open(path, count, Some(free_port_base()))
    }

    fn identity_of(node: &LocalNode) -> Vec<u8> {
        fs::read(node.data().join("identity.json")).unwrap()
    }

    #[test]
    fn a_cluster_is_formatted_once_and_keeps_its_identity() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), Some(2)).unwrap();
        assert!(first.is_new);
        let (cluster, identities) =
            (first.file.cluster, first.nodes.iter().map(identity_of).collect::<Vec<_>>());
        drop(first);
        let second = open(directory.path(), None).unwrap();
        assert!(!second.is_new);
        assert_eq!(second.file.cluster, cluster);
        assert_eq!(second.nodes.iter().map(identity_of).collect::<Vec<_>>(), identities);
    }

    #[test]
    fn a_cluster_keeps_its_ports_until_it_is_given_others() {
        let directory = tempfile::tempdir().unwrap();
        let natives = |port_base| {
            let opened = ClusterDirectory::open(directory.path(), Some(2), port_base).unwrap();
            opened.nodes.iter().map(|node| node.native.clone()).collect::<Vec<_>>()
        };
        let (one, other) = (free_port_base(), free_port_base());
        let first = natives(Some(one));
        assert_eq!(natives(None), first);
        let moved = natives(Some(other));
        assert_ne!(moved, first);
        assert_eq!(natives(None), moved);
    }

    #[test]
    fn data_that_vanished_is_not_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), Some(2)).unwrap();
        let vanished = first.nodes[1].data();
        drop(first);
        fs::remove_dir_all(&vanished).unwrap();
        drop(open(directory.path(), None).unwrap());
        assert!(!vanished.exists());
    }

    #[test]
    fn formatting_that_was_cut_off_goes_on_with_the_same_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = open(directory.path(), Some(2)).unwrap();
        let kept = identity_of(&first.nodes[0]);
        fs::remove_dir_all(first.nodes[1].data()).unwrap();
        first.file.formed = false;
        first.file.write(&first.path).unwrap();
        let cluster = first.file.cluster;
        drop(first);
        let second = open(directory.path(), None).unwrap();
        assert_eq!(second.file.cluster, cluster);
        assert_eq!(identity_of(&second.nodes[0]), kept);
        assert!(second.file.formed && second.nodes[1].data().join("identity.json").exists());
    }

    #[test]
    fn a_changed_cluster_file_is_refused_by_name_and_nothing_is_formatted() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path(), Some(1)).unwrap());
        let file = directory.path().join(CLUSTER_FILE);
        let text = fs::read_to_string(&file).unwrap();
        // One bit: the brokers were all formatted, and would be formatted again.
        fs::write(&file, text.replacen("\"formed\"", "\"Formed\"", 1)).unwrap();
        let refused = open(directory.path(), None).unwrap_err().to_string();
        assert!(
            refused.contains("cluster.json cannot be used") && refused.contains("Restore it"),
            "{refused}"
        );
    }

    #[test]
    fn a_second_process_on_the_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = open(directory.path(), Some(1)).unwrap();
        let refused = open(directory.path(), None).unwrap_err().to_string();
        assert!(refused.contains("another `lockstep up`"), "{refused}");
    }

    #[test]
    fn another_number_of_nodes_and_a_foreign_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path(), Some(1)).unwrap());
        let refused = open(directory.path(), Some(3)).unwrap_err().to_string();
        assert!(refused.contains("has 1 nodes") && refused.contains("--join 127.0.0.1:"), "{refused}");

        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("thesis.tex"), "").unwrap();
        let refused = open(foreign.path(), None).unwrap_err().to_string();
        assert!(refused.contains("is not empty"), "{refused}");
    }
}
