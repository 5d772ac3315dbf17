//! One broker of a local cluster: its addresses and its place on disk.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::cli::exit::CliError;
use crate::config::{Config, Listen, Node, Topics};
use crate::identity::ClusterId;

/// Ports from one node's first to the next one's.
const PORTS_PER_NODE: u16 = 10;

/// Where a broker listens and what it keeps where.
#[derive(Debug, Clone)]
pub(crate) struct LocalNode {
    pub(crate) id: u64,
    pub(crate) native: String,
    pub(crate) peer: String,
    pub(crate) http: String,
    /// `DIR/node-K`
    directory: PathBuf,
}

impl LocalNode {
    /// Nodes 1 to `count`.
    pub(crate) fn all(directory: &Path, count: u64, port_base: u16) -> Result<Vec<Self>, CliError> {
        let highest = u64::from(port_base) + (count - 1) * u64::from(PORTS_PER_NODE) + 2;
        if highest > u64::from(u16::MAX) {
            return Err(CliError::Usage(format!(
                "--port-base {port_base}: {count} nodes would need ports up to {highest}; give a lower one"
            )));
        }
        let node = |id: u64| {
            let first = u64::from(port_base) + (id - 1) * u64::from(PORTS_PER_NODE);
            let address = |offset: u64| format!("127.0.0.1:{}", first + offset);
            let directory = directory.join(format!("node-{id}"));
            Self { id, native: address(0), peer: address(1), http: address(2), directory }
        };
        Ok((1..=count).map(node).collect())
    }

    /// The broker's data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The broker's settings.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.join("config.toml")
    }

    /// What the broker says.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.directory.join("log.txt")
    }

    /// `DIR/node-K`, which holds them.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its settings as a member of `nodes`.
    pub(crate) fn config(&self, cluster: ClusterId, nodes: &[Self]) -> Config {
        let member = |node: &Self| Node {
            id: node.id,
            native: node.native.clone(),
            peer: node.peer.clone(),
            http: node.http.clone(),
        };
        Config {
            node: self.id,
            data: self.data(),
            cluster: Some(cluster),
            workers: workers_of(nodes.len()),
            listen: Listen { native: self.native.clone(), peer: self.peer.clone(), http: self.http.clone() },
            topics: Topics { create_missing: true, ..Topics::default() },
            nodes: nodes.iter().map(member).collect(),
            ..Config::default()
        }
    }

    /// Checks that nobody else listens where it will.
    pub(crate) fn check_ports(&self) -> Result<(), CliError> {
        for address in [&self.native, &self.peer, &self.http] {
            TcpListener::bind(address).map_err(|error| {
                CliError::Failed(format!(
                    "node {} cannot listen on {address}: {error}. Stop whatever uses that port, or move all ports \
                     with --port-base",
                    self.id
                ))
            })?;
        }
        Ok(())
    }
}

/// Threads for each of so many brokers that share this machine's processors: with more they only wake one another.
fn workers_of(nodes: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / nodes.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_ten_apart_with_peer_and_http_above_native() {
        let nodes = LocalNode::all(Path::new("d"), 3, 7400).unwrap();
        let addresses: Vec<[&str; 3]> =
            nodes.iter().map(|node| [&*node.native, &*node.peer, &*node.http]).collect();
        assert_eq!(addresses[0], ["127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:7402"]);
        assert_eq!(addresses[2], ["127.0.0.1:7420", "127.0.0.1:7421", "127.0.0.1:7422"]);
    }

    #[test]
    fn ports_beyond_the_last_one_are_refused_by_name() {
        assert!(LocalNode::all(Path::new("d"), 1, 65_533).is_ok());
        let refused = LocalNode::all(Path::new("d"), 2, 65_530).unwrap_err().to_string();
        assert!(refused.contains("--port-base"), "{refused}");
    }

    #[test]
    fn each_nodes_settings_are_valid_and_name_all_nodes() {
        let nodes = LocalNode::all(Path::new("d"), 3, 7400).unwrap();
        let cluster = ClusterId([7; 16]);
        for node in &nodes {
            let config = node.config(cluster, &nodes);
            config.validate().unwrap();
            assert_eq!(config.member_ids(), [1, 2, 3]);
            assert!(config.topics.create_missing && !config.bootstrap);
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_the_way_out() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut node = LocalNode::all(Path::new("d"), 1, 7400).unwrap().remove(0);
        node.native = holder.local_addr().unwrap().to_string();
        let refused = node.check_ports().unwrap_err().to_string();
        assert!(refused.contains(&node.native) && refused.contains("--port-base"), "{refused}");
    }
}
