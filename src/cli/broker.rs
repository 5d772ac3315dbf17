//! `lockstep broker`: which brokers there are, what each holds, and how one gives it away and is removed.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use lockstep_client::{BrokerError, Client, ClientOptions};
use lockstep_protocol::native::{BrokerInfo, TopicMetadata};
use serde_json::{Value, json};

use super::brokers::{BrokerArgs, block_on, probe};
use super::exit::CliError;
use super::output::{Output, table};
use super::waiting::{Doubt, Wait};
use crate::identity::DirectoryId;

/// What to do with brokers. A new one joins with `lockstep serve --join`.
#[derive(Debug, Subcommand)]
pub(crate) enum BrokerCommand {
    /// List all brokers, and what they hold.
    #[command(after_help = "Example:\n  lockstep broker list")]
    List(ListArgs),
    /// Show one broker, and the partitions it holds.
    #[command(after_help = "Example:\n  lockstep broker show 4")]
    Show(NamedArgs),
    /// Let a broker give its replicas to others and get no new ones.
    #[command(
        after_help = "It begins at once and goes on by itself, for a broker that is dead as well; `lockstep broker show` says \
                      what is left.\n\nExamples:\n  lockstep broker drain 4 --wait\n  lockstep broker drain 4 --cancel"
    )]
    Drain(DrainArgs),
    /// Drain a broker, wait until it holds nothing, and remove it for good.
    #[command(
        after_help = "Ctrl-C leaves it draining: give the command again to go on, or `lockstep broker drain ID --cancel` to keep \
                      it.\n\nExample:\n  lockstep broker decommission 4"
    )]
    Decommission(NamedArgs),
    /// Remove a broker that holds nothing, for good: its id is never given out again.
    #[command(
        after_help = "It must hold no replica: drain it first, and wait until nothing is left on it. A broker that is dead \
                      can be drained and removed as well.\n\nExample:\n  lockstep broker remove 4"
    )]
    Remove(NamedArgs),
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Arguments of commands that name a broker.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// The broker's id.
    #[arg(value_name = "ID")]
    id: u64,
    #[command(flatten)]
    brokers: BrokerArgs,
}

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Let it keep what it still holds, and get new replicas again.
    #[arg(long)]
    cancel: bool,
    /// Wait until it holds nothing.
    #[arg(long, conflicts_with = "cancel")]
    wait: bool,
}

/// Time for one broker to say that it is there.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

pub(crate) fn run(command: BrokerCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    match command {
        BrokerCommand::List(args) => block_on(list(&args, output))?,
        BrokerCommand::Show(args) => block_on(show(&args, output))?,
        BrokerCommand::Drain(args) => block_on(drain(&args, output))?,
        BrokerCommand::Decommission(args) => block_on(decommission(&args, output))?,
        BrokerCommand::Remove(args) => block_on(remove(&args, output))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &ListArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.brokers.connect().await?;
    let brokers = client.list_brokers().await?;
    let lines = probe(&hasty(&args.brokers).await?, brokers).await;
    let json =
        json!({ "brokers": lines.iter().map(|line| to_json(&line.info, line.up)).collect::<Vec<_>>() });
    output.answer(&json, || {
        let rows: Vec<_> = lines.iter().map(|line| to_row(&line.info, line.up)).collect();
        table(&["BROKER", "NATIVE", "PEER", "HTTP", "RACK", "STATE", "REPLICAS", ""], &rows)
    })?;
    Ok(())
}

async fn show(args: &NamedArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.brokers.connect().await?;
    let brokers = client.list_brokers().await?;
    let Some(broker) = brokers.iter().find(|broker| broker.id == args.id) else {
        return Err(CliError::Failed(format!(
            "there is no broker {}; `lockstep broker list` shows those there are",
            args.id
        )));
    };
    let up = hasty(&args.brokers).await?.node_answers(broker.id).await.is_ok();
    let held = held(&client, broker.id).await?;
    let mut json = to_json(broker, up);
    let to_json = |(topic, partition, leads): &(String, u32, bool)| json!({ "topic": topic, "partition": partition, "leader": leads });
    json["partitions"] = Value::Array(held.iter().map(to_json).collect());
    output.answer(&json, || text(broker, up, &held))?;
    Ok(())
}

async fn drain(args: &DrainArgs, output: &mut Output) -> Result<(), CliError> {
    let id = args.named.id;
    let client = args.named.brokers.connect().await?;
    client.drain_broker(id, !args.cancel).await?;
    if !args.cancel {
        warn_if_few_stay(&client).await;
    }
    if args.wait {
        wait_until_empty(&client, id, async || Ok(true)).await?;
    }
    let json = json!({ "broker": id, "draining": !args.cancel, "empty": args.wait });
    output.answer(&json, || match (args.cancel, args.wait) {
        (true, _) => format!("broker {id} keeps what it holds"),
        (_, true) => format!("broker {id} holds nothing; `lockstep broker remove {id}` removes it for good"),
        (_, false) => {
            format!("broker {id} gives its replicas away; `lockstep broker show {id}` says what is left")
        }
    })?;
    Ok(())
}

async fn decommission(args: &NamedArgs, output: &mut Output) -> Result<(), CliError> {
    let client = args.brokers.connect().await?;
    client.drain_broker(args.id, true).await?;
    warn_if_few_stay(&client).await;
    let removed = async || match client.remove_broker(args.id).await {
        // It was there a moment ago: an earlier attempt of this removed it, or it was a founder that never came.
        Ok(()) | Err(BrokerError::Unknown { .. }) => Ok(true),
        // Who said that nothing is left lagged behind; the metadata's leader decides.
        Err(BrokerError::InUse { .. }) => Ok(false),
        Err(error) => Err(CliError::from(error)),
    };
    wait_until_empty(&client, args.id, removed).await?;
    let json = json!({ "removed": args.id });
    output.answer(&json, || {
        format!(
            "broker {} holds nothing and is removed; stop its process, and delete its data when you like",
            args.id
        )
    })?;
    Ok(())
}

/// The cluster's own metadata needs no topic's replication factor: it shrinks to the brokers that stay, however few.
async fn warn_if_few_stay(client: &Client) {
    // What was asked for is done: that nobody can say who stays is no fault of it.
    let Ok(brokers) = client.list_brokers().await else { return };
    if let Some(warning) = warning_of_few(brokers.iter().filter(|broker| !broker.draining).count()) {
        eprintln!("warning: {warning}");
    }
}

fn warning_of_few(staying: usize) -> Option<String> {
    let (brokers, risk) = match staying {
        1 => ("one broker stays", "is lost with it"),
        2 => ("two brokers stay", "cannot change while one of them is down"),
        _ => return None,
    };
    Some(format!(
        "{brokers}, and what the cluster knows of its topics and brokers {risk}; have another join (`lockstep serve --join`)"
    ))
}

/// Waits until a draining broker holds nothing, as far as some broker knows, and `agreed` says so too.
async fn wait_until_empty(
    client: &Client,
    id: u64,
    mut agreed: impl AsyncFnMut() -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let counted = format!("broker {id}: replicas left");
    let interrupted = format!(
        "broker {id} goes on draining; give the command again to wait on, or `lockstep broker drain {id} --cancel` to keep it"
    );
    let wait = Wait { counted: &counted, interrupted: &interrupted };
    let mut doubt = Doubt::default();
    let look = async || {
        let brokers = client.list_brokers().await?;
        let broker = brokers.iter().find(|broker| broker.id == id);
        let left = broker.map_or(0, |broker| u64::from(broker.replicas) + u64::from(broker.metadata));
        if left == 0 {
            return Ok(u64::from(!agreed().await?));
        }
        let drains = broker.is_none_or(|broker| broker.draining);
        doubt.look(drains, || format!("broker {id} does not drain any more: somebody else has kept it"))?;
        Ok(left)
    };
    wait.until_none_is_left(look).await
}

async fn remove(args: &NamedArgs, output: &mut Output) -> Result<(), CliError> {
    args.brokers.connect().await?.remove_broker(args.id).await?;
    let json = json!({ "removed": args.id });
    output.answer(&json, || {
        format!("broker {} is removed; stop its process, and delete its data when you like", args.id)
    })?;
    Ok(())
}

/// A client that asks once and does not wait long: brokers are looked at when one is down.
async fn hasty(args: &BrokerArgs) -> Result<Client, CliError> {
    let options = ClientOptions::new().retry_budget(Duration::ZERO).request_timeout(ANSWER_TIME_MAX);
    args.connect_with(options.connect_timeout(ANSWER_TIME_MAX)).await
}

/// The partitions that a broker holds a replica of, and whether it leads them.
async fn held(client: &Client, id: u64) -> Result<Vec<(String, u32, bool)>, CliError> {
    let topics = client.metadata(None).await?.topics;
    let of_topic = |topic: &TopicMetadata| {
        let held = topic.partitions.iter().filter(|partition| partition.replicas.contains(&id));
        held.map(|partition| (topic.name.clone(), partition.partition, partition.leader == Some(id)))
            .collect::<Vec<_>>()
    };
    Ok(topics.iter().flatten().flat_map(of_topic).collect())
}

fn state(broker: &BrokerInfo, up: bool) -> &'static str {
    match (up, broker.draining) {
        (true, false) => "up",
        (true, true) => "up, draining",
        (false, false) => "DOWN",
        (false, true) => "DOWN, draining",
    }
}

fn to_json(broker: &BrokerInfo, up: bool) -> Value {
    json!({
        "id": broker.id,
        "directory": broker.directory.map(|directory| DirectoryId(directory).to_string()),
        "native": broker.native,
        "peer": broker.peer,
        "http": broker.http,
        "rack": broker.rack,
        "up": up,
        "draining": broker.draining,
        "replicas": broker.replicas,
        "metadata": broker.metadata,
    })
}

fn to_row(broker: &BrokerInfo, up: bool) -> Vec<String> {
    vec![
        broker.id.to_string(),
        broker.native.clone(),
        broker.peer.clone(),
        broker.http.clone(),
        broker.rack.clone().unwrap_or_else(|| "-".into()),
        state(broker, up).into(),
        broker.replicas.to_string(),
        if broker.metadata { "metadata".into() } else { String::new() },
    ]
}

fn text(broker: &BrokerInfo, up: bool, held: &[(String, u32, bool)]) -> String {
    let unknown = || "-".to_owned();
    let directory = broker.directory.map_or_else(unknown, |id| DirectoryId(id).to_string());
    let metadata = if broker.metadata { "a voting replica" } else { "follows it" };
    let facts = [
        ("state", state(broker, up).to_owned()),
        ("clients", broker.native.clone()),
        ("brokers", broker.peer.clone()),
        ("http", broker.http.clone()),
        ("rack", broker.rack.clone().unwrap_or_else(unknown)),
        ("directory", directory),
        ("metadata", metadata.to_owned()),
        ("replicas", broker.replicas.to_string()),
    ];
    let facts: Vec<String> = facts.iter().map(|(name, value)| format!("  {name:<10} {value}")).collect();
    let mut text = format!("broker {}\n{}", broker.id, facts.join("\n"));
    if !held.is_empty() {
        let row = |(topic, partition, leads): &(String, u32, bool)| {
            let role = if *leads { "leader" } else { "" };
            vec![topic.clone(), partition.to_string(), role.into()]
        };
        let rows: Vec<_> = held.iter().map(row).collect();
        text.push_str(&format!("\n\n{}", table(&["TOPIC", "PARTITION", ""], &rows)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leaves_fewer_than_three_brokers_is_warned() {
        for (staying, says) in [(1, "lost with it"), (2, "cannot change")] {
            let warning = warning_of_few(staying).expect("too few to lose one");
            assert!(warning.contains(says) && warning.contains("--join"), "{warning}");
        }
        assert_eq!(warning_of_few(3), None);
    }
}
