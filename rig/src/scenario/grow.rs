//! A fourth broker joins under an open loop of sends and takes its share of the replicas; then one of the first three is
//! taken out. What that costs clients, and how fast it goes.
//!
//! What holds:
//! - There is log to be moved before the load begins, and all of it is in the history that is checked at the end.
//! - A move counts from the command until no replica moves any more. The latencies of the sends that were due meanwhile
//!   are held against those of the time before.
//! - What is moved is what brokers sent to each other beyond what the same load made them send before.

use std::time::Duration;

use lockstep_client::{BrokerError, Client};

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Plan, TOPIC, connect};
use crate::measure::{Table, Times, milliseconds};
use crate::rig::Rig;
use crate::scenario::{conclude, latencies, longest_gap, roots, wait_for_acknowledgement};

const BROKERS: u64 = 3;
/// The broker that is taken out: one of the first.
const LEAVES: u64 = 1;
/// How long the load runs before anything is measured: consumers read what was there first.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long one move of everything may take.
const MOVE_TIME_MAX: Duration = Duration::from_secs(600);
/// Between two looks at what still moves.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Looks that have to find nothing that moves, one after the other.
const LOOKS: u32 = 3;
const SENT: &str = "lockstep_raft_entry_sent_bytes_total";

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Partitions, each with three replicas.
    #[arg(long, default_value_t = 8)]
    pub partitions: u32,
    /// Log that each partition has before the load begins, in MiB.
    #[arg(long, default_value_t = 48)]
    pub log_mib: u64,
    /// Sends a second and partition.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Seconds that are measured before the first move, and after the last one.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// How fast replicas move, in MiB a second; 0 for as fast as it goes. As shipped, if it is left out.
    #[arg(long, value_name = "MIB")]
    pub move_mib_per_second: Option<u64>,
}

/// What was measured from one moment to another.
struct Phase {
    name: &'static str,
    latencies: Times,
    gap: Duration,
    lasted: Duration,
    sent_bytes: u64,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let name = "grow";
    let roots = roots(rig, name, BROKERS + 1)?;
    let outside = rig.workspace.directory(name)?;
    let move_bytes_per_second = options.move_mib_per_second.map(|mib| mib << 20);
    let settings = Settings { move_bytes_per_second, ..Settings::shipped() };
    let (first, joins) = roots.split_at(BROKERS as usize);
    let mut cluster = Cluster::start(rig, first, &outside, settings)?;
    let plan =
        Plan { partitions: options.partitions, log_mib: options.log_mib, ..Plan::steady(options.rate) };
    let load = Load::start(rig, &cluster.bootstrap(), plan)?;
    wait_for_acknowledgement(rig, &load, load.acknowledged(), &mut findings)?;
    rig.pause(WARM_UP)?;
    let time = Duration::from_secs(options.seconds);
    let before = measure(rig, &mut cluster, &load, "before", |rig, _| rig.pause(time))?;

    let joined = cluster.join(rig, &joins[0], &outside, settings)?;
    let share = measure(rig, &mut cluster, &load, "a fourth broker takes its share", rebalance)?;
    let replicas_of_new = replicas(rig, &cluster, BROKERS + 1)?;
    let leave = measure(rig, &mut cluster, &load, "a broker is taken out", decommission)?;
    cluster.broker(LEAVES).stop();
    load.restarted([LEAVES]);
    let after = measure(rig, &mut cluster, &load, "after", |rig, _| rig.pause(time))?;

    let (failed, acknowledged) = (load.failures(), load.acknowledged());
    let recorder = load.finish()?;
    let hosts = hosts(rig, &cluster)?;
    if hosts.iter().any(|hosts| hosts.contains(&LEAVES) || hosts.len() != BROKERS as usize) {
        findings.violation(format!("the replicas are not where they were to go: {hosts:?}"));
    }
    findings
        .judge_each(rig, &cluster.bootstrap(), &recorder, |partition| hosts[partition as usize].clone())?;
    cluster.stop_all();
    roots.iter().for_each(|root| findings.verify_files(&rig.program, root));
    if failed > 0 {
        findings.violation(format!("{failed} operations failed while replicas moved"));
    }
    if findings.violations() == 0 {
        rig.workspace.clear(name);
    }
    let mut table = Table::default();
    table.row("sends a second, over all partitions", options.rate * options.partitions);
    table.row("log of a partition before", format!("{} MiB", options.log_mib));
    table.row("acknowledged", acknowledged);
    table.row("operations that failed", failed);
    table.row("start of the fourth broker to ready", milliseconds(joined));
    table.row("replicas it has then", replicas_of_new);
    for phase in [&before, &share, &leave, &after] {
        table.row(phase.name, phase.summary());
    }
    for phase in [&share, &leave] {
        table.row(format!("  moved: {}", phase.name), phase.moved_against(&before));
        table.row(format!("  p99 against before: {}", phase.name), phase.p99_against(&before));
    }
    conclude(rig, name, table, &[], &findings);
    Ok(findings)
}

/// Does something, and measures the sends that were due meanwhile.
fn measure(
    rig: &mut Rig,
    cluster: &mut Cluster,
    load: &Load,
    name: &'static str,
    act: impl FnOnce(&Rig, &Cluster) -> Result<(), RigError>,
) -> Result<Phase, RigError> {
    let (from, sent) = (load.now(), cluster.metric(SENT));
    act(rig, cluster)?;
    let (to, sent_bytes) = (load.now(), cluster.metric(SENT) - sent);
    // What was due at the end has its answer soon; a send that waits longer is counted with all its wait.
    rig.pause(Duration::from_secs(1))?;
    let timings = load.timings();
    let mut times = Times::default();
    latencies(&timings, from, to, &mut times);
    let (gap, lasted) = (longest_gap(&timings, from, to), Duration::from_micros(to - from));
    Ok(Phase { name, latencies: times, gap, lasted, sent_bytes })
}

impl Phase {
    fn summary(&self) -> String {
        let shown = |percent| {
            let time = self.latencies.percentile(percent).unwrap_or_default();
            format!("{:.1}", time.as_secs_f64() * 1000.0)
        };
        format!(
            "p50 {} p99 {} max {} ms ({} sends), longest gap {}",
            shown(50),
            shown(99),
            shown(100),
            self.latencies.len(),
            milliseconds(self.gap)
        )
    }

    /// What was sent beyond what the load alone makes brokers send.
    fn moved_against(&self, before: &Phase) -> String {
        let seconds = self.lasted.as_secs_f64().max(1e-6);
        let usual = before.sent_bytes as f64 / before.lasted.as_secs_f64().max(1e-6) * seconds;
        let mebibytes = (self.sent_bytes as f64 - usual).max(0.0) / f64::from(1 << 20);
        format!("{mebibytes:.0} MiB in {seconds:.1} s, {:.1} MiB/s", mebibytes / seconds)
    }

    fn p99_against(&self, before: &Phase) -> String {
        let p99 = |phase: &Phase| phase.latencies.percentile(99).unwrap_or_default().as_secs_f64();
        format!("{:.2}", p99(self) / p99(before).max(1e-6))
    }
}

fn refused(said: impl ToString) -> RigError {
    RigError::Refused { what: "what was asked", said: said.to_string() }
}

/// A client of those that stay.
async fn client(cluster: &Cluster) -> Result<Client, RigError> {
    let stay: Vec<u64> = (1..=cluster.brokers.len() as u64).filter(|node| *node != LEAVES).collect();
    connect(&cluster.bootstrap_of(&stay)).await.map_err(refused)
}

/// Spreads the replicas anew, and waits until all are there.
fn rebalance(rig: &Rig, cluster: &Cluster) -> Result<(), RigError> {
    let client = rig.runtime.block_on(async {
        let client = client(cluster).await?;
        client.rebalance(false).await.map_err(refused)?;
        Ok::<_, RigError>(client)
    })?;
    let mut even = 0;
    let is_even = || {
        rig.runtime.block_on(async {
            let left = client.rebalance(true).await.ok()?;
            let done = left.moves.is_empty() && left.moves_left == 0;
            Some(done && !is_moving(&client).await?)
        })
    };
    // Whoever is asked whether something moves may lag behind.
    wait(rig, "to be spread evenly", || {
        even = if is_even() == Some(true) { even + 1 } else { 0 };
        even >= LOOKS
    })
}

/// Takes a broker out, and waits until the cluster has let it go.
fn decommission(rig: &Rig, cluster: &Cluster) -> Result<(), RigError> {
    let client = rig.runtime.block_on(async {
        let client = client(cluster).await?;
        client.drain_broker(LEAVES, true).await.map_err(refused)?;
        Ok::<_, RigError>(client)
    })?;
    let is_removed = || match rig.runtime.block_on(client.remove_broker(LEAVES)) {
        Ok(()) | Err(BrokerError::Unknown { .. }) => true,
        Err(_) => false,
    };
    wait(rig, "to be taken out", is_removed)
}

fn wait(rig: &Rig, what: &'static str, mut done: impl FnMut() -> bool) -> Result<(), RigError> {
    let begun = std::time::Instant::now();
    while !done() {
        if begun.elapsed() > MOVE_TIME_MAX {
            return Err(RigError::Refused { what, said: format!("not done after {MOVE_TIME_MAX:?}") });
        }
        rig.pause(LOOK_PAUSE)?;
    }
    Ok(())
}

async fn is_moving(client: &Client) -> Option<bool> {
    let topic = client.metadata(Some(vec![TOPIC.to_owned()])).await.ok()?.topics.pop()?.ok()?;
    Some(topic.partitions.iter().any(|partition| partition.moving_to.is_some()))
}

/// The brokers that hold each partition.
fn hosts(rig: &Rig, cluster: &Cluster) -> Result<Vec<Vec<u64>>, RigError> {
    rig.runtime.block_on(async {
        let mut answer =
            client(cluster).await?.metadata(Some(vec![TOPIC.to_owned()])).await.map_err(refused)?;
        let topic =
            answer.topics.pop().ok_or_else(|| refused("no topic"))?.map_err(|_| refused("no topic"))?;
        Ok(topic.partitions.into_iter().map(|partition| partition.replicas).collect())
    })
}

/// How many replicas a broker holds.
fn replicas(rig: &Rig, cluster: &Cluster, node: u64) -> Result<usize, RigError> {
    Ok(hosts(rig, cluster)?.iter().filter(|hosts| hosts.contains(&node)).count())
}
