//! `lockstep bench limits`: what this machine can do at all.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use lockstep_load::limits::{Limits, Settings, measure};
use lockstep_load::report::{bytes, thousands, time};

use super::args::seconds;
use crate::cli::exit::CliError;
use crate::cli::output::{Output, table};

/// Arguments of `limits`.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Where files are made and removed: on the disk that the brokers use.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Seconds for each figure.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Megabytes to write in sequence; more than the kernel keeps unwritten, to see the disk and not memory.
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    write: u64,
}

pub(super) fn run(args: &LimitsArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let settings = Settings {
        directory: args.dir.clone(),
        time: seconds("--seconds", args.seconds)?.max(Duration::from_millis(1)),
        write_bytes: args.write.saturating_mul(1_000_000),
    };
    let live = ProgressBar::new_spinner();
    live.enable_steady_tick(Duration::from_millis(200));
    let limits = measure(&settings, |what| live.set_message(what.to_owned()));
    live.finish_and_clear();
    let limits = limits?;
    output.answer(&limits.json(), || text(&limits))?;
    Ok(ExitCode::SUCCESS)
}

fn text(limits: &Limits) -> String {
    let rate = |value| format!("{}/s", bytes(value));
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let round_trip = &limits.loopback_round_trip;
    let rows = [
        row("sequential write, synced at the end", rate(limits.write)),
        row("sequential read", rate(limits.read)),
        row("loopback, one connection, one way", rate(limits.loopback)),
        row(
            "loopback, 2 KiB there and a byte back",
            format!("p50 {}, p99 {}", time(round_trip.percentile(50.0)), time(round_trip.percentile(99.0))),
        ),
        row("CRC-32C, one thread", rate(limits.crc32c)),
        row("memcpy beyond the caches, one thread", rate(limits.memcpy)),
    ];
    let syncs: Vec<Vec<String>> = limits
        .syncs
        .iter()
        .map(|sync| {
            vec![
                format!("{} KiB", sync.group_bytes >> 10),
                sync.files.to_string(),
                thousands(sync.syncs_per_second),
                rate(sync.bytes_per_second()),
                time(sync.latencies.percentile(50.0)),
                time(sync.latencies.percentile(99.0)),
            ]
        })
        .collect();
    format!(
        "{}\n\n{}",
        table(&["LIMIT", "OF THIS MACHINE"], &rows),
        table(&["WRITE AND SYNC", "FILES", "SYNCS/S", "BYTES/S", "P50", "P99"], &syncs)
    )
}
