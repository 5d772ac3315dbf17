//! Calls of the kernel that fail: a broker runs under load, and from a certain call on its writes, syncs or renames
//! return an error, or write less than they were given.
//!
//! What holds:
//! - The broker is not started in any special way: the tracer takes hold of it while it works, and lets go again.
//! - What a failed write or sync covered must not be acknowledged by this broker, and is never tried again: the shard
//!   stops, `/metrics` and the admin API say so, and the other two go on.
//! - A short write is no error: the rest is to be written.
//! - After a restart the broker takes part again, and everything acknowledged is there.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::http;
use crate::judge::Findings;
use crate::load::{Load, Plan, TOPIC};
use crate::machine;
use crate::measure::Table;
use crate::rig::Rig;
use crate::scenario::{conclude, roots, wait_for_acknowledgement};

const BROKERS: u64 = 3;
/// Small segments: rolls, and with them renames and directory syncs, come often.
const SETTINGS: Settings =
    Settings { segment_bytes: 512 << 10, max_batch_bytes: 128 << 10, tick_ms: 10, election_ticks: 30 };
/// Until the broker notices.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(15);
/// How long the tracer takes hold.
const ATTACH_TIME_MAX: Duration = Duration::from_secs(10);
/// The load meanwhile.
const BATCHES: u64 = 100;

/// What the kernel is made to do.
#[derive(Debug, Clone, Copy)]
struct Fault {
    name: &'static str,
    /// As the tracer takes it: which calls, what they do instead, from which one on.
    calls: &'static str,
    inject: &'static str,
    /// Whether the shard must stop.
    stops: bool,
}

const FAULTS: [Fault; 8] = [
    Fault { name: "EIO from fdatasync", calls: "fdatasync", inject: "error=EIO:when=5+", stops: true },
    Fault {
        name: "EIO from one fdatasync, then success",
        calls: "fdatasync",
        inject: "error=EIO:when=5",
        stops: true,
    },
    Fault { name: "EIO from pwritev", calls: "pwritev", inject: "error=EIO:when=5+", stops: true },
    Fault {
        name: "EIO from one pwritev, then success",
        calls: "pwritev",
        inject: "error=EIO:when=7",
        stops: true,
    },
    Fault { name: "ENOSPC from pwritev", calls: "pwritev", inject: "error=ENOSPC:when=5+", stops: true },
    Fault { name: "ENOSPC from fdatasync", calls: "fdatasync", inject: "error=ENOSPC:when=3", stops: true },
    Fault { name: "EIO from fsync", calls: "fsync", inject: "error=EIO:when=1+", stops: true },
    Fault {
        name: "EIO from rename",
        calls: "rename,renameat,renameat2",
        inject: "error=EIO:when=1+",
        stops: true,
    },
];

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
    let tracer = Tracer::attach(rig, &mut cluster, victim, fault, &outside)?;
    let health = |cluster: &mut Cluster| unhealthy(cluster, victim);
    let mut noticed = None;
    rig.wait_until(NOTICE_TIME_MAX, || {
        noticed = health(&mut cluster);
        noticed.is_some() || cluster.broker(victim).check_alive().is_err()
    })?;
    let injected = tracer.release();
    let ended = cluster.broker(victim).check_alive().is_err() || cluster.broker(victim).pid().is_none();
    let said = match (&noticed, ended) {
        (Some(said), _) => format!("node {victim} says {said}"),
        (None, true) => format!("node {victim} ended"),
        (None, false) => format!("node {victim} goes on"),
    };
    if injected == 0 {
        findings.violation(format!("{}: no call was made to fail, so nothing was tried", fault.name));
    }
    if fault.stops && noticed.is_none() && !ended {
        findings.violation(format!("{}: {injected} calls failed, and nobody says so", fault.name));
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
    Ok(format!("{injected} calls failed; {said}; back after a restart"))
}

/// What a broker's metrics and admin interface say of replicas that stopped; both must.
fn unhealthy(cluster: &mut Cluster, node: u64) -> Option<String> {
    let address = cluster.broker(node).place().http();
    let (_, metrics) = http::get(address, "/metrics")?;
    let count = |health: &str| http::series(&metrics, &format!("lockstep_shards{{health=\"{health}\"}}"));
    let metric = ["failed", "faulty", "full"]
        .into_iter()
        .find(|health| count(health).is_some_and(|count| count > 0.0))?;
    let replica =
        |partition| http::json(address, &format!("/v1/topics/{TOPIC}/partitions/{partition}/replica"));
    let told = (0..2).filter_map(replica).find(|replica| replica["health"] != "ok");
    // It may be the shard of the metadata that stopped: the metrics count it, and the topic's partitions do not.
    let reason = told.and_then(|replica| Some(replica["reason"].as_str()?.to_owned()));
    Some(format!("{metric}: {}", reason.unwrap_or_else(|| "the metadata's shard".to_owned())))
}

/// `strace` at work on a broker. Dropping it lets go.
struct Tracer {
    process: Child,
    log: std::path::PathBuf,
}

impl Tracer {
    fn attach(
        rig: &Rig,
        cluster: &mut Cluster,
        node: u64,
        fault: Fault,
        outside: &Path,
    ) -> Result<Self, RigError> {
        let log = outside.join("strace.log");
        let said = outside.join("strace.said");
        let words = File::create(&said).map_err(RigError::file(&said))?;
        let pid = cluster.broker(node).pid().unwrap_or(0).to_string();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &pid, "-e", &format!("trace={}", fault.calls)]);
        strace.args(["-e", &format!("inject={}:{}", fault.calls, fault.inject), "-o"]).arg(&log);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
        std::os::unix::process::CommandExt::process_group(&mut strace, 0);
        let failed = |error: std::io::Error| RigError::Command {
            command: "strace".to_owned(),
            said: format!("{error}; {}", std::fs::read_to_string(&said).unwrap_or_default()),
        };
        let process = strace.spawn().map_err(failed)?;
        let holds = || std::fs::read_to_string(&said).is_ok_and(|said| said.contains("attached"));
        rig.wait_until(ATTACH_TIME_MAX, holds)?;
        Ok(Self { process, log })
    }

    /// Lets go; returns how many calls were made to fail.
    fn release(mut self) -> usize {
        self.stop();
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("(INJECTED)")).count()
    }

    fn stop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
            && self.process.try_wait().is_ok_and(|ended| ended.is_none())
        {
            // Not SIGKILL: it has to let go of the broker in order.
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.stop();
    }
}
