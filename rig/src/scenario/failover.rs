//! How long nothing is acknowledged when the leader dies, or stands still, under an open loop of sends.
//!
//! What holds:
//! - A gap is the longest time between two acknowledgements that follow each other, from the fault until the broker is
//!   brought back. What its return costs is counted apart.
//! - Before a broker that stood still goes on, a question for the confirmed end lies in its socket: its answer must not
//!   be below what was acknowledged before the question was asked.

use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::{Cluster, Settings};
use crate::conversation::Conversation;
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Plan, TOPIC};
use crate::measure::{Table, Times};
use crate::rig::Rig;
use crate::scenario::{conclude, longest_gap, roots, wait_for_acknowledgement};

const BROKERS: u64 = 3;
/// How long the load runs on without the broker.
const ALONE: Duration = Duration::from_millis(600);
/// How long all brokers run before the next fault.
const PEACE: Duration = Duration::from_millis(700);

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Leaders killed by SIGKILL.
    #[arg(long, default_value_t = 20)]
    pub kills: u64,
    /// Leaders that are made to stand still by SIGSTOP.
    #[arg(long, default_value_t = 5)]
    pub freeze: u64,
    /// Sends a second.
    #[arg(long, default_value_t = 1000)]
    pub rate: u32,
    /// Faults between two judgements.
    #[arg(long, default_value_t = 25)]
    pub round: u64,
}

/// What was measured.
#[derive(Default)]
struct Measured {
    killed: Times,
    frozen: Times,
    returned: Times,
    answered: u64,
    refused: u64,
    silent: u64,
    failed: u64,
    acknowledged: u64,
}

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let mut measured = Measured::default();
    let (mut done, all) = (0, options.kills + options.freeze);
    while done < all && findings.violations() == 0 {
        let faults = options.round.clamp(1, all - done);
        let name = format!("failover-{done}");
        let roots = roots(rig, &name, BROKERS)?;
        let outside = rig.workspace.directory(&name)?;
        let mut cluster = Cluster::start(rig, &roots, &outside, Settings::shipped())?;
        let load = Load::start(rig, &cluster.bootstrap(), Plan::steady(options.rate))?;
        wait_for_acknowledgement(rig, &load, 0, &mut findings)?;
        for number in done..done + faults {
            rig.pause(PEACE)?;
            if number < options.kills {
                kill(rig, &mut cluster, &load, &mut measured, &mut findings)?;
            } else {
                freeze(rig, &mut cluster, &load, &mut measured, &mut findings)?;
            }
        }
        done += faults;
        measured.failed += load.failures();
        measured.acknowledged += load.acknowledged();
        let recorder = load.finish()?;
        findings.judge(rig, &cluster.bootstrap(), &recorder, &[1, 2, 3])?;
        cluster.stop_all();
        println!("failover: {done} of {all} faults");
        if findings.violations() == 0 {
            rig.workspace.clear(&name);
        }
    }
    if measured.failed > 0 {
        findings.violation(format!("{} operations failed though a majority lived", measured.failed));
    }
    let mut table = Table::default();
    table.row("sends a second", options.rate);
    table.row("acknowledged", measured.acknowledged);
    table.row("operations that failed", measured.failed);
    if options.freeze > 0 {
        let Measured { answered, refused, silent, .. } = measured;
        table.row(
            "confirmed ends asked of a woken leader",
            format!("{answered} answered and current, {refused} refused, {silent} without answer"),
        );
    }
    let times = [
        ("gap after SIGKILL of the leader", &measured.killed),
        ("gap after SIGSTOP of the leader", &measured.frozen),
        ("longest gap while it returned", &measured.returned),
    ];
    conclude(rig, "failover", table, &times, &findings);
    Ok(findings)
}

fn kill(
    rig: &mut Rig,
    cluster: &mut Cluster,
    load: &Load,
    measured: &mut Measured,
    findings: &mut Findings,
) -> Result<(), RigError> {
    let leader = cluster.wait_for_leader(rig, TOPIC, 0)?;
    let at = load.now();
    cluster.broker(leader).kill();
    load.restarted([leader]);
    wait_for_acknowledgement(rig, load, load.acknowledged(), findings)?;
    rig.pause(ALONE)?;
    let returns = load.now();
    measured.killed.add(longest_gap(&load.timings(), at, returns));
    cluster.start_all()?;
    cluster.wait_until_ready(rig)?;
    rig.pause(PEACE)?;
    measured.returned.add(longest_gap(&load.timings(), returns, load.now()));
    Ok(())
}

fn freeze(
    rig: &mut Rig,
    cluster: &mut Cluster,
    load: &Load,
    measured: &mut Measured,
    findings: &mut Findings,
) -> Result<(), RigError> {
    let leader = cluster.wait_for_leader(rig, TOPIC, 0)?;
    let mut conversation = Conversation::open(cluster.broker(leader).place().native());
    let at = load.now();
    cluster.broker(leader).signal(Signal::STOP);
    wait_for_acknowledgement(rig, load, load.acknowledged(), findings)?;
    rig.pause(ALONE * 3)?;
    let returns = load.now();
    measured.frozen.add(longest_gap(&load.timings(), at, returns));
    let acknowledged = load.last_lsn();
    let asked = conversation.as_mut().and_then(|conversation| conversation.ask_for_tail(0));
    cluster.broker(leader).signal(Signal::CONT);
    match asked.and_then(|()| conversation?.tail()) {
        Some(Some(tail)) if tail < acknowledged => findings.violation(format!(
            "broker {leader} confirmed the end {tail} after LSN {acknowledged} was acknowledged"
        )),
        Some(Some(_)) => measured.answered += 1,
        Some(None) => measured.refused += 1,
        None => measured.silent += 1,
    }
    cluster.wait_until_ready(rig)?;
    rig.pause(PEACE)?;
    measured.returned.add(longest_gap(&load.timings(), returns, load.now()));
    Ok(())
}
