//! A damaged log is surveyed, patched from a twin, cut and restarted, and comes back with the same entries.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use bytes::Bytes;
use common::{DIRECTORY, Rig, recover, small_options};
use lockstep_storage::io::fake::{FakeDisk, Fault};
use lockstep_storage::io::{Disk, OpenMode};
use lockstep_storage::salvage::{
    DAMAGED_DIRECTORY, cut_to_intact, discard_damaged, patch, reset_vote, restart_from,
};
use lockstep_storage::segment::{SegmentHeader, file_name};
use lockstep_storage::{
    Checkpoint, Entry, EntryKind, Hole, LogOptions, Patch, PatchError, Recovered, RecoveryError, RollState,
    Survey, Vote,
};
use std::sync::Arc;

type Files = Vec<(String, Bytes)>;

fn segment(number: u64) -> String {
    format!("{DIRECTORY}/{}", file_name(number))
}

/// What an undamaged replica has: its entries, and what stands in its segments' headers.
struct Twin {
    options: LogOptions,
    entries: Vec<Entry>,
    checkpoints: Vec<Checkpoint>,
    files: Files,
}

impl Twin {
    /// Some segments with seals and system entries between the batches; the last one is sealed or not.
    fn new(sealed: bool) -> Self {
        let mut rig = Rig::new(small_options());
        for n in 0..40 {
            match n % 7 {
                3 => rig.append_system(EntryKind::Normal, b""),
                5 => rig.append_system(EntryKind::Membership, b"a change"),
                _ => rig.append(1 + n / 10, (n % 4) as u32, 700 + 100 * (n as usize % 5)),
            }
            rig.flush();
            if n % 4 == 1 {
                rig.log.seal();
                rig.flush();
            }
        }
        let last = rig.log.last_index();
        if sealed {
            rig.log.seal();
            rig.flush();
        }
        let files = files(&rig.disk);
        let entries = rig.reader.read_entries(1, last + 1, usize::MAX).unwrap();
        let segments = files.iter().filter(|(name, _)| name.ends_with(".segment"));
        let header = |(name, _): &(String, Bytes)| {
            let file = rig.disk.open(&format!("{DIRECTORY}/{name}"), OpenMode::Read).unwrap();
            SegmentHeader::read(&*file).unwrap().checkpoint
        };
        Self { options: small_options(), entries, checkpoints: segments.map(header).collect(), files }
    }

    fn segments(&self) -> u64 {
        self.checkpoints.len() as u64
    }

    fn length(&self, number: u64) -> u64 {
        let named = self.files.iter().find(|(name, _)| *name == file_name(number));
        named.unwrap().1.len() as u64
    }

    /// A disk of its own with this log.
    fn disk(&self) -> Arc<FakeDisk> {
        let disk = FakeDisk::new();
        disk.create_dir(DIRECTORY).unwrap();
        disk.sync_dir("").unwrap();
        for (name, bytes) in &self.files {
            let file = disk.open(&format!("{DIRECTORY}/{name}"), OpenMode::CreateNew).unwrap();
            file.write_vectored_at(std::slice::from_ref(bytes), 0).unwrap();
            file.sync_all().unwrap();
        }
        disk.sync_dir(DIRECTORY).unwrap();
        disk
    }

    fn survey(&self, disk: &Arc<FakeDisk>) -> Survey {
        Survey::take(disk.clone(), DIRECTORY, &self.options).unwrap()
    }

    /// What a patch of the hole's segment needs.
    fn missing(&self, survey: &Survey, number: u64) -> (Option<Checkpoint>, Vec<Entry>) {
        let holes: Vec<&Hole> = survey.holes().iter().filter(|hole| hole.segment == number).collect();
        let lost = holes.iter().any(|hole| hole.header_lost);
        let standing = |index: u64| self.checkpoints.iter().find(|at| at.index == index).cloned();
        let checkpoint = match holes[0].before {
            Some(before) => standing(before.index).or_else(|| self.rebuilt(before.index)),
            None => Some(self.checkpoints[number as usize - 1].clone()),
        };
        let begins = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.index);
        let range = |hole: &Hole| hole.first_index().unwrap_or(begins + 1)..=hole.last_index.unwrap();
        let wanted = |entry: &&Entry| holes.iter().any(|hole| range(hole).contains(&entry.index));
        (checkpoint.filter(|_| lost), self.entries.iter().filter(wanted).cloned().collect())
    }

    /// A checkpoint at any index, as replay from an earlier one would give it.
    fn rebuilt(&self, index: u64) -> Option<Checkpoint> {
        let mut at = self.checkpoints.iter().rfind(|at| at.index <= index)?.clone();
        for entry in self.entries.iter().filter(|entry| (at.index + 1..=index).contains(&entry.index)) {
            let envelope = entry.decode_envelope().unwrap();
            at.chain = lockstep_storage::frame::chain_after(at.chain, entry);
            at.last_lsn += envelope.map_or(0, |envelope| u64::from(envelope.record_count));
            at.term = entry.term;
        }
        Some(Checkpoint { index, ..at })
    }

    /// The log as a driver repairs it: patched where that can be proven, else cut and filled up again.
    fn repair(&self, disk: &Arc<FakeDisk>) -> Recovered {
        let mut survey = self.survey(disk);
        if survey.vote().is_none() {
            reset_vote(&**disk, DIRECTORY, 7, Vote { term: 9, voted_for: 0, commit: 0 }).unwrap();
        }
        let mut nonces = 1000;
        while let Some(hole) = survey.holes().first().cloned() {
            nonces += 1;
            let nonce = u128::to_le_bytes(nonces);
            if hole.is_closed() {
                let (checkpoint, entries) = self.missing(&survey, hole.segment);
                patch(&survey, hole.segment, checkpoint, &entries, nonce).unwrap();
                survey.rescan(hole.segment).unwrap();
            } else if survey.tip().is_some() {
                cut_to_intact(&survey).unwrap();
                survey = self.survey(disk);
            } else {
                restart_from(&**disk, DIRECTORY, &self.options, self.checkpoints[0].clone(), nonce).unwrap();
                survey = self.survey(disk);
            }
        }
        self.fill_up(disk)
    }

    /// Appends what the log lacks at its end, and compares it all.
    fn fill_up(&self, disk: &Arc<FakeDisk>) -> Recovered {
        let (mut recovered, _) = recover(disk, &self.options).unwrap();
        let log = &mut recovered.log;
        let mut nonce = 5000_u128;
        for entry in &self.entries[log.last_index() as usize..] {
            if log.needs_roll(entry.payload_bytes()) {
                nonce += 1;
                log.roll(RollState::default(), nonce.to_le_bytes()).unwrap();
            }
            log.append(entry.clone()).unwrap();
        }
        log.seal();
        while log.has_pending() {
            let done = log.take_group().unwrap().run();
            log.group_done(done).unwrap();
        }
        discard_damaged(&**disk, DIRECTORY).unwrap();
        self.check(disk, &recovered);
        recovered
    }

    /// Every entry is there, by the log's own reader and by a survey.
    fn check(&self, disk: &Arc<FakeDisk>, recovered: &Recovered) {
        let last = self.entries.len() as u64;
        let mut next = recovered.log.first_index();
        assert_eq!((recovered.log.last_index(), next), (last, 1), "the whole log is back");
        while next <= last {
            let read = recovered.reader.read_entries(next, last + 1, 4000).unwrap();
            assert_eq!(read, self.entries[next as usize - 1..next as usize - 1 + read.len()]);
            next += read.len() as u64;
        }
        assert_eq!(recovered.log.last_chain(), self.rebuilt(last).unwrap().chain);
        let survey = self.survey(disk);
        assert_eq!((survey.holes(), survey.intact()), (&[][..], vec![1..=last]));
        assert_eq!(survey.tip().unwrap().chain, recovered.log.last_chain());
        let read = survey.read(1, last + 1, usize::MAX).unwrap();
        assert!(read.iter().map(|read| &read.entry).eq(&self.entries));
        assert_eq!(lockstep_storage::inspect(&**disk, DIRECTORY, &mut |_| ()).unwrap().damages, 0);
    }
}

fn files(disk: &Arc<FakeDisk>) -> Files {
    let names = disk.list(DIRECTORY).unwrap();
    let read = |name: &String| {
        let file = disk.open(&format!("{DIRECTORY}/{name}"), OpenMode::Read).unwrap();
        (name.clone(), file.read_at(file.len().unwrap() as usize, 0).unwrap())
    };
    names.iter().filter(|name| *name != DAMAGED_DIRECTORY).map(read).collect()
}

/// Zeros over a range of a segment.
fn wipe(disk: &Arc<FakeDisk>, number: u64, range: std::ops::Range<u64>) {
    let file = disk.open(&segment(number), OpenMode::ReadWrite).unwrap();
    let zeros = Bytes::from(vec![0; (range.end - range.start) as usize]);
    file.write_vectored_at(&[zeros], range.start).unwrap();
    file.sync_all().unwrap();
}

/// Where the frames of the entries of a segment stand, by `lockstep log inspect`'s means.
fn frames(disk: &Arc<FakeDisk>, number: u64) -> Vec<(u64, u64)> {
    use lockstep_storage::{Finding, frame::FrameType};
    let (mut current, mut found) = (0, Vec::new());
    lockstep_storage::inspect(&**disk, DIRECTORY, &mut |finding| match finding {
        Finding::Segment { header, .. } => current = header.number,
        Finding::Frame { position, header, .. }
            if current == number && header.frame_type == FrameType::Entry =>
        {
            found.push((header.index, position));
        }
        _ => {}
    })
    .unwrap();
    found
}

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

/// The entries that can be read in the log, or in a segment put aside.
fn survey_and_aside(twin: &Twin, disk: &Arc<FakeDisk>) -> Vec<u64> {
    let mut indexes: Vec<u64> = twin.survey(disk).intact().into_iter().flatten().collect();
    let damaged = format!("{DIRECTORY}/{DAMAGED_DIRECTORY}");
    if disk.exists(&damaged).unwrap() {
        for name in disk.list(&damaged).unwrap().iter().filter(|name| name.contains(".segment")) {
            // Each alone, as a log of its own.
            let aside = FakeDisk::new();
            aside.create_dir(DIRECTORY).unwrap();
            let from = disk.open(&format!("{damaged}/{name}"), OpenMode::Read).unwrap();
            let to = aside.open(&format!("{DIRECTORY}/{}", &name[..28]), OpenMode::CreateNew).unwrap();
            to.write_vectored_at(&[from.read_at(from.len().unwrap() as usize, 0).unwrap()], 0).unwrap();
            indexes.extend(twin.survey(&aside).intact().into_iter().flatten());
        }
    }
    indexes
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

#[test]
fn a_log_of_another_shard_is_not_surveyed_and_one_such_segment_is_a_lost_one() {
    use lockstep_storage::SurveyError;
    let twin = Twin::new(true);
    let disk = twin.disk();
    let other = LogOptions { shard: 8, ..twin.options.clone() };
    let refused = Survey::take(disk, DIRECTORY, &other);
    assert!(matches!(refused, Err(SurveyError::Foreign { expected: 8, found: 7, .. })));
}
