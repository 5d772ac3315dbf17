//! A power cut at every single disk operation of each thing a repair does, and what a cut and a restart leave.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::twin::{Twin, frames, survey_and_aside, wipe};
use common::{DIRECTORY, recover};
use lockstep_storage::io::Disk;
use lockstep_storage::io::fake::{FakeDisk, Fault};
use lockstep_storage::salvage::{
    DAMAGED_DIRECTORY, cut_to_intact, discard_damaged, patch, reset_vote, restart_from,
};
use lockstep_storage::{RecoveryError, Vote};
use std::sync::Arc;

/// Runs `act` on a copy of a damaged log with a power cut at each of its operations, and repairs what is left.
fn survives_a_power_cut_at_each_call(
    damage: impl Fn(&Twin, &Arc<FakeDisk>),
    act: impl Fn(&Twin, &Arc<FakeDisk>),
) {
    let twin = Twin::new(true);
    let damaged = || {
        let disk = twin.disk();
        damage(&twin, &disk);
        disk
    };
    let whole = damaged();
    let before = whole.counters().operations;
    act(&twin, &whole);
    let operations = whole.counters().operations - before;
    assert!(operations > 3);
    for operation in 1..=operations {
        for seed in 0..12 {
            let disk = damaged();
            let held = survey_and_aside(&twin, &disk);
            disk.plant(before + operation, Fault::PowerCut);
            act(&twin, &disk);
            assert!(disk.is_down());
            disk.restart(operation * 100 + seed);
            let left = survey_and_aside(&twin, &disk);
            assert!(held.iter().all(|index| left.contains(index)), "{held:?} was intact, left {left:?}");
            twin.repair(&disk);
            disk.restart(seed);
            let (recovered, _) = recover(&disk, &twin.options).unwrap();
            twin.check(&disk, &recovered);
        }
    }
}

fn patch_first(twin: &Twin, disk: &Arc<FakeDisk>) {
    let survey = twin.survey(disk);
    let number = survey.holes()[0].segment;
    let (checkpoint, entries) = twin.missing(&survey, number);
    let _ = patch(&survey, number, checkpoint, &entries, [9; 16]);
}

#[test]
fn a_power_cut_at_each_call_of_a_patch_leaves_the_damage_or_the_whole_segment() {
    for number in [1, 2, Twin::new(true).segments()] {
        survives_a_power_cut_at_each_call(
            |_, disk| {
                let frames = frames(disk, number);
                wipe(disk, number, frames[1].1..frames[2].1 + 9);
            },
            patch_first,
        );
    }
}

#[test]
fn a_power_cut_at_each_call_of_a_patch_of_a_lost_header_is_survived() {
    survives_a_power_cut_at_each_call(|_, disk| wipe(disk, 2, 0..64), patch_first);
}

#[test]
fn a_power_cut_at_each_call_of_a_cut_loses_no_intact_entry() {
    let cut = |twin: &Twin, disk: &Arc<FakeDisk>| {
        let _ = cut_to_intact(&twin.survey(disk));
    };
    survives_a_power_cut_at_each_call(
        |_, disk| {
            let frames = frames(disk, 2);
            wipe(disk, 2, frames[1].1..frames[2].1 + 9);
        },
        cut,
    );
    survives_a_power_cut_at_each_call(|_, disk| wipe(disk, 3, 0..64), cut);
}

#[test]
fn a_power_cut_at_each_call_of_a_restart_loses_no_intact_entry() {
    survives_a_power_cut_at_each_call(
        |twin, disk| (1..=twin.segments()).for_each(|number| wipe(disk, number, 0..64)),
        |twin, disk| {
            let checkpoint = twin.checkpoints[0].clone();
            let _ = restart_from(&**disk, DIRECTORY, &twin.options, checkpoint, [9; 16]);
        },
    );
}

#[test]
fn a_cut_ends_the_log_at_its_intact_prefix_and_keeps_the_rest_aside() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (index, position) = frames(&disk, 2)[2];
    wipe(&disk, 2, position..position + 9);
    let survey = twin.survey(&disk);
    cut_to_intact(&survey).unwrap();
    cut_to_intact(&twin.survey(&disk)).unwrap();
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    assert_eq!(recovered.log.last_index(), index - 1);
    assert_eq!(recovered.log.last_chain(), survey.tip().unwrap().chain);
    let aside = disk.list(&format!("{DIRECTORY}/{DAMAGED_DIRECTORY}")).unwrap();
    assert_eq!(aside.len() as u64, twin.segments() - 1, "the cut one as a copy");
    discard_damaged(&*disk, DIRECTORY).unwrap();
    discard_damaged(&*disk, DIRECTORY).unwrap();
    assert!(!disk.exists(&format!("{DIRECTORY}/{DAMAGED_DIRECTORY}")).unwrap());
}

#[test]
fn a_restart_begins_behind_the_checkpoint_whatever_was_there() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let checkpoint = twin.checkpoints[2].clone();
    restart_from(&*disk, DIRECTORY, &twin.options, checkpoint.clone(), [8; 16]).unwrap();
    restart_from(&*disk, DIRECTORY, &twin.options, checkpoint.clone(), [9; 16]).unwrap();
    let (recovered, replayed) = recover(&disk, &twin.options).unwrap();
    assert_eq!((recovered.log.last_index(), replayed.len()), (checkpoint.index, 0));
    assert_eq!(*recovered.log.oldest_checkpoint(), checkpoint);
}

#[test]
fn a_lost_vote_comes_back_whole_or_stays_lost() {
    let twin = Twin::new(true);
    let vote = Vote { term: 12, voted_for: 0, commit: 3 };
    let mut operations = u64::MAX;
    let mut operation = 0;
    while operation < operations {
        operation += 1;
        for seed in 0..12 {
            let disk = twin.disk();
            [24, 4096 + 24].iter().for_each(|at| disk.flip_bit(&format!("{DIRECTORY}/vote"), *at, 0));
            assert!(matches!(recover(&disk, &twin.options), Err(RecoveryError::VoteLost { .. })));
            assert_eq!(twin.survey(&disk).vote(), None);
            let before = disk.counters().operations;
            disk.plant(before + operation, Fault::PowerCut);
            if reset_vote(&*disk, DIRECTORY, 7, vote).is_ok() {
                operations = operation;
            }
            disk.restart(seed);
            let left = twin.survey(&disk).vote();
            assert!(left.is_none() || left == Some(vote), "{left:?}");
            reset_vote(&*disk, DIRECTORY, 7, vote).unwrap();
            disk.restart(seed);
            assert_eq!(twin.survey(&disk).vote(), Some(vote));
            let (recovered, _) = recover(&disk, &twin.options).unwrap();
            assert_eq!((recovered.vote.term, recovered.vote.voted_for), (12, 0));
        }
    }
}
