//! Where things are: the topic, its partitions and their shards, the nodes' addresses.

use lockstep::net::native::outcome::Brokers;

/// The only topic.
pub const TOPIC: &str = "log";
/// Its id.
pub(super) const TOPIC_ID: u32 = 1;

/// Where nodes are, for hints.
pub struct Addresses;

impl Brokers for Addresses {
    fn native_address(&self, node: u64) -> Option<String> {
        Some(address(node))
    }
}

/// A node's address.
pub fn address(node: u64) -> String {
    format!("node-{node}:7400")
}

/// The shard of a partition.
pub fn shard_of(partition: u32) -> u64 {
    u64::from(partition) + 1
}

/// The partition of a shard.
pub fn partition_of(shard: u64) -> u32 {
    (shard - 1) as u32
}
