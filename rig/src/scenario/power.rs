//! Power cuts: brokers on volumes of their own, all cut at the same moment, again and again, under load.
//!
//! What holds:
//! - A cut comes at any moment: while the brokers start, while they elect, and mostly while they write.
//! - Between two whole cuts, one or two of the three are cut alone at times: the others must go on.
//! - The brokers are told to die just before, in the middle of their syncs: a real cut takes both at once. One that
//!   lived on would be lied to: of an `fdatasync` under way, ext4 says success after its shutdown at times (18 of 600
//!   tried, up to 22 ms after), though the data is gone. An acknowledgement sent then is one that no cut ever lets out.
//! - Clients live on through it all, so what they resend meets the brokers' memory of what was stored.
//! - Every round has file systems, a cluster and a history of its own; its history is judged at its end, from the final
//!   log of every replica, and the files are verified once more after a clean stop.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::broker::Broker;
use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Plan};
use crate::machine;
use crate::measure::{Table, Times};
use crate::rig::Rig;
use crate::scenario::{conclude, wait_for_acknowledgement};
use crate::volume::{FileSystem, Volume, cut_all};

/// Size of a volume; its image holds what was written to it only.
const VOLUME_BYTES: u64 = 3 << 30;
const BROKERS: usize = 3;
/// The longest time from the first acknowledgement to the next cut.
const UNDER_LOAD_MAX: Duration = Duration::from_millis(500);
/// The longest time from the start of the processes to a cut that does not wait for them.
const STARTING_MAX: Duration = Duration::from_millis(250);
/// Whole cuts, in percent, that come before the brokers are ready.
const EARLY_PERCENT: u64 = 20;
/// Whole cuts, in percent, that are followed by one of some brokers alone.
const PARTIAL_PERCENT: u64 = 15;
/// Segment sizes, one a round: many rolls, some, none.
const SEGMENT_BYTES: [u64; 3] = [4 << 20, 1 << 20, 64 << 20];

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Whole cuts, all rounds together.
    #[arg(long, default_value_t = 500)]
    pub cuts: u64,
    /// File systems, one a round in turn: ext4, ext4-writeback, xfs.
    #[arg(long, value_delimiter = ',', default_value = "ext4,xfs")]
    pub fs: Vec<FileSystem>,
    /// Whole cuts between two judgements.
    #[arg(long, default_value_t = 25)]
    pub round: u64,
}

/// What all rounds together came to.
#[derive(Default)]
struct Tally {
    whole: u64,
    early: u64,
    partial: u64,
    by_file_system: Vec<(FileSystem, u64)>,
    acknowledged: u64,
    ready: Times,
    first_acknowledgement: Times,
    remount: Times,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let usable = usable(&options.fs);
    if usable.is_empty() {
        return Ok(findings);
    }
    let mut tally = Tally::default();
    let began = Instant::now();
    let mut number = 0;
    while tally.whole < options.cuts {
        let cuts = options.round.clamp(1, options.cuts - tally.whole);
        let file_system = usable[number % usable.len()];
        let name = format!("power-{number}");
        Round::prepare(rig, &name, file_system, number)?.run(rig, cuts, &mut tally, &mut findings)?;
        if findings.violations() > 0 {
            break;
        }
        rig.workspace.clear(&name);
        number += 1;
        let rate = began.elapsed().as_secs_f64() / tally.whole as f64;
        println!("power: {} of {} cuts, {rate:.2} s each, {}", tally.whole, options.cuts, file_system.name());
    }
    let mut table = Table::default();
    table.row("whole-cluster cuts", tally.whole);
    for (file_system, cuts) in &tally.by_file_system {
        table.row(format!("  on {}", file_system.name()), cuts);
    }
    table.row("  while the brokers were starting", tally.early);
    table.row("cuts of one or two brokers", tally.partial);
    table.row("acknowledged batches", tally.acknowledged);
    let times = [
        ("unmount and journal replay, all volumes", &tally.remount),
        ("process start to ready", &tally.ready),
        ("process start to first acknowledgement", &tally.first_acknowledgement),
    ];
    conclude(rig, "power cuts", table, &times, &findings);
    Ok(findings)
}

/// The file systems this machine can make; says which it cannot.
fn usable(wanted: &[FileSystem]) -> Vec<FileSystem> {
    if let Err(why) = machine::is_root().and_then(|()| machine::has_loop_devices()) {
        machine::skipped("power cuts", &why);
        return Vec::new();
    }
    let usable = |file_system: &FileSystem| {
        let found = machine::has_program(file_system.formatter());
        if let Err(why) = &found {
            machine::skipped(&format!("power cuts on {}", file_system.name()), why);
        }
        found.is_ok()
    };
    wanted.iter().copied().filter(usable).collect()
}

/// A cluster on volumes of its own. The fields are dropped in this order: nobody has a file open on a volume when it is
/// unmounted.
struct Round {
    cluster: Cluster,
    volumes: Vec<Volume>,
    file_system: FileSystem,
}

impl Round {
    fn prepare(rig: &mut Rig, name: &str, file_system: FileSystem, number: usize) -> Result<Self, RigError> {
        let directory = rig.workspace.directory(name)?;
        let volume = |node| Volume::create(&directory, &format!("node-{node}"), file_system, VOLUME_BYTES);
        let volumes: Vec<Volume> = (1..=BROKERS).map(volume).collect::<Result<_, _>>()?;
        let roots: Vec<_> = volumes.iter().map(|volume| volume.path().to_owned()).collect();
        let segment_bytes = SEGMENT_BYTES[number % SEGMENT_BYTES.len()];
        let settings = Settings { segment_bytes, max_batch_bytes: 256 << 10, ..Settings::default() };
        let cluster = Cluster::start(rig, &roots, &directory, settings)?;
        Ok(Self { cluster, volumes, file_system })
    }

    fn run(
        mut self,
        rig: &mut Rig,
        cuts: u64,
        tally: &mut Tally,
        findings: &mut Findings,
    ) -> Result<(), RigError> {
        let load = Load::start(rig, &self.cluster.bootstrap(), Plan::default())?;
        wait_for_acknowledgement(rig, &load, 0, findings)?;
        let all: Vec<usize> = (0..BROKERS).collect();
        for cut in 1..=cuts {
            self.cut(rig, &load, &all, tally)?;
            tally.whole += 1;
            // The last one is waited for, so that there is something to judge.
            if cut < cuts && rig.random.percent(EARLY_PERCENT) {
                tally.early += 1;
                let moment = rig.random.time(STARTING_MAX);
                rig.pause(moment)?;
                continue;
            }
            self.wait_for_recovery(rig, &load, tally, findings)?;
            self.check_replicas(findings);
            if findings.violations() > 0 {
                return Ok(());
            }
            let moment = rig.random.time(UNDER_LOAD_MAX);
            rig.pause(moment)?;
            if rig.random.percent(PARTIAL_PERCENT) {
                let some = some_of(&mut rig.random, &all);
                self.cut(rig, &load, &some, tally)?;
                tally.partial += 1;
                self.cluster.wait_until_ready(rig)?;
            }
        }
        tally.acknowledged += load.acknowledged();
        self.judge(rig, load, findings)?;
        match tally.by_file_system.iter_mut().find(|(known, _)| *known == self.file_system) {
            Some((_, sum)) => *sum += cuts,
            None => tally.by_file_system.push((self.file_system, cuts)),
        }
        Ok(())
    }

    /// Cuts the power of some volumes at once, and brings them and their brokers back.
    fn cut(&mut self, rig: &Rig, load: &Load, which: &[usize], tally: &mut Tally) -> Result<(), RigError> {
        rig.check_interrupted()?;
        let switches = which.iter().map(|at| self.volumes[*at].switch()).collect::<Result<_, _>>()?;
        for at in which {
            self.cluster.brokers[*at].signal(Signal::KILL);
        }
        cut_all(switches)?;
        for at in which {
            self.cluster.brokers[*at].kill();
        }
        load.restarted(which.iter().map(|at| *at as u64 + 1));
        let down = Instant::now();
        let mut chosen: Vec<&mut Volume> = self
            .volumes
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| which.contains(at))
            .map(|(_, v)| v)
            .collect();
        std::thread::scope(|scope| {
            let remount = |volume: &mut Volume| volume.unmount().and_then(|()| volume.mount());
            let remounts: Vec<_> =
                chosen.iter_mut().map(|volume| scope.spawn(move || remount(volume))).collect();
            remounts.into_iter().try_for_each(|done| done.join().unwrap_or(Err(RigError::Interrupted)))
        })?;
        tally.remount.add(down.elapsed());
        self.cluster.start_all()
    }

    /// Waits until every broker is ready and something was acknowledged, and takes the times.
    fn wait_for_recovery(
        &mut self,
        rig: &Rig,
        load: &Load,
        tally: &mut Tally,
        findings: &mut Findings,
    ) -> Result<(), RigError> {
        let before = load.acknowledged();
        let started = self.cluster.brokers[0].started();
        let mut first = None;
        for time in self.cluster.wait_until_ready_and(rig, || {
            if first.is_none() && load.acknowledged() > before {
                first = Some(started.elapsed());
            }
        })? {
            tally.ready.add(time);
        }
        wait_for_acknowledgement(rig, load, before, findings)?;
        tally.first_acknowledgement.add(first.unwrap_or_else(|| started.elapsed()));
        Ok(())
    }

    /// No cut may leave a replica that the broker itself holds for damaged, even if it can be repaired.
    fn check_replicas(&self, findings: &mut Findings) {
        for faulty in self.cluster.brokers.iter().flat_map(Broker::faulty_replicas) {
            findings.violation(format!("nothing but power was cut, and a replica is out: {faulty}"));
        }
    }

    fn judge(&mut self, rig: &Rig, load: Load, findings: &mut Findings) -> Result<(), RigError> {
        let recorder = load.finish()?;
        findings.judge(rig, &self.cluster.bootstrap(), &recorder, &[1, 2, 3])?;
        self.cluster.stop_all();
        for volume in &self.volumes {
            findings.verify_files(&rig.program, volume.path());
        }
        Ok(())
    }
}

/// One or two of `all`.
fn some_of(random: &mut crate::random::Random, all: &[usize]) -> Vec<usize> {
    let spared = *random.choose(all);
    let others: Vec<usize> = all.iter().copied().filter(|at| *at != spared).collect();
    if random.percent(50) { vec![spared] } else { others }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_partial_cut_takes_one_or_two_of_three() {
        let mut random = Random::new(1);
        let lengths: Vec<usize> = (0..50).map(|_| some_of(&mut random, &[0, 1, 2]).len()).collect();
        assert!(lengths.iter().all(|length| (1..=2).contains(length)));
        assert!(lengths.contains(&1) && lengths.contains(&2));
    }
}
