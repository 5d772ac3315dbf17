//! The settings, their defaults, and what must hold between them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::ClusterId;

/// Everything a broker is told when it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node's id in the cluster; ids start at 1. 0: what the data directory says, and 1 in a new cluster of this node
    /// alone.
    pub node: u64,
    /// The data directory.
    pub data: PathBuf,
    /// The cluster's id, 32 hexadecimal digits. If given, the data directory must belong to this cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// Whether a node of several may format an empty data directory by itself. For containers that start
    /// together for the first time; needs `cluster`. Peers refuse a node that comes back with a new directory.
    pub bootstrap: bool,
    /// Brokers of a cluster that this node joins if its data directory is empty, as `host:port`; any one that is up will do.
    /// The cluster gives it its id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<String>,
    /// What fails together with this node, such as a rack or a zone: replicas of one partition go to different ones where
    /// there are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// Threads that serve sockets and run shards; 0 means one per processor.
    pub workers: usize,
    /// Where this broker listens.
    pub listen: Listen,
    /// What this broker tells others to connect to, where that differs from `listen`.
    pub advertise: Advertise,
    /// What a client may ask for, and what the node holds in memory at once.
    pub limits: Limits,
    /// Segment files and memory for them.
    pub storage: Storage,
    /// The pace of consensus.
    pub raft: Raft,
    /// What a new topic is like if nothing else is said.
    pub topics: Topics,
    /// How long records are kept if the topic does not say.
    pub retention: Retention,
    /// The broker's own log.
    pub log: Logging,
    /// The nodes that the cluster begins with, this one included. None: a cluster of this node alone. Later the cluster
    /// itself knows who is in it.
    pub nodes: Vec<Node>,
}

/// Addresses to bind, as `host:port`; port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// For clients.
    pub native: String,
    /// For the other brokers.
    pub peer: String,
    /// For the admin API, health checks and metrics.
    pub http: String,
}

/// Addresses others reach this broker at, as `host:port`. Where it is left out: what the member list says, or
/// without one what is listened on (loopback, if that is every address).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Advertise {
    /// For clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native: Option<String>,
    /// For the other brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// For the admin API, health checks and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
}

/// One member of the cluster and the addresses it is reached at, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The member's id.
    pub id: u64,
    /// Its address for clients.
    pub native: String,
    /// Its address for the other brokers.
    pub peer: String,
    /// Its address for the admin API.
    pub http: String,
}

/// What a client may ask for, and what the node holds in memory at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest frame a client may send, in bytes.
    pub max_frame_bytes: u32,
    /// The largest record batch, in bytes; at most a quarter of a segment and of `inflight_bytes`.
    pub max_batch_bytes: u32,
    /// The largest record, in bytes.
    pub max_record_bytes: u32,
    /// Bytes of batches the node takes in before they are answered; above it, it stops reading clients.
    pub inflight_bytes: u64,
    /// Bytes of records the node has read for clients and not written to them yet; above it, readers wait.
    pub read_bytes: u64,
    /// Client connections at once.
    pub max_connections: usize,
    /// Partitions of one topic.
    pub max_partitions: u32,
}

/// Segment files and memory for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The size at which a segment file is closed and the next begun.
    pub segment_bytes: u64,
    /// Memory for the newest entries of all partitions, shared by replication and consumers; those that are written to share it
    /// evenly. Each that is not keeps 64 KiB at the most beside it.
    pub cache_bytes: u64,
    /// Segment files kept ready for busy partitions, written ahead or left by retention; 0 for none.
    pub spare_segments: usize,
    /// With less than this free on the disk, appends are refused.
    pub free_space_reserve_bytes: u64,
    /// How fast closed segments are read in the background to find bytes that have changed on the disk; 0 for never.
    pub scrub_bytes_per_second: u64,
    /// How fast this node sends log to new replicas elsewhere, and takes it in, when replicas move; what is produced meanwhile
    /// is not counted. 0 for as fast as it goes.
    pub move_bytes_per_second: u64,
}

/// The pace of consensus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raft {
    /// One tick, in milliseconds.
    pub tick_ms: u64,
    /// Ticks without a leader's sign of life before an election. Where a broker dies or falls silent, the others do not
    /// wait for it.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
}

/// What a new topic is like if nothing else is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// Whether a client's metadata request may create the topics it misses.
    pub create_missing: bool,
    /// Partitions of a topic that does not say.
    pub partitions: u32,
    /// Replicas of a partition; 0 means three, or all nodes if there are fewer.
    pub replication: u32,
}

/// How long records are kept if the topic does not say. Unset: for ever.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Bytes kept per partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Milliseconds a record is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
}

/// The broker's own log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged: `info`, or per module as in `info,lockstep::net=debug`.
    pub filter: String,
}

/// How a line of the broker's own log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            node: 0,
            data: PathBuf::from("lockstep-data"),
            cluster: None,
            bootstrap: false,
            join: Vec::new(),
            rack: None,
            workers: 0,
            listen: Listen::default(),
            advertise: Advertise::default(),
            limits: Limits::default(),
            storage: Storage::default(),
            raft: Raft::default(),
            topics: Topics::default(),
            retention: Retention::default(),
            log: Logging::default(),
            nodes: Vec::new(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            native: "127.0.0.1:7400".into(),
            peer: "127.0.0.1:7401".into(),
            http: "127.0.0.1:7402".into(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_frame_bytes: 16 << 20,
            max_batch_bytes: 8 << 20,
            max_record_bytes: 4 << 20,
            inflight_bytes: 128 << 20,
            read_bytes: 512 << 20,
            max_connections: 4096,
            max_partitions: 1024,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            segment_bytes: 64 << 20,
            cache_bytes: 128 << 20,
            spare_segments: 4,
            free_space_reserve_bytes: 256 << 20,
            scrub_bytes_per_second: 4 << 20,
            move_bytes_per_second: 32 << 20,
        }
    }
}

impl Default for Raft {
    fn default() -> Self {
        Raft { tick_ms: 50, election_ticks: 60, heartbeat_ticks: 20 }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Topics { create_missing: false, partitions: 1, replication: 0 }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Logging { format: LogFormat::Text, filter: "info".into() }
    }
}

impl Config {
    /// The settings as they are in force, as TOML.
    pub fn effective(&self) -> String {
        toml::to_string_pretty(self).expect("settings are numbers, strings, booleans and lists of them")
    }

    /// The founders, this node included as it is advertised; of a cluster without a member list, this node alone.
    pub fn members(&self) -> Vec<Node> {
        let own = self.own_addresses();
        if self.nodes.is_empty() {
            return vec![own];
        }
        let as_advertised = |node: &Node| if node.id == self.node { own.clone() } else { node.clone() };
        self.nodes.iter().map(as_advertised).collect()
    }

    /// This node as others reach it: as advertised, else as the member list says, else where it listens.
    pub fn own_addresses(&self) -> Node {
        let listed = self.nodes.iter().find(|node| node.id == self.node);
        let choose = |advertised: &Option<String>, listed: Option<&String>, listen: &String| {
            advertised.as_ref().or(listed).cloned().unwrap_or_else(|| reachable(listen))
        };
        let Config { advertise, listen, .. } = self;
        Node {
            id: self.node,
            native: choose(&advertise.native, listed.map(|node| &node.native), &listen.native),
            peer: choose(&advertise.peer, listed.map(|node| &node.peer), &listen.peer),
            http: choose(&advertise.http, listed.map(|node| &node.http), &listen.http),
        }
    }

    /// The ids of the founders, ascending.
    pub fn member_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.members().iter().map(|node| node.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether this node is a whole cluster by itself.
    pub fn is_single_node(&self) -> bool {
        self.nodes.iter().all(|node| node.id == self.node)
    }

    /// One tick of consensus.
    pub fn tick(&self) -> Duration {
        Duration::from_millis(self.raft.tick_ms)
    }
}

/// Where a listener that is bound to every address is reached from this machine.
fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}
