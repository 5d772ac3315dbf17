//! `lockstep history`: what users were told, recorded and held against what the brokers keep.
//!
//! ```text
//! record: writers, readers, watchers ──▶ recorder ──▶ FILE
//! check:  FILE… + each replica's log ──▶ lockstep_checker::check ──▶ verdict
//! ```

mod check;
mod readers;
mod record;
mod recorder;
mod replica_logs;
mod writers;

use std::process::ExitCode;

use clap::Subcommand;

use super::exit::CliError;
use super::output::Output;

/// What to do with a history.
#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// Let many writers and readers use a partition, and record what each was told.
    #[command(after_help = record::EXAMPLES)]
    Record(record::RecordArgs),
    /// Check recorded histories against the log of every replica. Exits with 1 if a promise was broken.
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
}

pub(crate) fn run(command: HistoryCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    match command {
        HistoryCommand::Record(args) => record::run(&args, output),
        HistoryCommand::Check(args) => check::run(&args, output),
    }
}
