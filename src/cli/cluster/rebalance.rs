//! `lockstep cluster rebalance`: the plan, and its beginning.

use std::process::ExitCode;

use clap::Args;
use lockstep_client::Client;
use lockstep_protocol::native::{PlannedMove, RebalanceResponse};
use serde_json::{Value, json};

use crate::cli::brokers::BrokerArgs;
use crate::cli::exit::CliError;
use crate::cli::output::{Output, table};
use crate::cli::waiting::{Wait, confirm};

/// Arguments of `rebalance`.
#[derive(Debug, Args)]
pub(crate) struct RebalanceArgs {
    #[command(flatten)]
    brokers: BrokerArgs,
    /// Begin without being asked.
    #[arg(long)]
    yes: bool,
    /// Wait until all moves are done.
    #[arg(long, conflicts_with = "cancel")]
    wait: bool,
    /// Give up the moves that are under way, all but those off draining brokers.
    #[arg(long, conflicts_with = "yes")]
    cancel: bool,
}

pub(crate) async fn run(args: &RebalanceArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let client = args.brokers.connect().await?;
    if args.cancel {
        let cancelled = client.cancel_moves(None).await?;
        output.answer(&json!({ "cancelled": cancelled }), || {
            format!("no more of a rebalance begins; moves that go back: {cancelled}")
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut plan = client.rebalance(true).await?;
    if !output.is_json() {
        output.line(&text(&plan))?;
        output.flush()?;
    }
    let begins = changes(&plan) > 0 && (args.yes || !output.is_json() && confirm("Begin?")?);
    if begins {
        plan = client.rebalance(false).await?;
    }
    if args.wait && (begins || changes(&plan) == 0) {
        wait_until_even(&client).await?;
    }
    if output.is_json() {
        output.line(&to_json(&plan, begins).to_string())?;
    } else if let Some(next) = next(changes(&plan), begins, args.wait) {
        output.line(next)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What to do after the plan was shown.
fn next(changes: usize, begun: bool, waited: bool) -> Option<&'static str> {
    match (changes, begun, waited) {
        (_, true, true) => Some("done"),
        (_, true, false) => Some("begun; `lockstep cluster status --watch` shows how far it is"),
        (0, false, _) => None,
        (_, false, _) => Some("nothing moves yet; add --yes to begin"),
    }
}

/// Waits until nothing is left to move, and nothing moves.
async fn wait_until_even(client: &Client) -> Result<(), CliError> {
    let wait = Wait {
        counted: "partitions to change",
        interrupted: "the rebalance goes on; `lockstep cluster rebalance --wait` waits on, and --cancel gives it up",
    };
    let look = async || {
        let plan = client.rebalance(true).await?;
        if changes(&plan) > 0 && !plan.under_way {
            return Err(CliError::Failed("the rebalance was given up by somebody else".into()));
        }
        Ok(changes(&plan) as u64 + u64::from(plan.moving))
    };
    wait.until_none_is_left(look).await
}

/// Partitions whose replicas or preferred leaders would be others.
fn changes(plan: &RebalanceResponse) -> usize {
    plan.moves.len() + plan.moves_left as usize
}

/// Replicas whose logs have to be copied.
fn copies(planned: &PlannedMove) -> usize {
    planned.to.iter().filter(|broker| !planned.from.contains(broker)).count()
}

fn to_json(plan: &RebalanceResponse, begun: bool) -> Value {
    let brokers = plan.brokers.iter().map(|share| {
        json!({
            "broker": share.broker,
            "draining": share.draining,
            "replicas": [share.replicas_before, share.replicas_after],
            "leaders": [share.leaders_before, share.leaders_after],
        })
    });
    let moves = plan.moves.iter().map(|planned| {
        let PlannedMove { topic, partition, from, to } = planned;
        json!({ "topic": topic, "partition": partition, "from": from, "to": to })
    });
    json!({
        "begun": begun,
        "brokers": brokers.collect::<Vec<_>>(),
        "moves": moves.collect::<Vec<_>>(),
        "moves_left": plan.moves_left,
        "moving": plan.moving,
        "under_way": plan.under_way,
    })
}

fn text(plan: &RebalanceResponse) -> String {
    let changes = changes(plan);
    if changes == 0 {
        return "replicas and leaders are spread evenly already, or on their way there".into();
    }
    let change = |before: u32, after: u32| match before == after {
        true => before.to_string(),
        false => format!("{before} -> {after}"),
    };
    let rows: Vec<Vec<String>> = plan
        .brokers
        .iter()
        .map(|share| {
            vec![
                share.broker.to_string(),
                change(share.replicas_before, share.replicas_after),
                change(share.leaders_before, share.leaders_after),
                if share.draining { "draining".into() } else { String::new() },
            ]
        })
        .collect();
    let copied: usize = plan.moves.iter().map(copies).sum();
    let at_least = if plan.moves_left > 0 { "at least " } else { "" };
    let brokers = table(&["BROKER", "REPLICAS", "LEADERS", ""], &rows);
    let moving = match plan.moving {
        0 => String::new(),
        moving => format!("; moving already: {moving}"),
    };
    format!("{brokers}\n\npartitions that change: {changes}; replicas to copy: {at_least}{copied}{moving}")
}

#[cfg(test)]
mod tests {
    use lockstep_protocol::native::BrokerShare;

    use super::*;

    #[test]
    fn a_plan_says_what_changes_and_that_nothing_has_begun() {
        let share = BrokerShare {
            broker: 4,
            draining: false,
            replicas_before: 0,
            replicas_after: 6,
            leaders_before: 2,
            leaders_after: 2,
        };
        let planned = PlannedMove { topic: "t".into(), partition: 1, from: vec![1, 2, 3], to: vec![4, 2, 1] };
        let plan = RebalanceResponse {
            brokers: vec![share],
            moves: vec![planned],
            moves_left: 2,
            moving: 1,
            under_way: false,
        };
        let shown = text(&plan);
        assert!(shown.contains("0 -> 6") && !shown.contains("2 -> 2"), "{shown}");
        assert!(shown.contains("partitions that change: 3; replicas to copy: at least 1"), "{shown}");
        assert!(next(3, false, false).is_some_and(|next| next.contains("--yes")));
        assert!(next(3, true, false).is_some_and(|next| next.contains("begun")));
        assert_eq!(next(0, false, false), None, "nothing is to be done");
        assert_eq!(to_json(&plan, true)["brokers"][0]["replicas"], json!([0, 6]));
    }
}
