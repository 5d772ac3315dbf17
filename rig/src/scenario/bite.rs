//! Proof that the rig bites: brokers whose syncs do nothing, and one power cut.
//!
//! What holds: the brokers are the real ones, and believe that they sync; the tracer makes `fdatasync` and `fsync` say
//! success without doing anything. What they acknowledge is then in the page cache alone, and the cut must take it. A
//! rig that finds nothing wrong here would find nothing anywhere.

use std::time::Duration;

use crate::cluster::{Cluster, Settings};
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Plan};
use crate::machine;
use crate::rig::Rig;
use crate::scenario::wait_for_acknowledgement;
use crate::tracer::Tracer;
use crate::volume::{FileSystem, Volume, cut_all};

const VOLUME_BYTES: u64 = 1 << 30;
/// Acknowledged without a sync, at least.
const BATCHES: u64 = 200;

/// Runs it. What it returns is a violation only if the lie was not caught.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    let possible = machine::is_root().and_then(|()| machine::has_loop_devices());
    let possible = possible.and_then(|()| machine::has_program("strace"));
    if let Err(why) = possible.and_then(|()| machine::has_program(FileSystem::Ext4.formatter())) {
        machine::skipped("the proof that the rig bites", &why);
        return Ok(findings);
    }
    println!("bite: the violations that follow are meant to be found");
    let caught = lie(rig)?;
    rig.workspace.clear("bite");
    println!(
        "\nbite: syncs that did nothing broke {}\n",
        if caught.is_empty() { "no rule" } else { &caught }
    );
    if !caught.contains("acknowledged-kept") {
        findings.violation("syncs that did nothing lost what was acknowledged, and the rig did not see it");
    }
    Ok(findings)
}

/// The rules that were seen broken.
fn lie(rig: &mut Rig) -> Result<String, RigError> {
    let mut found = Findings::default();
    let directory = rig.workspace.directory("bite")?;
    let volume = |node| Volume::create(&directory, &format!("node-{node}"), FileSystem::Ext4, VOLUME_BYTES);
    let mut volumes: Vec<Volume> = (1..=3).map(volume).collect::<Result<_, _>>()?;
    let roots: Vec<_> = volumes.iter().map(|volume| volume.path().to_owned()).collect();
    let mut cluster =
        Cluster::start(rig, &roots, &directory, Settings { segment_bytes: 64 << 20, ..Settings::default() })?;
    let load = Load::start(rig, &cluster.bootstrap(), Plan { partitions: 1, ..Plan::default() })?;
    wait_for_acknowledgement(rig, &load, 0, &mut found)?;
    let lying = |pid| Tracer::attach(rig, pid, "fdatasync,fsync", "retval=0", &directory);
    let tracers: Vec<Tracer> =
        cluster.brokers.iter().filter_map(|broker| broker.pid()).map(lying).collect::<Result<_, _>>()?;
    let before = load.acknowledged();
    rig.wait_until(Duration::from_secs(30), || load.acknowledged() > before + BATCHES)?;

    let switches = volumes.iter().map(Volume::switch).collect::<Result<_, _>>()?;
    for broker in &cluster.brokers {
        broker.signal(rustix::process::Signal::KILL);
    }
    cut_all(switches)?;
    cluster.kill_all();
    let lies: usize = tracers.into_iter().map(Tracer::release).sum();
    println!("bite: {lies} syncs did nothing");
    load.restarted(1..=3);
    for volume in &mut volumes {
        volume.unmount()?;
        volume.mount()?;
    }
    cluster.start_all()?;
    cluster.wait_until_ready(rig)?;
    wait_for_acknowledgement(rig, &load, load.acknowledged(), &mut found)?;
    let recorder = load.finish()?;
    found.judge(rig, &cluster.bootstrap(), &recorder, &[1, 2, 3])?;
    Ok(found.rules())
}
