//! `lockstep topic`: create, list, describe, alter, delete.

use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use lockstep_client::{Client, NewTopic, TopicChange};
use lockstep_protocol::native::{DescribeTopicResponse, TopicConfig, TopicMetadata};
use serde_json::{Value, json};

use super::brokers::{BrokerArgs, block_on};
use super::exit::CliError;
use super::output::{Output, or_dash, table};

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic.
    #[command(
        after_help = "Example:\n  lockstep topic create invoices --partitions 3 --retention-ms 604800000"
    )]
    Create(CreateArgs),
    /// List all topics.
    List(ListArgs),
    /// Show a topic's partitions, leaders and settings.
    #[command(after_help = "Example:\n  lockstep topic describe invoices")]
    Describe(NamedArgs),
    /// Add partitions to a topic or change its settings, while it is in use.
    #[command(
        after_help = "Examples:\n  lockstep topic alter invoices --partitions 6\n  lockstep topic alter invoices --retention-ms 86400000 --retention-bytes default"
    )]
    Alter(AlterArgs),
    /// Delete a topic and its records.
    #[command(after_help = "Example:\n  lockstep topic delete invoices")]
    Delete(NamedArgs),
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The topic's name.
    name: String,
    /// How many partitions.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    partitions: u32,
    /// Copies of each partition; 0 for the cluster's default.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    replication: u32,
    /// Bytes to keep per partition.
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<u64>,
    /// Milliseconds to keep a record for.
    #[arg(long, value_name = "MS")]
    retention_ms: Option<u64>,
    /// Longest batch.
    #[arg(long, value_name = "BYTES")]
    max_batch_bytes: Option<u32>,
    /// Skip the walk over each record: LSNs are then only as dense as the producers are right.
    #[arg(long)]
    trust_producers: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// A setting's new value, or `default` for the brokers'.
#[derive(Debug, Clone, Copy)]
struct OrDefault<T>(Option<T>);

impl<T: FromStr<Err: std::fmt::Display>> FromStr for OrDefault<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self(None)),
            number => number
                .parse()
                .map(|value| Self(Some(value)))
                .map_err(|error| format!("{error}; write a number, or `default`")),
        }
    }
}

/// Arguments of `alter`.
#[derive(Debug, Args)]
pub(crate) struct AlterArgs {
    /// The topic's name.
    name: String,
    /// How many partitions it shall have in all; never fewer than now. Keys may belong to other partitions then.
    #[arg(long, value_name = "COUNT")]
    partitions: Option<u32>,
    /// Bytes to keep per partition.
    #[arg(long, value_name = "BYTES|default")]
    retention_bytes: Option<OrDefault<u64>>,
    /// Milliseconds to keep a record for.
    #[arg(long, value_name = "MS|default")]
    retention_ms: Option<OrDefault<u64>>,
    /// Longest batch.
    #[arg(long, value_name = "BYTES|default")]
    max_batch_bytes: Option<OrDefault<u32>>,
    /// Whether the walk over each record is skipped: LSNs are then only as dense as the producers are right.
    #[arg(long, value_name = "true|false")]
    trust_producers: Option<bool>,
    #[command(flatten)]
    brokers: BrokerArgs,
}

impl AlterArgs {
    fn change(&self) -> TopicChange {
        let mut change = TopicChange::of(&self.name);
        if let Some(count) = self.partitions {
            change = change.partitions(count);
        }
        if let Some(OrDefault(bytes)) = self.retention_bytes {
            change = change.retention_bytes(bytes);
        }
        if let Some(OrDefault(milliseconds)) = self.retention_ms {
            change = change.retention_ms(milliseconds);
        }
        if let Some(OrDefault(bytes)) = self.max_batch_bytes {
            change = change.max_batch_bytes(bytes);
        }
        if let Some(trust) = self.trust_producers {
            change = change.trust_producers(trust);
        }
        change
    }
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Arguments of `describe` and `delete`.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// The topic's name.
    name: String,
    #[command(flatten)]
    brokers: BrokerArgs,
}

pub(crate) fn run(command: TopicCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    block_on(async {
        match command {
            TopicCommand::Create(args) => create(args, output).await,
            TopicCommand::List(args) => list(&args, output).await,
            TopicCommand::Describe(args) => describe(&args, output).await,
            TopicCommand::Alter(args) => alter(&args, output).await,
            TopicCommand::Delete(args) => delete(&args, output).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.brokers.connect().await?;
    let mut topic = NewTopic::new(args.name)
        .partitions(args.partitions)
        .replication(args.replication)
        .trust_producers(args.trust_producers);
    if let Some(bytes) = args.retention_bytes {
        topic = topic.retention_bytes(bytes);
    }
    if let Some(milliseconds) = args.retention_ms {
        topic = topic.retention_ms(milliseconds);
    }
    if let Some(bytes) = args.max_batch_bytes {
        topic = topic.max_batch_bytes(bytes);
    }
    let created = client.create_topic(topic).await?;
    let count = created.partitions.len();
    output.answer(&topic_json(&created), || {
        format!("created topic {} with {count} partitions", created.name)
    })?;
    Ok(())
}

async fn list(args: &ListArgs, output: &mut Output) -> Result<(), CliError> {
    let topics = args.brokers.connect().await?.list_topics().await?;
    let json =
        topics.iter().map(|topic| json!({ "name": topic.name, "partitions": topic.partitions })).collect();
    output.answer(&json!({ "topics": Value::Array(json) }), || {
        let rows: Vec<_> =
            topics.iter().map(|topic| vec![topic.name.clone(), topic.partitions.to_string()]).collect();
        table(&["TOPIC", "PARTITIONS"], &rows)
    })?;
    Ok(())
}

async fn describe(args: &NamedArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.brokers.connect().await?;
    let described = client.describe_topic(&args.name).await?;
    let ends = Ends::of(&client, &described).await;
    let mut json = topic_json(&described.topic);
    if let Some(partitions) = json["partitions"].as_array_mut() {
        for (partition, ends) in partitions.iter_mut().zip(&ends) {
            partition["log_start"] = json!(ends.log_start);
            partition["high_watermark"] = json!(ends.high_watermark);
            partition["bytes"] = json!(ends.bytes);
        }
    }
    output.answer(&json, || describe_text(&described.topic, &ends))?;
    Ok(())
}

fn describe_text(topic: &TopicMetadata, ends: &[Ends]) -> String {
    let rows: Vec<Vec<String>> = topic
        .partitions
        .iter()
        .zip(ends)
        .map(|(partition, ends)| {
            vec![
                partition.partition.to_string(),
                or_dash(partition.leader),
                partition.term.to_string(),
                format!("{:?}", partition.replicas),
                or_dash(ends.log_start),
                or_dash(ends.high_watermark),
                or_dash(ends.bytes),
            ]
        })
        .collect();
    let heading = ["PARTITION", "LEADER", "TERM", "REPLICAS", "LOG START", "LAST LSN", "BYTES"];
    format!(
        "topic {} (id {}){}\n{}",
        topic.name,
        topic.id,
        settings_text(&topic.config),
        table(&heading, &rows)
    )
}

fn settings_text(config: &TopicConfig) -> String {
    let limits = [
        ("retention_bytes", config.retention_bytes),
        ("retention_ms", config.retention_ms),
        ("max_batch_bytes", config.max_batch_bytes.map(u64::from)),
    ];
    let mut text: String =
        limits.iter().filter_map(|(name, value)| value.map(|value| format!(", {name} {value}"))).collect();
    if config.trust_producers {
        text.push_str(", producers are trusted");
    }
    text
}

async fn alter(args: &AlterArgs, output: &mut Output) -> Result<(), CliError> {
    let change = args.change();
    if change.is_empty() {
        return Err(CliError::Usage("nothing to change: give --partitions or a setting".into()));
    }
    let altered = args.brokers.connect().await?.alter_topic(change).await?;
    output.answer(&topic_json(&altered), || {
        let count = altered.partitions.len();
        format!("topic {}: {count} partitions{}", altered.name, settings_text(&altered.config))
    })?;
    Ok(())
}

async fn delete(args: &NamedArgs, output: &mut Output) -> Result<(), CliError> {
    args.brokers.connect().await?.delete_topic(&args.name).await?;
    output.answer(&json!({ "deleted": args.name }), || format!("deleted topic {}", args.name))?;
    Ok(())
}

/// What a partition's log holds; unknown where nobody could say.
pub(crate) struct Ends {
    pub(crate) log_start: Option<u64>,
    pub(crate) high_watermark: Option<u64>,
    /// On the disk of the broker that answered.
    pub(crate) bytes: Option<u64>,
}

impl Ends {
    /// Of each partition, as its leader knows them.
    async fn of(client: &Client, described: &DescribeTopicResponse) -> Vec<Self> {
        let mut all = Vec::new();
        for partition in &described.topic.partitions {
            let number = partition.partition;
            let status = described.partitions.iter().find(|status| status.partition == number);
            let tail = client.tail(&described.topic.name, number, false).await.ok();
            all.push(Self {
                log_start: tail.as_ref().map(|tail| tail.log_start),
                high_watermark: tail.as_ref().map(|tail| tail.high_watermark),
                bytes: status.map(|status| status.bytes),
            });
        }
        all
    }
}

/// A topic as JSON.
pub(crate) fn topic_json(topic: &TopicMetadata) -> Value {
    let partitions = topic.partitions.iter().map(|partition| {
        json!({
            "partition": partition.partition,
            "shard": partition.shard,
            "leader": partition.leader,
            "term": partition.term,
            "replicas": partition.replicas,
        })
    });
    json!({
        "name": topic.name,
        "id": topic.id,
        "partitions": partitions.collect::<Vec<_>>(),
        "config": {
            "retention_bytes": topic.config.retention_bytes,
            "retention_ms": topic.config.retention_ms,
            "max_batch_bytes": topic.config.max_batch_bytes,
            "trust_producers": topic.config.trust_producers,
        },
    })
}
