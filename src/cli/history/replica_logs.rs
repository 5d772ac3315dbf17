//! The log of each replica, read from its own broker.
//!
//! What holds: a log is read from its start to the last LSN that the leader had confirmed before, from that broker and
//! no other. A replica that cannot be read is named, never left out silently.

use std::time::Duration;

use lockstep_checker::{FinalState, ReplicaLog};
use lockstep_client::{Client, ConsumeError, Start};

use super::readers::ids;
use crate::cli::exit::CliError;

/// What the brokers hold.
pub(super) struct ReplicaLogs {
    pub(super) state: FinalState,
    /// Nodes whose log could not be read, and why.
    pub(super) unread: Vec<(u64, String)>,
}

/// Reads every replica's log. A replica may stay behind for as long as `patience`.
pub(super) async fn read(
    client: &Client,
    topic: &str,
    partition: u32,
    patience: Duration,
) -> Result<ReplicaLogs, CliError> {
    let described = client.describe_topic(topic).await?.topic;
    let Some(route) = described.partitions.get(partition as usize) else {
        let count = described.partitions.len();
        return Err(CliError::Usage(format!(
            "topic {topic} has {count} partitions, and no partition {partition}"
        )));
    };
    let mut logs = ReplicaLogs { state: FinalState::default(), unread: Vec::new() };
    for node in &route.replicas {
        match replica_log(client, topic, partition, *node, patience).await {
            Ok(log) => logs.state.replicas.push(log),
            Err(why) => logs.unread.push((*node, why)),
        }
    }
    if logs.state.replicas.is_empty() {
        let why: Vec<String> = logs.unread.iter().map(|(node, why)| format!("node {node}: {why}")).collect();
        return Err(CliError::Failed(format!(
            "no replica of {topic}/{partition} can be read: {}. Start the brokers, or check the history --alone",
            why.join("; ")
        )));
    }
    Ok(logs)
}

async fn replica_log(
    client: &Client,
    topic: &str,
    partition: u32,
    node: u64,
    patience: Duration,
) -> Result<ReplicaLog, String> {
    let tail = client.tail_of_node(node, topic, partition).await.map_err(|error| error.to_string())?;
    let log_start = tail.log_start.max(1);
    let consumer =
        client.consumer(topic).partition(partition).only_from_node(node).from(Start::Lsn(log_start));
    let mut consumer = consumer.until_end().open().await.map_err(|error| error.to_string())?;
    let mut log = ReplicaLog::new(node, log_start, log_start - 1);
    loop {
        match tokio::time::timeout(patience, consumer.next_batch()).await {
            Ok(None) => return Ok(log),
            Ok(Some(Ok(batch))) => {
                log.push_batch(batch.first_lsn, ids(&batch).map(|(_, id)| id));
                log.commit = batch.last_lsn;
            }
            // What the client refuses to hand on is for the checker to name.
            Ok(Some(Err(ConsumeError::Gap { expected, found, .. }))) => {
                log.commit = log.commit.max(found).max(expected);
                return Ok(log);
            }
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Err(_) => return Err(format!("it shows nothing behind LSN {} for {patience:?}", log.commit)),
        }
    }
}
