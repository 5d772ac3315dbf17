//! A damaged log and its undamaged twin, and the way a driver brings the one back from the other.

use super::{DIRECTORY, Rig, recover, small_options};
use bytes::Bytes;
use lockstep_storage::io::fake::FakeDisk;
use lockstep_storage::io::{Disk, OpenMode};
use lockstep_storage::salvage::{
    DAMAGED_DIRECTORY, cut_to_intact, discard_damaged, patch, reset_vote, restart_from,
};
use lockstep_storage::segment::{SegmentHeader, file_name};
use lockstep_storage::{
    Checkpoint, Entry, EntryKind, Hole, LogOptions, Nonce, Recovered, RollState, Survey, Vote,
};
use std::sync::Arc;

pub type Files = Vec<(String, Bytes)>;

pub fn segment(number: u64) -> String {
    format!("{DIRECTORY}/{}", file_name(number))
}

/// What an undamaged replica has: its entries, and what stands in its segments' headers.
pub struct Twin {
    pub options: LogOptions,
    pub entries: Vec<Entry>,
    pub checkpoints: Vec<Checkpoint>,
    pub files: Files,
}

impl Twin {
    /// Some segments with seals and system entries between the batches; the last one is sealed or not.
    pub fn new(sealed: bool) -> Self {
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
        if sealed {
            rig.log.seal();
            rig.flush();
        }
        Self::of(&rig)
    }

    /// What a log holds whose every entry is synced.
    pub fn of(rig: &Rig) -> Self {
        let last = rig.log.last_index();
        let files = files(&rig.disk);
        let entries = rig.reader.read_entries(1, last + 1, usize::MAX).unwrap();
        let segments = files.iter().filter(|(name, _)| name.ends_with(".segment"));
        let header = |(name, _): &(String, Bytes)| {
            let file = rig.disk.open(&format!("{DIRECTORY}/{name}"), OpenMode::Read).unwrap();
            SegmentHeader::read(&*file).unwrap().checkpoint
        };
        Self { options: rig.options.clone(), entries, checkpoints: segments.map(header).collect(), files }
    }

    pub fn segments(&self) -> u64 {
        self.checkpoints.len() as u64
    }

    pub fn length(&self, number: u64) -> u64 {
        let named = self.files.iter().find(|(name, _)| *name == file_name(number));
        named.unwrap().1.len() as u64
    }

    /// A disk of its own with this log.
    pub fn disk(&self) -> Arc<FakeDisk> {
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

    pub fn survey(&self, disk: &Arc<FakeDisk>) -> Survey {
        Survey::take(disk.clone(), DIRECTORY, &self.options).unwrap()
    }

    /// What a patch of the hole's segment needs.
    pub fn missing(&self, survey: &Survey, number: u64) -> (Option<Checkpoint>, Vec<Entry>) {
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
    pub fn rebuilt(&self, index: u64) -> Option<Checkpoint> {
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
    pub fn repair(&self, disk: &Arc<FakeDisk>) -> Recovered {
        let mut survey = self.survey(disk);
        if survey.vote().is_none() {
            reset_vote(&**disk, DIRECTORY, 7, Vote { term: 9, voted_for: 0, commit: 0 }).unwrap();
        }
        let mut nonces = fresh_nonces(disk);
        while let Some(hole) = survey.holes().first().cloned() {
            let nonce = nonces.next().unwrap();
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
    pub fn fill_up(&self, disk: &Arc<FakeDisk>) -> Recovered {
        let (mut recovered, _) = recover(disk, &self.options).unwrap();
        let log = &mut recovered.log;
        let mut nonces = fresh_nonces(disk);
        for entry in &self.entries[log.last_index() as usize..] {
            if log.needs_roll(entry.payload_bytes()) {
                log.roll(RollState::default(), nonces.next().unwrap()).unwrap();
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
    pub fn check(&self, disk: &Arc<FakeDisk>, recovered: &Recovered) {
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

pub fn files(disk: &Arc<FakeDisk>) -> Files {
    let names = disk.list(DIRECTORY).unwrap();
    let read = |name: &String| {
        let file = disk.open(&format!("{DIRECTORY}/{name}"), OpenMode::Read).unwrap();
        (name.clone(), file.read_at(file.len().unwrap() as usize, 0).unwrap())
    };
    names.iter().filter(|name| *name != DAMAGED_DIRECTORY).map(read).collect()
}

/// Nonces that nothing on this disk has had: also after a power cut, for operations are counted on through it.
fn fresh_nonces(disk: &Arc<FakeDisk>) -> impl Iterator<Item = Nonce> + use<> {
    let operations = u128::from(disk.counters().operations + 1);
    (0..).map(move |n: u128| (operations << 64 | n).to_le_bytes())
}

/// Zeros over a range of a segment.
pub fn wipe(disk: &Arc<FakeDisk>, number: u64, range: std::ops::Range<u64>) {
    let file = disk.open(&segment(number), OpenMode::ReadWrite).unwrap();
    let zeros = Bytes::from(vec![0; (range.end - range.start) as usize]);
    file.write_vectored_at(&[zeros], range.start).unwrap();
    file.sync_all().unwrap();
}

/// Where the frames of the entries of a segment stand, by `lockstep log inspect`'s means.
pub fn frames(disk: &Arc<FakeDisk>, number: u64) -> Vec<(u64, u64)> {
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

/// The entries that can be read in the log, or in a segment put aside.
pub fn survey_and_aside(twin: &Twin, disk: &Arc<FakeDisk>) -> Vec<u64> {
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
