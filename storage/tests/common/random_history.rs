//! Random operations, crashes and restarts of one log, against the model.

use super::{Random, Rig, recover, small_options};
use lockstep_storage::io::fake::Fault;
use lockstep_storage::{EntryKind, LogOptions, SegmentPool};
use std::sync::Arc;

/// A history of operations, crashes and restarts that follows from its seed.
pub fn one_run(seed: u64) {
    let mut random = Random(seed);
    let mut rig = Rig::new(small_options());
    if seed.is_multiple_of(2) {
        let pool = Arc::new(SegmentPool::open(rig.disk.clone(), 3, 0).unwrap());
        rig.options = LogOptions { pool: Some(pool), ..small_options() };
        rig.recover();
    }
    for _ in 0..150 {
        step(&mut rig, &mut random);
        if rig.log.failed().is_some() || rig.disk.is_down() {
            restart(&mut rig, &mut random);
        }
    }
    rig.flush();
    if rig.log.failed().is_none() {
        rig.check_reads();
    }
}

fn step(rig: &mut Rig, random: &mut Random) {
    let (commit, last) = (rig.log.commit(), rig.log.last_index());
    match random.below(40) {
        0..16 => {
            let term = rig.log.last_term() + u64::from(random.below(8) == 0);
            rig.append(term, random.below(4) as u32, random.below(1500) as usize);
        }
        16 => rig.append_system(EntryKind::Normal, b""),
        17 => rig.append_system(EntryKind::MembershipV2, b"joint"),
        18..24 => rig.take(),
        24..28 => rig.done(),
        28 => rig.log.set_commit(commit + random.below(last - commit + 1)),
        29 if commit < last => {
            let from = commit + 1 + random.below(last - commit);
            rig.truncate(from);
        }
        30 => rig.trim(random.below(rig.committed_lsn() + 2)),
        31 => rig.vote(random.below(1000)),
        32..34 => {
            rig.flush();
            rig.log.seal();
            rig.flush();
        }
        34 if random.below(4) == 0 => rig.install(random.below(20)),
        35 => {
            let operation = rig.disk.counters().operations + 1 + random.below(12);
            rig.disk.plant(operation, Fault::PowerCut);
        }
        36 => {
            let operation = rig.disk.counters().operations + 1 + random.below(12);
            rig.disk.plant(operation, Fault::LostSync(std::io::ErrorKind::StorageFull));
        }
        37 => rig.disk.power_cut(),
        38 => {
            rig.disk.kill_process();
            reopen(rig, random);
        }
        _ => rig.flush(),
    }
}

/// The machine, or only the process, comes back.
fn restart(rig: &mut Rig, random: &mut Random) {
    if rig.disk.is_down() || random.below(2) == 0 {
        rig.disk.restart(random.next());
    } else {
        rig.disk.kill_process();
    }
    reopen(rig, random);
    // What this recovery showed must hold against a power cut right after it.
    rig.disk.restart(random.next());
    reopen(rig, random);
}

/// Recovers, at times with a power cut in the middle of a first attempt.
fn reopen(rig: &mut Rig, random: &mut Random) {
    if random.below(3) == 0 {
        let operation = rig.disk.counters().operations + 1 + random.below(12);
        rig.disk.plant(operation, Fault::PowerCut);
        let attempt = recover(&rig.disk, &rig.options);
        assert!(attempt.is_ok() || rig.disk.is_down(), "only the power cut may stop it");
        if rig.disk.is_down() { rig.disk.restart(random.next()) } else { rig.disk.kill_process() }
    }
    if rig.options.pool.is_some() {
        let pool = Arc::new(SegmentPool::open(rig.disk.clone(), 3, 0).unwrap());
        rig.options.pool = Some(pool);
    }
    rig.recover();
}
