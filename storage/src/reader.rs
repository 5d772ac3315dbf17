//! Reading the log from other threads.
//!
//! Invariants: whole batches only, none beyond the LSN the caller says is visible. What comes from disk passed its
//! checksums, continues in index and chain, and lies at or below what was synced when the read began. A segment
//! that was dropped or recycled under a read fails its checksums (its nonce is gone), and the read then says what
//! happened instead of calling it damage.

mod entries;
mod files;
mod scrub;
mod time;
mod walk;

pub use entries::ChainedEntry;
use files::FileKey;
pub use files::ReadFiles;
pub use scrub::{ScrubCursor, Scrubbed};

use crate::entry::EntryError;
use crate::envelope::Envelope;
use crate::index::{LogIndex, Segment};
use crate::io::{Disk, DiskFile};
use crate::log::{Damage, LogOptions};
use crate::tail::Tail;
use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use walk::{Target, Walk};

/// Entries looked at in memory before the lock is given to others.
const SLOTS_PER_LOCK: usize = 256;

/// What a log shares with its readers.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: String,
    pub(crate) index_interval_bytes: u64,
    view: Mutex<View>,
    /// Reads of one consumer stay in one segment for long.
    files: Arc<ReadFiles>,
    /// What it is known by there.
    instance: u64,
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
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: String, options: &LogOptions, view: View) -> Self {
        let index_interval_bytes = options.index_interval_bytes;
        let files = Arc::clone(&options.read_files);
        let instance = files.begin();
        Self { disk, directory, index_interval_bytes, view: Mutex::new(view), files, instance }
    }

    /// The open file of `segment`, if it was read lately.
    fn kept_file(&self, segment: &Segment) -> Option<Arc<dyn DiskFile>> {
        self.files.get(self.file_key(segment))
    }

    fn keep_file(&self, segment: &Segment, file: Arc<dyn DiskFile>) {
        self.files.keep(self.file_key(segment), file);
    }

    fn file_key(&self, segment: &Segment) -> FileKey {
        FileKey { instance: self.instance, number: segment.number, nonce: segment.nonce }
    }

    /// Closes what was read, which may be about to be removed.
    pub(crate) fn forget_files(&self) {
        self.files.forget(self.instance);
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        // A thread that panicked holding it left it whole: every change is a few infallible assignments.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.forget_files();
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
        let mut taken = Collected::new(max_bytes, up_to_lsn);
        let (mut next_lsn, mut truncations) = (from_lsn, None);
        loop {
            let view = self.shared.view();
            if *truncations.get_or_insert(view.truncations) != view.truncations {
                break;
            }
            match view.collect(next_lsn, &mut taken) {
                Ok(Some(next)) => next_lsn = next,
                Ok(None) => break,
                Err(answer) if taken.batches.is_empty() => return answer,
                Err(_) => break,
            }
        }
        // The batch that holds `from_lsn` may reach above `up_to_lsn`.
        if taken.batches.is_empty() { CachedRead::AtEnd } else { CachedRead::Hit(taken.batches) }
    }

    /// The same from disk; fewer where the rest would cost one more read of it. Blocks; verifies every checksum.
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
            let segment = view.index.for_lsn(from_lsn);
            Walk::new(&self.shared, &view, segment, Target::Lsn(from_lsn)).wanting(max_bytes)
        };
        walk.seek()?;
        let forgets = planted::is_active(Bug::ReadPastHighWatermarkOnDisk);
        let mut taken = Collected::new(max_bytes, if forgets { u64::MAX } else { up_to_lsn });
        while !taken.is_mostly_full() || walk.is_next_at_hand() {
            let frame = match walk.next() {
                Ok(Some(frame)) => frame,
                Err(error) if taken.batches.is_empty() => return Err(error),
                // What was read before the error is good; the next read meets the error first.
                Ok(None) | Err(_) => break,
            };
            let Some(envelope) = frame.envelope else { continue };
            let wanted = envelope.first_lsn + u64::from(envelope.record_count) > from_lsn;
            if wanted && !taken.push(envelope, &frame.entry.body) {
                break;
            }
        }
        if taken.batches.is_empty() { Err(ReadError::AtEnd) } else { Ok(taken.batches) }
    }
}

impl View {
    /// Collects some batches from memory, few enough for one hold of the lock that appends wait for. Returns the LSN
    /// to go on from, if there may be more to take.
    fn collect(&self, from_lsn: u64, taken: &mut Collected) -> Result<Option<u64>, CachedRead> {
        if from_lsn < self.log_start {
            return Err(CachedRead::BelowStart { log_start: self.log_start });
        }
        if from_lsn > self.last_lsn.min(taken.up_to_lsn) {
            return Err(CachedRead::AtEnd);
        }
        let slots = self.tail.holding(from_lsn).ok_or(CachedRead::Miss)?;
        let mut next_lsn = from_lsn;
        for slot in slots.take(SLOTS_PER_LOCK) {
            if let (Some(envelope), Some(entry)) = (slot.envelope, slot.entry())
                && !taken.push(envelope, &entry.body)
            {
                return Ok(None);
            }
            next_lsn = slot.last_lsn() + 1;
        }
        Ok(Some(next_lsn))
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

    fn is_mostly_full(&self) -> bool {
        !self.batches.is_empty() && self.bytes >= self.max_bytes / 2
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
