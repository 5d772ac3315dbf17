//! A rolling restart under an open loop of sends: each broker in turn is asked to stop, and started again once it has.
//!
//! What holds: the next one is stopped only when the last one is ready. No operation of any client may fail.

use std::time::Duration;

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Plan};
use crate::measure::{Table, Times};
use crate::rig::Rig;
use crate::scenario::{conclude, longest_gap, roots, wait_for_acknowledgement};

const BROKERS: u64 = 3;
/// How long all brokers run before the next is stopped.
const PEACE: Duration = Duration::from_millis(500);

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Times that all brokers are restarted, one after another.
    #[arg(long, default_value_t = 3)]
    pub rounds: u64,
    /// Sends a second and partition.
    #[arg(long, default_value_t = 1000)]
    pub rate: u32,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let name = "rolling";
    let roots = roots(rig, name, BROKERS)?;
    let outside = rig.workspace.directory(name)?;
    let mut cluster = Cluster::start(rig, &roots, &outside, Settings::shipped())?;
    let load = Load::start(rig, &cluster.bootstrap(), Plan::steady(options.rate))?;
    wait_for_acknowledgement(rig, &load, 0, &mut findings)?;
    let (mut gaps, mut stops, mut starts) = (Times::default(), Times::default(), Times::default());
    for _ in 0..options.rounds {
        for node in 1..=BROKERS {
            rig.pause(PEACE)?;
            let begins = load.now();
            cluster.broker(node).stop();
            stops.add(Duration::from_micros(load.now() - begins));
            load.restarted([node]);
            cluster.start_all()?;
            starts.add(cluster.wait_until_one_is_ready(rig, node)?);
            rig.pause(PEACE)?;
            gaps.add(longest_gap(&load.timings(), begins, load.now()));
        }
    }
    let (failed, acknowledged) = (load.failures(), load.acknowledged());
    let recorder = load.finish()?;
    findings.judge(rig, &cluster.bootstrap(), &recorder, &[1, 2, 3])?;
    cluster.stop_all();
    if failed > 0 {
        findings.violation(format!("{failed} operations failed during a rolling restart"));
    }
    if findings.violations() == 0 {
        rig.workspace.clear(name);
    }
    let mut table = Table::default();
    table.row("sends a second", options.rate);
    table.row("acknowledged", acknowledged);
    table.row("operations that failed", failed);
    let times = [
        ("longest gap of each restart", &gaps),
        ("SIGTERM to the end of the process", &stops),
        ("process start to ready", &starts),
    ];
    conclude(rig, name, table, &times, &findings);
    Ok(findings)
}
