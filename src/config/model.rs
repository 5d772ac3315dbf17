//! The settings, their defaults, and what must hold between them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::identity::ClusterId;

/// Everything a broker is told when it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node's id in the cluster; ids start at 1.
    pub node: u64,
    /// The data directory.
    pub data: PathBuf,
    /// The cluster's id, 32 hexadecimal digits. If given, the data directory must belong to this cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// Whether a node of several may format an empty data directory by itself. For containers that start
    /// together for the first time; needs `cluster`. Peers refuse a node that comes back with a new directory.
    pub bootstrap: bool,
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
    /// The members of the cluster, this node included. None: a cluster of this node alone.
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

/// Addresses others reach this broker at, as `host:port`.
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
    /// Memory per partition for its newest entries, shared by replication and consumers.
    pub cache_bytes: u64,
    /// Segment files kept ready for busy partitions, written ahead or left by retention; 0 for none.
    pub spare_segments: usize,
    /// With less than this free on the disk, appends are refused.
    pub free_space_reserve_bytes: u64,
}

/// The pace of consensus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raft {
    /// One tick, in milliseconds.
    pub tick_ms: u64,
    /// Ticks without a leader's sign of life before an election.
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
            node: 1,
            data: PathBuf::from("lockstep-data"),
            cluster: None,
            bootstrap: false,
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
            max_connections: 4096,
            max_partitions: 1024,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            segment_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            spare_segments: 4,
            free_space_reserve_bytes: 256 << 20,
        }
    }
}

impl Default for Raft {
    fn default() -> Self {
        Raft { tick_ms: 50, election_ticks: 20, heartbeat_ticks: 2 }
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

/// Room in a frame beside the batch it carries: the frame's head and the request around the batch.
const FRAME_OVERHEAD_BYTES: u64 = 64 << 10;

impl Config {
    /// The settings as they are in force, as TOML.
    pub fn effective(&self) -> String {
        toml::to_string_pretty(self).expect("settings are numbers, strings, booleans and lists of them")
    }

    /// All members, this node included; of a cluster without a member list, this node alone.
    pub fn members(&self) -> Vec<Node> {
        if self.nodes.is_empty() { vec![self.own_member()] } else { self.nodes.clone() }
    }

    /// The ids of all members, ascending.
    pub fn member_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.members().iter().map(|node| node.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether this node is a whole cluster by itself.
    pub fn is_single_node(&self) -> bool {
        self.nodes.iter().all(|node| node.id == self.node)
    }

    /// Replicas of a partition whose topic does not say.
    pub fn default_replication(&self) -> u32 {
        let nodes = u32::try_from(self.members().len()).unwrap_or(u32::MAX);
        if self.topics.replication == 0 { nodes.min(3) } else { self.topics.replication }
    }

    /// One tick of consensus.
    pub fn tick(&self) -> Duration {
        Duration::from_millis(self.raft.tick_ms)
    }

    fn own_member(&self) -> Node {
        let advertised =
            |advertise: &Option<String>, listen: &String| advertise.as_ref().unwrap_or(listen).clone();
        Node {
            id: self.node,
            native: advertised(&self.advertise.native, &self.listen.native),
            peer: advertised(&self.advertise.peer, &self.listen.peer),
            http: advertised(&self.advertise.http, &self.listen.http),
        }
    }

    /// Checks every setting, and each against the others.
    ///
    /// # Errors
    /// The first setting that cannot be used, with what to write instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_members()?;
        self.validate_sizes()?;
        self.validate_pace()?;
        self.validate_topics()
    }

    fn validate_members(&self) -> Result<(), ConfigError> {
        check(self.node != 0, "node", "0 is not a node id", "number the nodes 1, 2, 3 …")?;
        let ids = self.member_ids();
        check(
            ids.contains(&self.node),
            "nodes",
            format!("node {} is not in the list", self.node),
            "add a [[nodes]] entry for this node, or correct `node`",
        )?;
        check(!ids.contains(&0), "nodes", "0 is not a node id", "number the nodes 1, 2, 3 …")?;
        check(
            ids.windows(2).all(|pair| pair[0] != pair[1]),
            "nodes",
            "two entries have the same id",
            "give each node an id of its own",
        )?;
        check(
            !self.bootstrap || self.is_single_node() || self.cluster.is_some(),
            "bootstrap",
            "nodes that format themselves need to agree on the cluster's id",
            "set `cluster` to the same 32 hexadecimal digits on every node",
        )?;
        for address in [&self.listen.native, &self.listen.peer, &self.listen.http] {
            check_address("listen", address)?;
        }
        let advertised = [&self.advertise.native, &self.advertise.peer, &self.advertise.http];
        for address in advertised.into_iter().flatten() {
            check_address("advertise", address)?;
        }
        for node in &self.nodes {
            for address in [&node.native, &node.peer, &node.http] {
                check_address("nodes", address)?;
            }
        }
        Ok(())
    }

    fn validate_sizes(&self) -> Result<(), ConfigError> {
        let Limits { max_frame_bytes, max_batch_bytes, max_record_bytes, inflight_bytes, .. } = self.limits;
        let (frame, batch, record) =
            (u64::from(max_frame_bytes), u64::from(max_batch_bytes), u64::from(max_record_bytes));
        check(record >= 1, "limits.max_record_bytes", "it is 0", "give it at least 1")?;
        check(
            batch >= 1024,
            "limits.max_batch_bytes",
            format!("{batch} leaves no room for a batch"),
            "give it at least 1024",
        )?;
        check(
            record <= batch,
            "limits.max_record_bytes",
            format!("{record} is more than a batch may hold ({batch})"),
            "lower it, or raise limits.max_batch_bytes",
        )?;
        check(
            batch + FRAME_OVERHEAD_BYTES <= frame,
            "limits.max_frame_bytes",
            format!("{frame} cannot carry a batch of {batch} bytes"),
            format!("raise it to at least {}", batch + FRAME_OVERHEAD_BYTES),
        )?;
        check(frame <= 1 << 30, "limits.max_frame_bytes", format!("{frame} is more than 1 GiB"), "lower it")?;
        check(
            batch <= self.storage.segment_bytes / 4,
            "limits.max_batch_bytes",
            format!("{batch} is more than a quarter of a segment ({})", self.storage.segment_bytes),
            "lower it, or raise storage.segment_bytes",
        )?;
        check(
            batch <= inflight_bytes / 4,
            "limits.max_batch_bytes",
            format!("{batch} is more than a quarter of the bytes in flight ({inflight_bytes})"),
            "lower it, or raise limits.inflight_bytes",
        )?;
        check(
            inflight_bytes <= 1 << 40,
            "limits.inflight_bytes",
            "it is more than 1 TiB",
            "lower it to a part of the machine's memory",
        )?;
        check(
            self.storage.segment_bytes >= 1 << 16,
            "storage.segment_bytes",
            "it is less than 64 KiB",
            "raise it; 67108864 is usual",
        )?;
        check(
            self.storage.segment_bytes <= 1 << 40,
            "storage.segment_bytes",
            "it is more than 1 TiB",
            "lower it; 67108864 is usual",
        )?;
        check(self.limits.max_connections >= 1, "limits.max_connections", "it is 0", "give it at least 1")
    }

    fn validate_pace(&self) -> Result<(), ConfigError> {
        let Raft { tick_ms, election_ticks, heartbeat_ticks } = self.raft;
        check(
            (1..=10_000).contains(&tick_ms),
            "raft.tick_ms",
            format!("{tick_ms} is out of range"),
            "give it 1 to 10000; 50 is usual",
        )?;
        check(heartbeat_ticks >= 1, "raft.heartbeat_ticks", "it is 0", "give it at least 1; 2 is usual")?;
        check(
            election_ticks >= heartbeat_ticks.saturating_mul(3),
            "raft.election_ticks",
            format!("{election_ticks} lets an election start before a few heartbeats are missed"),
            format!("raise it to at least {}", heartbeat_ticks.saturating_mul(3)),
        )?;
        check(
            election_ticks <= 10_000,
            "raft.election_ticks",
            "it is more than 10000",
            "lower it; 20 is usual",
        )?;
        check(self.workers <= 1024, "workers", "it is more than 1024", "give it 0 for one per processor")
    }

    fn validate_topics(&self) -> Result<(), ConfigError> {
        let most = self.limits.max_partitions;
        check(
            (1..=most).contains(&self.topics.partitions),
            "topics.partitions",
            format!("{} is out of range", self.topics.partitions),
            format!("give it 1 to {most} (limits.max_partitions)"),
        )?;
        let nodes = self.members().len();
        check(
            self.topics.replication as usize <= nodes,
            "topics.replication",
            format!("{} replicas need as many nodes; there are {nodes}", self.topics.replication),
            "lower it, or give it 0 for the default",
        )
    }
}

fn check(
    holds: bool,
    setting: &'static str,
    problem: impl Into<String>,
    fix: impl Into<String>,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Invalid { setting, problem: problem.into(), fix: fix.into() })
    }
}

fn check_address(setting: &'static str, address: &str) -> Result<(), ConfigError> {
    let (host, port) = address.rsplit_once(':').unwrap_or(("", ""));
    check(
        !host.is_empty() && port.parse::<u16>().is_ok(),
        setting,
        format!("{address:?} is not an address"),
        "write host:port, such as 127.0.0.1:7400",
    )
}
