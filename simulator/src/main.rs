//! The `lockstep-simulator` command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lockstep_planted::Bug;
use lockstep_simulator::campaign::Campaign;
use lockstep_simulator::planted::{Finding, Suite, plan_for, table};
use lockstep_simulator::shrink::shrink;
use lockstep_simulator::{Options, Plan, run_plan};

/// Runs whole clusters in one thread from one seed, and checks that nothing is ever lost.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed and print its trace hash; exit status 1 if a rule does not hold.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Print what happened, a column for each node.
        #[arg(long)]
        trace: bool,
    },
    /// Run a plan that was written down.
    Replay {
        /// Its file.
        #[arg(long)]
        plan: PathBuf,
        /// Print what happened, a column for each node.
        #[arg(long)]
        trace: bool,
    },
    /// Take away from a failing seed's plan what it does not need to fail, and print what is left.
    Shrink {
        /// The seed.
        #[arg(long)]
        seed: u64,
    },
    /// Run many seeds and print what they went through; exit status 1 for a violation or a fault never tried.
    Campaign {
        /// For how long, as 90s, 10m or 2h.
        #[arg(long, value_parser = duration)]
        duration: Option<Duration>,
        /// Which seeds, as A..B.
        #[arg(long, value_parser = seeds)]
        seeds: Option<(u64, u64)>,
        /// The first seed, if no range is given.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Only seeds whose cluster is one of brokers, with metadata; about one in four is.
        #[arg(long)]
        brokers: bool,
        /// Runs at the same time.
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
    /// Plant each known bug in turn and see it caught; exit status 1 if one is not.
    Planted {
        /// This one alone.
        #[arg(long)]
        bug: Option<Bug>,
        /// Run this seed alone and say what came of it, with the bug or without one.
        #[arg(long)]
        seed: Option<u64>,
        /// Print what happened, a column for each node.
        #[arg(long)]
        trace: bool,
        /// Name them all, and do nothing else.
        #[arg(long)]
        list: bool,
        /// Seeds tried for each.
        #[arg(long, default_value_t = 2_000)]
        seeds_max: u64,
        /// Time spent on each, as 90s, 10m or 2h.
        #[arg(long, value_parser = duration, default_value = "60s")]
        time_max: Duration,
        /// Bugs looked for at the same time.
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { seed, trace } => run_one(Plan::draw(seed), trace),
        Command::Replay { plan, trace } => match read_plan(&plan) {
            Ok(plan) => run_one(plan, trace),
            Err(why) => {
                eprintln!("{}: {why}; give a file that shrink printed", plan.display());
                ExitCode::FAILURE
            }
        },
        Command::Shrink { seed } => shrink_one(seed),
        Command::Planted { list: true, .. } => {
            Bug::ALL.iter().for_each(|bug| println!("{bug}"));
            ExitCode::SUCCESS
        }
        Command::Planted { bug, seed: Some(seed), trace, .. } => {
            lockstep_planted::activate(bug);
            run_one(plan_for(bug, seed), trace)
        }
        Command::Planted { bug, seeds_max, time_max, threads, .. } => {
            let bugs = bug.map_or(Bug::ALL.to_vec(), |bug| vec![bug]);
            planted(Suite { bugs, seeds_max, time_max, threads })
        }
        Command::Campaign { duration, seeds, from, brokers, threads } => {
            let (first, end) = seeds.map_or((from, None), |(first, end)| (first, Some(end)));
            let duration = duration.or_else(|| end.is_none().then_some(Duration::from_secs(60)));
            campaign(&Campaign { first, end, duration, brokers, threads, progress: true })
        }
    }
}

fn read_plan(path: &Path) -> Result<Plan, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn shrink_one(seed: u64) -> ExitCode {
    let told =
        |plan: &Plan| eprintln!("still fails with {} parts in {} ms", plan.parts.len(), plan.safety_ms);
    match shrink(&Plan::draw(seed), told) {
        None => {
            eprintln!("seed {seed} violates nothing");
            ExitCode::SUCCESS
        }
        Some(plan) => {
            println!("{}", serde_json::to_string_pretty(&plan).expect("a plan is plain data"));
            ExitCode::FAILURE
        }
    }
}

fn run_one(plan: Plan, trace: bool) -> ExitCode {
    let seed = plan.seed;
    let outcome = run_plan(plan, &Options { trace });
    if trace {
        print!("{}", outcome.timeline);
    }
    let stats = &outcome.stats;
    println!(
        "seed {seed}: trace hash {:016x}; {} events, {} entries committed, {} crashes, {} elections, {} truncations",
        outcome.trace_hash,
        stats.events,
        stats.entries,
        stats.crashes(),
        stats.elections,
        stats.truncations
    );
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("VIOLATED {}: {}", violation.rule, violation.message);
            ExitCode::FAILURE
        }
    }
}

fn campaign(campaign: &Campaign) -> ExitCode {
    let report = campaign.run();
    print!("{}", report.table());
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn planted(suite: Suite) -> ExitCode {
    if !lockstep_planted::COMPILED_IN {
        eprintln!("the bugs are not compiled in: build with --features planted");
        return ExitCode::from(2);
    }
    // A run that panics is a run that was caught; its words stand in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let findings = suite.run(&|finding| {
        let verdict = if finding.is_good() { "caught" } else { "NOT CAUGHT" };
        eprintln!("{}: {verdict} after {} runs", finding.bug, finding.runs);
    });
    print!("{}", table(&findings));
    if findings.iter().all(Finding::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 90s, 10m or 2h");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        "h" => Ok(Duration::from_secs(3_600 * number)),
        _ => Err(wrong()),
    }
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no range of seeds: write 0..100");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    Ok((first.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?))
}
