//! What a follower's death costs: the latency of an open loop of sends without it, against that before.

use std::time::Duration;

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Plan, TOPIC};
use crate::measure::{Table, Times};
use crate::rig::Rig;
use crate::scenario::{conclude, latencies, longest_gap, roots, wait_for_acknowledgement};

const BROKERS: u64 = 3;

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Followers killed, one after another.
    #[arg(long, default_value_t = 3)]
    pub kills: u64,
    /// Seconds that are measured before each kill, and as many after it.
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
    /// Sends a second.
    #[arg(long, default_value_t = 1000)]
    pub rate: u32,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let name = "follower";
    let roots = roots(rig, name, BROKERS)?;
    let outside = rig.workspace.directory(name)?;
    let mut cluster = Cluster::start(rig, &roots, &outside, Settings::shipped())?;
    let load = Load::start(rig, &cluster.bootstrap(), Plan::steady(options.rate))?;
    wait_for_acknowledgement(rig, &load, 0, &mut findings)?;
    let time = Duration::from_secs(options.seconds);
    let (mut before, mut after) = (Times::default(), Times::default());
    let (mut gaps_before, mut gaps) = (Times::default(), Times::default());
    for _ in 0..options.kills {
        rig.pause(Duration::from_secs(1))?;
        let begins = load.now();
        rig.pause(time)?;
        let leader = cluster.wait_for_leader(rig, TOPIC, 0)?;
        let followers: Vec<u64> = (1..=BROKERS).filter(|node| *node != leader).collect();
        let follower = *rig.random.choose(&followers);
        let at = load.now();
        cluster.broker(follower).kill();
        load.restarted([follower]);
        rig.pause(time)?;
        let ends = load.now();
        let timings = load.timings();
        latencies(&timings, begins, at, &mut before);
        latencies(&timings, at, ends, &mut after);
        gaps_before.add(longest_gap(&timings, begins, at));
        gaps.add(longest_gap(&timings, at, ends));
        cluster.start_all()?;
        cluster.wait_until_ready(rig)?;
    }
    let failed = load.failures();
    let recorder = load.finish()?;
    findings.judge(rig, &cluster.bootstrap(), &recorder, &[1, 2, 3])?;
    cluster.stop_all();
    if failed > 0 {
        findings.violation(format!("{failed} operations failed when a follower died"));
    }
    if findings.violations() == 0 {
        rig.workspace.clear(name);
    }
    let mut table = Table::default();
    table.row("sends a second", options.rate);
    table.row("operations that failed", failed);
    if let (Some(before), Some(after)) = (before.percentile(99), after.percentile(99)) {
        let ratio = after.as_secs_f64() / before.as_secs_f64().max(1e-6);
        table.row("p99 of acknowledgements, without the follower against with it", format!("{ratio:.2}"));
    }
    let times = [
        ("acknowledged after, before the kill", &before),
        ("acknowledged after, without the follower", &after),
        ("longest gap before each kill", &gaps_before),
        ("longest gap after it", &gaps),
    ];
    conclude(rig, name, table, &times, &findings);
    Ok(findings)
}
