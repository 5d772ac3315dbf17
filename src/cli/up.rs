//! `lockstep up`: a cluster of real broker processes on this machine.
//!
//! What holds:
//!
//! - A cluster is formatted once, when its directory is made. Afterwards nothing here formats: a broker whose
//!   data has vanished stays down, and says so.
//! - `cluster.json` is replaced whole, so that a reader sees one state or the next.
//! - No broker outlives this process: each ends when the pipe that is its standard input does.

mod cluster_file;
mod directory;
mod node;
mod ready;
mod supervisor;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::exit::CliError;
use super::output::Output;
use directory::ClusterDirectory;
use supervisor::Supervisor;

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Node k (1, 2, 3 …) listens on 127.0.0.1: for clients on 7400 + 10 (k - 1), for the other brokers one above,
for HTTP (health, metrics, admin) two above. --port-base moves them all.

Examples:
  lockstep up
  lockstep up --nodes 1 --data /tmp/one --port-base 9400")]
pub(crate) struct UpArgs {
    /// How many brokers; of an existing cluster, as many as it has.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=99))]
    nodes: Option<u64>,
    /// Where the cluster's data, settings and logs are kept.
    #[arg(long, value_name = "DIR", default_value = "./lockstep-data")]
    data: PathBuf,
    /// The first node's first port; of an existing cluster, the one it has [default: 7400].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port_base: Option<u16>,
}

pub(crate) fn run(args: UpArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let directory = ClusterDirectory::open(&args.data, args.nodes, args.port_base)?;
    // One thread is enough, and the children hang on a pipe, not on a thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Supervisor::new(directory, output)?.run())?;
    Ok(ExitCode::SUCCESS)
}
