//! A damaged log is surveyed, and patched from a twin.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use bytes::Bytes;
use common::twin::{Files, Twin, files, frames, segment, wipe};
use common::{DIRECTORY, Rig, recover, small_options};
use lockstep_storage::frame::FrameType;
use lockstep_storage::io::fake::FakeDisk;
use lockstep_storage::io::{Disk, OpenMode};
use lockstep_storage::salvage::patch;
use lockstep_storage::segment::{SegmentHeader, file_name};
use lockstep_storage::{
    Checkpoint, Entry, Finding, Log, LogOptions, Patch, PatchError, ReadError, RecoveryError, ScrubCursor,
    Survey, SurveyError, inspect,
};

#[test]
fn a_healthy_log_has_no_holes() {
    for sealed in [false, true] {
        let twin = Twin::new(sealed);
        assert!(twin.segments() >= 3);
        let disk = twin.disk();
        let survey = twin.survey(&disk);
        assert_eq!(survey.holes(), []);
        assert_eq!(survey.intact(), [1..=40]);
        assert_eq!(survey.proven_synced_index(), if sealed { 40 } else { 39 });
        assert_eq!(survey.base(), Some(&twin.checkpoints[0]));
        assert!(survey.vote().is_some());
    }
}

#[test]
fn every_flipped_byte_is_found_or_harmless_and_is_repaired_from_a_twin() {
    let twin = Twin::new(true);
    let (mut found, mut harmless) = (0, 0);
    for number in 1..=twin.segments() {
        let file = file_name(number);
        let (_, bytes) = twin.files.iter().find(|(name, _)| *name == file).unwrap();
        for position in (0..bytes.len() as u64).filter(|at| *at < 140 || at % 23 == 0) {
            let disk = twin.disk();
            disk.flip_bit(&segment(number), position, (position % 8) as u8);
            let survey = twin.survey(&disk);
            let recovery = recover(&disk, &twin.options);
            if survey.holes().is_empty() {
                harmless += 1;
                // Padding of a header, a footer, or the last seal.
                let (recovered, _) =
                    recovery.unwrap_or_else(|error| panic!("{number} at {position}: {error}"));
                twin.check(&disk, &recovered);
            } else {
                found += 1;
                let hole = &survey.holes()[0];
                assert_eq!((hole.segment, survey.holes().len()), (number, 1), "at {position}");
                twin.repair(&disk);
            }
        }
    }
    println!("{found} flips were damage, {harmless} harmless");
    assert!(found > 1000 && harmless > 100);
}

#[test]
fn intact_entries_are_read_around_a_hole_and_none_of_it() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (index, position) = frames(&disk, 2)[2];
    disk.flip_bit(&segment(2), position + 9, 1);
    let survey = twin.survey(&disk);
    let hole = &survey.holes()[0];
    assert_eq!((hole.first_index(), hole.last_index, hole.position), (Some(index), Some(index), position));
    assert_eq!(hole.before.unwrap().chain, twin.rebuilt(index - 1).unwrap().chain);
    assert_eq!(survey.intact(), [1..=index - 1, index + 1..=40]);
    assert_eq!(survey.tip().unwrap().index, index - 1);
    assert_eq!(survey.last_intact_index(), Some(40));
    assert_eq!(survey.read(index, 41, usize::MAX).unwrap(), []);
    for low in (1..=40).filter(|low| *low != index) {
        let read = survey.read(low, 39, 2500).unwrap();
        assert_eq!(read.is_empty(), low >= 39);
        for (read, index) in read.iter().zip(low..) {
            assert_eq!(read.entry, twin.entries[index as usize - 1]);
            assert_eq!(read.chain, twin.rebuilt(index).unwrap().chain);
        }
        let end = read.last().map_or(low, |read| read.entry.index);
        assert!(low > index || end < index, "it stops at the hole");
    }
}

#[test]
fn a_broken_body_under_a_whole_header_is_a_hole_of_one_entry_whose_chain_is_known() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (index, position) = frames(&disk, 1)[0];
    disk.flip_bit(&segment(1), position + 300, 1);
    let survey = twin.survey(&disk);
    assert_eq!(survey.holes()[0].last_index, Some(index));
    assert_eq!(survey.holes()[0].last_chain, Some(twin.rebuilt(index).unwrap().chain));
    twin.repair(&disk);
}

#[test]
fn holes_in_one_segment_and_across_a_border_are_filled() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (first, second) = (frames(&disk, 1), frames(&disk, 2));
    wipe(&disk, 1, first[1].1 + 5..first[2].1 + 20);
    wipe(&disk, 1, first[4].1..first[5].1 + 1);
    wipe(&disk, 1, first.last().unwrap().1..twin.length(1));
    wipe(&disk, 2, second[0].1..second[1].1 + 48);
    let survey = twin.survey(&disk);
    let ranges: Vec<_> = survey.holes().iter().map(|h| (h.segment, h.first_index(), h.last_index)).collect();
    let whole = |n: u64, low: u64, high: u64| (n, Some(low), Some(high));
    let last = first.last().unwrap().0;
    let expected = [whole(1, 2, 3), whole(1, 5, 6), whole(1, last, last), whole(2, last + 1, last + 2)];
    assert_eq!(ranges, expected);
    twin.repair(&disk);
}

#[test]
fn a_patch_takes_its_entries_a_few_at_a_time_and_says_what_it_lacks() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let first = frames(&disk, 1);
    wipe(&disk, 1, first[1].1..first[4].1);
    wipe(&disk, 1, first[6].1..first[7].1);
    let survey = twin.survey(&disk);
    let before = files(&disk);
    let begin = || Patch::begin(&survey, 1, None, [9; 16]).unwrap();
    assert_eq!(begin().missing(), Some((2, 4)));
    let pushed = begin().push(&twin.entries[1..3]).unwrap();
    assert_eq!(pushed.missing(), Some((4, 4)));
    assert!(matches!(pushed.finish(), Err(PatchError::Incomplete { index: 4 })));
    assert!(matches!(
        begin().push(&twin.entries[2..3]),
        Err(PatchError::Index { expected: Some(2), found: 3 })
    ));
    assert!(matches!(Patch::begin(&survey, 2, None, [9; 16]), Err(PatchError::NotClosed { segment: 2 })));
    let patch = begin().push(&twin.entries[1..4]).unwrap();
    assert_eq!(patch.missing(), Some((7, 7)));
    let patch = patch.push(&twin.entries[6..7]).unwrap();
    assert_eq!(patch.missing(), None);
    let unchanged: Files = files(&disk).into_iter().filter(|(name, _)| !name.ends_with(".new")).collect();
    assert_eq!(unchanged, before);
    patch.finish().unwrap();
    twin.repair(&disk);
}

#[test]
fn entries_that_never_stood_there_are_refused_and_change_nothing() {
    let twin = Twin::new(true);
    for (number, header_lost) in [(1, false), (2, false), (twin.segments(), false), (2, true)] {
        let disk = twin.disk();
        let frames = frames(&disk, number);
        match header_lost {
            true => wipe(&disk, number, 0..64),
            false => wipe(&disk, number, frames[1].1..frames[3].1),
        }
        let before = files(&disk);
        let survey = twin.survey(&disk);
        let (checkpoint, entries) = twin.missing(&survey, number);
        for wrong in 0..entries.len() {
            let other = &entries[wrong];
            let lsn = other.decode_envelope().unwrap().map_or(1, |envelope| envelope.first_lsn);
            let records = other.decode_envelope().unwrap().map_or(0, |envelope| envelope.record_count);
            let mut forged = entries.clone();
            forged[wrong] = Entry {
                body: Bytes::from_static(b"other"),
                ..common::entry(other.index, 8, lsn, records, 5)
            };
            forged[wrong] = Entry { term: other.term, ..common::entry(other.index, 8, lsn, records, 5) };
            let refused = patch(&survey, number, checkpoint.clone(), &forged, [9; 16]);
            assert!(matches!(refused, Err(PatchError::ChainMismatch { .. })), "{refused:?}");
            forged[wrong] = Entry { body: Bytes::from_static(b"torn"), ..other.clone() };
            assert!(patch(&survey, number, checkpoint.clone(), &forged, [9; 16]).is_err());
        }
        if let Some(right) = checkpoint {
            let wrong = Checkpoint { chain: right.chain ^ 1, ..right };
            for given in [None, Some(wrong)] {
                let refused = patch(&survey, number, given, &entries, [9; 16]);
                assert!(matches!(refused, Err(PatchError::CheckpointWanted { .. })));
            }
        }
        let unchanged: Files = files(&disk).into_iter().filter(|(name, _)| !name.ends_with(".new")).collect();
        assert_eq!(unchanged, before);
        twin.repair(&disk);
    }
}

#[test]
fn a_lost_header_costs_no_entry_wherever_it_stood() {
    let twin = Twin::new(true);
    for number in 1..=twin.segments() {
        for gone in [false, true] {
            let disk = twin.disk();
            match gone {
                true => {
                    disk.remove_file(&segment(number)).unwrap();
                    disk.sync_dir(DIRECTORY).unwrap();
                }
                false => wipe(&disk, number, 0..64),
            }
            let survey = twin.survey(&disk);
            let at_the_edge = gone && (number == 1 || number == twin.segments());
            if at_the_edge {
                assert_eq!(survey.holes(), [], "nothing in the files tells");
                continue;
            }
            let hole = &survey.holes()[0];
            assert!(hole.header_lost && hole.is_closed() == (number < twin.segments()));
            assert_eq!(hole.before.is_none(), number == 1);
            twin.repair(&disk);
        }
    }
}

#[test]
fn what_no_peer_keeps_any_more_is_given_up_at_the_front() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    wipe(&disk, 1, 0..64);
    let survey = twin.survey(&disk);
    assert_eq!(survey.tip(), None);
    let at_its_end = survey.checkpoint_before(survey.holes()[0].last_index.unwrap()).cloned();
    patch(&survey, 1, at_its_end.clone(), &[], [9; 16]).unwrap();
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    assert_eq!(recovered.log.first_index(), at_its_end.unwrap().index + 1);
    assert_eq!(recovered.log.last_index(), 40);
    let survey = twin.survey(&disk);
    assert_eq!((survey.holes(), survey.intact()), (&[][..], vec![recovered.log.first_index()..=40]));
}

#[test]
fn two_lost_headers_in_a_row_are_one_hole_and_an_empty_one() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    assert!(twin.segments() >= 4);
    wipe(&disk, 2, 0..64);
    disk.remove_file(&segment(3)).unwrap();
    let survey = twin.survey(&disk);
    let holes: Vec<_> = survey.holes().iter().map(|h| (h.segment, h.first_index(), h.last_index)).collect();
    let (low, high) = (twin.checkpoints[1].index, twin.checkpoints[3].index);
    assert_eq!(holes, [(2, Some(low + 1), Some(high)), (3, Some(high + 1), Some(high))]);
    twin.repair(&disk);
}

#[test]
fn a_checkpoint_that_lies_about_lsn_or_term_is_refused_where_the_segment_behind_is_lost_too() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    [2, 3].into_iter().for_each(|number| wipe(&disk, number, 0..64));
    for number in [2, 3] {
        let mut survey = twin.survey(&disk);
        let (right, entries) = twin.missing(&survey, number);
        let right = right.unwrap();
        let other_lsn = Checkpoint { last_lsn: right.last_lsn + 1, ..right.clone() };
        let refused = patch(&survey, number, Some(other_lsn), &entries, [9; 16]);
        assert!(matches!(refused, Err(PatchError::ChainMismatch { .. })), "{refused:?}");
        let other_term = Checkpoint { term: right.term - 1, ..right.clone() };
        let refused = patch(&survey, number, Some(other_term), &entries, [9; 16]);
        assert!(matches!(refused, Err(PatchError::CheckpointWanted { .. })), "{refused:?}");
        patch(&survey, number, Some(right), &entries, [number as u8; 16]).unwrap();
        survey.rescan(number).unwrap();
        assert!(survey.holes().iter().all(|hole| hole.segment > number));
    }
    twin.repair(&disk);
}

#[test]
fn a_segment_that_begins_inside_earlier_ones_is_believed_and_no_entry_is_intact_twice() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    let (number, begins) = (twin.segments() + 1, twin.checkpoints[2].clone());
    let header = SegmentHeader {
        restart: false,
        repaired: false,
        nonce: [9; 16],
        shard: 7,
        number,
        predecessor_bytes: twin.length(twin.segments()),
        checkpoint: begins.clone(),
    };
    put(&disk, number, header.encode());
    let survey = twin.survey(&disk);
    assert_eq!(survey.intact(), [1..=begins.index], "what it contradicts is not intact");
    assert_eq!(survey.holes()[0].segment, 3);
}

#[test]
fn a_stray_segment_file_is_the_end_of_the_log_and_one_far_off_is_named() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    put(&disk, 4000, Bytes::from_static(b"stray"));
    assert_eq!(twin.survey(&disk).holes().len(), 1, "all behind an open end is one hole");
    put(&disk, 10_000, Bytes::from_static(b"stray"));
    let refused = Survey::take(disk, DIRECTORY, &twin.options).err().unwrap();
    assert!(matches!(&refused, SurveyError::Unknown { file, .. } if *file == segment(10_000)), "{refused}");
}

/// A file under a segment's name.
fn put(disk: &FakeDisk, number: u64, contents: Bytes) {
    let file = disk.open(&segment(number), OpenMode::CreateNew).unwrap();
    file.write_vectored_at(&[contents], 0).unwrap();
}

#[test]
fn where_the_segment_before_a_lost_header_ended_is_told_by_its_last_header() {
    let twin = Twin::new(true);
    for keep_footer in [false, true] {
        let disk = twin.disk();
        let frames = frames(&disk, 1);
        let (index, position) = frames[frames.len() - 2];
        let end = if keep_footer { frames[frames.len() - 1].1 + 60 } else { twin.length(1) };
        wipe(&disk, 1, position..end);
        wipe(&disk, 2, 0..64);
        let survey = twin.survey(&disk);
        let first = &survey.holes()[0];
        let expected = if keep_footer { (1, Some(index)) } else { (2, Some(index)) };
        assert_eq!((first.segment, first.first_index()), expected);
        twin.repair(&disk);
    }
}

/// A seal with entries behind it, in the last block of a closed segment, so that no whole frame stands behind the block.
fn log_with_a_seal_near_a_segments_end() -> (Twin, u64) {
    let mut rig = Rig::new(LogOptions { segment_bytes: 14 << 10, ..small_options() });
    while rig.log.last_index() < 90 {
        rig.append(1, 1, 200);
        rig.flush();
        if rig.log.last_index().is_multiple_of(3) {
            rig.log.seal();
            rig.flush();
        }
    }
    let twin = Twin::of(&rig);
    let last_entry = frames(&rig.disk, 1).last().unwrap().1;
    let (mut number, mut seals) = (0, Vec::new());
    inspect(&*rig.disk, DIRECTORY, &mut |finding| match finding {
        Finding::Segment { header, .. } => number = header.number,
        Finding::Frame { position, header, .. } if header.frame_type == FrameType::Seal && number == 1 => {
            seals.push(position);
        }
        _ => {}
    })
    .unwrap();
    let last_block = (twin.length(1) - 1) / 4096 * 4096;
    let seal = seals.into_iter().find(|position| (last_block..last_entry).contains(position)).unwrap();
    (twin, seal)
}

#[test]
fn what_cannot_be_read_behind_the_end_that_a_patch_gave_a_segment_is_no_part_of_the_log() {
    let (twin, seal) = log_with_a_seal_near_a_segments_end();
    let disk = twin.disk();
    let harm = disk.make_unreadable(&segment(1), seal + 8, 32).unwrap();
    wipe(&disk, 2, 0..64);
    // The lost segment's header can be lost again and again: each time it is written anew from where the first is whole.
    for _ in 0..2 {
        let survey = twin.survey(&disk);
        let holes: Vec<_> = survey.holes().iter().map(|hole| (hole.segment, hole.last_index)).collect();
        assert_eq!(holes, [(2, Some(twin.checkpoints[2].index))]);
        let first = survey.holes()[0].first_index().unwrap();
        assert!(first <= twin.checkpoints[1].index, "entries of the first segment are missing too");
        // Compares every entry and the chain with the twin's.
        let recovered = twin.repair(&disk);
        let file = disk.open(&segment(2), OpenMode::Read).unwrap();
        let header = SegmentHeader::read(&*file).unwrap();
        assert_eq!(header.checkpoint.index + 1, first);
        assert!(header.predecessor_bytes <= seal && disk.is_harmed(harm), "the file is as it was");
        let mut cursor = Some(ScrubCursor::default());
        while let Some(from) = cursor {
            cursor = recovered.reader.scrub(from, 4000).unwrap().next;
        }
        wipe(&disk, 2, 0..64);
    }
}

#[test]
fn the_same_seal_is_damage_to_the_scrub_as_long_as_its_segment_reaches_behind_it() {
    let (twin, seal) = log_with_a_seal_near_a_segments_end();
    let disk = twin.disk();
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    let harm = disk.make_unreadable(&segment(1), seal + 8, 32).unwrap();
    let Err(ReadError::Damaged(damage)) = recovered.reader.scrub(ScrubCursor::default(), 1 << 20) else {
        panic!("it must be seen")
    };
    assert_eq!((damage.file, damage.position), (segment(1), seal));
    twin.repair(&disk);
    assert!(!disk.is_harmed(harm), "the segment was written anew");
}

#[test]
fn a_torn_tail_is_no_hole_and_what_was_synced_is() {
    let twin = Twin::new(false);
    let last = twin.segments();
    let disk = twin.disk();
    let frames = frames(&disk, last);
    // Entry 40 is vouched for by nothing: its own frame says 39 was synced.
    disk.flip_bit(&segment(last), frames.last().unwrap().1 + 20, 0);
    let survey = twin.survey(&disk);
    assert_eq!((survey.holes(), survey.tip().unwrap().index), (&[][..], 39));
    let before = frames[frames.len() - 2];
    disk.flip_bit(&segment(last), before.1 + 20, 0);
    let survey = twin.survey(&disk);
    assert_eq!(survey.holes(), [], "and now nothing says that 39 was synced either");
    assert_eq!(survey.tip().unwrap().index, 38);
    disk.flip_bit(&segment(last), frames.last().unwrap().1 + 20, 0);
    let survey = twin.survey(&disk);
    assert_eq!((survey.holes()[0].first_index(), survey.holes()[0].last_index), (Some(39), Some(39)));
    let recovered = twin.repair(&disk);
    assert!(recovered.report.clean, "all of a patched last segment is sealed");
}

#[test]
fn the_log_goes_on_behind_a_patch_and_damage_in_it_is_judged_as_before() {
    let twin = Twin::new(true);
    let disk = twin.disk();
    for number in 1..=twin.segments() {
        let second = frames(&disk, number)[1].1;
        disk.flip_bit(&segment(number), second + 10, 0);
    }
    let mut log = twin.repair(&disk).log;
    let next = common::entry(41, 4, log.next_lsn(), 1, 10);
    log.append(next).unwrap();
    let done = log.take_group().unwrap().run();
    log.group_done(done).unwrap();
    disk.restart(3);
    let (recovered, _) = recover(&disk, &twin.options).unwrap();
    assert_eq!((recovered.log.last_index(), recovered.report.segments), (41, twin.segments() as usize));
    for number in 1..=twin.segments() {
        for (index, position) in frames(&disk, number).into_iter().filter(|(index, _)| *index < 41) {
            disk.flip_bit(&segment(number), position + 30, 0);
            let survey = twin.survey(&disk);
            assert_eq!(survey.holes()[0].first_index(), Some(index));
            disk.flip_bit(&segment(number), position + 30, 0);
        }
    }
}

#[test]
fn a_log_of_another_shard_is_not_surveyed_and_one_such_segment_is_a_lost_one() {
    use lockstep_storage::SurveyError;
    let twin = Twin::new(true);
    let disk = twin.disk();
    let other = LogOptions { shard: 8, ..twin.options.clone() };
    let refused = Survey::take(disk, DIRECTORY, &other);
    assert!(matches!(refused, Err(SurveyError::Foreign { expected: 8, found: 7, .. })));

    // The first block of another shard's segment, written to the wrong file.
    let disk = twin.disk();
    let stray = FakeDisk::new();
    Log::create(stray.clone(), "other", &other, Checkpoint::default(), [5; 16]).unwrap();
    let block =
        stray.open(&format!("other/{}", file_name(1)), OpenMode::Read).unwrap().read_at(4096, 0).unwrap();
    disk.open(&segment(2), OpenMode::ReadWrite).unwrap().write_vectored_at(&[block], 0).unwrap();
    assert!(matches!(recover(&disk, &twin.options), Err(RecoveryError::Faulty(_))));
    assert!(twin.survey(&disk).holes()[0].header_lost);
    twin.repair(&disk);
}
