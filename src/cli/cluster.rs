//! `lockstep cluster`: who is there, who leads, what is missing.

mod look;
mod status;

use std::process::ExitCode;

use clap::Subcommand;

use super::brokers::block_on;
use super::exit::CliError;
use super::output::Output;
use status::StatusArgs;

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show brokers and partitions. Exits with 1 if a broker is down or a partition has no leader.
    #[command(after_help = "Examples:\n  lockstep cluster status\n  lockstep cluster status --watch\n  \
                      lockstep cluster status --watch --json")]
    Status(StatusArgs),
}

pub(crate) fn run(command: ClusterCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    match command {
        ClusterCommand::Status(args) => block_on(status::run(&args, output)),
    }
}
