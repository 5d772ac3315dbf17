//! Calls of the kernel that fail: a broker runs under load, and from a certain call on its writes, syncs or renames
//! return an error, or write less than they were given.
//!
//! What holds:
//! - The broker is not started in any special way: the tracer takes hold of it while it works, and lets go again.
//! - What a failed write or sync covered must not be acknowledged by this broker, and is never tried again: the shard
//!   stops, `/metrics` and the admin API say so, and the other two go on. It comes back by recovery alone.
//! - After a short write and a death the log is a prefix.
//! - After a restart the broker takes part, and everything acknowledged is there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cluster::{Cluster, Settings};
use crate::command;
use crate::error::RigError;
use crate::http;
use crate::judge::Findings;
use crate::load::{Load, Plan, TOPIC};
use crate::machine;
use crate::measure::Table;
use crate::rig::Rig;
use crate::scenario::{conclude, roots, wait_for_acknowledgement};
use crate::tracer::Tracer;

const BROKERS: u64 = 3;
/// Small segments: rolls, and with them renames and directory syncs, come often.
const SETTINGS: Settings = Settings {
    segment_bytes: 512 << 10,
    max_batch_bytes: 128 << 10,
    quick: true,
    move_bytes_per_second: None,
};
/// Until the broker notices.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(15);
/// The load meanwhile.
const BATCHES: u64 = 100;

/// What the kernel is made to do.
#[derive(Debug, Clone, Copy)]
struct Fault {
    name: &'static str,
    means: Means,
}

/// How it is made to.
#[derive(Debug, Clone, Copy)]
enum Means {
    /// By a tracer: which calls, and what they do instead from which one on.
    Trace(&'static str, &'static str),
    /// By a limit on the size of files: the write that crosses it is short, the next one ends the process.
    FileSize(u64),
}

const FAULTS: [Fault; 9] = [
    traced("EIO from fdatasync", "fdatasync", "error=EIO:when=5+"),
    traced("EIO from one fdatasync, then success", "fdatasync", "error=EIO:when=5"),
    traced("EIO from pwritev", "pwritev", "error=EIO:when=5+"),
    traced("EIO from one pwritev, then success", "pwritev", "error=EIO:when=7"),
    traced("ENOSPC from pwritev", "pwritev", "error=ENOSPC:when=5+"),
    traced("ENOSPC from fdatasync", "fdatasync", "error=ENOSPC:when=3"),
    traced("EIO from fsync", "fsync", "error=EIO:when=1+"),
    traced("EIO from rename", "rename,renameat,renameat2", "error=EIO:when=1+"),
    Fault { name: "a short write, then SIGXFSZ", means: Means::FileSize(300_000) },
];

const fn traced(name: &'static str, calls: &'static str, inject: &'static str) -> Fault {
    Fault { name, means: Means::Trace(calls, inject) }
}

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How often each fault is planted.
    #[arg(long, default_value_t = 1)]
    pub times: u64,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    if let Err(why) = machine::is_root().and_then(|()| machine::has_program("strace")) {
        machine::skipped("failing calls", &why);
        return Ok(findings);
    }
    let mut table = Table::default();
    for number in 0..options.times {
        for (at, fault) in FAULTS.iter().enumerate() {
            let name = format!("inject-{number}-{at}");
            let said = one(rig, &name, *fault, &mut findings)?;
            println!("inject: {}: {said}", fault.name);
            table.row(fault.name, said);
            if findings.violations() == 0 {
                rig.workspace.clear(&name);
            }
        }
    }
    conclude(rig, "inject", table, &[], &findings);
    Ok(findings)
}

fn one(rig: &mut Rig, name: &str, fault: Fault, findings: &mut Findings) -> Result<String, RigError> {
    let roots = roots(rig, name, BROKERS)?;
    let outside = rig.workspace.directory(name)?;
    let mut cluster = Cluster::start(rig, &roots, &outside, SETTINGS)?;
    let load = Load::start(rig, &cluster.bootstrap(), Plan { partitions: 2, ..Plan::default() })?;
    wait_for_acknowledgement(rig, &load, 0, findings)?;
    // A leader half of the time: its own copy then counts for nothing.
    let leader = cluster.leader(TOPIC, 0).unwrap_or(1);
    let victim = if rig.random.percent(50) { leader } else { leader % BROKERS + 1 };
    let hold = Hold::take(rig, &mut cluster, victim, fault.means, &outside)?;
    let health = |cluster: &mut Cluster| unhealthy(cluster, victim);
    let mut noticed = None;
    rig.wait_until(NOTICE_TIME_MAX, || {
        noticed = health(&mut cluster);
        noticed.is_some() || cluster.broker(victim).check_alive().is_err()
    })?;
    let injected = hold.release();
    let ended = cluster.broker(victim).check_alive().is_err() || cluster.broker(victim).pid().is_none();
    let said = match (&noticed, ended) {
        (Some(said), _) => format!("node {victim} says {said}"),
        (None, true) => format!("node {victim} ended"),
        (None, false) => format!("node {victim} goes on"),
    };
    if injected == Some(0) {
        findings.violation(format!("{}: no call was made to fail, so nothing was tried", fault.name));
    }
    if noticed.is_none() && !ended {
        findings.violation(format!("{}: {injected:?} calls failed, and nobody says so", fault.name));
    }
    let before = load.acknowledged();
    if !rig.wait_until(Duration::from_secs(30), || load.acknowledged() > before + BATCHES)? {
        findings.violation(format!("{}: the others acknowledge nothing", fault.name));
    }
    cluster.broker(victim).kill();
    load.restarted([victim]);
    cluster.start_all()?;
    cluster.wait_until_ready(rig)?;
    wait_for_acknowledgement(rig, &load, load.acknowledged() + BATCHES, findings)?;
    let recorder = load.finish()?;
    findings.judge(rig, &cluster.bootstrap(), &recorder, &[1, 2, 3])?;
    let injected = injected.map_or(String::new(), |count| format!("{count} calls failed; "));
    Ok(format!("{injected}{said}; back after a restart"))
}

/// What holds the broker.
enum Hold {
    Tracer(Tracer),
    Limit,
}

impl Hold {
    fn take(
        rig: &Rig,
        cluster: &mut Cluster,
        node: u64,
        means: Means,
        outside: &Path,
    ) -> Result<Self, RigError> {
        let pid = cluster.broker(node).pid().unwrap_or(0);
        match means {
            Means::Trace(calls, inject) => Tracer::attach(rig, pid, calls, inject, outside).map(Self::Tracer),
            Means::FileSize(bytes) => {
                let mut limit = Command::new("prlimit");
                command::run(limit.args(["--pid", &pid.to_string(), &format!("--fsize={bytes}")]))?;
                Ok(Self::Limit)
            }
        }
    }

    /// Lets go; returns how many calls were made to fail, if that is known.
    fn release(self) -> Option<usize> {
        match self {
            Self::Tracer(tracer) => Some(tracer.release()),
            Self::Limit => None,
        }
    }
}

/// What a broker's metrics and admin interface say of replicas that stopped.
fn unhealthy(cluster: &mut Cluster, node: u64) -> Option<String> {
    let address = cluster.broker(node).place().http();
    let (_, metrics) = http::get(address, "/metrics")?;
    let count = |health: &str| http::series(&metrics, &format!("lockstep_shards{{health=\"{health}\"}}"));
    let stopped = ["failed", "faulty", "full"].into_iter();
    let Some(metric) = stopped.into_iter().find(|health| count(health).is_some_and(|count| count > 0.0))
    else {
        // The broker recovers such a log by itself after a pause: between two looks it may have.
        let failures = http::series(&metrics, "lockstep_log_failures_total").filter(|count| *count > 0.0)?;
        return Some(format!("{failures} failures counted, and the log open again"));
    };
    let replica =
        |partition| http::json(address, &format!("/v1/topics/{TOPIC}/partitions/{partition}/replica"));
    let told = (0..2).filter_map(replica).find(|replica| replica["health"] != "ok");
    // It may be the shard of the metadata that stopped: the metrics count it, and the topic's partitions do not.
    let reason = told.and_then(|replica| Some(replica["reason"].as_str()?.to_owned()));
    Some(format!("{metric}: {}", reason.unwrap_or_else(|| "the metadata's shard".to_owned())))
}
