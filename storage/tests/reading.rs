//! Reading, retention, groups and inspection, without crashes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{DIRECTORY, Random, Rig, create, recover, small_options};
use lockstep_storage::io::Disk;
use lockstep_storage::io::fake::FakeDisk;
use lockstep_storage::io::real::RealDisk;
use lockstep_storage::{
    Cache, CachedRead, Checkpoint, EntriesError, EntryKind, Finding, Log, LogOptions, ReadError, Replay,
    RollState, SegmentPool, inspect,
};
use std::sync::Arc;

/// Entries of two records and 1000 bytes, with a system entry after each fourth.
fn filled(entries: u64) -> Rig {
    let mut rig = Rig::new(small_options());
    for n in 1..=entries {
        rig.append(1 + n / 7, 2, 1000);
        if n % 4 == 0 {
            rig.append_system(EntryKind::Normal, b"");
        }
        rig.flush();
    }
    rig.log.set_commit(u64::MAX);
    rig
}

#[test]
fn a_group_is_one_write_and_one_sync_however_many_entries_it_has() {
    let mut rig = Rig::new(LogOptions { segment_bytes: 1 << 20, ..small_options() });
    let before = rig.disk.counters();
    (0..100).for_each(|_| rig.append(1, 3, 700));
    let group = rig.log.take_group().unwrap();
    assert!(rig.log.take_group().is_none() && rig.log.in_flight());
    assert_eq!(rig.log.synced_index(), 0);
    let outcome = group.run();
    let (stats, after) = (outcome.stats, rig.disk.counters());
    assert_eq!((after.writes - before.writes, after.file_syncs - before.file_syncs), (1, 1));
    assert_eq!((stats.entries, stats.syncs, stats.record_bytes), (100, 1, 70_000));
    assert_eq!(stats.frame_bytes, 100 * (48 + 48 + 700));
    assert_eq!(after.written_bytes - before.written_bytes, stats.frame_bytes);
    assert_eq!(rig.log.group_done(outcome).unwrap().index, 100);
}

#[test]
fn a_seal_asked_for_under_load_is_the_last_thing_written() {
    let mut rig = Rig::new(small_options());
    rig.append(1, 1, 100);
    rig.take();
    rig.append(1, 1, 100);
    rig.log.seal();
    rig.done();
    assert!(rig.log.has_pending());
    rig.append(1, 1, 100);
    rig.flush();
    rig.disk.restart(1);
    assert!(rig.recover().clean, "what was queued came first, then the seal");

    // Where a truncation asks for a new segment, that segment's header vouches for all before it.
    rig.append(1, 1, 100);
    rig.truncate(4);
    rig.log.seal();
    rig.flush();
    rig.roll();
    rig.append(1, 1, 100);
    rig.log.seal();
    rig.flush();
    rig.disk.restart(2);
    assert!(rig.recover().clean);
    let before = rig.disk.counters().writes;
    rig.log.seal();
    rig.flush();
    assert_eq!(rig.disk.counters().writes, before, "once is enough");
}

#[test]
fn an_entry_is_readable_before_it_is_written_and_never_above_what_is_visible() {
    let mut rig = Rig::new(small_options());
    rig.append(1, 2, 100);
    rig.append(1, 2, 100);
    assert!(matches!(rig.reader.cached(1, 9999, 4), CachedRead::Hit(batches) if batches.len() == 2));
    assert!(matches!(rig.reader.cached(2, 9999, 3), CachedRead::Hit(batches) if batches.len() == 1));
    assert_eq!(rig.reader.cached(3, 9999, 3), CachedRead::AtEnd, "a batch is visible whole or not at all");
    assert_eq!(rig.reader.cached(3, 9999, 2), CachedRead::AtEnd);
    assert!(matches!(rig.reader.read(1, 9999, 4), Err(ReadError::AtEnd)), "not on disk yet");
}

#[test]
fn a_cached_read_takes_all_that_fits_however_many_batches_that_are() {
    let mut rig =
        Rig::new(LogOptions { segment_bytes: 1 << 20, cache: Cache::new(1 << 20), ..small_options() });
    (0..1000).for_each(|_| rig.append(1, 1, 20));
    (0..300).for_each(|_| rig.append_system(EntryKind::Normal, b""));
    rig.append(1, 1, 20);
    let batches = |from, max_bytes, up_to| match rig.reader.cached(from, max_bytes, up_to) {
        CachedRead::Hit(batches) => batches.iter().map(|batch| batch.first_lsn).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(batches(1, usize::MAX, 1001), (1..=1001).collect::<Vec<_>>());
    assert_eq!(batches(3, usize::MAX, 999), (3..=999).collect::<Vec<_>>());
    // A third of the bodies begin with five bytes of state, which is not served.
    let served: usize = (1..=600).map(|index| if index % 3 == 0 { 15 } else { 20 }).sum();
    assert_eq!(batches(1, served, 1001).len(), 600);
}

#[test]
fn a_small_read_from_disk_fetches_little() {
    let mut rig = Rig::new(LogOptions { segment_bytes: 1 << 20, ..small_options() });
    (0..500).for_each(|_| rig.append(1, 1, 1000));
    rig.flush();
    let before = rig.disk.counters();
    assert_eq!(rig.reader.read(100, 1, 500).unwrap().len(), 1);
    let after = rig.disk.counters();
    assert!(after.read_bytes - before.read_bytes <= 8 << 10, "{}", after.read_bytes - before.read_bytes);
    let read = rig.reader.read(100, 100_000, 500).unwrap().len();
    assert!((90..=100).contains(&read), "{read}: the frames' own bytes may leave some to the next read");
    let whole = rig.disk.counters();
    assert!(whole.read_bytes - after.read_bytes < 120_000, "{}", whole.read_bytes - after.read_bytes);
}

#[test]
fn whoever_reads_large_batches_one_by_one_fetches_each_once() {
    const BATCH_BYTES: usize = 300_000;
    let mut rig = Rig::new(LogOptions { segment_bytes: 16 << 20, ..small_options() });
    (0..20).for_each(|_| rig.append(1, 1, BATCH_BYTES));
    rig.flush();
    let fetched = |rig: &Rig, read: &dyn Fn(u64)| {
        let before = rig.disk.counters().read_bytes;
        (1..=20).for_each(read);
        (rig.disk.counters().read_bytes - before) as usize
    };
    let batches = fetched(&rig, &|lsn| assert_eq!(rig.reader.read(lsn, BATCH_BYTES, 20).unwrap().len(), 1));
    let entries =
        fetched(&rig, &|index| assert_eq!(rig.reader.read_entries(index, 21, BATCH_BYTES).unwrap().len(), 1));
    for bytes in [batches, entries] {
        assert!(bytes < 20 * BATCH_BYTES * 5 / 4, "{bytes} bytes for 20 batches of {BATCH_BYTES}");
    }
}

#[test]
fn every_lsn_reads_the_same_after_every_kind_of_restart() {
    let mut rig = filled(40);
    rig.check_reads();
    rig.disk.kill_process();
    assert!(!rig.recover().clean);
    rig.append(9, 3, 100);
    rig.flush();
    rig.log.seal();
    rig.flush();
    rig.disk.restart(1);
    assert!(rig.recover().clean);
    rig.append(9, 3, 100);
    rig.flush();
    rig.disk.restart(2);
    rig.recover();
    rig.check_reads();
}

#[test]
fn terms_and_entries_are_known_for_every_index_kept_and_no_other() {
    let mut rig = filled(40);
    let check = |rig: &Rig| {
        let (first, last) = (rig.log.first_index(), rig.log.last_index());
        for entry in rig.reader.read_entries(first, last + 1, usize::MAX).unwrap() {
            assert_eq!(rig.log.term(entry.index), Some(entry.term), "index {}", entry.index);
            assert_eq!(rig.log.stub(entry.index), Some((entry.term, EntryKind::Normal)));
        }
        assert_eq!(rig.log.term(first - 1), Some(rig.log.oldest_checkpoint().term));
        assert_eq!(rig.log.term(last + 1), None);
        assert_eq!(rig.log.stub(first - 1), None);
        assert_eq!(
            rig.log.entries(first - 1, last, 1),
            Err(EntriesError::Compacted { index: first - 1, first })
        );
        assert_eq!(
            rig.log.entries(last, last + 2, 1),
            Err(EntriesError::OutOfRange { index: last + 1, last })
        );
        assert_eq!(rig.log.entries(first, last, 1), Err(EntriesError::NotCached { index: first }));
        assert_eq!(rig.log.entries(last, last + 1, 0).unwrap().len(), 1, "at least one");
    };
    check(&rig);
    rig.trim(30);
    rig.flush();
    check(&rig);
    rig.log.seal();
    rig.flush();
    rig.disk.restart(3);
    rig.recover();
    check(&rig);
}

#[test]
fn a_restart_replays_from_the_newest_committed_checkpoint_only() {
    let mut rig = filled(60);
    rig.log.seal();
    rig.vote(3);
    rig.flush();
    rig.disk.restart(1);
    let (recovered, replayed) = recover(&rig.disk, &rig.options).unwrap();
    assert!(recovered.base.index > 50, "{}", recovered.base.index);
    assert_eq!(replayed.len() as u64, recovered.log.last_index() - recovered.base.index);
    assert_eq!(recovered.base.state, format!("state at {}", recovered.base.index));
    assert_eq!(recovered.vote.commit, recovered.log.last_index());
}

#[test]
fn a_log_never_comes_to_begin_with_a_checkpoint_that_stands_for_nothing() {
    let first_after = |refused: Option<u64>| {
        let mut rig = filled(60);
        rig.log.trim_to(40, |checkpoint| Some(checkpoint.index) != refused);
        rig.log.oldest_checkpoint().index
    };
    let usual = first_after(None);
    let kept = first_after(Some(usual));
    assert!(0 < kept && kept < usual, "{kept}: one segment more than {usual}");
}

#[test]
fn what_stands_from_an_entry_on_shrinks_from_all_of_the_log_to_nothing() {
    let rig = filled(60);
    let (first, last) = (rig.log.first_index(), rig.log.last_index());
    let left: Vec<u64> = (first..=last + 1).map(|index| rig.log.bytes_from(index)).collect();
    assert!(left.is_sorted_by(|more, less| more > less), "{left:?}");
    assert_eq!((left[0], left.last()), (rig.log.log_bytes(), Some(&0)));
    assert_eq!(rig.log.bytes_from(last + 100), 0);
}

#[test]
fn retention_by_size_keeps_at_least_that_much_and_by_age_only_what_is_old() {
    let mut rig = filled(60);
    let bytes = rig.log.log_bytes();
    assert_eq!(rig.log.retention_point(Some(bytes), None), None);
    let half = rig.log.retention_point(Some(bytes / 2), None).unwrap();
    rig.trim(half);
    rig.flush();
    assert!(
        rig.log.log_bytes() >= bytes / 2 && rig.log.log_bytes() < bytes / 2 + 2 * rig.options.segment_bytes
    );
    assert_eq!(rig.log.log_start(), half);
    assert!(
        matches!(rig.reader.read(half - 1, 1, u64::MAX), Err(ReadError::BelowStart { log_start }) if log_start == half)
    );
    assert!(matches!(rig.reader.cached(half - 1, 1, u64::MAX), CachedRead::BelowStart { .. }));
    rig.check_reads();

    let mut rig = Rig::new(small_options());
    for n in 0..30 {
        rig.append(1, 1, 1000);
        if n % 5 == 4 {
            let time = 100 * (n + 1);
            let state = RollState { leader_time_ms: time, ..RollState::default() };
            rig.log.roll(state, (time as u128).to_le_bytes()).unwrap();
        }
    }
    rig.flush();
    assert_eq!(rig.log.retention_point(None, Some(i64::MAX)), None, "nothing is committed");
    rig.log.set_commit(u64::MAX);
    assert_eq!(rig.log.retention_point(None, Some(1000)), Some(6));
    assert_eq!(rig.log.retention_point(None, Some(500)), None);
}

#[test]
fn trimmed_segments_go_a_few_with_each_group_behind_its_frames_and_the_committed_index() {
    let mut rig = filled(60);
    let on_disk = |rig: &Rig| rig.disk.list(DIRECTORY).unwrap().len();
    let before = on_disk(&rig);
    rig.trim(rig.committed_lsn());
    rig.append(9, 1, 10);
    let group = rig.log.take_group().unwrap();
    let outcome = group.run();
    assert_eq!(
        outcome.stats.syncs,
        2 + 1 + 2,
        "both copies of the vote, the frames, and two of many segments"
    );
    rig.log.group_done(outcome).unwrap();
    assert_eq!(on_disk(&rig), before - 2);
    rig.flush();
    assert_eq!(on_disk(&rig), 2, "the vote and the last segment");

    let mut rig = filled(60);
    rig.trim(rig.committed_lsn());
    rig.append(9, 1, 10);
    // Two copies of the vote and the frames are written and synced.
    let seventh = rig.disk.counters().operations + 7;
    rig.disk.plant(seventh, lockstep_storage::io::fake::Fault::Error(std::io::ErrorKind::Other));
    rig.flush();
    assert_eq!(rig.log.failed().unwrap().operation, "dropping old segments", "the frames came first");
    assert!(!rig.log.has_pending());
}

#[test]
fn a_snapshot_counts_as_synced_only_when_its_segment_is() {
    let mut rig = Rig::new(small_options());
    (0..10).for_each(|_| rig.append(1, 1, 100));
    rig.flush();
    rig.log.set_commit(4);
    // Entries 5..=7 here may be others than those the snapshot covers.
    let checkpoint = Checkpoint { index: 7, term: 2, last_lsn: 7, commit: 7, ..Checkpoint::default() };
    rig.log.install(checkpoint, [9; 16]).unwrap();
    assert_eq!((rig.log.last_index(), rig.log.synced_index()), (7, 4));
    let outcome = rig.log.take_group().unwrap().run();
    assert_eq!(rig.log.group_done(outcome).unwrap().index, 7);
}

#[test]
fn a_time_finds_the_first_batch_that_reaches_it() {
    let mut rig = filled(40);
    rig.append(9, 2, 10);
    // Timestamps are 5000 + 10 × index; a system entry has none.
    let last = rig.log.last_lsn();
    for index in 1..=rig.log.last_index() {
        let found = rig.reader.lsn_for_time(5000 + 10 * index as i64 - 3, last).unwrap().unwrap();
        let system = rig.log.entries(index, index + 1, 1).is_ok_and(|entries| entries[0].envelope.is_empty())
            || rig
                .reader
                .read_entries(index, index + 1, 1)
                .is_ok_and(|entries| entries[0].envelope.is_empty());
        assert_eq!(found.max_timestamp_ms, 5000 + 10 * (index + u64::from(system)) as i64);
    }
    assert_eq!(rig.reader.lsn_for_time(1 << 40, last).unwrap(), None);
    assert_eq!(rig.reader.lsn_for_time(0, 0).unwrap(), None, "nothing is visible");
    rig.trim(31);
    assert_eq!(rig.reader.lsn_for_time(0, last).unwrap().unwrap().first_lsn, 31);
}

#[test]
fn a_read_of_a_recycled_segment_says_that_it_is_gone() {
    let disk = FakeDisk::new();
    let pool = Arc::new(SegmentPool::open(disk.clone(), 4, 0).unwrap());
    assert_eq!(pool.prepare(12 << 10).unwrap(), 12 << 10);
    let options = LogOptions { pool: Some(pool.clone()), ..small_options() };
    create(&disk, &options);
    let mut rig = Rig::on(disk, options);
    for _ in 0..40 {
        rig.append(1, 1, 1000);
        rig.flush();
    }
    assert_eq!(pool.available(), 0, "the prepared file was used");
    let reader = rig.reader.clone();
    rig.log.set_commit(u64::MAX);
    rig.trim(30);
    rig.flush();
    assert_eq!(pool.available(), 4, "no more than the pool may hold");
    (0..20).for_each(|_| rig.append(1, 1, 1000));
    rig.flush();
    assert!(pool.available() < 4, "old segments live again");
    assert!(matches!(reader.read(1, 1, 60), Err(ReadError::BelowStart { log_start: 30 })));
    assert!(matches!(reader.read_entries(1, 2, 1), Err(ReadError::BelowStart { .. })));
    rig.check_reads();
    rig.disk.restart(1);
    rig.recover();
}

#[test]
fn a_log_in_a_recycled_segment_opens_with_few_reads() {
    let disk = FakeDisk::new();
    let pool = Arc::new(SegmentPool::open(disk.clone(), 4, 0).unwrap());
    let options = LogOptions { pool: Some(pool.clone()), segment_bytes: 2 << 20, ..small_options() };
    create(&disk, &options);
    let mut rig = Rig::on(disk, options);
    while pool.available() == 0 {
        (0..20).for_each(|_| rig.append(1, 1, 400));
        rig.flush();
        rig.log.set_commit(u64::MAX);
        rig.trim(rig.log.last_lsn());
        rig.flush();
    }
    rig.roll();
    rig.append(1, 1, 400);
    rig.flush();
    rig.log.seal();
    rig.flush();
    assert_eq!(pool.available(), 0, "the log goes on in a former life's file");
    let before = rig.disk.counters().reads;
    let (recovered, _) = recover(&rig.disk, &rig.options).unwrap();
    assert!(!recovered.report.clean, "what lies behind the seal could be a torn frame: it is cut");
    assert!(rig.disk.counters().reads - before < 30, "{}", rig.disk.counters().reads - before);
}

#[test]
fn a_membership_entry_is_kept_whole_until_a_roll_whose_state_it_is_part_of() {
    let mut rig = Rig::new(small_options());
    rig.append_system(EntryKind::MembershipV2, b"joint");
    (0..3).for_each(|_| rig.append(1, 1, 500));
    rig.append_system(EntryKind::MembershipV2, b"left joint");
    rig.append(1, 1, 500);
    rig.flush();
    assert_eq!(rig.log.stub(1), Some((0, EntryKind::MembershipV2)));
    assert_eq!(&rig.log.membership_entry(1).unwrap().body[..], b"joint");
    rig.disk.restart(1);
    rig.recover();
    assert_eq!(&rig.log.membership_entry(1).unwrap().body[..], b"joint");
    // A truncation forces a roll while the second change is not applied.
    rig.truncate(6);
    rig.roll_with_membership_of(1);
    assert!(rig.log.membership_entry(1).is_none());
    assert_eq!(&rig.log.membership_entry(5).unwrap().body[..], b"left joint");
    assert_eq!(rig.log.stub(5), Some((1, EntryKind::MembershipV2)));
    rig.roll_with_membership_of(5);
    assert!(rig.log.membership_entry(5).is_none());
}

#[test]
fn a_full_segment_wants_a_roll_and_only_a_truncation_forces_one() {
    let mut rig = Rig::new(small_options());
    rig.append(1, 1, 7000);
    rig.flush();
    assert!(rig.log.needs_roll(2000) && !rig.log.must_roll());
    rig.append(1, 1, 100);
    rig.truncate(2);
    assert!(rig.log.must_roll());
    rig.roll();
    assert!(!rig.log.must_roll());
}

#[test]
fn inspection_counts_what_is_there_and_finds_damage_without_writing() {
    let mut rig = filled(30);
    rig.log.seal();
    rig.flush();
    let operations = rig.disk.counters().operations;
    let mut seals = 0;
    let summary = inspect(&*rig.disk, DIRECTORY, &mut |finding| match finding {
        Finding::Frame { header, .. } => {
            seals += u32::from(header.frame_type == lockstep_storage::frame::FrameType::Seal);
        }
        Finding::Damage { why, .. } => panic!("{why}"),
        Finding::Segment { .. } | Finding::End { .. } => {}
    })
    .unwrap();
    assert_eq!((summary.records, summary.last_lsn, seals), (60, 60, 1));
    assert_eq!((summary.last_index, summary.chain), (rig.log.last_index(), rig.log.last_chain()));
    assert_eq!(summary.vote, Some(rig.log.vote()));
    let first = format!("{DIRECTORY}/{}", lockstep_storage::segment::file_name(1));
    rig.disk.flip_bit(&first, 4096 + 200, 1);
    let mut places = Vec::new();
    let summary = inspect(&*rig.disk, DIRECTORY, &mut |finding| {
        if let Finding::Damage { file, position, .. } = finding {
            places.push((file.to_owned(), position));
        }
    })
    .unwrap();
    assert_eq!(places[0], (first, 4096));
    assert_eq!(summary.damages, places.len() as u64);
    assert_eq!(rig.disk.counters().operations, operations);
}

#[test]
fn a_log_on_the_real_disk_comes_back_whole() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()));
    let options = small_options();
    let genesis = Checkpoint { log_start: 1, ..Checkpoint::default() };
    Log::create(disk.clone(), DIRECTORY, &options, genesis, [3; 16]).unwrap();
    let mut random = Random(11);
    let mut written = Vec::new();
    for run in 0..4_u8 {
        let mut seen = Vec::new();
        let mut log = Log::recover(disk.clone(), DIRECTORY, options.clone(), &mut |replay| {
            if let Replay::Entry(entry) = replay {
                seen.push(entry.clone());
            }
        })
        .unwrap()
        .log;
        assert!(written.ends_with(&seen));
        for n in 0..20_u8 {
            let body = random.below(3000) as usize;
            let entry = common::entry(log.last_index() + 1, u64::from(run) + 1, log.next_lsn(), 2, body);
            if log.needs_roll(entry.payload_bytes()) {
                let nonce = [run * 32 + n + 10; 16];
                log.roll(RollState { log_start: 1, ..RollState::default() }, nonce).unwrap();
            }
            written.push(entry.clone());
            log.append(entry).unwrap();
        }
        let outcome = log.take_group().unwrap().run();
        log.group_done(outcome).unwrap();
        let all = log.reader().read_entries(1, log.last_index() + 1, usize::MAX).unwrap();
        assert_eq!(all, written);
    }
}
