//! `lockstep format`: makes a broker's data directory, once.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::exit::CliError;
use super::output::Output;
use crate::identity::{self, ClusterId};

/// Arguments of `format`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, for three machines; the first prints the cluster's id, the others are given it:
  lockstep format --data /var/lib/lockstep --node 1
  lockstep format --data /var/lib/lockstep --node 2 --cluster 4f0c33a1b2c3d4e5f60718293a4b5c6d")]
pub(crate) struct FormatArgs {
    /// The data directory: missing or empty.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The broker's id: 1, 2, 3 …
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// The cluster's id, 32 hexadecimal digits; without it a new one is made up.
    #[arg(long, value_name = "ID")]
    cluster: Option<ClusterId>,
}

pub(crate) fn run(args: &FormatArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let cluster = match args.cluster {
        Some(cluster) => cluster,
        None => ClusterId::random()?,
    };
    let identity = identity::format(&args.data, cluster, args.node)?;
    let data = args.data.display().to_string();
    let json = json!({
        "cluster": identity.cluster.to_string(),
        "node": identity.node,
        "directory": identity.directory.to_string(),
        "data": data,
    });
    output.answer(&json, || {
        format!("formatted {data} for node {} of cluster {}", identity.node, identity.cluster)
    })?;
    Ok(ExitCode::SUCCESS)
}
