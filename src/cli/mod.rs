//! The `lockstep` command: noun, then verb.
//!
//! What holds:
//!
//! - Answers go to standard output, everything else (progress, summaries, complaints) to standard error.
//! - `--json` makes every answer JSON.
//! - Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done (`produce`: not all records acknowledged).
//! - A reader that closes the pipe ends the command quietly.

mod bench;
mod broker;
mod brokers;
mod cluster;
mod consume;
mod exit;
mod format;
mod group;
mod history;
mod log;
mod output;
mod partition;
mod produce;
mod serve;
mod topic;
mod up;
mod waiting;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use exit::CliError;
use output::Output;

/// A replicated log store that writes every payload once.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  lockstep up                                     three brokers on this machine
  echo hello | lockstep produce greetings         write a record
  lockstep consume greetings --from earliest      read from the beginning

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster of brokers on this machine and keep it running.
    Up(up::UpArgs),
    /// Run one broker.
    Serve(serve::ServeArgs),
    /// Create, list, describe and delete topics.
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Write records from standard input.
    Produce(produce::ProduceArgs),
    /// Read records to standard output.
    Consume(consume::ConsumeArgs),
    /// Measure what the cluster, and this machine, can do.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// List, show and remove brokers.
    #[command(subcommand)]
    Broker(broker::BrokerCommand),
    /// Look at the cluster.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Look at, trim and fence a partition.
    #[command(subcommand)]
    Partition(partition::PartitionCommand),
    /// See and move how far consumer groups have come.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Inspect and verify the files of a stopped broker.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Record what writers and readers are told, and check that the log keeps it.
    #[command(subcommand)]
    History(history::HistoryCommand),
    /// Make a data directory for a broker of a cluster.
    Format(format::FormatArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  lockstep completions bash > /etc/bash_completion.d/lockstep")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(cli.json);
    let result = run(cli.command, &mut output).and_then(|code| Ok(output.finish().map(|()| code)?));
    match result {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            error.report(cli.json);
            error.code()
        }
    }
}

fn run(command: Command, output: &mut Output) -> Result<ExitCode, CliError> {
    match command {
        Command::Up(args) => up::run(args, output),
        Command::Serve(args) => serve::run(args, output),
        Command::Topic(command) => topic::run(command, output),
        Command::Produce(args) => produce::run(args, output),
        Command::Consume(args) => consume::run(args, output),
        Command::Bench(command) => bench::run(command, output),
        Command::Broker(command) => broker::run(command, output),
        Command::Cluster(command) => cluster::run(command, output),
        Command::Partition(command) => partition::run(command, output),
        Command::Group(command) => group::run(command, output),
        Command::Log(command) => log::run(command, output),
        Command::History(command) => history::run(command, output),
        Command::Format(args) => format::run(&args, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lockstep", &mut script);
            output.bytes(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_example_in_the_help_is_understood() {
        let mut examples = 0;
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples_of = help.lines().filter(|line| line.starts_with("  "));
            for line in examples_of.filter_map(|line| line.split_once("lockstep ")) {
                let typed = line.1.split("  ").next().unwrap_or_default();
                let words = typed.split('|').next().unwrap_or_default().split('>').next().unwrap_or_default();
                let words = words.split('<').next().unwrap_or_default().split_whitespace();
                let words = words.map(|word| word.trim_matches('\''));
                let parsed = Cli::try_parse_from(std::iter::once("lockstep").chain(words));
                assert!(parsed.is_ok(), "lockstep {typed}: {}", parsed.unwrap_err());
                examples += 1;
            }
            commands.extend(command.get_subcommands().cloned());
        }
        assert!(examples > 10, "only {examples} examples were found");
    }
}
