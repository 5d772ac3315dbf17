//! The scrub and the entries a running log hands to its peers.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::twin::{Twin, frames, segment, wipe};
use common::{DIRECTORY, Rig, recover, small_options};
use lockstep_storage::frame::chain_after;
use lockstep_storage::io::Disk;
use lockstep_storage::{LogReader, ReadError, ScrubCursor};
use std::io::ErrorKind;

/// Scrubs it all, so many bytes a step; returns the steps and the bytes verified.
fn scrub(reader: &LogReader, max_bytes: u64) -> Result<(u64, u64), ReadError> {
    let (mut next, mut steps, mut bytes) = (Some(ScrubCursor::default()), 0, 0);
    while let Some(cursor) = next {
        let step = reader.scrub(cursor, max_bytes)?;
        (next, steps, bytes) = (step.next, steps + 1, bytes + step.verified_bytes);
        assert!(step.verified_bytes <= max_bytes + 8192, "a step ends with the first frame above its limit");
    }
    Ok((steps, bytes))
}

#[test]
fn every_frame_of_every_sealed_segment_is_read_from_the_disk_and_verified_once() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    let sealed = 1..twin.segments();
    let last_frames = sealed.clone().map(|number| frames(&disk, number).last().unwrap().1);
    // Zeros behind a header, and a footer, are nothing to verify.
    let at_least: u64 = last_frames.map(|position| position - 4096).sum();
    let all: u64 = sealed.map(|number| twin.length(number)).sum();
    for max_bytes in [1, 1000, 5000, u64::MAX / 2] {
        let before = disk.counters().read_bytes;
        let (steps, bytes) = scrub(&recovered.reader, max_bytes).unwrap();
        assert!((at_least..=all).contains(&bytes), "{bytes} of {all}");
        assert!(disk.counters().read_bytes - before >= bytes, "none of it comes from memory");
        assert!(steps > bytes / max_bytes.saturating_add(8192));
    }
}

#[test]
fn every_flip_in_a_sealed_segment_is_damage_or_in_nothing_that_counts() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    for number in 1..twin.segments() {
        for position in (0..twin.length(number)).filter(|at| *at < 140 || at % 37 == 0) {
            disk.flip_bit(&segment(number), position, (position % 8) as u8);
            let found = scrub(&recovered.reader, 4000);
            let holes = twin.survey(&disk).holes().to_vec();
            match found {
                Err(ReadError::Damaged(damage)) => {
                    assert_eq!(damage.file, segment(number));
                    assert_eq!(holes.len(), 1, "{damage} and {holes:?}");
                    assert_eq!(damage.position, holes[0].position);
                }
                Ok(_) => assert_eq!(holes, [], "at {position} of segment {number}"),
                Err(other) => panic!("{other}"),
            }
            disk.flip_bit(&segment(number), position, (position % 8) as u8);
        }
    }
}

#[test]
fn a_segment_whose_file_is_gone_is_damage() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    disk.remove_file(&segment(2)).unwrap();
    let Err(ReadError::Damaged(damage)) = scrub(&recovered.reader, 4000) else { panic!("it must be seen") };
    assert_eq!((damage.file, damage.position), (segment(2), 0));
}

#[test]
fn what_cannot_be_read_twice_in_a_row_is_damage_and_once_is_nothing() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    disk.plant_read(disk.counters().reads + 5, ErrorKind::Other);
    assert!(scrub(&recovered.reader, 4000).is_ok());
    assert_eq!(disk.counters().read_errors, 1);
    let (index, position) = frames(&disk, 2)[1];
    disk.make_unreadable(&segment(2), position, 1).unwrap();
    let Err(ReadError::Damaged(damage)) = scrub(&recovered.reader, 4000) else { panic!("it must be seen") };
    assert_eq!((damage.file, damage.position, damage.index), (segment(2), position, index));
    disk.vanish();
    assert!(
        matches!(scrub(&recovered.reader, 4000), Err(ReadError::Io { .. })),
        "a disk that is gone is not damaged"
    );
}

#[test]
fn segments_dropped_truncated_or_replaced_under_a_scrub_are_passed_over() {
    let mut rig = Rig::new(small_options());
    (0..40).for_each(|_| rig.append(1, 2, 1000));
    rig.flush();
    let step = |cursor| rig_step(&rig.reader, cursor);
    let third = step(step(ScrubCursor::default()));
    let into_third = rig.reader.scrub(third, 5000).unwrap().next.unwrap();

    // Nothing of the suffix is committed: the segment is cut where the scrub has been, then another takes its place.
    let cut = frames(&rig.disk, 3)[1].0;
    rig.truncate(cut);
    rig.append(2, 1, 500);
    rig.flush();
    assert!(scrub_from(&rig.reader, into_third).is_ok());
    (0..20).for_each(|_| rig.append(2, 2, 1000));
    rig.flush();
    assert!(scrub_from(&rig.reader, into_third).is_ok());
    assert!(scrub(&rig.reader, 3000).is_ok());

    rig.log.set_commit(rig.log.last_index());
    rig.trim(rig.log.last_lsn() - 5);
    rig.flush();
    assert!(!rig.disk.exists(&segment(3)).unwrap());
    assert!(scrub_from(&rig.reader, into_third).is_ok());
    rig.install(100);
    rig.flush();
    assert_eq!(rig.reader.scrub(into_third, 5000).unwrap().next, None);
}

fn rig_step(reader: &LogReader, cursor: ScrubCursor) -> ScrubCursor {
    // One whole segment: its header, then all its frames.
    let mut cursor = reader.scrub(cursor, 1).unwrap().next.unwrap();
    let begun = format!("{cursor:?}");
    let number = |text: &str| text.split("segment: ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    while number(&format!("{cursor:?}")) == number(&begun) {
        cursor = reader.scrub(cursor, 1).unwrap().next.unwrap();
    }
    cursor
}

fn scrub_from(reader: &LogReader, cursor: ScrubCursor) -> Result<(), ReadError> {
    let mut next = Some(cursor);
    while let Some(cursor) = next {
        next = reader.scrub(cursor, 3000)?.next;
    }
    Ok(())
}

#[test]
fn what_is_not_synced_yet_is_not_scrubbed() {
    let mut rig = Rig::new(small_options());
    (0..30).for_each(|_| rig.append(1, 2, 1000));
    assert_eq!(scrub(&rig.reader, 1000).unwrap(), (1, 0), "nothing of it is on disk");
    rig.flush();
    assert!(scrub(&rig.reader, 1000).unwrap().1 > 10_000);
}

#[test]
fn entries_come_with_their_chain_from_memory_and_from_disk() {
    let mut rig = Rig::new(small_options());
    (0..40).for_each(|n| {
        rig.append(1, 2, 700);
        if n < 38 {
            rig.flush();
        }
    });
    let last = rig.log.last_index();
    assert!(rig.log.synced_index() < last && rig.log.commit() == 0);
    let (mut chain, mut next) = (0, 1);
    assert_eq!(rig.reader.chain_at(0).unwrap(), 0);
    while next <= last {
        for read in rig.reader.chained_entries(next, last + 1, 3000).unwrap() {
            assert_eq!(read.entry.index, next);
            chain = chain_after(chain, &read.entry);
            assert_eq!((read.chain, rig.reader.chain_at(next).unwrap()), (chain, chain));
            next += 1;
        }
    }
    assert_eq!(chain, rig.log.last_chain());
    assert!(matches!(rig.reader.chain_at(last + 1), Err(ReadError::AtEnd)));
    assert!(matches!(rig.reader.chained_entries(last + 1, last + 2, 10), Err(ReadError::AtEnd)));
    rig.flush();
    rig.log.set_commit(last);
    rig.trim(rig.log.last_lsn() - 5);
    assert!(matches!(rig.reader.chain_at(1), Err(ReadError::BelowStart { .. })));
    let first = rig.log.first_index();
    assert_eq!(rig.reader.chain_at(first - 1).unwrap(), rig.log.oldest_checkpoint().chain);
}

#[test]
fn a_wiped_header_is_seen_though_the_log_runs_on_without_it() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    wipe(&disk, 1, 0..64);
    assert!(recovered.reader.read_entries(1, 3, 1000).is_ok());
    assert!(matches!(scrub(&recovered.reader, 4000), Err(ReadError::Damaged(_))));
    assert!(disk.exists(DIRECTORY).unwrap());
}
