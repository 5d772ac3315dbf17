//! `lockstep-rig`: ill-treats real brokers and says what came of it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lockstep_rig::error::RigError;
use lockstep_rig::judge::Findings;
use lockstep_rig::rig::Rig;
use lockstep_rig::scenario::{
    behind, bite, bytes, failover, follower, grow, inject, kill, network, power, restart, rolling, shards,
};

/// Ill-treats real brokers and says what came of it. Exits with 1 on any violation.
#[derive(Debug, Parser)]
#[command(
    name = "lockstep-rig",
    after_help = "\
Run it as root: it mounts images, makes network namespaces and traces processes. What this machine lacks is skipped,
and said aloud.

Example:
  cargo run --release -p lockstep-rig -- power --cuts 500 --fs ext4,xfs"
)]
struct Arguments {
    /// The broker's program; without it `lockstep` beside this program, which is built first if it is not there.
    #[arg(long, global = true, value_name = "PATH")]
    broker: Option<PathBuf>,
    /// Where to work; everything is removed again.
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Repeats the choices of an earlier run.
    #[arg(long, global = true)]
    seed: Option<u64>,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// All of them, one after another, each as it is by default.
    All,
    /// Cuts the power of all brokers' file systems at once, again and again.
    Power(power::Options),
    /// Kills and stops leaders and followers.
    Kill(kill::Options),
    /// Fills brokers with log, kills them, and measures how long they take to be ready.
    Restart(restart::Options),
    /// Damages files of stopped brokers, of every kind and at every kind of place.
    Bytes(bytes::Options),
    /// Makes writes, syncs and renames of a running broker fail.
    Inject(inject::Options),
    /// Isolates brokers, cuts directions, loses packets.
    Network(network::Options),
    /// Kills leaders and makes them stand still under a steady load, and measures the gaps.
    Failover(failover::Options),
    /// Restarts one broker after another under a steady load.
    Rolling(rolling::Options),
    /// Kills followers under a steady load.
    Follower(follower::Options),
    /// Puts a thousand partitions on three brokers, and measures what they cost.
    Shards(shards::Options),
    /// Brings a broker back whose log ends before that of the others begins.
    Behind(behind::Options),
    /// Takes in a fourth broker under a steady load, spreads the replicas anew, and takes out one of the first.
    Grow(grow::Options),
    /// Proves that the rig bites: brokers whose syncs do nothing must be caught.
    Bite,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(findings) if findings.violations() == 0 => ExitCode::SUCCESS,
        Ok(findings) => {
            eprintln!("{} violations", findings.violations());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the rig could not go on: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<Findings, RigError> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ clock_bits());
    println!("seed {seed}");
    let mut rig = Rig::new(arguments.broker, &arguments.dir, seed)?;
    let result = match arguments.scenario {
        Scenario::All => all(&mut rig),
        Scenario::Power(options) => power::run(&mut rig, &options),
        Scenario::Kill(options) => kill::run(&mut rig, &options),
        Scenario::Restart(options) => restart::run(&mut rig, &options),
        Scenario::Bytes(options) => bytes::run(&mut rig, &options),
        Scenario::Inject(options) => inject::run(&mut rig, &options),
        Scenario::Network(options) => network::run(&mut rig, &options),
        Scenario::Failover(options) => failover::run(&mut rig, &options),
        Scenario::Rolling(options) => rolling::run(&mut rig, &options),
        Scenario::Follower(options) => follower::run(&mut rig, &options),
        Scenario::Shards(options) => shards::run(&mut rig, &options),
        Scenario::Behind(options) => behind::run(&mut rig, &options),
        Scenario::Grow(options) => grow::run(&mut rig, &options),
        Scenario::Bite => bite::run(&mut rig),
    };
    if result.as_ref().is_err_and(|error| !matches!(error, RigError::Interrupted)) {
        rig.workspace.keep();
    }
    result
}

/// Every scenario. One that cannot go on counts as a violation, and the next one begins.
fn all(rig: &mut Rig) -> Result<Findings, RigError> {
    type Run = fn(&mut Rig) -> Result<Findings, RigError>;
    let scenarios: [Run; 13] = [
        bite::run,
        |rig| power::run(rig, &defaults()),
        |rig| kill::run(rig, &defaults()),
        |rig| inject::run(rig, &defaults()),
        |rig| network::run(rig, &defaults()),
        |rig| bytes::run(rig, &defaults()),
        |rig| restart::run(rig, &defaults()),
        |rig| failover::run(rig, &defaults()),
        |rig| rolling::run(rig, &defaults()),
        |rig| follower::run(rig, &defaults()),
        |rig| shards::run(rig, &defaults()),
        |rig| behind::run(rig, &defaults()),
        |rig| grow::run(rig, &defaults()),
    ];
    let mut findings = Findings::default();
    for scenario in scenarios {
        match scenario(rig) {
            Ok(found) => findings.take(found),
            Err(RigError::Interrupted) => return Err(RigError::Interrupted),
            Err(error) => {
                rig.workspace.keep();
                findings.violation(format!("a scenario could not go on: {error}"));
            }
        }
    }
    println!("all: {} violations", findings.violations());
    Ok(findings)
}

/// A scenario's options as they are if nothing is said.
fn defaults<Options: clap::Args>() -> Options {
    let command = Options::augment_args(clap::Command::new("defaults"));
    let matches = command.get_matches_from(["defaults"]);
    Options::from_arg_matches(&matches).expect("every option has a default")
}

/// Something that is another at every start.
fn clock_bits() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_option_has_a_default() {
        Arguments::command().debug_assert();
        assert_eq!(defaults::<power::Options>().cuts, 500);
        let (kill, network): (kill::Options, network::Options) = (defaults(), defaults());
        let (bytes, inject): (bytes::Options, inject::Options) = (defaults(), defaults());
        assert!(kill.events > 0 && network.faults > 0 && bytes.times > 0 && inject.times > 0);
        assert_eq!(defaults::<restart::Options>().replication, [1, 3]);
    }
}
