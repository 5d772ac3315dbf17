//! What must hold between the settings.

use super::ConfigError;
use super::model::{Config, Limits, Raft};

/// Room in a frame beside the batch it carries: the frame's head and the request around the batch.
const FRAME_OVERHEAD_BYTES: u64 = 64 << 10;

/// Below this a new replica of one busy partition would take days.
const MOVE_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// Most replicas of a partition. How many brokers there are, the cluster knows.
const REPLICATION_MAX: u32 = 99;

impl Config {
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
        if self.nodes.is_empty() {
            // Alone, or a member of a cluster that knows who it is.
            return self.validate_joining().and_then(|()| self.validate_addresses());
        }
        check(self.node != 0, "node", "it is not given, and [[nodes]] is", "say which of them this node is")?;
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
        self.validate_joining()?;
        self.validate_addresses()
    }

    fn validate_joining(&self) -> Result<(), ConfigError> {
        if self.join.is_empty() {
            return Ok(());
        }
        check(
            self.nodes.is_empty(),
            "join",
            "a node that joins a cluster learns of the others from it",
            "remove [[nodes]]; or remove `join` if the cluster begins with these nodes",
        )?;
        check(
            !self.bootstrap,
            "join",
            "a node either joins a cluster or begins one",
            "remove `bootstrap` or `join`",
        )?;
        self.join.iter().try_for_each(|address| check_address("join", address))
    }

    fn validate_addresses(&self) -> Result<(), ConfigError> {
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
            batch <= self.limits.read_bytes,
            "limits.read_bytes",
            format!("{} is less than one batch ({batch})", self.limits.read_bytes),
            "raise it, or lower limits.max_batch_bytes",
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
        let moves = self.storage.move_bytes_per_second;
        check(
            moves == 0 || moves >= MOVE_BYTES_PER_SECOND_MIN,
            "storage.move_bytes_per_second",
            format!("at {moves} replicas would hardly move"),
            format!("give it at least {MOVE_BYTES_PER_SECOND_MIN}, or 0 for as fast as it goes"),
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
        check(heartbeat_ticks >= 1, "raft.heartbeat_ticks", "it is 0", "give it at least 1; 20 is usual")?;
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
            "lower it; 60 is usual",
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
        check(
            self.topics.replication <= REPLICATION_MAX,
            "topics.replication",
            format!("{} is out of range", self.topics.replication),
            format!("give it 1 to {REPLICATION_MAX}, or 0 for the default"),
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

/// Whether others can be told to connect there: `host:port`, and no port that the system is still to choose.
pub fn is_address(address: &str) -> bool {
    let (host, port) = address.rsplit_once(':').unwrap_or(("", ""));
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
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
