//! `lockstep group`: list, show, commit, reset, delete.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lockstep_client::producer::now_ms;
use lockstep_client::{Client, Group, KeptPosition, Lag, PositionCommit, Start};
use serde_json::{Value, json};

use super::brokers::{BrokerArgs, block_on};
use super::consume::parse_start;
use super::exit::CliError;
use super::output::{Output, table};

/// What to do with consumer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List the groups that have committed positions.
    List(ListArgs),
    /// Show how far a group has come, and how far behind it is.
    #[command(after_help = "Example:\n  lockstep group show billing")]
    Show(ShowArgs),
    /// Commit one position: the first LSN that is not processed.
    #[command(after_help = "Example:\n  lockstep group commit billing invoices 42 --partition 2")]
    Commit(CommitArgs),
    /// Move a group in all partitions of a topic, or in one. Stop its members first: they would commit over it.
    #[command(
        after_help = "Examples:\n  lockstep group reset billing invoices --to earliest\n  lockstep group reset billing invoices --to 2026-01-31T12:00:00Z --dry-run"
    )]
    Reset(ResetArgs),
    /// Delete a group's positions: all of them, or those of a topic.
    #[command(after_help = "Example:\n  lockstep group delete billing --topic invoices")]
    Delete(DeleteArgs),
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The group.
    group: String,
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Where positions are kept.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Where they are kept, if that is not the partition they speak of: the one the group writes to.
    #[arg(long, value_name = "TOPIC/PARTITION", value_parser = parse_place)]
    kept_in: Option<(String, u32)>,
}

/// Arguments of `commit`.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// The group.
    group: String,
    /// The topic it reads.
    topic: String,
    /// The first LSN that is not processed.
    next_lsn: u64,
    /// The partition it reads.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    partition: u32,
    /// Commit only if the position is this one; 0 if there is none.
    #[arg(long, value_name = "LSN")]
    expected: Option<u64>,
    /// The member's generation; without it that of the last commit.
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u64>,
    /// What to note beside it.
    #[arg(long, default_value = "", value_name = "TEXT")]
    metadata: String,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Arguments of `reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The group.
    group: String,
    /// The topic it reads.
    topic: String,
    /// Where it goes on: earliest, latest, an LSN, or a time, as `consume --from` has them.
    #[arg(long, value_name = "PLACE", value_parser = parse_start)]
    to: Start,
    /// This partition alone.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The group.
    group: String,
    /// Only those of this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Only that of this partition of it.
    #[arg(long, value_name = "NUMBER", requires = "topic")]
    partition: Option<u32>,
    #[command(flatten)]
    brokers: BrokerArgs,
}

pub(crate) fn run(command: GroupCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    block_on(async {
        match command {
            GroupCommand::List(args) => list(&args, output).await,
            GroupCommand::Show(args) => show(&args, output).await,
            GroupCommand::Commit(args) => commit(args, output).await,
            GroupCommand::Reset(args) => reset(&args, output).await,
            GroupCommand::Delete(args) => delete(&args, output).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &ListArgs, output: &mut Output) -> Result<(), CliError> {
    let kept = args.brokers.connect().await?.positions(None).await?;
    let groups: Vec<&[KeptPosition]> = kept.chunk_by(|a, b| a.position.group == b.position.group).collect();
    let topics = |group: &[KeptPosition]| {
        let mut topics: Vec<_> = group.iter().map(|kept| kept.position.topic.clone()).collect();
        topics.dedup();
        topics
    };
    let all: Vec<Value> = groups
        .iter()
        .map(|group| {
            let name = &group[0].position.group;
            json!({ "group": name, "topics": topics(group), "positions": group.len() })
        })
        .collect();
    let rows: Vec<_> = groups
        .iter()
        .map(|group| vec![group[0].position.group.clone(), topics(group).join(","), group.len().to_string()])
        .collect();
    Ok(output.answer(&json!(all), || table(&["GROUP", "TOPICS", "POSITIONS"], &rows))?)
}

async fn show(args: &ShowArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.brokers.connect().await?;
    let kept = client.positions(Some(&args.group)).await?;
    if kept.is_empty() {
        return Err(nothing_of(&args.group));
    }
    let mut shown = Vec::new();
    for kept in kept {
        let position = kept.position.clone();
        let lag = client.lag_of(&position.topic, position.partition, Some(position.clone())).await?;
        shown.push((kept, lag));
    }
    let now = u64::try_from(now_ms()).unwrap_or(0);
    let rows: Vec<_> = shown.iter().map(|(kept, lag)| row(kept, lag, now)).collect();
    let all: Vec<Value> = shown.iter().map(|(kept, lag)| to_json(kept, lag, now)).collect();
    let heading = ["TOPIC", "PARTITION", "NEXT LSN", "LAST LSN", "LAG", "GENERATION", "AGE", "KEPT IN"];
    Ok(output.answer(&json!({ "group": args.group, "positions": all }), || table(&heading, &rows))?)
}

fn row(kept: &KeptPosition, lag: &Lag, now_ms: u64) -> Vec<String> {
    let position = &kept.position;
    let age_s = now_ms.saturating_sub(position.leader_time_ms) / 1_000;
    vec![
        position.topic.clone(),
        position.partition.to_string(),
        position.next_lsn.to_string(),
        lag.high_watermark.to_string(),
        lag.records.to_string(),
        position.generation.to_string(),
        format!("{age_s} s"),
        format!("{}/{}", kept.topic, kept.partition),
    ]
}

fn to_json(kept: &KeptPosition, lag: &Lag, now_ms: u64) -> Value {
    let position = &kept.position;
    json!({
        "topic": position.topic,
        "partition": position.partition,
        "next_lsn": position.next_lsn,
        "log_start": lag.log_start,
        "high_watermark": lag.high_watermark,
        "lag": lag.records,
        "generation": position.generation,
        "metadata": position.metadata,
        "leader_time_ms": position.leader_time_ms,
        "age_ms": now_ms.saturating_sub(position.leader_time_ms),
        "kept_in": { "topic": kept.topic, "partition": kept.partition },
    })
}

async fn commit(args: CommitArgs, output: &mut Output) -> Result<(), CliError> {
    let group = group_of(&args.brokers.connect().await?, &args.group, args.place.kept_in.clone());
    let generation = match args.generation {
        Some(generation) => generation,
        None => generation_of(&group, &args.topic, args.partition).await?,
    };
    let position = PositionCommit {
        generation,
        metadata: args.metadata.clone(),
        expected_next_lsn: args.expected,
        ..group.at(&args.topic, args.partition, args.next_lsn)
    };
    group.commit(position).await?;
    let CommitArgs { group, topic, partition, next_lsn, .. } = &args;
    let json = json!({ "group": group, "topic": topic, "partition": partition, "next_lsn": next_lsn });
    Ok(output.answer(&json, || format!("{group} goes on at LSN {next_lsn} of {topic}/{partition}"))?)
}

async fn reset(args: &ResetArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.brokers.connect().await?;
    let group = group_of(&client, &args.group, args.place.kept_in.clone());
    let partitions = match args.partition {
        Some(partition) => vec![partition],
        None => {
            let found = client.describe_topic(&args.topic).await?.topic;
            found.partitions.iter().map(|partition| partition.partition).collect()
        }
    };
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for partition in partitions {
        let before = group.committed(&args.topic, partition).await?;
        let next_lsn = client.first_lsn(&args.topic, partition, args.to).await?;
        let generation = before.as_ref().map_or(0, |before| before.generation);
        if !args.dry_run {
            let position = group.at(&args.topic, partition, next_lsn);
            group.commit(PositionCommit { generation, ..position }).await?;
        }
        let from = before.map(|before| before.next_lsn);
        let text = from.map_or("-".to_owned(), |from| from.to_string());
        rows.push(vec![args.topic.clone(), partition.to_string(), text, next_lsn.to_string()]);
        all.push(json!({ "partition": partition, "from": from, "to": next_lsn }));
    }
    let json = json!({
        "group": args.group,
        "topic": args.topic,
        "dry_run": args.dry_run,
        "partitions": all,
    });
    Ok(output.answer(&json, || table(&["TOPIC", "PARTITION", "FROM LSN", "TO LSN"], &rows))?)
}

async fn delete(args: &DeleteArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.brokers.connect().await?;
    let kept = client.positions(Some(&args.group)).await?;
    let wanted = |kept: &&KeptPosition| {
        let position = &kept.position;
        args.topic.as_ref().is_none_or(|topic| *topic == position.topic)
            && args.partition.is_none_or(|partition| partition == position.partition)
    };
    let kept: Vec<&KeptPosition> = kept.iter().filter(wanted).collect();
    if kept.is_empty() {
        return Err(nothing_of(&args.group));
    }
    for kept in &kept {
        let group = client.group(&args.group).kept_in(&kept.topic, kept.partition);
        group.delete(Some((&kept.position.topic, kept.position.partition))).await?;
    }
    let deleted = kept.len();
    let json = json!({ "group": args.group, "deleted": deleted });
    Ok(output.answer(&json, || format!("{}: {deleted} positions deleted", args.group))?)
}

fn group_of(client: &Client, name: &str, kept_in: Option<(String, u32)>) -> Group {
    let group = client.group(name);
    match kept_in {
        Some((topic, partition)) => group.kept_in(topic, partition),
        None => group,
    }
}

async fn generation_of(group: &Group, topic: &str, partition: u32) -> Result<u64, CliError> {
    Ok(group.committed(topic, partition).await?.map_or(0, |found| found.generation))
}

fn nothing_of(group: &str) -> CliError {
    CliError::Failed(format!(
        "group {group:?} has no such positions: correct the name (lockstep group list shows all)"
    ))
}

/// Reads `TOPIC/PARTITION`.
fn parse_place(text: &str) -> Result<(String, u32), String> {
    let parsed = text.rsplit_once('/').and_then(|(topic, partition)| {
        let partition = partition.parse().ok()?;
        (!topic.is_empty()).then(|| (topic.to_owned(), partition))
    });
    parsed.ok_or_else(|| format!("{text:?} is no partition: write it as topic/partition, such as invoices/2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_topic_and_a_partition() {
        assert_eq!(parse_place("invoices/2"), Ok(("invoices".to_owned(), 2)));
        for text in ["", "invoices", "/2", "invoices/", "invoices/x", "invoices/-1"] {
            assert!(parse_place(text).is_err(), "{text}");
        }
    }
}
