//! What opening a log costs: thousands are opened at once when a broker starts.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{DIRECTORY, Rig, recover, small_options};
use lockstep_storage::Vote;
use lockstep_storage::io::fake::Fault;
use lockstep_storage::io::{Disk, OpenMode};
use std::io::ErrorKind;

/// Syncs of files and directories so far.
fn syncs(rig: &Rig) -> u64 {
    let counters = rig.disk.counters();
    counters.file_syncs + counters.directory_syncs
}

/// A log of several segments that went idle, and was sealed.
fn sealed() -> Rig {
    let mut rig = Rig::new(small_options());
    for _ in 0..40 {
        rig.append(2, 1, 1000);
        rig.flush();
    }
    rig.vote(3);
    rig.log.seal();
    rig.flush();
    rig
}

/// Each copy of the vote is written again.
const VOTE_SYNCS: u64 = 2;

#[test]
fn a_log_that_was_sealed_is_opened_with_the_syncs_of_its_vote_alone() {
    let mut rig = sealed();
    rig.disk.kill_process();
    let before = syncs(&rig);
    let report = rig.recover();
    assert!(report.clean && report.segments > 1);
    assert_eq!(syncs(&rig), before + VOTE_SYNCS);
    // And what it opened stands: nothing of it was in the page cache alone.
    let last = rig.log.last_index();
    rig.disk.restart(1);
    rig.recover();
    assert_eq!(rig.log.last_index(), last);
}

#[test]
fn a_log_that_was_not_sealed_is_synced_before_it_is_opened() {
    let mut rig = sealed();
    rig.append(3, 1, 100);
    rig.flush();
    rig.disk.kill_process();
    let before = syncs(&rig);
    assert!(!rig.recover().clean);
    assert!(syncs(&rig) > before + VOTE_SYNCS);
}

#[test]
fn a_seal_proves_nothing_beside_a_file_that_was_never_completed() {
    let mut rig = sealed();
    rig.disk.kill_process();
    let unfinished = format!("{DIRECTORY}/00000000000000000099.segment.new");
    rig.disk.open(&unfinished, OpenMode::CreateNew).unwrap();
    let before = syncs(&rig);
    let report = rig.recover();
    assert!(report.clean && report.removed_files == 1);
    assert!(syncs(&rig) > before + VOTE_SYNCS + 1, "more than the vote's and the removal's");
}

#[test]
fn a_repair_syncs_what_it_opens_whatever_a_seal_says() {
    let mut rig = sealed();
    rig.options.trust_seals = false;
    let before = syncs(&rig);
    let (recovered, _) = recover(&rig.disk, &rig.options).unwrap();
    assert!(recovered.report.clean);
    assert!(syncs(&rig) > before + VOTE_SYNCS);
}

#[test]
fn a_cut_that_a_process_did_not_live_to_sync_is_synced_by_the_next() {
    for (operation, seed) in (1..8).flat_map(|operation| (0..64).map(move |seed| (operation, seed))) {
        let mut rig = sealed();
        let kept = rig.log.last_index();
        (0..2).for_each(|_| rig.append(3, 1, 100));
        rig.flush();
        rig.log.truncate(kept + 1).unwrap();
        let planted = rig.disk.counters().operations + operation;
        rig.disk.plant(planted, Fault::Error(ErrorKind::Other));
        if let Some(group) = rig.log.take_group() {
            let _ = group.run();
        }
        rig.disk.kill_process();
        let shown = recover(&rig.disk, &rig.options).unwrap().0.log.last_index();
        rig.disk.restart(seed);
        let left = recover(&rig.disk, &rig.options).unwrap().0.log.last_index();
        assert_eq!(left, shown, "disk seed {seed}, operation {operation}");
    }
}

#[test]
fn a_missing_oldest_segment_is_told_from_one_that_was_trimmed_by_what_is_committed() {
    let filled = || {
        let mut rig = Rig::new(small_options());
        for _ in 0..40 {
            rig.append(2, 1, 1000);
            rig.flush();
        }
        rig.log.set_commit(30);
        rig
    };
    let opened = |rig: &Rig| {
        rig.disk.power_cut();
        rig.disk.restart(1);
        recover(&rig.disk, &rig.options).unwrap().0
    };
    let mut rig = filled();
    rig.trim(25);
    rig.flush();
    let after = opened(&rig);
    assert!(after.vote.commit >= 30, "whoever goes on knows that what is gone was to go");
    assert_eq!(after.lost_front(25), None);

    // A vote that waits for the disk carries the committed index of its time.
    let mut rig = filled();
    for (term, commit) in [(4, 5), (5, 30)] {
        rig.log.set_vote(Vote { term, voted_for: 0, commit });
    }
    rig.trim(25);
    rig.flush();
    let after = opened(&rig);
    assert!(after.vote.term == 5 && after.vote.commit >= 30, "{:?}", after.vote);

    let rig = filled();
    let oldest = format!("{DIRECTORY}/00000000000000000001.segment");
    assert!(rig.disk.lose(&oldest));
    let damage = opened(&rig).lost_front(1).unwrap();
    assert!(damage.to_string().contains("00000000000000000002.segment"), "{damage}");
}
