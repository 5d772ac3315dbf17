//! `lockstep consume`: records become standard output.

mod format;
mod start;

use std::process::ExitCode;

use clap::Args;
use lockstep_client::{ConsumedBatch, Consumer};
use tokio::time::{Duration, Instant, timeout_at};

use super::brokers::{BrokerArgs, block_on};
use super::exit::CliError;
use super::output::Output;
use format::Format;
pub(super) use start::parse as parse_start;

/// How often a group's position is committed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `consume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep consume greetings --from earliest --count 10
  lockstep consume greetings --from 2026-01-31T12:00:00Z --follow
  lockstep consume greetings --from 1 --until-end --format json
  lockstep consume greetings --group billing --from earliest
  lockstep consume greetings --format '%p:%l\\t%k\\t%v\\n'

A format is 'value' (a line each), 'raw' (no line ends), 'json', or a template: %T topic, %p partition,
%l LSN, %t milliseconds since 1970, %k key, %v value, %h headers, %% per cent; \\n \\t \\r \\0 \\\\.")]
pub(crate) struct ConsumeArgs {
    /// The topic.
    topic: String,
    /// Go on where this group has come to, and commit how far it comes: about every second, and at the end. Where it has
    /// not begun, --from says where to start.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Where to start: earliest, latest, an LSN, or a time (RFC 3339, or ms:MILLISECONDS since 1970). A number
    /// above 10^12 is taken for milliseconds too.
    #[arg(long, value_name = "PLACE", default_value = "latest", value_parser = start::parse)]
    from: lockstep_client::Start,
    /// Stop after this many records.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Stop after the last record that is committed now.
    #[arg(long, conflicts_with = "follow")]
    until_end: bool,
    /// Wait for more for ever (the default, unless --count or --until-end ends it).
    #[arg(long)]
    follow: bool,
    /// How records look: value, raw, json, or a template.
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse)]
    format: Option<Format>,
    /// The partition; without it all of them, each in its order.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Read from this broker's copy and no other.
    #[arg(long, value_name = "ID")]
    node: Option<u64>,
    #[command(flatten)]
    brokers: BrokerArgs,
}

pub(crate) fn run(args: ConsumeArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let default = if output.is_json() { Format::Json } else { Format::Value };
    let format = args.format.clone().unwrap_or(default);
    block_on(async {
        let client = args.brokers.connect().await?;
        let mut builder = client.consumer(&args.topic).from(args.from);
        if let Some(partition) = args.partition {
            builder = builder.partition(partition);
        }
        if let Some(node) = args.node {
            builder = builder.only_from_node(node);
        }
        if let Some(group) = &args.group {
            builder = builder.group(client.group(group));
        }
        if args.until_end {
            builder = builder.until_end();
        }
        copy(builder.open().await?, &args, &format, output).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes records until there are enough of them. What was written so far stands even if reading fails; for a group, only
/// what was written out is committed.
async fn copy(
    mut consumer: Consumer,
    args: &ConsumeArgs,
    format: &Format,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut line = Vec::new();
    let mut commit_at = Instant::now() + COMMIT_INTERVAL;
    while left > 0 {
        let Some(batch) = next_batch(&mut consumer, commit_at, output).await? else { break };
        for record in batch.records().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            let record = record?;
            line.clear();
            format.write(&args.topic, &record, &mut line);
            output.bytes(&line)?;
            consumer.processed(record.partition, record.lsn);
            left -= 1;
        }
        if Instant::now() >= commit_at {
            output.flush()?;
            consumer.commit().await?;
            commit_at = Instant::now() + COMMIT_INTERVAL;
        }
    }
    output.flush()?;
    Ok(consumer.commit().await?)
}

/// The next batch. All is written out whenever nothing more is at hand, so that a slow stream is seen as it comes, and
/// committed if that lasts.
async fn next_batch(
    consumer: &mut Consumer,
    commit_at: Instant,
    output: &mut Output,
) -> Result<Option<ConsumedBatch>, CliError> {
    let at_hand = tokio::select! {
        biased;
        next = consumer.next_batch() => Some(next),
        () = std::future::ready(()) => None,
    };
    let next = match at_hand {
        Some(next) => next,
        None => {
            output.flush()?;
            match timeout_at(commit_at, consumer.next_batch()).await {
                Ok(next) => next,
                Err(_) => {
                    consumer.commit().await?;
                    consumer.next_batch().await
                }
            }
        }
    };
    if let Some(Err(_)) = &next {
        output.flush()?;
    }
    Ok(next.transpose()?)
}
