//! A power cut at every single disk operation of each thing a log does.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Rig, small_options};
use lockstep_storage::io::fake::Fault;
use lockstep_storage::{EntryKind, LogOptions, SegmentPool};
use std::sync::Arc;

/// Runs `script` with a power cut at each of its disk operations in turn, recovers, checks, and goes on.
fn survives_a_power_cut_at_each_call(options: impl Fn(&mut Rig), script: impl Fn(&mut Rig)) {
    let prepared = || {
        let mut rig = Rig::new(small_options());
        options(&mut rig);
        for _ in 0..6 {
            rig.append(1, 2, 900);
            rig.flush();
        }
        rig
    };
    let mut whole = prepared();
    let before = whole.disk.counters().operations;
    script(&mut whole);
    let operations = whole.disk.counters().operations - before;
    assert!(operations > 0, "the script must touch the disk");
    for operation in 1..=operations {
        for seed in 0..12 {
            let mut rig = prepared();
            rig.disk.plant(before + operation, Fault::PowerCut);
            script(&mut rig);
            assert!(rig.disk.is_down());
            assert!(rig.log.failed().is_some());
            rig.disk.restart(operation * 1000 + seed);
            rig.recover();
            rig.append(9, 1, 100);
            rig.flush();
            rig.check_reads();
            rig.disk.restart(seed);
            rig.recover();
        }
    }
}

fn plain(_: &mut Rig) {}

#[test]
fn appending_groups_of_entries() {
    survives_a_power_cut_at_each_call(plain, |rig| {
        for _ in 0..3 {
            rig.append(1, 1, 700);
            rig.append(2, 0, 20);
            rig.append_system(EntryKind::Membership, b"a change of voters");
            rig.append(2, 3, 1400);
            rig.flush();
        }
    });
}

#[test]
fn a_group_that_spans_three_segments() {
    survives_a_power_cut_at_each_call(plain, |rig| {
        for _ in 0..20 {
            rig.append(2, 2, 1000);
        }
        rig.flush();
    });
}

#[test]
fn truncating_within_and_across_segments_then_appending_others() {
    survives_a_power_cut_at_each_call(plain, |rig| {
        let keep = rig.log.last_index();
        (0..20).for_each(|_| rig.append(2, 2, 1000));
        rig.flush();
        if rig.log.failed().is_none() {
            rig.truncate(keep + 1);
            (0..4).for_each(|_| rig.append(3, 1, 600));
        }
        rig.flush();
    });
}

#[test]
fn truncating_entries_whose_successors_say_that_they_were_synced() {
    for body_bytes in [60, 300, 1000] {
        survives_a_power_cut_at_each_call(plain, |rig| {
            let keep = rig.log.last_index();
            for number in 0..12 {
                rig.append(2, 2, body_bytes);
                // Some share a sync, so that some headers speak of the same.
                if number % 3 != 1 {
                    rig.flush();
                }
            }
            if rig.log.failed().is_none() {
                rig.truncate(keep + 1);
                rig.append(3, 1, 600);
            }
            rig.flush();
        });
    }
}

#[test]
fn voting() {
    survives_a_power_cut_at_each_call(plain, |rig| {
        rig.vote(4);
        rig.append(4, 1, 50);
        rig.flush();
        rig.vote(5);
        rig.flush();
    });
}

fn trimming(rig: &mut Rig) {
    (0..30).for_each(|_| rig.append(2, 2, 1000));
    rig.flush();
    rig.log.set_commit(25);
    rig.trim(45);
    rig.append(2, 1, 10);
    rig.flush();
}

#[test]
fn trimming_old_segments() {
    survives_a_power_cut_at_each_call(plain, trimming);
}

#[test]
fn sealing() {
    survives_a_power_cut_at_each_call(plain, |rig| {
        rig.log.seal();
        rig.flush();
        rig.append(2, 1, 10);
        rig.flush();
        rig.log.seal();
        rig.flush();
    });
}

#[test]
fn installing_a_snapshot() {
    survives_a_power_cut_at_each_call(plain, |rig| {
        (0..15).for_each(|_| rig.append(2, 2, 1000));
        rig.install(100);
        rig.append(3, 1, 10);
        rig.flush();
    });
}

#[test]
fn trimming_into_a_pool_and_rolling_out_of_it() {
    let recycle = |rig: &mut Rig| {
        let pool = Arc::new(SegmentPool::open(rig.disk.clone(), 2, 0).unwrap());
        rig.options = LogOptions { pool: Some(pool), ..small_options() };
        rig.recover();
    };
    survives_a_power_cut_at_each_call(recycle, |rig| {
        trimming(rig);
        (0..20).for_each(|_| rig.append(2, 2, 900));
        rig.flush();
    });
}

#[test]
fn creating_a_log_is_whole_or_not_at_all() {
    use lockstep_storage::io::Disk;
    use lockstep_storage::io::fake::FakeDisk;
    let attempt = |cut: Option<u64>, seed| {
        let disk = FakeDisk::new();
        if let Some(operation) = cut {
            disk.plant(operation, Fault::PowerCut);
        }
        let genesis = lockstep_storage::Checkpoint::default();
        let made = lockstep_storage::Log::create(
            disk.clone(),
            common::DIRECTORY,
            &small_options(),
            genesis,
            [1; 16],
        );
        assert_eq!(made.is_err(), cut.is_some());
        let operations = disk.counters().operations;
        disk.restart(seed);
        if !disk.exists(common::DIRECTORY).unwrap() {
            assert!(cut.is_some(), "what was created stays");
            common::create(&disk, &small_options());
        }
        let mut rig = Rig::on(disk, small_options());
        rig.append(1, 1, 10);
        rig.flush();
        operations
    };
    for operation in 1..=attempt(None, 0) {
        (0..12).for_each(|seed| {
            attempt(Some(operation), seed);
        });
    }
}

#[test]
fn a_snapshot_whose_name_was_not_synced_never_costs_what_it_replaces() {
    for cut in 1..=14 {
        for seed in 0..24 {
            let mut rig = Rig::new(small_options());
            (0..30).for_each(|_| rig.append(2, 2, 1000));
            rig.flush();
            rig.install(100);
            // Create, write, sync, rename: then the sync of the directory.
            let sync_of_names = rig.disk.counters().operations + 5;
            rig.disk.plant(sync_of_names, Fault::Error(std::io::ErrorKind::Other));
            rig.flush();
            assert_eq!(rig.log.failed().unwrap().operation, "creating a segment for a snapshot");
            rig.disk.kill_process();
            // The next run sees the name, and the power fails while it drops what lies before.
            let operation = rig.disk.counters().operations + cut;
            rig.disk.plant(operation, Fault::PowerCut);
            let _ = common::recover(&rig.disk, &rig.options);
            rig.disk.restart(seed);
            rig.recover();
        }
    }
}
