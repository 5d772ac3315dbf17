//! `lockstep bench`: how fast is this cluster, and this machine?

mod args;
mod limits;
mod live;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use lockstep_load::run::Stop;
use lockstep_load::{LoadError, Outcome, Plan, PlanError, Target, report};

use super::brokers::block_on;
use super::exit::CliError;
use super::output::Output;
use args::{CatchUpArgs, ConsumeArgs, EndToEndArgs, FanOutArgs, MixedArgs, ProduceArgs, RunArgs};
use live::Live;

/// The exit code of who was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// The loads.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
With --rate the loop is open: a latency counts from when the record was to be sent, so that a stall counts for every
record it delays. Without it the loop is closed: as many records as are taken, and latencies count from the send.
Each run makes a topic and removes it again, unless --topic names one. After it every replica is read again and held
against what was acknowledged: a run in which a record is lost or invented, or not delivered to a subscriber, has no
figures. Ctrl-C ends a run early; what was measured until then counts.

Examples:
  lockstep bench produce
  lockstep bench produce --rate 20000 --duration 60 --report produce.html
  lockstep bench end-to-end --size 2048 --rate 1000 --batch 1
  lockstep bench fan-out --subscribers 1000 --rate 500
  lockstep bench limits --dir /var/lib/lockstep")]
pub(crate) enum BenchCommand {
    /// Write as much as is taken, or at a rate.
    Produce(ProduceArgs),
    /// Read what was written before, again and again.
    Consume(ConsumeArgs),
    /// Write, and take the time until a subscriber has each record.
    EndToEnd(EndToEndArgs),
    /// The same with many subscribers.
    FanOut(FanOutArgs),
    /// Read a long backlog while writers go on, until the readers have caught up.
    CatchUp(CatchUpArgs),
    /// Write, subscribe and read from the beginning, all at once.
    Mixed(MixedArgs),
    /// What this machine can do at all: disk, syncs, loopback, checksums, memory.
    Limits(limits::LimitsArgs),
}

pub(crate) fn run(command: BenchCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    match command {
        BenchCommand::Produce(args) => measure(&args.plan()?, &args.run, output),
        BenchCommand::Consume(args) => measure(&args.plan()?, &args.run, output),
        BenchCommand::EndToEnd(args) => measure(&args.plan()?, &args.run, output),
        BenchCommand::FanOut(args) => measure(&args.plan()?, &args.run, output),
        BenchCommand::CatchUp(args) => measure(&args.plan()?, &args.run, output),
        BenchCommand::Mixed(args) => measure(&args.plan()?, &args.run, output),
        BenchCommand::Limits(args) => limits::run(&args, output),
    }
}

fn measure(plan: &Plan, args: &RunArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    plan.check()?;
    // Each subscriber may have connections of its own.
    crate::server::open_files::raise();
    let report = args.report.as_deref().map(check_report).transpose()?;
    let target = Target {
        brokers: args.brokers.brokers.clone(),
        options: args.brokers.options()?.client_name("lockstep-bench"),
    };
    let outcome = block_on(async {
        let stop = Stop::default();
        let asked = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                asked.now();
            }
            // Who asks again does not want to wait for what is in flight, nor for the checker.
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(INTERRUPTED);
            }
        });
        let live = Live::new();
        let result = lockstep_load::run(&target, plan, &stop, |progress| live.show(&progress)).await;
        live.clear();
        Ok(result?)
    })?;
    if let Some(path) = report {
        write_report(&path, &outcome)?;
    }
    output.answer(&outcome.json(), || show::text(&outcome))?;
    Ok(ExitCode::SUCCESS)
}

/// A place that cannot be written to is found before the run, not after it.
fn check_report(path: &Path) -> Result<PathBuf, CliError> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| CliError::Usage(format!("--report {}: {error}", path.display())))?;
    Ok(path.to_owned())
}

fn write_report(path: &Path, outcome: &Outcome) -> Result<(), CliError> {
    std::fs::write(path, report::html(outcome))
        .map_err(|error| CliError::Failed(format!("writing {}: {error}", path.display())))?;
    eprintln!("the report is in {}", path.display());
    Ok(())
}

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<LoadError> for CliError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Plan(error) => error.into(),
            error => Self::Failed(error.to_string()),
        }
    }
}
