//! What a cluster acknowledged, to be compared with what it holds.

use crate::processes::{LocalCluster, Node, succeeded};

/// Records of one topic, in the order of their acknowledgement.
pub struct Ledger {
    topic: &'static str,
    acknowledged: Vec<String>,
}

impl Ledger {
    /// Of a topic that is made by the first record.
    pub fn new(topic: &'static str) -> Self {
        Self { topic, acknowledged: Vec::new() }
    }

    /// Produces some records, of which each must be acknowledged.
    pub fn write(&mut self, cluster: &LocalCluster, count: usize) {
        self.write_sized(cluster, count, 0);
    }

    /// Produces some records of about so many bytes each, of which each must be acknowledged.
    pub fn write_sized(&mut self, cluster: &LocalCluster, count: usize, bytes: usize) {
        let first = self.acknowledged.len();
        let record = |number: usize| format!("record {number} of {}{}", self.topic, "-".repeat(bytes));
        let records: Vec<String> = (first..first + count).map(record).collect();
        let arguments = ["produce", self.topic, "--timeout", "20"];
        succeeded(&arguments, &cluster.run_with(&arguments, &(records.join("\n") + "\n")));
        self.acknowledged.extend(records);
    }

    /// Notes what somebody else saw acknowledged.
    pub fn note(&mut self, record: impl Into<String>) {
        self.acknowledged.push(record.into());
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Asserts that a broker's own copy holds exactly the acknowledged records, under the LSNs 1, 2, 3 …
    pub fn is_whole_on(&self, cluster: &LocalCluster, node: &Node) {
        let id = node.id.to_string();
        let read = cluster.run(&[
            "consume",
            self.topic,
            "--from",
            "earliest",
            "--until-end",
            "--node",
            &id,
            "--format",
            "%l %v\\n",
            "--timeout",
            "20",
        ]);
        let expected: String =
            (1..).zip(&self.acknowledged).map(|(lsn, record)| format!("{lsn} {record}\n")).collect();
        let differs = read.lines().zip(expected.lines()).find(|(read, expected)| read != expected);
        assert!(
            read == expected,
            "node {id} has {} records of {}; the first difference: {differs:?}",
            read.lines().count(),
            self.len()
        );
    }

    /// The same of every broker.
    pub fn is_whole_everywhere(&self, cluster: &LocalCluster) {
        for node in cluster.nodes() {
            self.is_whole_on(cluster, &node);
        }
    }
}
