//! `lockstep partition`: tail, trim, fence, move.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lockstep_client::Client;
use serde_json::json;

use super::brokers::{BrokerArgs, block_on};
use super::exit::CliError;
use super::output::Output;
use super::waiting::{Doubt, Wait};

/// What to do with a partition.
#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// Show where the log starts and ends, confirmed by a majority.
    #[command(after_help = "Example:\n  lockstep partition tail invoices --partition 2")]
    Tail(TailArgs),
    /// Give up the records below an LSN.
    #[command(after_help = "Example:\n  lockstep partition trim invoices 100000")]
    Trim(TrimArgs),
    /// Shut out writers of a smaller epoch.
    #[command(after_help = "Example:\n  lockstep partition fence invoices 7")]
    Fence(FenceArgs),
    /// Move the replicas to other brokers.
    #[command(
        after_help = "Without --wait the answer comes when the goal is written down; `lockstep cluster status --watch` shows the \
                      way there.\n\nExamples:\n  lockstep partition move invoices --partition 2 --to 1,2,4 --wait\n  \
                      lockstep partition move invoices --partition 2 --cancel"
    )]
    Move(MoveArgs),
}

/// Which partition.
#[derive(Debug, Args)]
struct PartitionArgs {
    /// The topic.
    topic: String,
    /// The partition.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    partition: u32,
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    partition: PartitionArgs,
    /// Ask this broker what it knows, leader or not, without confirmation.
    #[arg(long, value_name = "ID")]
    node: Option<u64>,
}

/// Arguments of `trim`.
#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    #[command(flatten)]
    partition: PartitionArgs,
    /// First LSN to keep.
    log_start: u64,
}

/// Arguments of `fence`.
#[derive(Debug, Args)]
pub(crate) struct FenceArgs {
    #[command(flatten)]
    partition: PartitionArgs,
    /// The epoch from which on writers are accepted.
    epoch: u64,
}

/// Arguments of `move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    partition: PartitionArgs,
    /// The brokers that shall hold a replica, the preferred leader first.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', required_unless_present = "cancel")]
    to: Vec<u64>,
    /// Give up the move that is under way.
    #[arg(long, conflicts_with = "to")]
    cancel: bool,
    /// Wait until the replicas are there.
    #[arg(long, conflicts_with = "cancel")]
    wait: bool,
}

pub(crate) fn run(command: PartitionCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    block_on(async {
        match command {
            PartitionCommand::Tail(args) => tail(&args, output).await,
            PartitionCommand::Trim(args) => trim(&args, output).await,
            PartitionCommand::Fence(args) => fence(&args, output).await,
            PartitionCommand::Move(args) => move_replicas(&args, output).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn move_replicas(args: &MoveArgs, output: &mut Output) -> Result<(), CliError> {
    let PartitionArgs { topic, partition, brokers } = &args.partition;
    let client = brokers.connect().await?;
    if args.cancel {
        let cancelled = client.cancel_moves(Some((topic, *partition))).await?;
        output.answer(&json!({ "cancelled": cancelled }), || match cancelled {
            0 => format!("{topic}/{partition} is not moving"),
            _ => format!("{topic}/{partition} stays where it was"),
        })?;
        return Ok(());
    }
    client.move_partition(topic, *partition, &args.to).await?;
    if args.wait {
        wait_until_there(&client, topic, *partition, &args.to).await?;
    }
    let json = json!({ "topic": topic, "partition": partition, "to": args.to, "there": args.wait });
    let verb = if args.wait { "is on" } else { "moves to" };
    output.answer(&json, || format!("{topic}/{partition} {verb} {:?}", args.to))?;
    Ok(())
}

/// Waits until a partition is on these brokers.
async fn wait_until_there(client: &Client, topic: &str, partition: u32, to: &[u64]) -> Result<(), CliError> {
    let counted = format!("{topic}/{partition}: replicas to copy");
    let interrupted = format!(
        "{topic}/{partition} goes on moving; `lockstep partition move {topic} --partition {partition} --cancel` gives it up"
    );
    let wait = Wait { counted: &counted, interrupted: &interrupted };
    let mut doubt = Doubt::default();
    let look = async || {
        let topics = client.metadata(Some(vec![topic.to_owned()])).await?.topics;
        let found = topics.iter().flatten().find(|found| found.name == topic);
        let found =
            found.and_then(|found| found.partitions.iter().find(|found| found.partition == partition));
        let Some(found) = found else {
            return Err(CliError::Failed(format!("{topic}/{partition} was deleted while it moved")));
        };
        let goal = found.moving_to.as_deref();
        if goal.is_none() && found.replicas == to {
            return Ok(0);
        }
        let why = || format!("{topic}/{partition} does not move there any more: somebody else gave that up");
        doubt.look(goal == Some(to), why)?;
        Ok(to.iter().filter(|broker| !found.replicas.contains(broker)).count().max(1) as u64)
    };
    wait.until_none_is_left(look).await
}

async fn tail(args: &TailArgs, output: &mut Output) -> Result<(), CliError> {
    let PartitionArgs { topic, partition, brokers } = &args.partition;
    let client = brokers.connect().await?;
    let tail = match args.node {
        Some(node) => client.tail_of_node(node, topic, *partition).await?,
        None => client.tail(topic, *partition, true).await?,
    };
    let json = json!({
        "topic": topic,
        "partition": partition,
        "log_start": tail.log_start,
        "high_watermark": tail.high_watermark,
        "next_lsn": tail.next_lsn,
        "term": tail.term,
        "leader_time_ms": tail.leader_time_ms,
    });
    output.answer(&json, || {
        format!(
            "{topic}/{partition}: log start {}, last LSN {}, next LSN {}, term {}",
            tail.log_start, tail.high_watermark, tail.next_lsn, tail.term
        )
    })?;
    Ok(())
}

async fn trim(args: &TrimArgs, output: &mut Output) -> Result<(), CliError> {
    let PartitionArgs { topic, partition, brokers } = &args.partition;
    let log_start = brokers.connect().await?.trim(topic, *partition, args.log_start).await?;
    let json = json!({ "topic": topic, "partition": partition, "log_start": log_start });
    output.answer(&json, || format!("{topic}/{partition}: the log starts at LSN {log_start}"))?;
    Ok(())
}

async fn fence(args: &FenceArgs, output: &mut Output) -> Result<(), CliError> {
    let PartitionArgs { topic, partition, brokers } = &args.partition;
    let epoch = brokers.connect().await?.fence(topic, *partition, args.epoch).await?;
    let json = json!({ "topic": topic, "partition": partition, "epoch": epoch });
    output
        .answer(&json, || format!("{topic}/{partition}: writers of an epoch below {epoch} are shut out"))?;
    Ok(())
}
