//! Random operations, crashes and restarts of one log, against the model; each drawn from a source of choices.

use super::{Random, Rig, recover, small_options};
use lockstep_storage::io::fake::Fault;
use lockstep_storage::{EntryKind, SegmentPool};
use std::io::ErrorKind;
use std::sync::Arc;

/// Where a history's choices come from: a seed, or a fuzzer's input.
pub trait Choice {
    /// A number below `limit`; 0 for a limit of 0.
    fn below(&mut self, limit: u64) -> u64;
}

impl Choice for Random {
    fn below(&mut self, limit: u64) -> u64 {
        Random::below(self, limit)
    }
}

/// A history of operations, crashes and restarts that follows from its seed.
pub fn one_run(seed: u64) {
    let mut random = Random(seed);
    let mut rig = Rig::new(small_options());
    if seed.is_multiple_of(2) {
        use_pool(&mut rig);
        rig.recover();
    }
    for _ in 0..150 {
        step(&mut rig, &mut random);
    }
    rig.flush();
    if rig.log.failed().is_none() {
        rig.check_reads();
    }
}

/// Takes its segments from a pool from now on.
pub fn use_pool(rig: &mut Rig) {
    rig.options.pool = Some(Arc::new(SegmentPool::open(rig.disk.clone(), 3, 0).unwrap()));
}

/// Does one operation, and restarts if that ended this life of the log.
pub fn step(rig: &mut Rig, choice: &mut impl Choice) {
    operate(rig, choice);
    if rig.log.failed().is_some() || rig.disk.is_down() {
        restart(rig, choice);
    }
}

fn operate(rig: &mut Rig, choice: &mut impl Choice) {
    let (commit, last) = (rig.log.commit(), rig.log.last_index());
    match choice.below(40) {
        0..16 => {
            let term = rig.log.last_term() + u64::from(choice.below(8) == 0);
            rig.append(term, choice.below(4) as u32, choice.below(1500) as usize);
        }
        16 => rig.append_system(EntryKind::Normal, b""),
        17 => rig.append_system(EntryKind::MembershipV2, b"joint"),
        18..24 => rig.take(),
        24..28 => rig.done(),
        28 => rig.log.set_commit(commit + choice.below(last - commit + 1)),
        29 if commit < last => {
            let from = commit + 1 + choice.below(last - commit);
            rig.truncate(from);
        }
        30 => rig.trim(choice.below(rig.committed_lsn() + 2)),
        31 => rig.vote(choice.below(1000)),
        32..34 => {
            rig.flush();
            rig.log.seal();
            rig.flush();
        }
        34 if choice.below(4) == 0 => rig.install(choice.below(20)),
        35 => plant_soon(rig, choice, Fault::PowerCut),
        36 => plant_soon(rig, choice, Fault::LostSync(ErrorKind::StorageFull)),
        37 => rig.disk.power_cut(),
        38 => {
            rig.disk.kill_process();
            reopen(rig, choice);
        }
        _ => rig.flush(),
    }
}

/// The fault comes at one of the next operations of the disk.
fn plant_soon(rig: &Rig, choice: &mut impl Choice, fault: Fault) {
    let operation = rig.disk.counters().operations + 1 + choice.below(12);
    rig.disk.plant(operation, fault);
}

/// The machine, or only the process, comes back.
fn restart(rig: &mut Rig, choice: &mut impl Choice) {
    if rig.disk.is_down() || choice.below(2) == 0 {
        rig.disk.restart(choice.below(u64::MAX));
    } else {
        rig.disk.kill_process();
    }
    reopen(rig, choice);
    // What this recovery showed must hold against a power cut right after it.
    rig.disk.restart(choice.below(u64::MAX));
    reopen(rig, choice);
}

/// Recovers, at times with a power cut in the middle of a first attempt.
fn reopen(rig: &mut Rig, choice: &mut impl Choice) {
    if choice.below(3) == 0 {
        plant_soon(rig, choice, Fault::PowerCut);
        let attempt = recover(&rig.disk, &rig.options);
        assert!(attempt.is_ok() || rig.disk.is_down(), "only the power cut may stop it");
        if rig.disk.is_down() { rig.disk.restart(choice.below(u64::MAX)) } else { rig.disk.kill_process() }
    }
    if rig.options.pool.is_some() {
        use_pool(rig);
    }
    rig.recover();
}
