//! Processes that die and processes that stand still, under load: SIGKILL and SIGSTOP of leaders and followers.
//!
//! What holds: at most one event at a time takes a broker away for long, but some take two or all. A broker that stood
//! still goes on as if nothing had been, often after another was elected: it must not serve what it takes for current.

use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Plan, TOPIC};
use crate::measure::{Table, Times};
use crate::rig::Rig;
use crate::scenario::{conclude, roots, wait_for_acknowledgement};

const BROKERS: u64 = 3;
/// The longest time between two events.
const PEACE_MAX: Duration = Duration::from_millis(300);
/// The longest time a process stands still: well above an election.
const STANDSTILL_MAX: Duration = Duration::from_millis(1200);

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Events, all rounds together.
    #[arg(long, default_value_t = 200)]
    pub events: u64,
    /// Events between two judgements.
    #[arg(long, default_value_t = 50)]
    pub round: u64,
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    KillLeader,
    KillFollower,
    KillTwo,
    KillAll,
    StandLeader,
    StandFollower,
    /// One stands still, another dies and comes back, and only then does the first go on.
    StandAndKill,
}

const EVENTS: [(Event, &str); 7] = [
    (Event::KillLeader, "SIGKILL of a leader"),
    (Event::KillFollower, "SIGKILL of a follower"),
    (Event::KillTwo, "SIGKILL of two at once"),
    (Event::KillAll, "SIGKILL of all at once"),
    (Event::StandLeader, "SIGSTOP of a leader, then SIGCONT"),
    (Event::StandFollower, "SIGSTOP of a follower, then SIGCONT"),
    (Event::StandAndKill, "SIGSTOP of one while another is killed"),
];

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let mut counts = [0_u64; EVENTS.len()];
    let (mut done, mut acknowledged, mut ready) = (0, 0, Times::default());
    while done < options.events && findings.violations() == 0 {
        let events = options.round.clamp(1, options.events - done);
        let name = format!("kill-{done}");
        let roots = roots(rig, &name, BROKERS)?;
        let outside = rig.workspace.directory(&name)?;
        let mut cluster = Cluster::start(rig, &roots, &outside, Settings::default())?;
        let load = Load::start(rig, &cluster.bootstrap(), Plan::default())?;
        wait_for_acknowledgement(rig, &load, 0, &mut findings)?;
        for _ in 0..events {
            let at = usize::try_from(rig.random.below(EVENTS.len() as u64)).unwrap_or(0);
            happen(rig, &mut cluster, &load, EVENTS[at].0, &mut ready)?;
            counts[at] += 1;
            wait_for_acknowledgement(rig, &load, load.acknowledged(), &mut findings)?;
            let peace = rig.random.time(PEACE_MAX);
            rig.pause(peace)?;
        }
        done += events;
        acknowledged += load.acknowledged();
        let recorder = load.finish()?;
        findings.judge(rig, &cluster.bootstrap(), &recorder, &[1, 2, 3])?;
        cluster.stop_all();
        roots.iter().for_each(|root| findings.verify_files(&rig.program, root));
        println!("kill: {done} of {} events", options.events);
        if findings.violations() == 0 {
            rig.workspace.clear(&name);
        }
    }
    let mut table = Table::default();
    for ((_, name), count) in EVENTS.iter().zip(counts) {
        table.row(*name, count);
    }
    table.row("acknowledged batches", acknowledged);
    conclude(rig, "kill", table, &[("process start to ready", &ready)], &findings);
    Ok(findings)
}

fn happen(
    rig: &mut Rig,
    cluster: &mut Cluster,
    load: &Load,
    event: Event,
    ready: &mut Times,
) -> Result<(), RigError> {
    let partition = u32::try_from(rig.random.below(u64::from(Plan::default().partitions))).unwrap_or(0);
    let leader = cluster.leader(TOPIC, partition).unwrap_or(1);
    let followers: Vec<u64> = (1..=BROKERS).filter(|node| *node != leader).collect();
    let follower = *rig.random.choose(&followers);
    let standstill = rig.random.time(STANDSTILL_MAX);
    match event {
        Event::KillLeader => kill(cluster, load, &[leader]),
        Event::KillFollower => kill(cluster, load, &[follower]),
        Event::KillTwo => kill(cluster, load, &[leader, follower]),
        Event::KillAll => kill(cluster, load, &[1, 2, 3]),
        Event::StandLeader => stand_still(rig, cluster, leader, standstill)?,
        Event::StandFollower => stand_still(rig, cluster, follower, standstill)?,
        Event::StandAndKill => {
            cluster.broker(leader).signal(Signal::STOP);
            kill(cluster, load, &[follower]);
            cluster.start_all()?;
            rig.pause(standstill)?;
            cluster.broker(leader).signal(Signal::CONT);
        }
    }
    let killed = cluster.brokers.iter().any(|broker| broker.pid().is_none());
    cluster.start_all()?;
    let times = cluster.wait_until_ready(rig)?;
    if killed && event == Event::KillAll {
        times.into_iter().for_each(|time| ready.add(time));
    }
    Ok(())
}

fn kill(cluster: &mut Cluster, load: &Load, nodes: &[u64]) {
    for node in nodes {
        cluster.broker(*node).signal(Signal::KILL);
    }
    for node in nodes {
        cluster.broker(*node).kill();
    }
    load.restarted(nodes.iter().copied());
}

fn stand_still(rig: &Rig, cluster: &mut Cluster, node: u64, time: Duration) -> Result<(), RigError> {
    cluster.broker(node).signal(Signal::STOP);
    rig.pause(time)?;
    cluster.broker(node).signal(Signal::CONT);
    Ok(())
}
