//! Damage is told from tearing, is never cut off, and never served.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use bytes::Bytes;
use common::{DIRECTORY, Random, Rig, recover, small_options};
use lockstep_storage::io::fake::{FakeDisk, Fault};
use lockstep_storage::io::{Disk, OpenMode};
use lockstep_storage::segment::file_name;
use lockstep_storage::{AppendError, CreateError, Log, ReadError, RecoveryError, TruncateError};
use std::sync::Arc;

fn segment(number: u64) -> String {
    format!("{DIRECTORY}/{}", file_name(number))
}

fn contents(disk: &Arc<FakeDisk>) -> Vec<(String, Bytes)> {
    let names = disk.list(DIRECTORY).unwrap();
    let read = |name: &String| {
        let file = disk.open(&format!("{DIRECTORY}/{name}"), OpenMode::Read).unwrap();
        (name.clone(), file.read_at(file.len().unwrap() as usize, 0).unwrap())
    };
    names.iter().map(read).collect()
}

fn copy(disk: &Arc<FakeDisk>, from: &str, to: &str) {
    let bytes = disk.open(from, OpenMode::Read).unwrap();
    let bytes = bytes.read_at(bytes.len().unwrap() as usize, 0).unwrap();
    disk.open(to, OpenMode::CreateNew).unwrap().write_vectored_at(&[bytes], 0).unwrap();
}

/// Ten entries over more than one segment, sealed.
fn sealed_log() -> Rig {
    let mut rig = Rig::new(small_options());
    for _ in 0..14 {
        rig.append(1, 2, 1000);
        rig.flush();
    }
    rig.log.seal();
    rig.flush();
    rig
}

#[test]
fn damage_at_every_place_below_the_sync_mark_is_faulty_and_changes_nothing() {
    let rig = sealed_log();
    let last = rig.log.last_index();
    let newest =
        rig.disk.list(DIRECTORY).unwrap().iter().filter(|name| name.ends_with(".segment")).count() as u64;
    assert!(newest >= 2);
    for number in 1..=newest {
        let file = rig.disk.open(&segment(number), OpenMode::Read).unwrap();
        // The seal, 56 bytes, is the last frame; damage in it alone is a tear.
        let length = file.len().unwrap() - if number == newest { 56 } else { 0 };
        for position in (4096..length).step_by(101) {
            rig.disk.flip_bit(&segment(number), position, 3);
            let before = contents(&rig.disk);
            match recover(&rig.disk, &rig.options) {
                Err(RecoveryError::Faulty(damage)) => assert_eq!(damage.file, segment(number)),
                // A segment's footer is derived: nothing is lost with it.
                Ok((recovered, _)) => assert_eq!((recovered.log.last_index(), number < newest), (last, true)),
                Err(other) => panic!("{other}"),
            }
            if recover(&rig.disk, &rig.options).is_err() {
                assert_eq!(contents(&rig.disk), before);
            }
            rig.disk.flip_bit(&segment(number), position, 3);
        }
    }
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on_in_a_new_segment() {
    let mut rig = Rig::new(small_options());
    rig.append(1, 1, 500);
    rig.flush();
    rig.append(1, 1, 500);
    rig.flush();
    // Nothing vouches for entry 2: its own frame says 1 was synced.
    rig.disk.flip_bit(&segment(1), 4096 + 48 + 48 + 500 + 300, 0);
    let (recovered, replayed) = recover(&rig.disk, &rig.options).unwrap();
    assert_eq!(replayed.len(), 1);
    assert!(!recovered.report.clean && recovered.report.cut_bytes == 596);
    let file = rig.disk.open(&segment(1), OpenMode::Read).unwrap();
    assert_eq!(file.len().unwrap(), 4096 + 596);
    let mut log = recovered.log;
    assert!(log.needs_roll(0));
    let next = common::entry(2, 2, 2, 1, 10);
    assert_eq!(log.append(next.clone()), Err(AppendError::RollFirst));
    log.roll(lockstep_storage::RollState::default(), [77; 16]).unwrap();
    log.append(next).unwrap();
    assert_eq!(log.take_group().unwrap().run().stats.entries, 1);
}

#[test]
fn a_seal_vouches_for_the_last_group_too() {
    let rig = sealed_log();
    let (recovered, _) = recover(&rig.disk, &rig.options).unwrap();
    assert!(recovered.report.clean && !recovered.log.needs_roll(0));
    assert_eq!(recovered.report.proven_synced_index, 14);
}

#[test]
fn a_missing_segment_in_the_middle_or_all_of_them_is_faulty() {
    let rig = sealed_log();
    rig.disk.remove_file(&segment(1)).unwrap();
    let (recovered, _) = recover(&rig.disk, &rig.options).expect("what was trimmed is missed by nobody");
    assert!(recovered.log.first_index() > 1);

    let mut rig = sealed_log();
    (0..20).for_each(|_| rig.append(1, 1, 1000));
    rig.flush();
    rig.disk.remove_file(&segment(2)).unwrap();
    assert!(matches!(recover(&rig.disk, &rig.options), Err(RecoveryError::Faulty(_))));
    for name in rig.disk.list(DIRECTORY).unwrap().iter().filter(|name| name.ends_with(".segment")) {
        rig.disk.remove_file(&format!("{DIRECTORY}/{name}")).unwrap();
    }
    assert!(matches!(recover(&rig.disk, &rig.options), Err(RecoveryError::Faulty(_))));
}

#[test]
fn a_broken_header_is_damage_and_never_a_tear() {
    let rig = sealed_log();
    for number in 1..=2 {
        rig.disk.flip_bit(&segment(number), 40, 0);
        assert!(
            matches!(recover(&rig.disk, &rig.options), Err(RecoveryError::Faulty(_))),
            "segment {number}"
        );
        rig.disk.flip_bit(&segment(number), 40, 0);
    }
}

#[test]
fn a_lost_vote_is_never_a_fresh_one() {
    let rig = sealed_log();
    rig.disk.flip_bit(&format!("{DIRECTORY}/vote"), 24, 0);
    assert!(recover(&rig.disk, &rig.options).is_ok(), "one copy is enough");
    for position in [24, 4096 + 24] {
        rig.disk.flip_bit(&format!("{DIRECTORY}/vote"), position, 0);
    }
    assert!(matches!(recover(&rig.disk, &rig.options), Err(RecoveryError::VoteLost { .. })));
    rig.disk.remove_file(&format!("{DIRECTORY}/vote")).unwrap();
    assert!(matches!(recover(&rig.disk, &rig.options), Err(RecoveryError::VoteLost { .. })));
}

#[test]
fn a_foreign_an_absent_and_an_existing_log_are_told_apart() {
    let rig = sealed_log();
    let mut other = rig.options.clone();
    other.shard = 8;
    assert!(matches!(recover(&rig.disk, &other), Err(RecoveryError::Foreign { expected: 8, found: 7, .. })));
    let created = Log::create(rig.disk.clone(), DIRECTORY, &rig.options, Default::default(), [2; 16]);
    assert!(matches!(created, Err(CreateError::Exists { .. })));
    assert!(matches!(recover(&FakeDisk::new(), &rig.options), Err(RecoveryError::NotFound { .. })));
}

#[test]
fn a_frame_of_another_life_shard_or_place_never_passes() {
    // Two logs with the same entries: their frames differ by nonce alone.
    let mut rig = Rig::new(small_options());
    rig.append(1, 1, 500);
    rig.flush();
    let file = rig.disk.open(&segment(1), OpenMode::ReadWrite).unwrap();
    let own = file.read_at(596, 4096).unwrap();
    // The right frame at another place.
    file.write_vectored_at(std::slice::from_ref(&own), 4096 + 596).unwrap();
    let (recovered, replayed) = recover(&rig.disk, &rig.options).unwrap();
    assert_eq!((replayed.len(), recovered.report.cut_bytes), (1, 596));

    // The right place in another file: the same entry under another nonce.
    let disk = FakeDisk::new();
    Log::create(disk.clone(), DIRECTORY, &rig.options, Default::default(), [99; 16]).unwrap();
    disk.open(&segment(1), OpenMode::ReadWrite).unwrap().write_vectored_at(&[own], 4096).unwrap();
    assert_eq!(recover(&disk, &rig.options).unwrap().1.len(), 0);

    // A whole segment of the log under another number.
    let rig = sealed_log();
    let newest = rig.disk.list(DIRECTORY).unwrap().len() as u64 - 1;
    copy(&rig.disk, &segment(newest), &segment(newest + 1));
    assert!(matches!(recover(&rig.disk, &rig.options), Err(RecoveryError::Faulty(_))));
}

#[test]
fn a_read_of_damaged_bytes_says_so() {
    let mut rig = sealed_log();
    rig.log.set_commit(14);
    assert!(rig.reader.read(1, 1, 99).is_ok());
    rig.disk.flip_bit(&segment(1), 4096 + 300, 5);
    assert!(matches!(rig.reader.read(1, 1, 99), Err(ReadError::Damaged(_))));
    assert!(matches!(rig.reader.read_entries(1, 2, 1), Err(ReadError::Damaged(_))));
}

/// The last byte of the first segment's footer.
fn footer_byte(rig: &Rig) -> u64 {
    rig.disk.open(&segment(1), OpenMode::Read).unwrap().len().unwrap() - 1
}

#[test]
fn a_damaged_footer_is_no_loss_to_readers_recovery_or_inspection() {
    let mut rig = sealed_log();
    rig.disk.flip_bit(&segment(1), footer_byte(&rig), 0);
    for _ in 0..2 {
        assert_eq!(rig.reader.read_entries(1, 15, usize::MAX).unwrap().len(), 14);
        assert_eq!(rig.reader.read(1, usize::MAX, 28).unwrap().len(), 14);
        let summary = lockstep_storage::inspect(&*rig.disk, DIRECTORY, &mut |_| ()).unwrap();
        assert_eq!((summary.entries, summary.damages), (14, 0));
        rig.disk.kill_process();
        rig.recover();
    }
}

#[test]
fn a_footer_that_cannot_be_read_keeps_no_log_from_opening_and_nobody_from_reading() {
    let mut rig = Rig::new(small_options());
    // More than one term, so that recovery wants the index of each segment it does not scan.
    for term in 1..=24 {
        rig.append(term, 2, 1000);
        rig.flush();
    }
    rig.log.set_commit(24);
    rig.log.seal();
    rig.flush();
    let newest =
        rig.disk.list(DIRECTORY).unwrap().iter().filter(|name| name.ends_with(".segment")).count() as u64;
    assert!(newest > 3, "{newest} segments");
    for number in 1..newest {
        let length = rig.disk.open(&segment(number), OpenMode::Read).unwrap().len().unwrap();
        rig.disk.make_unreadable(&segment(number), length - 1, 1).unwrap();
    }
    for _ in 0..2 {
        rig.disk.kill_process();
        rig.recover();
        assert_eq!(rig.reader.read_entries(1, 25, usize::MAX).unwrap().len(), 24);
        assert_eq!(rig.reader.read(1, usize::MAX, 48).unwrap().len(), 24);
        (1..=24).for_each(|index| assert_eq!(rig.log.term(index), Some(index)));
    }
}

#[test]
fn a_read_that_meets_damage_returns_the_good_batches_before_it() {
    let rig = sealed_log();
    // Each frame has 96 bytes before its body of 1000.
    rig.disk.flip_bit(&segment(1), 4096 + 3 * 1096 + 500, 0);
    assert_eq!(rig.reader.read(1, usize::MAX, 28).unwrap().len(), 3);
    assert_eq!(rig.reader.read_entries(1, 15, usize::MAX).unwrap().len(), 3);
    assert!(matches!(rig.reader.read(7, usize::MAX, 28), Err(ReadError::Damaged(_))));
    assert!(matches!(rig.reader.read_entries(4, 15, usize::MAX), Err(ReadError::Damaged(_))));
}

#[test]
fn what_is_not_synced_yet_is_not_looked_for_on_disk() {
    let mut rig = Rig::new(small_options());
    (0..3).for_each(|_| rig.append(1, 1, 2000));
    rig.flush();
    (0..2).for_each(|_| rig.append(1, 1, 500));
    assert_eq!(rig.reader.read(1, usize::MAX, 5).unwrap().len(), 3);
    assert!(matches!(rig.reader.read(5, usize::MAX, 5), Err(ReadError::AtEnd)));
    assert!(matches!(rig.reader.read_entries(5, 6, 1), Err(ReadError::AtEnd)));
    rig.roll();
    rig.append(1, 1, 10);
    assert!(matches!(rig.reader.read(6, usize::MAX, 6), Err(ReadError::AtEnd)), "no such file yet");
    assert!(matches!(rig.reader.cached(6, 1, 6), lockstep_storage::CachedRead::Hit(_)));
}

#[test]
fn a_failed_sync_latches_although_the_disk_reports_success_afterwards() {
    let mut rig = Rig::new(small_options());
    rig.append(1, 1, 100);
    rig.flush();
    rig.append(1, 1, 100);
    let sync = rig.disk.counters().operations + 2;
    rig.disk.plant(sync, Fault::LostSync(std::io::ErrorKind::StorageFull));
    let group = rig.log.take_group().unwrap();
    let failed = rig.log.group_done(group.run()).unwrap_err();
    assert_eq!((failed.operation, failed.kind), ("syncing frames", std::io::ErrorKind::StorageFull));
    assert_eq!(rig.log.synced_index(), 1);
    let next = common::entry(3, 1, 3, 1, 10);
    assert_eq!(rig.log.append(next), Err(AppendError::Failed(failed.clone())));
    assert_eq!(rig.log.truncate(2), Err(TruncateError::Failed(failed)));
    assert!(rig.log.take_group().is_none() && !rig.log.in_flight());
    // The process restarts and sees entry 2 in the page cache: recovery must write it again before it counts.
    rig.disk.kill_process();
    rig.recover();
    assert_eq!(rig.log.last_index(), 2);
    rig.disk.restart(5);
    rig.recover();
    assert_eq!(rig.log.last_index(), 2);
}

#[test]
fn a_full_disk_latches_and_what_was_synced_is_still_read() {
    let mut rig = Rig::new(small_options());
    rig.append(1, 1, 100);
    rig.flush();
    rig.disk.set_capacity(0);
    rig.append(1, 1, 100);
    rig.flush();
    assert_eq!(rig.log.failed().unwrap().kind, std::io::ErrorKind::StorageFull);
    assert!(rig.reader.read(1, 1, 1).is_ok());
    rig.disk.set_capacity(u64::MAX);
    rig.disk.kill_process();
    rig.recover();
    assert_eq!(rig.log.last_index(), 1);
}

#[test]
fn committed_entries_are_never_truncated() {
    let mut rig = sealed_log();
    rig.log.set_commit(9);
    assert_eq!(rig.log.truncate(9), Err(TruncateError::BelowCommit { from: 9, commit: 9 }));
    assert!(matches!(rig.log.truncate(15), Err(TruncateError::BeyondEnd { .. })));
    assert_eq!(rig.log.truncate(10), Ok(()));
}

#[test]
fn arbitrary_damage_never_panics_and_never_yields_other_bytes() {
    for seed in 0..400 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let rig = sealed_log();
        let original = rig.reader.read_entries(1, 15, usize::MAX).unwrap();
        for _ in 0..=random.below(3) {
            let names = rig.disk.list(DIRECTORY).unwrap();
            let name = format!("{DIRECTORY}/{}", names[random.below(names.len() as u64) as usize]);
            let file = rig.disk.open(&name, OpenMode::ReadWrite).unwrap();
            let position = random.below(file.len().unwrap());
            let garbage: Bytes = (0..random.below(300)).map(|_| random.next() as u8).collect();
            match random.below(3) {
                0 => file.set_len(position).unwrap(),
                1 => rig.disk.flip_bit(&name, position, random.below(8) as u8),
                _ => file.write_vectored_at(&[garbage], position).unwrap(),
            }
        }
        lockstep_storage::inspect(&*rig.disk, DIRECTORY, &mut |_| ()).unwrap();
        if let Ok(entries) = rig.reader.read_entries(1, 15, usize::MAX) {
            assert!(original.starts_with(&entries));
        }
        if let Ok((_, replayed)) = recover(&rig.disk, &rig.options) {
            assert!(original.starts_with(&replayed));
        }
    }
}
