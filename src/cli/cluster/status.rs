//! `lockstep cluster status`: looks at the cluster, once or again and again.
//!
//! A look costs two requests, one more per broker, and one per partition only while there are few of them.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lockstep_client::{Client, ClientOptions};
use lockstep_protocol::native::TopicMetadata;
use serde_json::json;

use super::look::{Look, PARTITIONS_SHOWN_MAX, PartitionLine};
use crate::cli::brokers::{BrokerArgs, probe};
use crate::cli::exit::CliError;
use crate::cli::output::Output;
use crate::identity::ClusterId;

/// Time for one broker to answer: status is asked for when something is wrong.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// A partition that has no leader gets one within this time, if it can: it is looked at again before it counts as a fault.
const ELECTION_TIME: Duration = Duration::from_secs(1);
/// The shortest pause between two looks.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Moves to the upper left of an empty screen.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Show every partition. Without it, above 50 partitions, only those that need attention.
    #[arg(long)]
    all: bool,
    /// Look again and again, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Seconds between two looks, from 0.1 on.
    #[arg(long, value_name = "SECONDS", default_value = "1", requires = "watch", value_parser = interval)]
    interval: Duration,
}

fn interval(seconds: &str) -> Result<Duration, String> {
    let interval = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    interval.filter(|interval| *interval >= INTERVAL_MIN).ok_or_else(|| "give seconds from 0.1 on".to_owned())
}

pub(super) async fn run(args: &StatusArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let options = ClientOptions::new().retry_budget(Duration::ZERO).request_timeout(ANSWER_TIME_MAX);
    let client = args.brokers.connect_with(options).await?;
    if args.watch {
        tokio::select! {
            Ok(()) = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            ended = watch(&client, args, output) => return ended,
        }
    }
    let mut look = look(&client).await?;
    if look.may_be_electing() {
        tokio::time::sleep(ELECTION_TIME).await;
        look = self::look(&client).await?;
    }
    output.answer(&look.to_json(), || look.to_text(args.all))?;
    Ok(if look.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Ends only if nothing can be written any more: a cluster that does not answer is what one watches for.
async fn watch(client: &Client, args: &StatusArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let before = match (output.is_json(), io::stdout().is_terminal()) {
        (true, _) => "",
        (false, true) => CLEAR_SCREEN,
        (false, false) => "\n",
    };
    let mut first = true;
    loop {
        let (json, text) = match look(client).await {
            Ok(look) => (look.to_json(), look.to_text(args.all)),
            Err(error) => {
                (json!({ "healthy": false, "error": error.to_string() }), format!("NOT HEALTHY: {error}"))
            }
        };
        if !first || before == CLEAR_SCREEN {
            output.bytes(before.as_bytes())?;
        }
        first = false;
        output.answer(&json, || text)?;
        output.flush()?;
        tokio::time::sleep(args.interval).await;
    }
}

async fn look(client: &Client) -> Result<Look, CliError> {
    let brokers = client.list_brokers().await?;
    let metadata = client.metadata(None).await?;
    let brokers = probe(client, brokers).await;
    let mut partitions: Vec<PartitionLine> = metadata.topics.into_iter().flatten().flat_map(lines).collect();
    if partitions.len() <= PARTITIONS_SHOWN_MAX {
        for line in &mut partitions {
            let answers = |leader| brokers.iter().any(|broker| broker.info.id == leader && broker.up);
            // Nobody else knows, and a leader that is gone would cost the time limit for each of its partitions.
            if line.partition.leader.is_some_and(answers) {
                line.tail = client.tail(&line.topic, line.partition.partition, false).await.ok();
            }
        }
    }
    Ok(Look {
        cluster: client.cluster_id().map(|id| ClusterId(id).to_string()),
        metadata_leader: metadata.controller,
        brokers,
        partitions,
    })
}

fn lines(topic: TopicMetadata) -> impl Iterator<Item = PartitionLine> {
    let TopicMetadata { name, partitions, .. } = topic;
    partitions.into_iter().map(move |partition| PartitionLine { topic: name.clone(), partition, tail: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_seconds_from_a_tenth_on() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for refused in ["0", "0.05", "-1", "NaN", "inf", "soon"] {
            assert!(interval(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn an_interval_without_a_watch_is_refused() {
        use clap::Parser;
        #[derive(Debug, Parser)]
        struct Line {
            #[command(flatten)]
            args: StatusArgs,
        }
        let watched = Line::try_parse_from(["status", "--watch", "--interval", "3"]).unwrap();
        assert_eq!(watched.args.interval, Duration::from_secs(3));
        let error = Line::try_parse_from(["status", "--interval", "3"]).unwrap_err();
        assert!(error.to_string().contains("--watch"), "{error}");
    }
}
