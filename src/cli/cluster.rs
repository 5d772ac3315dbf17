//! `lockstep cluster`: who is there, who leads, what is missing, and how the load is spread.

mod look;
mod rebalance;
mod status;

use std::process::ExitCode;

use clap::Subcommand;

use super::brokers::block_on;
use super::exit::CliError;
use super::output::Output;
use rebalance::RebalanceArgs;
use status::StatusArgs;

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show brokers and partitions. Exits with 1 if a broker is down or a partition has no leader.
    #[command(after_help = "Examples:\n  lockstep cluster status\n  lockstep cluster status --watch\n  \
                      lockstep cluster status --watch --json")]
    Status(StatusArgs),
    /// Spread replicas and preferred leaders evenly over the brokers.
    #[command(
        after_help = "It shows the plan, and begins if the answer on the terminal is yes; without a terminal, only with --yes. \
                      The moves go on by themselves, a few at a time; `lockstep cluster status --watch` shows them.\n\n\
                      Examples:\n  lockstep cluster rebalance\n  lockstep cluster rebalance --yes --wait\n  \
                      lockstep cluster rebalance --cancel"
    )]
    Rebalance(RebalanceArgs),
}

pub(crate) fn run(command: ClusterCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    match command {
        ClusterCommand::Status(args) => block_on(status::run(&args, output)),
        ClusterCommand::Rebalance(args) => block_on(rebalance::run(&args, output)),
    }
}
