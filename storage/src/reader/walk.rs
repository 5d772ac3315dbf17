//! A verified walk over the entries on disk, from one segment into the next.
//!
//! Invariants: yields only what was synced when it began, so it never meets a frame that is still being written.
//! A segment with a successor is done at the successor's checkpoint, whatever its footer looks like; and the
//! successor is entered only if that checkpoint has the chain value of the entry before.

use super::{ReadError, Shared, View};
use crate::checkpoint::Checkpoint;
use crate::frame::{FrameType, chain_after};
use crate::group::segment_path;
use crate::index::{Point, Segment, SegmentIndex};
use crate::io::{DiskFile, OpenMode};
use crate::log::Damage;
use crate::scan::{Cursor, Frame, READ_AHEAD_BYTES, ScanError, load_index};
use std::sync::Arc;

/// What a walk starts at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// The entry that holds this LSN.
    Lsn(u64),
    /// The entry of this index.
    Index(u64),
    /// The first entry with a timestamp as late as this, in milliseconds since 1970.
    Time(i64),
}

/// Where in its first segment a walk starts.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// What is looked for is not in it.
    Nowhere,
    /// At its first frame.
    First,
    /// At an entry in the middle.
    At(Point),
}

impl Target {
    fn start(self, index: &SegmentIndex) -> Start {
        let point = match self {
            Self::Lsn(lsn) => index.for_lsn(lsn),
            Self::Index(entry) => index.for_index(entry),
            Self::Time(time) if index.max_timestamp_ms() < time => return Start::Nowhere,
            Self::Time(time) => index.for_time(time),
        };
        point.map_or(Start::First, Start::At)
    }
}

pub(super) struct Walk<'a> {
    shared: &'a Shared,
    segment: Segment,
    /// The checkpoint of the segment after it, once there is one.
    successor: Option<Arc<Checkpoint>>,
    target: Target,
    /// How many bytes the caller wants, from the target on.
    wanted_bytes: usize,
    /// Where to start, if memory had the segment's index.
    start: Option<Start>,
    file: Option<Arc<dyn DiskFile>>,
    /// `None` where nothing can be read.
    cursor: Option<Cursor>,
    /// Copied when the walk began: what may be read from disk.
    synced_index: u64,
    truncations: u64,
    /// Index and chain value of the entry before; `None` at a start in the middle.
    last: Option<(u64, u64)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(shared: &'a Shared, view: &View, segment: &Segment, target: Target) -> Self {
        let is_active = view.index.active().number == segment.number;
        let index = if is_active { Some(view.index.active_index()) } else { segment.index.as_deref() };
        Self {
            shared,
            successor: successor(view, segment.number),
            target,
            wanted_bytes: READ_AHEAD_BYTES,
            start: index.map(|index| target.start(index)),
            segment: segment.clone(),
            file: None,
            cursor: None,
            synced_index: view.synced_index,
            truncations: view.truncations,
            last: None,
        }
    }

    /// The same walk, ending before entry `index`.
    pub(super) fn below(self, index: u64) -> Self {
        Self { synced_index: self.synced_index.min(index.saturating_sub(1)), ..self }
    }

    /// The same walk, for a caller that wants about so many bytes.
    pub(super) fn wanting(self, bytes: usize) -> Self {
        Self { wanted_bytes: bytes, ..self }
    }

    fn path(&self) -> String {
        segment_path(&self.shared.directory, self.segment.number)
    }

    fn file(&mut self) -> Result<Arc<dyn DiskFile>, ReadError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = match self.shared.kept_file(&self.segment) {
            Some(file) => file,
            None => {
                let opened = self.shared.disk.open(&self.path(), OpenMode::Read);
                let opened = opened.map_err(|error| self.explain(ScanError::Io(error)))?;
                self.shared.keep_file(&self.segment, opened.clone());
                opened
            }
        };
        Ok(self.file.insert(file).clone())
    }

    /// The sparse index of a sealed segment, fetched from its footer on first use.
    fn load_index(&mut self) -> Result<Arc<SegmentIndex>, ReadError> {
        let file = self.file()?;
        let last_index = self.successor.as_ref().map_or(u64::MAX, |next| next.index);
        let loaded = load_index(&file, &self.segment, last_index, self.shared.index_interval_bytes);
        let index = Arc::new(loaded.map_err(|error| self.explain(error))?);
        self.shared.view().index.set_index(self.segment.number, index.clone());
        Ok(index)
    }

    /// Stands the walk at its target; nowhere if nothing from there on was synced when it began.
    pub(super) fn seek(&mut self) -> Result<(), ReadError> {
        if self.segment.checkpoint.index >= self.synced_index {
            return Ok(());
        }
        let start = match self.start {
            Some(start) => start,
            None => self.target.start(&*self.load_index()?),
        };
        match start {
            Start::Nowhere => Ok(()),
            Start::First => self.enter(),
            Start::At(point) if point.index > self.synced_index => Ok(()),
            Start::At(point) => self.stand_at(point.position),
        }
    }

    /// Stands the walk at the segment's first frame.
    fn enter(&mut self) -> Result<(), ReadError> {
        self.last = Some((self.segment.checkpoint.index, self.segment.checkpoint.chain));
        self.stand_at(self.segment.header_bytes)
    }

    fn stand_at(&mut self, position: u64) -> Result<(), ReadError> {
        let file = self.file()?;
        // From a point of the index the target may still be an interval away.
        let interval = usize::try_from(self.shared.index_interval_bytes).unwrap_or(usize::MAX);
        let wanted = self.wanted_bytes.saturating_add(interval);
        let cursor = Cursor::new(file, self.segment.nonce, position, self.segment.end);
        self.cursor = Some(cursor.wanting(wanted));
        Ok(())
    }

    /// Whether the next entry of this segment costs no read of the disk. Whoever has most of what it wants leaves one that
    /// does to its next read: of large entries that would be every other one, read to be thrown away.
    pub(super) fn is_next_at_hand(&self) -> bool {
        self.cursor.as_ref().is_none_or(Cursor::is_next_at_hand)
    }

    /// The next entry that was synced when the walk began, in this segment or a later one.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.next_in_segment()? {
                return Ok(Some(frame));
            }
            let Some(last) = self.last.filter(|(index, _)| *index < self.synced_index) else {
                return Ok(None);
            };
            self.cross(last)?;
        }
    }

    /// Goes on in the next segment, if it continues what was read.
    fn cross(&mut self, last: (u64, u64)) -> Result<(), ReadError> {
        let number = self.segment.number + 1;
        let (next, successor) = {
            let view = self.shared.view();
            (view.index.segment(number).cloned(), successor(&view, number))
        };
        let Some(next) = next.filter(|next| (next.checkpoint.index, next.checkpoint.chain) == last) else {
            let why = "its entries do not reach the next segment's checkpoint";
            return Err(self.explain(ScanError::Bad { position: self.segment.end, why }));
        };
        (self.segment, self.successor) = (next, successor);
        self.file = None;
        self.enter()
    }

    /// The next entry of this segment that was synced when the walk began.
    pub(super) fn next_in_segment(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            let end = self.successor.as_ref().map_or(u64::MAX, |next| next.index).min(self.synced_index);
            let done = self.last.is_some_and(|(index, _)| index >= end);
            let Some(cursor) = self.cursor.as_mut().filter(|_| !done) else { return Ok(None) };
            let position = cursor.position();
            let frame = match cursor.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.explain(error)),
            };
            if frame.header.frame_type != FrameType::Entry {
                continue;
            }
            let continues = self.last.is_none_or(|(index, chain)| {
                frame.entry.index == index + 1 && frame.header.chain == chain_after(chain, &frame.entry)
            });
            if !continues {
                return Err(self.explain(ScanError::Bad { position, why: "it does not continue the log" }));
            }
            self.last = Some((frame.entry.index, frame.header.chain));
            return Ok(Some(frame));
        }
    }

    /// Tells damage from a log that changed under the walk.
    fn explain(&self, error: ScanError) -> ReadError {
        let view = self.shared.view();
        let segment = view.index.segment(self.segment.number);
        if self.segment.number < view.index.oldest().number {
            return ReadError::BelowStart { log_start: view.log_start };
        }
        if view.truncations != self.truncations || segment.is_none_or(|now| now.nonce != self.segment.nonce) {
            return ReadError::Superseded;
        }
        let file = self.path();
        let index = self.last.map_or(self.segment.checkpoint.index, |(index, _)| index) + 1;
        match error {
            ScanError::Io(error) => ReadError::Io { file, error },
            ScanError::Bad { position, why } => {
                ReadError::Damaged(Damage { file, position, index, synced_index: self.synced_index, why })
            }
            ScanError::Unknown { position, error } => ReadError::UnknownEntry { file, position, error },
        }
    }
}

fn successor(view: &View, number: u64) -> Option<Arc<Checkpoint>> {
    view.index.segment(number + 1).map(|next| next.checkpoint.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Disk, FakeDisk};
    use crate::{Entry, EntryKind, Log, LogOptions, RollState};
    use bytes::Bytes;

    /// A log whose entries 1..=3 and 4..=6 stand in two segments.
    fn two_segments() -> Log {
        let disk = FakeDisk::new();
        let options = LogOptions { index_interval_bytes: 1, ..LogOptions::default() };
        Log::create(disk.clone(), "log", &options, Checkpoint::default(), [1; 16]).unwrap();
        let mut log = Log::recover(disk as Arc<dyn Disk>, "log", options, &mut |_| ()).unwrap().log;
        append(&mut log, 1, 3);
        log.roll(RollState::default(), [2; 16]).unwrap();
        append(&mut log, 1, 3);
        log
    }

    fn append(log: &mut Log, term: u64, entries: u64) {
        for _ in 0..entries {
            let (envelope, body) = (Bytes::new(), Bytes::from_static(b"system"));
            let index = log.last_index() + 1;
            log.append(Entry { index, term, kind: EntryKind::Normal, envelope, body }).unwrap();
        }
        let outcome = log.take_group().unwrap().run();
        log.group_done(outcome).unwrap();
    }

    fn walk<'a>(shared: &'a Shared, from: u64) -> Walk<'a> {
        let view = shared.view();
        let mut walk = Walk::new(shared, &view, view.index.for_index(from), Target::Index(from));
        drop(view);
        walk.seek().unwrap();
        walk
    }

    #[test]
    fn a_walk_crosses_into_the_next_segment() {
        let shared = two_segments().shared;
        let mut walk = walk(&shared, 2);
        let indexes: Vec<u64> = std::iter::from_fn(|| walk.next().unwrap()).map(|f| f.entry.index).collect();
        assert_eq!(indexes, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_segment_that_replaced_what_was_read_is_not_entered() {
        let mut log = two_segments();
        let shared = log.shared.clone();
        let mut walk = walk(&shared, 1);
        (1..=3).for_each(|index| assert_eq!(walk.next().unwrap().unwrap().entry.index, index));
        log.truncate(3).unwrap();
        log.roll(RollState::default(), [3; 16]).unwrap();
        append(&mut log, 2, 4);
        assert!(matches!(walk.next(), Err(ReadError::Superseded)));
    }
}
