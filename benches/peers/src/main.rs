//! `lockstep-peers`: the same load against Lockstep and what people would pick instead, side by side.
//!
//! What holds:
//!
//! - Every system is a cluster of three brokers on this machine, on loopback, on ports that were free; every record is
//!   acknowledged by a majority. Only one system runs at a time.
//! - Rounds are interleaved: each round runs each case against each system once. A ratio is taken within a round, so that
//!   what drifts over time drifts for both.
//! - Every peer is driven by its own best client, with the settings its makers recommend; all of them stand in the report.
//! - What cannot be had here is skipped, and said aloud.
//! - Whatever is started is stopped, and the brokers' data removed.

mod case;
mod cluster;
mod error;
mod install;
mod machine;
mod process;
mod results;
mod system;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use case::Case;
use clap::Parser;
use error::PeersError;
use lockstep_load::limits;
use results::Results;
use system::System;

/// Runs the same load against Lockstep and its peers, and prints ratios.
#[derive(Debug, Parser)]
#[command(
    name = "lockstep-peers",
    after_help = "\
It needs a JDK (17 or later) and Maven for Kafka, Go for NATS, and both of the former and Debian's rabbitmq-server for
RabbitMQ; it downloads what it needs once, into the cache. What is missing is skipped, and said aloud.

Example:
  cargo run --release -p lockstep-peers -- --rounds 5 --report peers.html"
)]
struct Arguments {
    /// Which systems; without it all of them.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum)]
    systems: Vec<System>,
    /// Which cases; without it all of them.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    cases: Vec<String>,
    /// How often each case runs against each system.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds each case is measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    duration: f64,
    /// Seconds before them that do not count.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    warm_up: f64,
    /// Seconds that each system is kept busy after each start, before anything is measured: virtual machines compile what is
    /// hot.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    settle: f64,
    /// Records a second in the cases with a fixed rate.
    #[arg(long, value_name = "RECORDS", default_value_t = 2_000)]
    rate: u32,
    /// Where the brokers' data goes: on the disk to be measured. Removed afterwards.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Where downloads and builds are kept.
    #[arg(long, value_name = "DIR", default_value = "target/peers")]
    cache: PathBuf,
    /// The program to measure; without it `lockstep` beside this one.
    #[arg(long, value_name = "PATH")]
    lockstep: Option<PathBuf>,
    /// Write a page with plots.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write everything, for later.
    #[arg(long, value_name = "FILE.json")]
    json: Option<PathBuf>,
    /// Print the tables in Markdown from a file that an earlier run wrote with --json, and run nothing.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["json", "systems", "cases"])]
    from: Option<PathBuf>,
    /// List the cases, and run nothing.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockstep-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), PeersError> {
    if let Some(path) = &arguments.from {
        print!("{}", Results::read(path)?.markdown());
        return Ok(());
    }
    let cases = chosen_cases(arguments)?;
    if arguments.list {
        cases.iter().for_each(|case| println!("{:<16} {}", case.name, case.what()));
        return Ok(());
    }
    let directory = process::Scratch::new(&arguments.dir)?;
    let programs = install::all(&chosen_systems(arguments), &arguments.cache, arguments.lockstep.as_deref())?;
    eprintln!("measuring the limits of this machine");
    let settings = limits::Settings {
        directory: directory.path().to_owned(),
        time: Duration::from_millis(500),
        write_bytes: 1 << 30,
    };
    let limits = limits::measure(&settings, |_| {})?;
    let mut results = Results::new(limits.json(), machine::description());
    for round in 1..=arguments.rounds {
        // Whoever comes first in one round comes last in another.
        let first = (round as usize - 1) % programs.len().max(1);
        for program in programs.iter().cycle().skip(first).take(programs.len()) {
            run_all(&cases, arguments.settle, program, directory.path(), round, &mut results)?;
            // Kept as it comes: hours of figures are not to be lost to the last minute.
            if let Some(path) = &arguments.json {
                results.write(path)?;
            }
        }
    }
    print!("{}", results.markdown());
    if let Some(path) = &arguments.report {
        std::fs::write(path, results.html()).map_err(PeersError::io(path))?;
    }
    Ok(())
}

/// One round of one system.
fn run_all(
    cases: &[Case],
    settle: f64,
    program: &install::Program,
    directory: &std::path::Path,
    round: u32,
    results: &mut Results,
) -> Result<(), PeersError> {
    let name = program.system.name();
    eprintln!("round {round}: starting {name}");
    let mut cluster = match cluster::Cluster::start(program, directory) {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("SKIPPED {name}: {error}");
            results.skipped(name, &error.to_string());
            return Ok(());
        }
    };
    results.settings(name, &program.settings());
    if settle > 0.0 {
        // If it fails, so will what is measured, and say why.
        let _ = cluster.run(&Case::to_settle(settle), round);
    }
    for case in cases {
        if !program.system.can_run(case) {
            results.skipped(&format!("{name}, {}", case.name), "there is no thin client for it");
            continue;
        }
        eprint!("round {round}: {name}, {} … ", case.name);
        match cluster.run(case, round) {
            Ok(measured) => {
                eprintln!("{}", measured.brief());
                results.add(case, name, measured);
            }
            Err(PeersError::Interrupted) => return Err(PeersError::Interrupted),
            Err(error) => {
                eprintln!("FAILED: {error}");
                results.skipped(&format!("{name}, {}", case.name), &error.to_string());
            }
        }
    }
    cluster.stop();
    Ok(())
}

fn chosen_systems(arguments: &Arguments) -> Vec<System> {
    if arguments.systems.is_empty() { System::ALL.to_vec() } else { arguments.systems.clone() }
}

fn chosen_cases(arguments: &Arguments) -> Result<Vec<Case>, PeersError> {
    let all = case::all(arguments.rate, arguments.duration, arguments.warm_up);
    if let Some(unknown) = arguments.cases.iter().find(|name| all.iter().all(|case| case.name != **name)) {
        let names: Vec<&str> = all.iter().map(|case| &*case.name).collect();
        return Err(PeersError::Usage(format!("no case {unknown:?}; there are {}", names.join(", "))));
    }
    let chosen = |case: &Case| arguments.cases.is_empty() || arguments.cases.contains(&case.name);
    Ok(all.into_iter().filter(chosen).collect())
}
