//! `lockstep-peers`: the same load against Lockstep and what people would pick instead, side by side.
//!
//! What holds:
//!
//! - Every system is a cluster of three brokers on this machine, on loopback, on ports that were free; every record is
//!   acknowledged by a majority. Only one system runs at a time.
//! - Rounds are interleaved: each round runs each case against each system once. A ratio is taken within a round, so that
//!   what drifts over hours drifts for both. Within a round systems follow one another, minutes apart: what changes from
//!   minute to minute is in the ratios, and in what they lie between.
//! - Every peer is driven by its own best client, with the settings its makers recommend; all of them stand in the report.
//! - What cannot be had here is skipped, and said aloud.
//! - Whatever is started is stopped, and the brokers' data removed, also after Ctrl-C or SIGTERM. Nothing can be done about
//!   SIGKILL.
//! - A case in which a broker was started again, nothing was delivered, or which takes too long has failed. After a failure the
//!   next case gets a new cluster.

mod case;
mod cluster;
mod comparison;
mod error;
mod install;
mod interrupt;
mod machine;
mod process;
mod results;
mod sampling;
mod system;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use error::PeersError;
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
    /// Seconds more that do not count, where the client runs on Java: each case starts a new virtual machine, which compiles
    /// what is hot.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    client_warm_up: f64,
    /// Seconds that each system is kept busy after each start, before anything is measured: virtual machines compile what is
    /// hot.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    settle: f64,
    /// Records a second in the cases latency and end-to-end; without it 20 % of what ours takes in the case throughput, which
    /// is run once for that before the first round.
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
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
        Ok(results) if results.has_violations() => {
            eprintln!("lockstep-peers: a promise was broken: see VIOLATION");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockstep-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Results, PeersError> {
    let results = match &arguments.from {
        Some(path) => Results::read(path)?,
        None if arguments.list => {
            let cases = comparison::chosen_cases(arguments, arguments.rate)?;
            cases.iter().for_each(|case| println!("{:<20} {}", case.name, case.what()));
            return Ok(Results::new(serde_json::Value::Null, String::new()));
        }
        None => comparison::run(arguments)?,
    };
    print!("{}", results.markdown());
    if let Some(path) = &arguments.report {
        std::fs::write(path, results.html()).map_err(PeersError::io(path))?;
    }
    Ok(results)
}
