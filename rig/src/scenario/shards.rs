//! Many shards on few brokers: what they cost while nobody uses them, how fast they come up, and what is left of the
//! throughput when all are written in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockstep_client::{Client, NewTopic, Producer, Record};

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{TOPIC, connect};
use crate::measure::{Table, Times, milliseconds};
use crate::process::{cpu_time, open_files, resident_bytes};
use crate::rig::Rig;
use crate::scenario::{conclude, roots};

const BROKERS: u32 = 3;
/// Partitions that the same load is held against.
const FEW: u32 = 10;
/// Appends under way at once.
const WRITERS: u64 = 64;
const VALUE_BYTES: usize = 200;
/// For how long nothing is written before a cluster counts as idle.
const REST: Duration = Duration::from_secs(5);
/// How often that is waited for, at the most.
const RESTS_MAX: u32 = 24;

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Partitions, each with a replica on every broker.
    #[arg(long, default_value_t = 1000)]
    pub partitions: u32,
    /// Seconds over which the idle brokers' processor time is taken.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Starts of all brokers at once, half after a stop and half after SIGKILL.
    #[arg(long, default_value_t = 2)]
    pub starts: u64,
    /// Appends of one run.
    #[arg(long, default_value_t = 10_000)]
    pub appends: u64,
    /// Runs with all partitions, and as many with a few, in turn.
    #[arg(long, default_value_t = 3)]
    pub runs: u64,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let name = "shards";
    let roots = roots(rig, name, BROKERS.into())?;
    let outside = rig.workspace.directory(name)?;
    let mut cluster = Cluster::start(rig, &roots, &outside, Settings::shipped())?;
    let mut table = Table::default();
    let replicas = u64::from(options.partitions * BROKERS);
    table.row("shard replicas on three brokers", replicas);

    let empty = resident(&cluster);
    let created = create(rig, &cluster, options.partitions)?;
    table.row("creating the topic, until all partitions lead", milliseconds(created));
    come_to_rest(rig, &cluster)?;
    let per_replica = resident(&cluster).saturating_sub(empty) / replicas;
    table.row("resident per idle shard replica, new", kibibytes(per_replica));
    table.row("processor time of all idle brokers, new", idle(rig, &cluster, options.seconds)?);

    let mut ready = Times::default();
    for number in 0..options.starts {
        if number % 2 == 0 {
            cluster.stop_all();
        } else {
            cluster.kill_all();
        }
        cluster.start_all()?;
        cluster.wait_until_ready(rig)?.into_iter().for_each(|time| ready.add(time));
    }
    if options.starts > 0 {
        come_to_rest(rig, &cluster)?;
        let per_replica = resident(&cluster).saturating_sub(empty) / replicas;
        table.row("resident per idle shard replica, started again", kibibytes(per_replica));
        table.row("processor time of all idle brokers, started again", idle(rig, &cluster, options.seconds)?);
    }
    written(rig, &cluster, options, &mut table, &mut findings)?;
    let files = cluster.brokers.iter().filter_map(|broker| open_files(broker.pid()?)).max();
    table.row("open files of a broker, at most", files.unwrap_or(0));
    cluster.stop_all();
    rig.workspace.clear(name);
    conclude(rig, name, table, &[("all brokers started at once, to ready", &ready)], &findings);
    Ok(findings)
}

fn refused(what: &'static str) -> impl Fn(String) -> RigError {
    move |said| RigError::Refused { what, said }
}

fn create(rig: &Rig, cluster: &Cluster, partitions: u32) -> Result<Duration, RigError> {
    let began = Instant::now();
    rig.runtime.block_on(async {
        let client = client(cluster).await?;
        let topic = NewTopic::new(TOPIC).partitions(partitions).replication(BROKERS);
        client.create_topic(topic).await.map_err(|error| refused("the topic")(error.to_string()))?;
        Ok::<_, RigError>(())
    })?;
    let led = |partition: &serde_json::Value| partition["leader"].is_u64();
    let all_lead = || {
        let topic = cluster.topic(TOPIC);
        let all = topic.as_ref().and_then(|topic| topic["partitions"].as_array());
        all.is_some_and(|all| all.len() == partitions as usize && all.iter().all(led))
    };
    rig.wait_until(Duration::from_secs(120), all_lead)?;
    Ok(began.elapsed())
}

async fn client(cluster: &Cluster) -> Result<Client, RigError> {
    connect(&cluster.bootstrap()).await.map_err(|error| refused("a connection")(error.to_string()))
}

/// Waits until nothing has been written for a while: leaders go back to the brokers that placement prefers, some at a time.
fn come_to_rest(rig: &Rig, cluster: &Cluster) -> Result<(), RigError> {
    let mut before = None;
    for _ in 0..RESTS_MAX {
        let now = cluster.metric("lockstep_log_syncs_total");
        if before.replace(now) == Some(now) {
            return Ok(());
        }
        rig.pause(REST)?;
    }
    Ok(())
}

/// Resident bytes of all brokers together.
fn resident(cluster: &Cluster) -> u64 {
    cluster.brokers.iter().filter_map(|broker| resident_bytes(broker.pid()?)).sum()
}

fn kibibytes(bytes: u64) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
}

/// What all brokers use while nobody asks anything of them, in percent of one processor.
fn idle(rig: &Rig, cluster: &Cluster, seconds: u64) -> Result<String, RigError> {
    let used = || cluster.brokers.iter().filter_map(|broker| cpu_time(broker.pid()?)).sum::<Duration>();
    let (before, began) = (used(), Instant::now());
    rig.pause(Duration::from_secs(seconds))?;
    let share = (used() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    Ok(format!("{:.2} % of one processor", share * 100.0))
}

/// The same load on all partitions in turn and on a few of them, run about.
fn written(
    rig: &Rig,
    cluster: &Cluster,
    options: &Options,
    table: &mut Table,
    findings: &mut Findings,
) -> Result<(), RigError> {
    let (mut all, mut few) = (Times::default(), Times::default());
    let producer = rig.runtime.block_on(async {
        let client = client(cluster).await?;
        client.producer().build().await.map_err(|error| refused("a producer")(error.to_string()))
    })?;
    let producer = Arc::new(producer);
    // Every partition once: what comes first opens files.
    append(rig, &producer, options.partitions, u64::from(options.partitions), findings);
    for _ in 0..options.runs {
        rig.check_interrupted()?;
        few.add(append(rig, &producer, FEW.min(options.partitions), options.appends, findings));
        all.add(append(rig, &producer, options.partitions, options.appends, findings));
    }
    if let (Some(all), Some(few)) = (all.percentile(50), few.percentile(50)) {
        let rate = |time: Duration| options.appends as f64 / time.as_secs_f64().max(1e-6);
        table.row(format!("appends a second, {FEW} partitions"), format!("{:.0}", rate(few)));
        table
            .row(format!("appends a second, {} partitions", options.partitions), format!("{:.0}", rate(all)));
        table.row("ratio", format!("{:.2}", rate(all) / rate(few)));
    }
    Ok(())
}

/// Appends to one partition after another, a batch each, some at a time; how long it took.
fn append(
    rig: &Rig,
    producer: &Arc<Producer>,
    partitions: u32,
    count: u64,
    findings: &mut Findings,
) -> Duration {
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let write = || {
        let (next, producer) = (Arc::clone(&next), Arc::clone(producer));
        async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<(), String>(());
                }
                let partition = u32::try_from(number % u64::from(partitions)).unwrap_or(0);
                let records = vec![Record::new(0, vec![b'x'; VALUE_BYTES])];
                producer.send_batch(TOPIC, partition, records).await.map_err(|error| error.to_string())?;
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|_| rig.runtime.spawn(write())).collect();
    for writer in writers {
        if let Ok(Err(error)) = rig.runtime.block_on(writer) {
            findings.violation(format!("an append failed: {error}"));
        }
    }
    began.elapsed()
}
