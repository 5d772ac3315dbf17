//! What can be seen of a cluster, by its readers and by a test.

use lockstep::{
    raft::Role,
    shard::{self, Event, Health},
};
use lockstep_protocol::record::RecordIter;
use lockstep_storage::{CachedRead, Checkpoint, LogReader, io::fake::FakeDisk, reader::ReadError};

use super::Cluster;

impl Cluster {
    /// How many of the next ticks a node's replica says will do nothing.
    pub fn spare_ticks(&self, node: u64) -> u64 {
        self.nodes[&node].replica.as_ref().expect("the node runs").spare_ticks()
    }

    /// Messages of consensus that were sent since the last look.
    pub fn take_messages_sent(&mut self) -> usize {
        std::mem::take(&mut self.messages_sent)
    }

    /// Every committed record of a node, as a reader gets them.
    pub fn records(&self, node: u64) -> Vec<(u64, String)> {
        self.read(node, self.describe(node).view.high_watermark)
    }

    /// Every record in a node's log, committed or not: no reader may see this.
    pub fn whole_log(&self, node: u64) -> Vec<(u64, String)> {
        self.read(node, self.describe(node).last_lsn)
    }

    fn read(&self, node: u64, up_to: u64) -> Vec<(u64, String)> {
        self.try_read(node, up_to).expect("committed records can be read")
    }

    fn try_read(&self, node: u64, up_to: u64) -> Result<Vec<(u64, String)>, ReadError> {
        let Some(reader) = &self.nodes[&node].reader else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        let mut next = self.describe(node).view.log_start.max(1);
        while next <= up_to {
            let batches = match reader.cached(next, usize::MAX, up_to) {
                CachedRead::Hit(batches) => batches,
                _ => reader.read(next, usize::MAX, up_to)?,
            };
            assert!(!batches.is_empty(), "LSN {next} is missing on node {node}");
            for batch in batches {
                for record in RecordIter::new(batch.bytes).expect("a stored batch reads") {
                    let record = record.expect("a stored record reads");
                    assert_eq!(record.lsn, next, "LSNs are dense on node {node}");
                    next += 1;
                    let value = record.record.value.expect("these tests write values");
                    records.push((record.lsn, String::from_utf8_lossy(&value).into_owned()));
                }
            }
        }
        Ok(records)
    }

    /// Reads every node as a client would, and holds it to what its readers were shown before.
    pub(super) fn look(&mut self) {
        for node in self.running() {
            // Whoever tests damage meets it here: a reader gets an error, and nothing is shown.
            let up_to = self.describe(node).view.high_watermark;
            let Ok(records) = self.try_read(node, up_to) else { continue };
            let shown = &mut self.node(node).shown;
            for (lsn, value) in records {
                let before = shown.insert(lsn, value.clone());
                assert!(
                    before.is_none_or(|before| before == value),
                    "node {node} showed two values under LSN {lsn}"
                );
            }
        }
    }

    /// Where readers of a node read.
    pub fn reader(&self, node: u64) -> &LogReader {
        self.nodes[&node].reader.as_ref().expect("its log was opened")
    }

    /// Whether a reader of `node` was ever shown `value`.
    pub fn was_shown(&self, node: u64, value: &str) -> bool {
        self.nodes[&node].shown.values().any(|shown| shown == value)
    }

    /// Asserts that every running node holds exactly `values` under LSNs 1, 2, 3 …
    pub fn assert_everywhere(&self, values: &[&str]) {
        let expected: Vec<_> = (1..).zip(values.iter().map(|value| (*value).to_owned())).collect();
        for node in self.running() {
            assert_eq!(self.records(node), expected, "on node {node}");
        }
    }

    pub fn describe(&self, node: u64) -> shard::ShardDescription {
        self.nodes[&node].replica.as_ref().expect("the node runs").describe()
    }

    /// The oldest checkpoint that a node keeps: what it would give to one without any log.
    pub fn oldest_checkpoint(&self, node: u64) -> &Checkpoint {
        let replica = self.nodes[&node].replica.as_ref().expect("the node runs");
        replica.shard().expect("it takes part").oldest_checkpoint()
    }

    pub fn health(&self, node: u64) -> Health {
        self.describe(node).view.health
    }

    pub fn leads(&self, node: u64) -> bool {
        self.describe(node).role == Role::Leader
    }

    pub fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.replica.is_some()).map(|(id, _)| *id).collect()
    }

    pub fn events(&self, node: u64) -> &[Event] {
        &self.nodes[&node].events
    }

    pub fn disk(&self, node: u64) -> &FakeDisk {
        &self.nodes[&node].disk
    }
}
