//! A damaged log, and a peer that hands in anything for its repair: what the log then holds is what once stood there,
//! and what was refused changed nothing.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use lockstep_storage::io::{Disk, FakeDisk};
use lockstep_storage::salvage::patch;
use lockstep_storage::{Checkpoint, Entry, EntryKind, Envelope, LogOptions, Nonce, PatchError, Survey};

use super::super::choices::Choices;
use super::super::wire::entry;
use super::common::twin::{Twin, segment};
use super::common::{DIRECTORY, Rig, small_options};
use super::damaged::edit;
use super::directory::files;

/// What the logs were before: with a seal at the end, and without. They are the same for every input.
static TWINS: LazyLock<[Twin; 2]> = LazyLock::new(|| [written(false), written(true)]);

/// A few short segments with seals, system entries and terms.
fn written(sealed: bool) -> Twin {
    let mut rig =
        Rig::new(LogOptions { segment_bytes: 5 << 10, index_interval_bytes: 128, ..small_options() });
    for number in 0..24 {
        match number % 8 {
            3 => rig.append_system(EntryKind::Normal, b""),
            5 => rig.append_system(EntryKind::Membership, b"a change"),
            _ => rig.append(1 + number / 10, (number % 4) as u32, 40 + 20 * (number as usize % 5)),
        }
        rig.flush();
        if number % 5 == 1 || (sealed && number == 23) {
            rig.log.seal();
            rig.flush();
        }
        if number % 12 == 7 {
            rig.roll();
        }
    }
    rig.flush();
    Twin::of(&rig)
}

/// Some damage, then attempts to repair it with what a peer sends, then with the right entries.
pub fn log(input: &[u8]) {
    let mut choices = Choices::new(input);
    let twin = &TWINS[choices.below(2) as usize];
    let disk = twin.disk();
    for _ in 0..=choices.below(4) {
        edit(&disk, &mut choices);
    }
    let Ok(mut survey) = Survey::take(disk.clone(), DIRECTORY, &twin.options) else { return };
    holds_what_was_written(twin, &survey);
    for attempt in 1..=choices.below(6) {
        let Some(segment) = closed(&survey, &mut choices) else { break };
        // Like no other in the log: readers know a file by it.
        let nonce = (u128::MAX - u128::from(attempt)).to_le_bytes();
        if patched(twin, &disk, &survey, segment, nonce, &mut choices) {
            survey.rescan(segment).expect("it was just written");
            assert!(survey.holes().iter().all(|hole| hole.segment != segment), "a patched segment is whole");
            holds_what_was_written(twin, &survey);
        }
    }
    // Without the oldest segment's name, nothing in the files tells that it ever was.
    if disk.exists(&segment(1)).expect("a disk that works") {
        twin.repair(&disk);
    }
}

/// One of the segments that can be patched.
fn closed(survey: &Survey, choices: &mut Choices) -> Option<u64> {
    let holes = survey.holes();
    let chosen = holes.get(choices.below(holes.len() as u64) as usize)?.segment;
    let mut its_holes = holes.iter().filter(|hole| hole.segment == chosen);
    its_holes.all(|hole| hole.is_closed()).then_some(chosen)
}

/// Tries to patch the segment with what is missing in it, more or less bent. Whether that was taken.
fn patched(
    twin: &Twin,
    disk: &Arc<FakeDisk>,
    survey: &Survey,
    segment: u64,
    nonce: Nonce,
    choices: &mut Choices,
) -> bool {
    let right = twin.missing(survey, segment);
    let (mut checkpoint, mut entries) = right.clone();
    for _ in 0..choices.below(4) {
        bend(&mut entries, choices);
    }
    let begins_anywhere = survey.holes().iter().any(|hole| hole.segment == segment && hole.before.is_none());
    if !begins_anywhere && choices.below(4) == 0 {
        checkpoint = checkpoint.and_then(|checkpoint| bent_checkpoint(checkpoint, choices));
    }
    let before = files(disk);
    match patch(survey, segment, checkpoint.clone(), &entries, nonce) {
        Ok(()) => {
            assert_eq!((checkpoint, entries), right, "what is taken is what once stood there");
            true
        }
        Err(PatchError::Io { file, error }) => panic!("{file}: {error}"),
        Err(refused) => {
            assert_ne!((checkpoint, entries), right, "what once stood there is taken: {refused}");
            let left = files(disk).into_iter().filter(|(name, _)| !name.ends_with(".new"));
            let stood = before.into_iter().filter(|(name, _)| !name.ends_with(".new"));
            assert!(left.eq(stood), "a refusal changes nothing: {refused}");
            false
        }
    }
}

/// One thing a peer gets wrong about the entries.
fn bend(entries: &mut Vec<Entry>, choices: &mut Choices) {
    let at = choices.below(entries.len() as u64) as usize;
    if at >= entries.len() {
        return;
    }
    let Entry { index, term, .. } = entries[at];
    match choices.below(8) {
        0 => drop(entries.remove(at)),
        1 => entries.insert(at, entries[at].clone()),
        2 => entries.truncate(at),
        3 => entries[at].term = choices.number(),
        4 => entries[at].body = choices.bytes(100),
        5 => bend_envelope(&mut entries[at], choices),
        6 => entries[at].index = choices.number(),
        _ => {
            let sent = entry(choices, index, term, &mut 1);
            let kind = match sent.kind {
                1 => EntryKind::Membership,
                2 => EntryKind::MembershipV2,
                _ => EntryKind::Normal,
            };
            entries[at] = Entry { kind, term: sent.term, envelope: sent.envelope, body: sent.body, index };
        }
    }
}

/// Another envelope, with right checksums.
fn bend_envelope(entry: &mut Entry, choices: &mut Choices) {
    let Ok(Some(mut envelope)) = entry.decode_envelope() else { return };
    match choices.below(4) {
        0 => envelope.first_lsn = choices.number(),
        1 => envelope.record_count = choices.number() as u32,
        2 => envelope.max_timestamp_ms = choices.number() as i64,
        _ => {
            let mut body = entry.body.to_vec();
            let at = choices.below(body.len() as u64) as usize;
            body.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
            envelope.body_crc = Envelope::checksum(&body);
            entry.body = body.into();
        }
    }
    entry.envelope = Bytes::copy_from_slice(&envelope.encode());
}

/// None, or one that differs in what the chain or the segment behind it proves, as it is read off the wire.
fn bent_checkpoint(mut checkpoint: Checkpoint, choices: &mut Choices) -> Option<Checkpoint> {
    match choices.below(5) {
        0 => return None,
        1 => checkpoint.index = choices.number(),
        2 => checkpoint.term = choices.number(),
        3 => checkpoint.last_lsn = choices.number(),
        _ => checkpoint.chain = choices.number(),
    }
    Checkpoint::decode(&checkpoint.encode())
}

/// All that can be read stood there before.
fn holds_what_was_written(twin: &Twin, survey: &Survey) {
    for run in survey.intact() {
        let (mut next, end) = (*run.start(), *run.end());
        while next <= end {
            let read = survey.read(next, end + 1, 1 << 16).expect("a disk that works");
            assert!(!read.is_empty(), "entry {next} was said to be intact");
            for read in read {
                assert_eq!(Some(&read.entry), twin.entries.get(next as usize - 1));
                next += 1;
            }
        }
    }
}
