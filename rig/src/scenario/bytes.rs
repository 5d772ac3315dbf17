//! Damage in the files of one stopped broker: every kind of file, at every kind of place.
//!
//! What holds:
//! - The brokers were stopped cleanly, so that each log ends in a seal and what lies below is vouched for.
//! - The other two are whole: nothing may be lost, they go on meanwhile, and are judged at the end.
//! - A broker that finds the damage says so, and deletes nothing: every file is still there, and what it does not
//!   repair it does not change.

mod damage;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cluster::{Cluster, Settings};
use crate::command;
use crate::error::RigError;
use crate::http;
use crate::judge::{Findings, is_readable};
use crate::load::{Load, Plan, TOPIC};
use crate::measure::Table;
use crate::rig::Rig;
use crate::scenario::{conclude, roots};
use damage::{Edit, Layout, Manner, Target};

const BROKERS: u64 = 3;
/// Small, so that a second of load fills some.
const SETTINGS: Settings = Settings {
    segment_bytes: 256 << 10,
    max_batch_bytes: 64 << 10,
    quick: true,
    move_bytes_per_second: None,
};
const PLAN: Plan = Plan {
    partitions: 1,
    replication: 3,
    writers: 6,
    value_bytes_max: 2048,
    rest_max: Duration::from_millis(5),
    rate: 0,
    log_mib: 0,
};
/// Batches before the damage, and after it.
const BATCHES: u64 = 400;
/// Batches in the newest segment, at least, where each replica is to be damaged at another one.
const BATCHES_BETWEEN_ROLLS: usize = 10;
/// The damage of all replicas.
const EVERYWHERE: &str = "bytes-everywhere";
const STEP_TIME_MAX: Duration = Duration::from_secs(30);

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How often each kind of damage is done.
    #[arg(long, default_value_t = 1)]
    pub times: u64,
    /// Seconds a damaged replica is given to be repaired from its peers.
    #[arg(long, default_value_t = 10)]
    pub repair_seconds: u64,
    /// Only damage whose name holds this, such as `shards-truncate`, `vote` or `everywhere`.
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.to_lowercase().contains(&only.to_lowercase()))
    }
}

/// What a broker made of the damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It did not start.
    Refused,
    /// It runs, and the replica takes no part.
    Out,
    /// It was out, and came back whole.
    Repaired,
    /// It serves the whole log: the damage did no harm, or was cut as a tear and replicated anew.
    Whole,
    /// It takes part; whoever reads the damaged place there is refused.
    FoundWhenRead,
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::Refused => "refused to start",
            Self::Out => "replica out, files unchanged",
            Self::Repaired => "repaired from its peers",
            Self::Whole => "serves all of it",
            Self::FoundWhenRead => "found when read",
        }
    }
}

/// What the documentation promises of a target.
fn promised(target: Target) -> &'static [Outcome] {
    use Outcome::{FoundWhenRead, Out, Refused, Repaired, Whole};
    match target {
        // Metadata of the node, each written whole or not at all: anything else is refused.
        Target::Identity | Target::Shards | Target::Peers => &[Refused],
        // Derived, double, a claim alone, or not in use.
        Target::Footer | Target::VoteFirst | Target::VoteSecond | Target::Seal | Target::Pool => &[Whole],
        // Not read at a start: found by whoever reads it, or by the scrub.
        Target::SealedFrame | Target::SealedBody => &[FoundWhenRead, Out, Repaired],
        Target::SealedHeader
        | Target::NewestHeader
        | Target::NewestFrame
        | Target::NewestBody
        | Target::VoteBoth => &[Out, Repaired],
    }
}

/// Whether what is cut off looks like something that never was: the seal goes with it.
fn is_a_tear(target: Target, manner: Manner) -> bool {
    manner == Manner::Truncate && target == Target::NewestFrame
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let mut table = Table::default();
    for _ in 0..options.times {
        for target in Target::ALL {
            for manner in target.manners() {
                let case =
                    Case { target, manner: *manner, repair: Duration::from_secs(options.repair_seconds) };
                let name = format!("bytes-{target:?}-{manner:?}");
                if !options.wants(&name) {
                    continue;
                }
                let outcome = case.run(rig, &name, &mut findings)?;
                let words = outcome.map_or("SKIPPED: there is none", Outcome::words);
                println!("bytes: {manner:?} {}: {words}", target.name());
                table.row(format!("{manner:?} {}", target.name()), words);
                if findings.violations() == 0 {
                    rig.workspace.clear(&name);
                }
            }
        }
        if options.wants(EVERYWHERE) {
            everywhere(rig, options, &mut table, &mut findings)?;
            if findings.violations() == 0 {
                rig.workspace.clear(EVERYWHERE);
            }
        }
    }
    conclude(rig, "bytes", table, &[], &findings);
    Ok(findings)
}

/// A cluster that was filled and stopped, and whose load goes on as soon as it runs again.
struct Stopped {
    cluster: Cluster,
    load: Load,
    roots: Vec<PathBuf>,
    shard: u64,
}

fn stopped(rig: &mut Rig, name: &str) -> Result<Stopped, RigError> {
    let roots = roots(rig, name, BROKERS)?;
    let outside = rig.workspace.directory(name)?;
    let mut cluster = Cluster::start(rig, &roots, &outside, SETTINGS)?;
    let load = Load::start(rig, &cluster.bootstrap(), PLAN)?;
    rig.wait_until(STEP_TIME_MAX, || load.acknowledged() > BATCHES)?;
    let shard = shard(&cluster)
        .ok_or_else(|| RigError::Refused { what: "the topic's shard", said: name.to_owned() })?;
    cluster.stop_all();
    load.restarted(1..=BROKERS);
    Ok(Stopped { cluster, load, roots, shard })
}

fn shard(cluster: &Cluster) -> Option<u64> {
    let topic = http::json(cluster.brokers[0].place().http(), &format!("/v1/topics/{TOPIC}"))?;
    topic["partitions"][0]["shard"].as_u64()
}

/// One kind of damage to one broker.
struct Case {
    target: Target,
    manner: Manner,
    repair: Duration,
}

impl Case {
    fn run(&self, rig: &mut Rig, name: &str, findings: &mut Findings) -> Result<Option<Outcome>, RigError> {
        let Stopped { mut cluster, load, roots, shard } = stopped(rig, name)?;
        let victim = rig.random.between(1, BROKERS);
        let data = roots[usize::try_from(victim - 1).unwrap_or(0)].join("data");
        let layout = layout(rig, &data, shard)?;
        let edits = layout.plan(self.target, self.manner, &mut rig.random);
        if edits.is_empty() {
            return Ok(None);
        }
        make(rig, &edits)?;
        let before = files(&data);
        cluster.start_all()?;
        let outcome = self.watch(rig, &mut cluster, victim, shard)?;
        let acknowledged = load.acknowledged();
        if !rig.wait_until(STEP_TIME_MAX, || load.acknowledged() > acknowledged + BATCHES / 4)? {
            let said = accounts(&mut cluster);
            findings.violation(format!(
                "two whole brokers of three acknowledge nothing ({name}); they say\n{said}"
            ));
        }
        let recorder = load.finish()?;
        let whole = [Outcome::Whole, Outcome::Repaired].contains(&outcome);
        let judged: Vec<u64> = (1..=BROKERS).filter(|node| *node != victim || whole).collect();
        findings.judge(rig, &cluster.bootstrap_of(&judged), &recorder, &judged)?;
        cluster.kill_all();
        self.check_files(&data, &before, &edits, outcome, findings);
        let tear = is_a_tear(self.target, self.manner) && outcome == Outcome::Whole;
        if !tear && !promised(self.target).contains(&outcome) {
            let said = cluster.broker(victim).last_lines();
            findings.violation(format!("{name}: {}, which is not as documented\n{said}", outcome.words()));
        }
        Ok(Some(outcome))
    }

    /// What the damaged broker makes of it.
    fn watch(&self, rig: &Rig, cluster: &mut Cluster, victim: u64, shard: u64) -> Result<Outcome, RigError> {
        let mark = cluster.broker(victim).place().data.join("shards").join(format!("{shard}.faulty"));
        let mut ended = false;
        rig.wait_until(STEP_TIME_MAX, || {
            ended = cluster.broker(victim).check_alive().is_err();
            ended || mark.exists() || cluster.broker(victim).is_ready()
        })?;
        if ended {
            return Ok(Outcome::Refused);
        }
        let was_out = mark.exists() || is_out(cluster, victim) || became_faulty(cluster, victim);
        if was_out && !rig.wait_until(self.repair, || !mark.exists() && !is_out(cluster, victim))? {
            return Ok(Outcome::Out);
        }
        let readable = is_readable(rig, &cluster.bootstrap(), victim);
        Ok(match (was_out || became_faulty(cluster, victim), readable) {
            (true, true) => Outcome::Repaired,
            (false, true) => Outcome::Whole,
            // Reading found it: the replica may be out now, or be repaired next.
            (_, false)
                if rig.wait_until(self.repair, || is_readable(rig, &cluster.bootstrap(), victim))? =>
            {
                Outcome::Repaired
            }
            (_, false) => Outcome::FoundWhenRead,
        })
    }

    fn check_files(
        &self,
        data: &Path,
        before: &BTreeSet<PathBuf>,
        edits: &[Edit],
        outcome: Outcome,
        findings: &mut Findings,
    ) {
        let after = files(data);
        // The log goes on, and a repair replaces: but what a faulty replica has is what its repair needs.
        if [Outcome::Out, Outcome::Refused].contains(&outcome) {
            for gone in before.difference(&after) {
                findings.violation(format!("{} was deleted", gone.display()));
            }
        }
        for edit in edits.iter().filter(|edit| !edit.file.exists() && self.target != Target::Pool) {
            findings.violation(format!("the damaged {} was deleted", edit.file.display()));
        }
    }
}

/// Damage on all three at disjoint places: every entry is whole somewhere.
fn everywhere(
    rig: &mut Rig,
    options: &Options,
    table: &mut Table,
    findings: &mut Findings,
) -> Result<(), RigError> {
    let name = EVERYWHERE;
    let Stopped { mut cluster, load, roots, shard } = stopped(rig, name)?;
    let layouts = loop {
        let layouts = layouts(rig, &roots, shard)?;
        if layouts.iter().all(|layout| layout.newest_batches() >= BATCHES_BETWEEN_ROLLS) {
            break layouts;
        }
        // A segment has just begun: there are not as many batches as replicas to be damaged.
        cluster.start_all()?;
        let acknowledged = load.acknowledged();
        rig.wait_until(STEP_TIME_MAX, || load.acknowledged() > acknowledged + BATCHES / 10)?;
        cluster.stop_all();
        load.restarted(1..=BROKERS);
    };
    for (part, layout) in layouts.iter().enumerate() {
        make(rig, &layout.plan_part(part))?;
    }
    cluster.start_all()?;
    let limit = Duration::from_secs(options.repair_seconds * 3);
    let acknowledged = load.acknowledged();
    let words = if rig.wait_until(limit, || load.acknowledged() > acknowledged + BATCHES / 4)? {
        let recorder = load.finish()?;
        findings.judge(rig, &cluster.bootstrap(), &recorder, &[1, 2, 3])?;
        "repaired from each other"
    } else {
        let said = accounts(&mut cluster);
        findings.violation(format!("damage at disjoint places was not repaired; the brokers say\n{said}"));
        "NOT REPAIRED"
    };
    println!("bytes: all replicas at disjoint places: {words}");
    table.row("all replicas at disjoint places", words);
    Ok(())
}

fn layouts(rig: &Rig, roots: &[PathBuf], shard: u64) -> Result<Vec<Layout>, RigError> {
    roots.iter().map(|root| layout(rig, &root.join("data"), shard)).collect()
}

/// What each broker that runs says of the partition and of itself: whoever waits, waits for one of them.
fn accounts(cluster: &mut Cluster) -> String {
    let mut said = String::new();
    for broker in cluster.brokers.iter_mut().filter(|broker| broker.pid().is_some()) {
        let place = broker.place().clone();
        let replica = http::json(place.http(), &format!("/v1/topics/{TOPIC}/partitions/0/replica"));
        let replica = replica.map_or_else(|| "no answer".to_owned(), |replica| replica.to_string());
        said += &format!("broker {}: {replica}\n{}\n", place.node, broker.last_lines());
    }
    said
}

fn is_out(cluster: &mut Cluster, node: u64) -> bool {
    let address = cluster.broker(node).place().http();
    let replica = http::json(address, &format!("/v1/topics/{TOPIC}/partitions/0/replica"));
    replica
        .is_some_and(|replica| ["faulty", "failed"].contains(&replica["health"].as_str().unwrap_or_default()))
}

/// Whether a replica was out since the broker started: a repair may be over sooner than anybody looks.
fn became_faulty(cluster: &mut Cluster, node: u64) -> bool {
    let metrics = http::get(cluster.broker(node).place().http(), "/metrics");
    metrics
        .and_then(|(_, metrics)| http::series(&metrics, "lockstep_replicas_faulty_total"))
        .is_some_and(|times| times > 0.0)
}

fn layout(rig: &Rig, data: &Path, shard: u64) -> Result<Layout, RigError> {
    let directory = data.join("shards").join(shard.to_string());
    let inspected =
        command::run(Command::new(&rig.program).args(["log", "inspect", "--json"]).arg(directory))?;
    let pool = files(&data.join("recycle")).into_iter().collect();
    Ok(Layout::parse(data, shard, &inspected, pool))
}

fn make(rig: &mut Rig, edits: &[Edit]) -> Result<(), RigError> {
    edits.iter().try_for_each(|edit| edit.make(&mut rig.random))
}

/// All files below a directory.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path);
        }
    }
    found
}
