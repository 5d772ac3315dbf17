//! `lockstep cluster`: who is there, who leads, what is missing.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use lockstep_client::{Client, ClientOptions, RequestError};
use lockstep_protocol::native::{MetadataResponse, NodeInfo, TailResponse, TopicMetadata};
use serde_json::{Value, json};

use super::brokers::{BrokerArgs, block_on};
use super::exit::CliError;
use super::output::{Output, or_dash, table};
use crate::identity::ClusterId;

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show brokers and partitions. Exits with 1 if a broker is down or a partition has no leader.
    #[command(after_help = "Example:\n  lockstep cluster status")]
    Status(StatusArgs),
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Time for one broker to answer: status is asked for when something is wrong.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// One partition's line.
struct PartitionLine<'a> {
    topic: &'a TopicMetadata,
    index: usize,
    tail: Option<TailResponse>,
}

pub(crate) fn run(command: ClusterCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    let ClusterCommand::Status(args) = command;
    let healthy = block_on(status(&args, output))?;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn status(args: &StatusArgs, output: &mut Output) -> Result<bool, CliError> {
    let options = ClientOptions::new().retry_budget(Duration::ZERO).request_timeout(ANSWER_TIME_MAX);
    let client = args.brokers.connect_with(options).await?;
    let metadata = client.metadata(None).await?;
    let mut nodes = Vec::new();
    for node in &metadata.nodes {
        nodes.push((node, client.node_answers(node.id).await));
    }
    let topics: Vec<&TopicMetadata> = metadata.topics.iter().flatten().collect();
    let mut partitions = Vec::new();
    for topic in topics {
        for index in 0..topic.partitions.len() {
            let tail = client.tail(&topic.name, topic.partitions[index].partition, false).await.ok();
            partitions.push(PartitionLine { topic, index, tail });
        }
    }
    let healthy = nodes.iter().all(|(_, answer)| answer.is_ok())
        && partitions.iter().all(|line| line.topic.partitions[line.index].leader.is_some());
    let json = status_json(&client, &metadata, &nodes, &partitions, healthy);
    output.answer(&json, || status_text(&client, &metadata, &nodes, &partitions))?;
    Ok(healthy)
}

type NodeLine<'a> = (&'a NodeInfo, Result<(), RequestError>);

fn status_json(
    client: &Client,
    metadata: &MetadataResponse,
    nodes: &[NodeLine<'_>],
    partitions: &[PartitionLine<'_>],
    healthy: bool,
) -> Value {
    let nodes = nodes.iter().map(|(node, answer)| {
        json!({ "id": node.id, "native": node.address, "http": node.http_address, "up": answer.is_ok() })
    });
    let partitions = partitions.iter().map(|line| {
        let partition = &line.topic.partitions[line.index];
        json!({
            "topic": line.topic.name,
            "partition": partition.partition,
            "leader": partition.leader,
            "term": partition.term,
            "replicas": partition.replicas,
            "log_start": line.tail.as_ref().map(|tail| tail.log_start),
            "high_watermark": line.tail.as_ref().map(|tail| tail.high_watermark),
        })
    });
    json!({
        "cluster": client.cluster_id().map(|id| ClusterId(id).to_string()),
        "healthy": healthy,
        "metadata_leader": metadata.controller,
        "nodes": nodes.collect::<Vec<_>>(),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn status_text(
    client: &Client,
    metadata: &MetadataResponse,
    nodes: &[NodeLine<'_>],
    partitions: &[PartitionLine<'_>],
) -> String {
    let node_rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|(node, answer)| {
            let state = if answer.is_ok() { "up" } else { "DOWN" };
            let role = if metadata.controller == Some(node.id) { "metadata leader" } else { "" };
            vec![
                node.id.to_string(),
                node.address.clone(),
                node.http_address.clone(),
                state.into(),
                role.into(),
            ]
        })
        .collect();
    let partition_rows: Vec<Vec<String>> = partitions
        .iter()
        .map(|line| {
            let partition = &line.topic.partitions[line.index];
            vec![
                line.topic.name.clone(),
                partition.partition.to_string(),
                partition.leader.map_or_else(|| "NONE".to_owned(), |leader| leader.to_string()),
                partition.term.to_string(),
                format!("{:?}", partition.replicas),
                or_dash(line.tail.as_ref().map(|tail| tail.log_start)),
                or_dash(line.tail.as_ref().map(|tail| tail.high_watermark)),
            ]
        })
        .collect();
    let cluster = client.cluster_id().map_or_else(|| "unknown".to_owned(), |id| ClusterId(id).to_string());
    let nodes = table(&["NODE", "NATIVE", "HTTP", "STATE", ""], &node_rows);
    if partition_rows.is_empty() {
        return format!("cluster {cluster}\n\n{nodes}\n\nno topics yet");
    }
    let heading = ["TOPIC", "PARTITION", "LEADER", "TERM", "REPLICAS", "LOG START", "LAST LSN"];
    format!("cluster {cluster}\n\n{nodes}\n\n{}", table(&heading, &partition_rows))
}
