//! How long a broker with a long log takes to be ready again after SIGKILL.
//!
//! What holds: the log was written by producers, through the front door; the kill comes while they still write, so that
//! there is an unsealed tail; nothing is taken out of the page cache for the first runs, and everything for the others.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockstep_client::{NewTopic, Record};

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{TOPIC, connect};
use crate::machine;
use crate::measure::{Table, Times};
use crate::random::Random;
use crate::rig::Rig;
use crate::scenario::{conclude, roots};

/// Writers that fill the log.
const WRITERS: u64 = 4;
/// What a batch holds at least.
const BATCH_BYTES: u64 = 3 << 20;
const RECORD_BYTES: (u64, u64) = (64 << 10, 1 << 20);
/// The broker that is killed.
const VICTIM: u64 = 1;
/// What is written between two kills.
const BETWEEN_BYTES: u64 = 24 << 20;
/// What a restart may take.
const READY_TIME_MAX: Duration = Duration::from_secs(2);
/// Tells the kernel to forget clean pages and names.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Log of each broker, in GiB.
    #[arg(long, default_value_t = 10)]
    pub gib: u64,
    /// Replicas, one cluster each: 1 and 3 use 4 times as much disk as --gib.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    pub replication: Vec<u64>,
    /// Restarts with a warm cache, and as many with a cold one.
    #[arg(long, default_value_t = 5)]
    pub runs: u64,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    for replication in &options.replication {
        let name = format!("restart-{replication}");
        let roots = roots(rig, &name, *replication)?;
        one_cluster(rig, options, &name, &roots, &mut findings)?;
        rig.workspace.clear(&name);
    }
    Ok(findings)
}

fn one_cluster(
    rig: &mut Rig,
    options: &Options,
    name: &str,
    roots: &[PathBuf],
    findings: &mut Findings,
) -> Result<(), RigError> {
    let outside = rig.workspace.directory(name)?;
    let mut cluster = Cluster::start(rig, roots, &outside, Settings::shipped())?;
    let fill = Fill::new(rig, &cluster.bootstrap(), roots.len())?;
    let (began, bytes) = (Instant::now(), options.gib << 30);
    fill.write(rig, bytes)?;
    let written = began.elapsed();
    println!("{name}: {} GiB in {:.0} s", options.gib, written.as_secs_f64());

    let (mut warm, mut cold) = (Times::default(), Times::default());
    for (is_cold, times) in [(false, &mut warm), (true, &mut cold)] {
        for _ in 0..options.runs {
            if let Some(time) = restart(rig, &mut cluster, &fill, is_cold, findings)? {
                times.add(time);
            }
        }
    }
    let slowest = warm.percentile(100).max(cold.percentile(100)).unwrap_or_default();
    if slowest > READY_TIME_MAX {
        findings.violation(format!("a restart took {slowest:?}, and may take {READY_TIME_MAX:?}"));
    }
    let mut table = Table::default();
    table.row("log of each broker", format!("{} GiB, {} replicas", options.gib, roots.len()));
    table
        .row("written at", format!("{:.0} MiB/s", bytes as f64 / written.as_secs_f64() / f64::from(1 << 20)));
    let times = [("SIGKILL, start to ready, warm cache", &warm), ("the same, cold cache", &cold)];
    conclude(rig, name, table, &times, findings);
    Ok(())
}

/// Kills a broker in the middle of writing, and returns the time until it is ready again. The others, if there are any,
/// go on.
fn restart(
    rig: &Rig,
    cluster: &mut Cluster,
    fill: &Fill,
    is_cold: bool,
    findings: &mut Findings,
) -> Result<Option<Duration>, RigError> {
    let writing = fill.begin(rig, BETWEEN_BYTES);
    rig.wait_until(Duration::from_secs(60), || fill.is_half_done())?;
    cluster.broker(VICTIM).kill();
    let acknowledged = fill.last_lsn();
    if is_cold && let Err(error) = std::fs::write(DROP_CACHES, "3") {
        machine::skipped("a restart with a cold cache", &format!("{DROP_CACHES}: {error}"));
        return Ok(None);
    }
    cluster.start_all()?;
    let time = cluster.wait_until_one_is_ready(rig, VICTIM)?;
    writing.wait(rig);
    let left = fill.committed(rig)?;
    if left < acknowledged {
        findings.violation(format!("LSN {acknowledged} was acknowledged, and the log ends at {left}"));
    }
    Ok(Some(time))
}

/// Producers that fill the log.
struct Fill {
    bootstrap: String,
    shared: Arc<Progress>,
    seeds: Vec<Random>,
}

#[derive(Default)]
struct Progress {
    /// Bytes that are still to be acknowledged.
    left: AtomicI64,
    half: AtomicI64,
    last_lsn: AtomicU64,
}

/// Writers at work.
struct Writing(Vec<tokio::task::JoinHandle<()>>);

impl Writing {
    fn wait(self, rig: &Rig) {
        rig.runtime.block_on(async {
            for task in self.0 {
                let _ = task.await;
            }
        });
    }
}

impl Fill {
    fn new(rig: &mut Rig, bootstrap: &str, replication: usize) -> Result<Self, RigError> {
        let refused = |said: String| RigError::Refused { what: "the topic", said };
        let replication = u32::try_from(replication).unwrap_or(1);
        rig.runtime.block_on(async {
            let client = connect(bootstrap).await.map_err(|error| refused(error.to_string()))?;
            let topic = NewTopic::new(TOPIC).replication(replication);
            client.create_topic(topic).await.map_err(|error| refused(error.to_string()))
        })?;
        let seeds = (0..WRITERS).map(|_| rig.random.split()).collect();
        Ok(Self { bootstrap: bootstrap.to_owned(), shared: Arc::default(), seeds })
    }

    /// Writes so many bytes, and waits for the last acknowledgement.
    fn write(&self, rig: &Rig, bytes: u64) -> Result<(), RigError> {
        let writing = self.begin(rig, bytes);
        while self.shared.left.load(Ordering::Relaxed) > 0 {
            rig.pause(Duration::from_millis(200))?;
        }
        writing.wait(rig);
        Ok(())
    }

    fn begin(&self, rig: &Rig, bytes: u64) -> Writing {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.shared.left.store(bytes, Ordering::Relaxed);
        self.shared.half.store(bytes / 2, Ordering::Relaxed);
        let write =
            |random: &Random| write_until(self.bootstrap.clone(), Arc::clone(&self.shared), random.clone());
        Writing(self.seeds.iter().map(|random| rig.runtime.spawn(write(random))).collect())
    }

    fn is_half_done(&self) -> bool {
        self.shared.left.load(Ordering::Relaxed) <= self.shared.half.load(Ordering::Relaxed)
    }

    fn last_lsn(&self) -> u64 {
        self.shared.last_lsn.load(Ordering::Relaxed)
    }

    fn committed(&self, rig: &Rig) -> Result<u64, RigError> {
        let refused = |said: String| RigError::Refused { what: "to say where the log ends", said };
        rig.runtime.block_on(async {
            let client = connect(&self.bootstrap).await.map_err(|error| refused(error.to_string()))?;
            let tail = client.tail(TOPIC, 0, true).await.map_err(|error| refused(error.to_string()))?;
            Ok(tail.high_watermark)
        })
    }
}

async fn write_until(bootstrap: String, progress: Arc<Progress>, mut random: Random) {
    let Ok(client) = connect(&bootstrap).await else { return };
    let Ok(producer) = client.producer().build().await else { return };
    while progress.left.load(Ordering::Relaxed) > 0 {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let length = random.between(RECORD_BYTES.0, RECORD_BYTES.1);
            let letter = u8::try_from(random.below(256)).unwrap_or(0);
            records.push(Record::new(0, vec![letter; usize::try_from(length).unwrap_or(0)]));
            bytes += length;
        }
        let Ok(ack) = producer.send_batch(TOPIC, 0, records).await else { return };
        progress.last_lsn.fetch_max(ack.last_lsn, Ordering::Relaxed);
        progress.left.fetch_sub(i64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }
}
