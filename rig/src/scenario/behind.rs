//! A broker that comes back when the others have trimmed their log past its end: what it is sent as a snapshot, and
//! what as log.

use std::time::Duration;

use lockstep_client::{NewTopic, Record};

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{TOPIC, connect};
use crate::measure::{Table, Times};
use crate::rig::Rig;
use crate::scenario::{conclude, roots};

const BROKERS: u64 = 3;
/// The broker that is away.
const AWAY: u64 = 3;
const BATCH_RECORDS: u64 = 16;
const VALUE_BYTES: u64 = 16 << 10;
/// How long the broker may take to have everything.
const RETURN_TIME_MAX: Duration = Duration::from_secs(60);
const SNAPSHOT_BYTES: &str = "lockstep_raft_snapshot_sent_bytes_total";
const ENTRY_BYTES: &str = "lockstep_raft_entry_sent_bytes_total";

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Log that is written while the broker is away and trimmed, in MiB.
    #[arg(long, default_value_t = 64)]
    pub trimmed_mib: u64,
    /// Log that is written behind it and kept, in MiB.
    #[arg(long, default_value_t = 16)]
    pub kept_mib: u64,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let name = "behind";
    let roots = roots(rig, name, BROKERS)?;
    let outside = rig.workspace.directory(name)?;
    let mut cluster = Cluster::start(rig, &roots, &outside, Settings::default())?;
    create(rig, &cluster)?;
    write(rig, &cluster, 1)?;
    cluster.broker(AWAY).kill();
    let trimmed_to = write(rig, &cluster, options.trimmed_mib)?;
    let last_lsn = write(rig, &cluster, options.kept_mib)?;
    let log_start = trim(rig, &cluster, trimmed_to)?;
    let before = (cluster.metric(SNAPSHOT_BYTES), cluster.metric(ENTRY_BYTES));

    cluster.start_all()?;
    cluster.wait_until_ready(rig)?;
    let mut times = Times::default();
    let caught_up = rig.wait_until(RETURN_TIME_MAX, || end_at(rig, &cluster, AWAY) >= Some(last_lsn))?;
    times.add(cluster.broker(AWAY).started().elapsed());
    let snapshot = cluster.metric(SNAPSHOT_BYTES) - before.0;
    let entries = cluster.metric(ENTRY_BYTES) - before.1;
    if !caught_up {
        findings.violation(format!("the broker has not caught up within {RETURN_TIME_MAX:?}"));
    }
    if snapshot == 0 {
        findings.violation("no snapshot was sent: the broker was not behind the log start");
    }
    let log = cluster.metric_of(AWAY, "lockstep_log_bytes");
    cluster.stop_all();
    roots.iter().for_each(|root| findings.verify_files(&rig.program, root));
    rig.workspace.clear(name);
    let mut table = Table::default();
    table.row("log written while it was away", mebibytes((options.trimmed_mib + options.kept_mib) << 20));
    table.row("log start, and last LSN", format!("{log_start}, {last_lsn}"));
    table.row("sent as snapshot", format!("{snapshot} bytes"));
    table.row("sent as log", mebibytes(entries));
    table.row("log it has now", mebibytes(log));
    conclude(rig, name, table, &[("start to having everything", &times)], &findings);
    Ok(findings)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn refused(said: impl ToString) -> RigError {
    RigError::Refused { what: "what was asked", said: said.to_string() }
}

fn create(rig: &Rig, cluster: &Cluster) -> Result<(), RigError> {
    rig.runtime.block_on(async {
        let client = connect(&cluster.bootstrap()).await.map_err(refused)?;
        client.create_topic(NewTopic::new(TOPIC).replication(3)).await.map_err(refused)?;
        Ok(())
    })
}

/// Writes so much; the last LSN.
fn write(rig: &Rig, cluster: &Cluster, mib: u64) -> Result<u64, RigError> {
    rig.runtime.block_on(async {
        let client = connect(&cluster.bootstrap()).await.map_err(refused)?;
        let producer = client.producer().build().await.map_err(refused)?;
        let mut last_lsn = 0;
        for _ in 0..(mib << 20) / (BATCH_RECORDS * VALUE_BYTES) {
            let value = vec![b'x'; usize::try_from(VALUE_BYTES).unwrap_or(0)];
            let records: Vec<_> = (0..BATCH_RECORDS).map(|_| Record::new(0, value.clone())).collect();
            last_lsn = producer.send_batch(TOPIC, 0, records).await.map_err(refused)?.last_lsn;
        }
        Ok(last_lsn)
    })
}

fn trim(rig: &Rig, cluster: &Cluster, log_start: u64) -> Result<u64, RigError> {
    rig.runtime.block_on(async {
        let client = connect(&cluster.bootstrap()).await.map_err(refused)?;
        client.trim(TOPIC, 0, log_start).await.map_err(refused)
    })
}

/// The last committed LSN that a broker knows of.
fn end_at(rig: &Rig, cluster: &Cluster, node: u64) -> Option<u64> {
    rig.runtime.block_on(async {
        let client = connect(&cluster.bootstrap()).await.ok()?;
        Some(client.tail_of_node(node, TOPIC, 0).await.ok()?.high_watermark)
    })
}
