//! Reading the log from other threads.
//!
//! Invariants: whole batches only, none beyond the LSN the caller says is visible. What comes from disk passed its
//! checksums, continues in index and chain, and lies at or below what was synced when the read began. A segment
//! that was dropped or recycled under a read fails its checksums (its nonce is gone), and the read then says what
//! happened instead of calling it damage.

use crate::entry::{Entry, EntryError};
use crate::envelope::Envelope;
use crate::frame::{FrameType, chain_after};
use crate::group::segment_path;
use crate::index::{LogIndex, Segment, SegmentIndex};
use crate::io::{Disk, DiskFile, OpenMode};
use crate::log::Damage;
use crate::scan::{Cursor, Frame, ScanError, load_index};
use crate::tail::{Slot, Tail};
use bytes::Bytes;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a log shares with its readers.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: String,
    pub(crate) index_interval_bytes: u64,
    view: Mutex<View>,
}

/// The part of a log that readers see.
pub(crate) struct View {
    pub(crate) tail: Tail,
    pub(crate) index: LogIndex,
    pub(crate) log_start: u64,
    pub(crate) last_lsn: u64,
    pub(crate) synced_index: u64,
    /// How often entries were taken back: tells a reader that what it saw may be gone.
    pub(crate) truncations: u64,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: String, index_interval_bytes: u64, view: View) -> Self {
        Self { disk, directory, index_interval_bytes, view: Mutex::new(view) }
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        // A thread that panicked holding it left it whole: every change is a few infallible assignments.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One batch as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBatch {
    /// LSN of its first record.
    pub first_lsn: u64,
    /// How many records.
    pub record_count: u32,
    /// The leader's clock when it appended it, in milliseconds since 1970.
    pub leader_time_ms: i64,
    /// Greatest record timestamp, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// The record batch: the body without its state section.
    pub bytes: Bytes,
}

impl ReadBatch {
    fn new(envelope: Envelope, body: &Bytes) -> Self {
        Self {
            first_lsn: envelope.first_lsn,
            record_count: envelope.record_count,
            leader_time_ms: envelope.leader_time_ms,
            max_timestamp_ms: envelope.max_timestamp_ms,
            bytes: body.slice((envelope.state_length as usize).min(body.len())..),
        }
    }

    /// LSN of its last record.
    pub fn last_lsn(&self) -> u64 {
        self.first_lsn + u64::from(self.record_count) - 1
    }
}

/// What memory has for a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachedRead {
    /// At least one batch.
    Hit(Vec<ReadBatch>),
    /// It is on disk: [`LogReader::read`].
    Miss,
    /// It is gone.
    BelowStart {
        /// The first LSN kept.
        log_start: u64,
    },
    /// Nothing visible there yet.
    AtEnd,
}

/// Why a read from disk has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It was trimmed, or a snapshot replaced it.
    #[error("that part of the log is gone, it starts at LSN {log_start}: read from there")]
    BelowStart {
        /// The first LSN kept.
        log_start: u64,
    },
    /// Nothing visible and synced there yet.
    #[error("nothing there yet: wait for the log to grow")]
    AtEnd,
    /// The log was truncated while it was read.
    #[error("the log was truncated during the read: read again")]
    Superseded,
    /// Stored bytes fail their checksums.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A frame that is whole and of no known format: another version of the broker wrote it.
    #[error("{file} at byte {position}: {error}")]
    UnknownEntry {
        /// The segment.
        file: String,
        /// Where in it, in bytes.
        position: u64,
        /// What is not known.
        error: EntryError,
    },
    /// The disk did not answer.
    #[error("reading {file}: {error}; check the disk")]
    Io {
        /// The segment.
        file: String,
        /// What the disk said.
        error: io::Error,
    },
}

/// Reads one log. Cloning shares it.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The first LSN kept.
    pub fn log_start(&self) -> u64 {
        self.shared.view().log_start
    }

    /// The last LSN appended, committed or not.
    pub fn last_lsn(&self) -> u64 {
        self.shared.view().last_lsn
    }

    /// Batches from the one that holds `from_lsn` on, none with an LSN above `up_to_lsn`, as many as `max_bytes`
    /// allow and at least one. Never touches the disk.
    pub fn cached(&self, from_lsn: u64, max_bytes: usize, up_to_lsn: u64) -> CachedRead {
        let view = self.shared.view();
        if from_lsn < view.log_start {
            return CachedRead::BelowStart { log_start: view.log_start };
        }
        if from_lsn > view.last_lsn.min(up_to_lsn) {
            return CachedRead::AtEnd;
        }
        let Some(slots) = view.tail.holding(from_lsn) else { return CachedRead::Miss };
        let mut taken = Collected::new(max_bytes, up_to_lsn);
        for slot in slots {
            if let (Some(envelope), Some(entry)) = (slot.envelope, slot.entry())
                && !taken.push(envelope, &entry.body)
            {
                break;
            }
        }
        // The batch that holds `from_lsn` may reach above `up_to_lsn`.
        if taken.batches.is_empty() { CachedRead::AtEnd } else { CachedRead::Hit(taken.batches) }
    }

    /// The same from disk. Blocks; verifies every checksum.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, from_lsn: u64, max_bytes: usize, up_to_lsn: u64) -> Result<Vec<ReadBatch>, ReadError> {
        let mut walk = {
            let view = self.shared.view();
            if from_lsn < view.log_start {
                return Err(ReadError::BelowStart { log_start: view.log_start });
            }
            if from_lsn > view.last_lsn.min(up_to_lsn) {
                return Err(ReadError::AtEnd);
            }
            Walk::new(&self.shared, &view, view.index.for_lsn(from_lsn).clone())
        };
        walk.seek(|index| index.for_lsn(from_lsn).map(|point| point.position))?;
        let mut taken = Collected::new(max_bytes, up_to_lsn);
        while let Some(frame) = walk.next()? {
            let Some(envelope) = frame.envelope else { continue };
            let wanted = envelope.first_lsn + u64::from(envelope.record_count) > from_lsn;
            if wanted && !taken.push(envelope, &frame.entry.body) {
                break;
            }
        }
        if taken.batches.is_empty() { Err(ReadError::AtEnd) } else { Ok(taken.batches) }
    }

    /// Entries `low..high` from disk, as many as `max_bytes` of payload allow and at least one; fewer if the rest
    /// is not synced yet. Blocks; verifies every checksum.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_entries(&self, low: u64, high: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let mut walk = {
            let view = self.shared.view();
            if low <= view.index.oldest().checkpoint.index {
                return Err(ReadError::BelowStart { log_start: view.log_start });
            }
            Walk::new(&self.shared, &view, view.index.for_index(low).clone())
        };
        walk.seek(|index| index.for_index(low).map(|point| point.position))?;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(Frame { entry, .. }) = walk.next()? {
            if entry.index < low {
                continue;
            }
            bytes += entry.payload_bytes();
            if entry.index >= high || (bytes > max_bytes && !taken.is_empty()) {
                break;
            }
            taken.push(entry);
        }
        if taken.is_empty() { Err(ReadError::AtEnd) } else { Ok(taken) }
    }

    /// The first batch kept, none with an LSN above `up_to_lsn`, whose greatest timestamp is `timestamp_ms` or
    /// later; the record is in it. May block on the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn lsn_for_time(&self, timestamp_ms: i64, up_to_lsn: u64) -> Result<Option<ReadBatch>, ReadError> {
        let late = |envelope: &Envelope, log_start: u64| {
            let last = envelope.first_lsn + u64::from(envelope.record_count);
            envelope.record_count > 0 && envelope.max_timestamp_ms >= timestamp_ms && last > log_start
        };
        let mut number = self.shared.view().index.oldest().number;
        loop {
            let (log_start, mut walk) = {
                let view = self.shared.view();
                let Some(segment) = view.index.segment(number).cloned() else { break };
                (view.log_start, Walk::new(&self.shared, &view, segment))
            };
            number += 1;
            let index = walk.index()?;
            if index.max_timestamp_ms() < timestamp_ms {
                continue;
            }
            walk.seek(|index| index.for_time(timestamp_ms).map(|point| point.position))?;
            while let Some(frame) = walk.next_in_segment()? {
                if let Some(envelope) = frame.envelope.filter(|envelope| late(envelope, log_start)) {
                    let found = ReadBatch::new(envelope, &frame.entry.body);
                    return Ok(Some(found).filter(|batch| batch.last_lsn() <= up_to_lsn));
                }
            }
        }
        // What is not synced yet is in memory.
        let view = self.shared.view();
        let found = view.tail.slots().find(|slot| slot.envelope.is_some_and(|e| late(&e, view.log_start)));
        Ok(found.and_then(Slot::batch).filter(|batch| batch.last_lsn() <= up_to_lsn))
    }
}

impl Slot {
    fn batch(&self) -> Option<ReadBatch> {
        Some(ReadBatch::new(self.envelope?, &self.entry()?.body))
    }
}

/// Batches for one read, within its limits.
struct Collected {
    batches: Vec<ReadBatch>,
    bytes: usize,
    max_bytes: usize,
    up_to_lsn: u64,
}

impl Collected {
    fn new(max_bytes: usize, up_to_lsn: u64) -> Self {
        Self { batches: Vec::new(), bytes: 0, max_bytes, up_to_lsn }
    }

    /// Takes a batch; `false` once no more fit.
    fn push(&mut self, envelope: Envelope, body: &Bytes) -> bool {
        if envelope.record_count == 0 {
            return true;
        }
        let batch = ReadBatch::new(envelope, body);
        self.bytes += batch.bytes.len();
        let full = self.bytes > self.max_bytes && !self.batches.is_empty();
        if full || batch.last_lsn() > self.up_to_lsn {
            return false;
        }
        self.batches.push(batch);
        true
    }
}

/// A verified walk over the entries on disk, from one segment into the next.
struct Walk<'a> {
    shared: &'a Shared,
    segment: Segment,
    file: Option<Arc<dyn DiskFile>>,
    cursor: Option<Cursor>,
    /// Copied when the walk began: what may be read from disk.
    synced_index: u64,
    truncations: u64,
    /// Index of the active segment, if the walk began in it.
    active_index: Option<SegmentIndex>,
    /// Index and chain value of the entry before.
    last: Option<(u64, u64)>,
}

impl<'a> Walk<'a> {
    fn new(shared: &'a Shared, view: &View, segment: Segment) -> Self {
        let is_active = view.index.active().number == segment.number;
        Self {
            shared,
            active_index: is_active.then(|| view.index.active_index().clone()),
            segment,
            file: None,
            cursor: None,
            synced_index: view.synced_index,
            truncations: view.truncations,
            last: None,
        }
    }

    fn path(&self) -> String {
        segment_path(&self.shared.directory, self.segment.number)
    }

    fn file(&mut self) -> Result<Arc<dyn DiskFile>, ReadError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let opened = self.shared.disk.open(&self.path(), OpenMode::Read);
        let file = opened.map_err(|error| self.explain(ScanError::Io(error)))?;
        Ok(self.file.insert(file).clone())
    }

    /// The segment's sparse index, fetched from its footer on first use.
    fn index(&mut self) -> Result<Arc<SegmentIndex>, ReadError> {
        if let Some(index) = &self.active_index {
            return Ok(Arc::new(index.clone()));
        }
        if let Some(index) = &self.segment.index {
            return Ok(index.clone());
        }
        let file = self.file()?;
        let loaded = load_index(&file, &self.segment, self.shared.index_interval_bytes);
        let index = Arc::new(loaded.map_err(|error| self.explain(error))?);
        self.shared.view().index.set_index(self.segment.number, index.clone());
        self.segment.index = Some(index.clone());
        Ok(index)
    }

    /// Stands the walk at the position `lookup` finds, or at the segment's first frame.
    fn seek(&mut self, lookup: impl Fn(&SegmentIndex) -> Option<u64>) -> Result<(), ReadError> {
        let position = lookup(&*self.index()?).unwrap_or(self.segment.header_bytes);
        let file = self.file()?;
        self.cursor = Some(Cursor::new(file, self.segment.nonce, position, self.segment.end));
        Ok(())
    }

    /// The next entry that was synced when the walk began, in this segment or a later one.
    fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.next_in_segment()? {
                return Ok(Some(frame));
            }
            let last = self.last.map_or(self.segment.checkpoint.index, |(index, _)| index);
            let next = self.shared.view().index.segment(self.segment.number + 1).cloned();
            let Some(next) = next.filter(|_| last < self.synced_index) else { return Ok(None) };
            self.last = Some((next.checkpoint.index, next.checkpoint.chain));
            let position = next.header_bytes;
            self.segment = next;
            self.file = None;
            self.active_index = None;
            let file = self.file()?;
            self.cursor = Some(Cursor::new(file, self.segment.nonce, position, self.segment.end));
        }
    }

    fn next_in_segment(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            let last = self.last.map_or(0, |(index, _)| index);
            let Some(cursor) = self.cursor.as_mut().filter(|_| last < self.synced_index) else {
                return Ok(None);
            };
            let position = cursor.position();
            let frame = match cursor.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.explain(error)),
            };
            if frame.header.frame_type != FrameType::Entry {
                continue;
            }
            if frame.header.index > self.synced_index {
                self.cursor = None;
                return Ok(None);
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
