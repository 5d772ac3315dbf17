//! From files to a log: what survives, what is cut, and what is refused.
//!
//! In order:
//! 1. Look at what is there: segments, leftovers, what lies before a RESTART (`headers`).
//! 2. Check that the headers continue each other; read the vote.
//! 3. Replay from the newest checkpoint that is certainly committed, verifying every frame (`replay`).
//! 4. Judge the first bad frame of the last segment by the highest `synced_index` that any frame of this log
//!    proves, or that is known from elsewhere: at or below it is damage, above it a tear.
//! 5. Cut the tear, write again what no sync is known to cover, sync it and the names; then drop the leftovers.
//!
//! Invariants: nothing read here counts as durable until step 5 is done (after a crash of the process alone the
//! page cache still shows frames that a later power cut would lose), except what the log itself proves: a seal at the
//! very end of the file says that all before it was synced, and frames stand only in files whose names were. Then step 5
//! has nothing to sync. Leftovers void that proof: a cut under way leaves one. Damage found before step 5 changes and
//! deletes nothing; that the oldest segments are missing is judged by the caller, once the log is whole otherwise.
//! Damage inside the last group before an unclean stop, which no seal vouches for, cannot be told from a tear.

mod headers;
mod replay;

use crate::cache::CacheShare;
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, EntryError};
use crate::group::Writer;
use crate::index::{LogIndex, Segment, TermRun, push_term};
use crate::io::{Disk, DiskFile, OpenMode, parent};
use crate::log::{Damage, Log, LogOptions, RecoveryError, Tip};
use crate::reader::{LogReader, Shared, View};
use crate::scan::{ScanError, load_index};
use crate::segment::SegmentHeader;
use crate::tail::Tail;
use crate::vote::{VOTE_FILE_NAME, Vote, VoteFile, read_newest};
use headers::Leftovers;
use lockstep_planted::{self as planted, Bug};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// Bytes written again at a time.
const REWRITE_CHUNK_BYTES: u64 = 1 << 20;

/// What the shard sees of its log while it is recovered: the base once, then every entry after it, in order.
#[derive(Clone, Copy, Debug)]
pub enum Replay<'a> {
    /// The checkpoint to start from.
    Base(&'a Checkpoint),
    /// The next entry, verified.
    Entry(&'a Entry),
}

/// What recovery found and did, for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments kept.
    pub segments: usize,
    /// Leftover files removed.
    pub removed_files: usize,
    /// Entries replayed after the base.
    pub replayed_entries: u64,
    /// The highest index some frame proved synced.
    pub proven_synced_index: u64,
    /// Whether the log ended in a seal: nothing was cut, and it goes on in the same segment.
    pub clean: bool,
    /// Bytes cut off the end, prepared space included.
    pub cut_bytes: u64,
    /// Bytes written and synced again.
    pub rewritten_bytes: u64,
}

/// A recovered log with what the shard starts from.
pub struct Recovered {
    /// The log; all of it is synced.
    pub log: Log,
    /// A handle for readers.
    pub reader: LogReader,
    /// Raft's hard state; `commit` never exceeds the last index.
    pub vote: Vote,
    /// The checkpoint the replay began with.
    pub base: Checkpoint,
    /// What was found and done.
    pub report: RecoveryReport,
    front: Front,
}

/// The oldest segment there is.
struct Front {
    file: String,
    number: u64,
    /// The log never held what is before it.
    restart: bool,
}

impl Front {
    fn of(place: &Directory<'_>, header: &SegmentHeader) -> Self {
        Self { file: place.file(header.number), number: header.number, restart: header.restart }
    }
}

impl Recovered {
    /// Whether the log lacks its oldest files, given that by what is committed it keeps LSNs from `log_start` on: which files
    /// there were is written nowhere, but none goes before all its records have, and that is durable.
    pub fn lost_front(&self, log_start: u64) -> Option<Damage> {
        let oldest = self.log.oldest_checkpoint();
        let is_whole = self.front.restart || oldest.last_lsn < log_start;
        (!is_whole && self.front.number > 1).then(|| Damage {
            file: self.front.file.clone(),
            position: 0,
            index: oldest.index,
            synced_index: oldest.index,
            why: "the segment before it is missing, with records that the log still keeps",
        })
    }
}

impl Log {
    /// Opens the log in `directory`, showing `visit` the base checkpoint and each entry after it. On success all
    /// of the log is durable. An error leaves the files as they are, but for leftovers that were never part of it.
    ///
    /// # Errors
    /// [`RecoveryError`]; on [`RecoveryError::Faulty`] and [`RecoveryError::VoteLost`] the replica must neither
    /// vote nor acknowledge.
    pub fn recover(
        disk: Arc<dyn Disk>,
        directory: &str,
        options: LogOptions,
        visit: &mut dyn FnMut(Replay<'_>),
    ) -> Result<Recovered, RecoveryError> {
        let place = Directory { disk, path: directory, options };
        let (found, leftovers) = headers::find(&place)?;
        let (votes, vote) = place.open_vote()?;
        let mut recovery = Recovery::begin(&place, found, vote, leftovers)?;
        visit(Replay::Base(&recovery.base));
        recovery.replay(visit)?;
        recovery.finish(votes, vote)
    }
}

/// The directory being recovered.
struct Directory<'a> {
    disk: Arc<dyn Disk>,
    path: &'a str,
    options: LogOptions,
}

impl Directory<'_> {
    fn file(&self, number: u64) -> String {
        crate::group::segment_path(self.path, number)
    }

    fn open(&self, number: u64) -> Result<Arc<dyn DiskFile>, RecoveryError> {
        self.disk.open(&self.file(number), OpenMode::ReadWrite).map_err(|error| self.failed(error))
    }

    /// Where a segment ends that `next` is the successor of.
    fn final_bytes(&self, header: &SegmentHeader, next: &SegmentHeader) -> Result<u64, RecoveryError> {
        header.final_bytes(next, || self.open(header.number)?.len().map_err(|error| self.failed(error)))
    }

    fn failed(&self, error: io::Error) -> RecoveryError {
        RecoveryError::Io { directory: self.path.to_owned(), error }
    }

    fn unread(&self, number: u64, holds_end: bool, error: io::Error) -> RecoveryError {
        RecoveryError::Unreadable { file: self.file(number), holds_end, error }
    }

    fn unknown(&self, number: u64, position: u64, error: EntryError) -> RecoveryError {
        RecoveryError::UnknownEntry { file: self.file(number), position, error }
    }

    /// Whether the vote file says that this directory is this shard's, whatever one of its segments says.
    fn has_own_vote(&self) -> bool {
        let file = self.disk.open(&format!("{}/{VOTE_FILE_NAME}", self.path), OpenMode::Read);
        file.and_then(|file| read_newest(&*file, self.options.shard)).is_ok_and(|vote| vote.is_some())
    }

    fn open_vote(&self) -> Result<(VoteFile, Vote), RecoveryError> {
        let file = format!("{}/{VOTE_FILE_NAME}", self.path);
        match VoteFile::open(&*self.disk, &file, self.options.shard) {
            Ok(Some(opened)) => Ok(opened),
            Ok(None) => Err(RecoveryError::VoteLost { file }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RecoveryError::VoteLost { file }),
            // It is there: only what is in it cannot be read.
            Err(error) if self.disk.open(&file, OpenMode::Read).is_ok() => {
                Err(RecoveryError::Unreadable { file, holds_end: false, error })
            }
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// A recovery under way: a log that grows as frames are replayed.
struct Recovery<'a> {
    place: &'a Directory<'a>,
    /// Headers from the base's on.
    headers: Vec<SegmentHeader>,
    base: Checkpoint,
    log: Log,
    report: RecoveryReport,
    leftovers: Leftovers,
    front: Front,
    /// Where the seal begins that ends the log and its file.
    seal: Option<u64>,
    /// Whether that seal was taken at its word, and is to be synced with the first group.
    seal_unsynced: bool,
}

impl<'a> Recovery<'a> {
    /// A log that ends with the base checkpoint.
    fn begin(
        place: &'a Directory<'a>,
        mut headers: Vec<SegmentHeader>,
        vote: Vote,
        leftovers: Leftovers,
    ) -> Result<Self, RecoveryError> {
        // Nothing uncommitted is ever dropped at the front, so the oldest checkpoint is committed.
        let oldest = headers.first().map_or(0, |header| header.checkpoint.index);
        let told = headers.iter().map(|header| header.checkpoint.commit);
        let commit = told.fold(vote.commit.max(oldest), u64::max);
        let committed = headers.iter().rposition(|header| header.checkpoint.index <= commit).unwrap_or(0);
        let segments = headers.len();
        let front = Front::of(place, headers.first().expect("headers::find returns at least one"));
        let later = headers.split_off(committed);
        let base_header = later.first().expect("headers::find returns at least one");
        let base = base_header.checkpoint.clone();
        let first = headers.first().unwrap_or(base_header).checkpoint.clone();
        let (index, terms) = before_base(place, headers, base_header)?;
        let view = View {
            tail: Tail::default(),
            index,
            log_start: first.log_start.max(base.log_start).max(first.last_lsn + 1),
            last_lsn: base.last_lsn,
            synced_index: base.index,
            truncations: 0,
        };
        let log = Log {
            shared: Arc::new(Shared::new(place.disk.clone(), place.path.to_owned(), &place.options, view)),
            options: place.options.clone(),
            cache: CacheShare::new(&place.options.cache),
            tip: Tip::of(&base),
            terms,
            memberships: BTreeMap::new(),
            oldest: Arc::new(first),
            commit,
            synced_index: base.index,
            vote,
            roll_due: false,
            sealed: true,
            seal_wanted: false,
            queue: Vec::new(),
            trimmed: VecDeque::new(),
            queued: crate::GroupStats::default(),
            writer: None,
            in_flight_target: 0,
            failed: None,
        };
        let report = RecoveryReport { segments, ..RecoveryReport::default() };
        let (seal, seal_unsynced) = (None, false);
        Ok(Self { place, headers: later, base, log, report, leftovers, front, seal, seal_unsynced })
    }

    /// Makes what was replayed durable and hands out the log.
    fn finish(mut self, mut votes: VoteFile, vote: Vote) -> Result<Recovered, RecoveryError> {
        let place = self.place;
        let number = self.log.shared.view().index.active().number;
        let active = place.open(number)?;
        self.make_durable(&*active).map_err(|error| place.failed(error))?;
        self.report.removed_files = self.leftovers.remove(place).map_err(|error| place.failed(error))?;

        self.log.commit = self.log.commit.min(self.log.tip.index);
        let vote = Vote { commit: self.log.commit.max(vote.commit.min(self.log.tip.index)), ..vote };
        // One copy may be older than the one that counts, or stand in the page cache alone, and the next vote begins with
        // the other one: only after this write are both durable.
        if !planted::is_active(Bug::TrustVoteOfOneCopy) {
            votes.write(&*place.disk, vote).map_err(|error| place.failed(error))?;
        }
        self.log.vote = vote;
        self.log.synced_index = self.log.tip.index;
        self.log.shared.view().synced_index = self.log.tip.index;
        self.log.roll_due = !self.report.clean;
        self.log.sealed = self.report.clean;
        self.log.writer = Some(Writer {
            disk: place.disk.clone(),
            directory: place.path.to_owned(),
            pool: place.options.pool.clone(),
            segment_bytes: place.options.segment_bytes,
            votes,
            active,
            unsynced: self.seal_unsynced,
        });
        let reader = self.log.reader();
        let Self { base, log, report, front, .. } = self;
        Ok(Recovered { log, reader, vote, base, report, front })
    }

    /// Cuts a tear, writes again what no sync is known to cover, and syncs file and directories.
    fn make_durable(&mut self, active: &dyn DiskFile) -> io::Result<()> {
        let undisturbed = self.leftovers.is_empty() || planted::is_active(Bug::TrustSealDuringCut);
        if let Some(seal) = self.seal.filter(|_| undisturbed && self.place.options.trust_seals) {
            self.seal_unsynced = true;
            return self.write_again(active, seal);
        }
        if !planted::is_active(Bug::ForgetDirectorySyncInRecovery) {
            self.place.disk.sync_dir(self.place.path)?;
            self.place.disk.sync_dir(parent(self.place.path))?;
        }
        let (end, from) = {
            let view = self.log.shared.view();
            let segment = view.index.active();
            // From the last proven entry on: a seal may stand between it and the next, in no sync but the next's.
            let proven = view.index.active_index().for_index(self.report.proven_synced_index);
            (segment.end, proven.map_or(segment.header_bytes, |point| point.position))
        };
        if !self.report.clean {
            self.report.cut_bytes = active.len()?.saturating_sub(end);
            self.leftovers.mark_cut(self.place)?;
            // The length seen may be one that a cut of the last life left unsynced. Were the zeros of this cut durable
            // before it, what the longer file still says would make damage of them (see `cut`).
            if !planted::is_active(Bug::RecoverWithoutSyncing) {
                active.sync_all()?;
            }
            active.set_len(end)?;
        }
        if planted::is_active(Bug::RecoverWithoutSyncing) {
            return Ok(());
        }
        self.write_again(active, from)?;
        active.sync_all()
    }

    /// Writes what stands from `position` to the log's end again: a failed sync of a former life may have left pages that
    /// only look as if they were on the disk.
    fn write_again(&mut self, active: &dyn DiskFile, mut position: u64) -> io::Result<()> {
        let end = self.log.shared.view().index.active().end;
        self.report.rewritten_bytes = end.saturating_sub(position);
        while position < end {
            let bytes = active.read_at((end - position).min(REWRITE_CHUNK_BYTES) as usize, position)?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let written = bytes.len() as u64;
            active.write_vectored_at(&[bytes], position)?;
            position += written;
        }
        Ok(())
    }
}

/// Index and term runs of the segments before the base's, which are not scanned.
fn before_base(
    place: &Directory<'_>,
    earlier: Vec<SegmentHeader>,
    base: &SegmentHeader,
) -> Result<(LogIndex, Vec<TermRun>), RecoveryError> {
    let mut terms = Vec::new();
    let mut sealed = Vec::new();
    let successors: Vec<SegmentHeader> = earlier.iter().skip(1).chain([base]).cloned().collect();
    for (header, next) in earlier.into_iter().zip(&successors) {
        let end = place.final_bytes(&header, next)?;
        let mut segment = Segment::of(header);
        segment.end = end;
        let (before, after) = (segment.checkpoint.clone(), &next.checkpoint);
        if before.index < after.index && before.term == after.term {
            push_term(&mut terms, before.index + 1, before.term);
        } else if before.index < after.index {
            let (file, interval) = (place.open(segment.number)?, place.options.index_interval_bytes);
            let index = load_index(&file, &segment, after.index, interval);
            let index = match index {
                Ok(index) if index.terms().last().is_some_and(|run| run.term == after.term) => index,
                Ok(_) => return Err(place.unreadable(&segment, after, segment.header_bytes)),
                Err(ScanError::Bad { position, .. }) => {
                    return Err(place.unreadable(&segment, after, position));
                }
                Err(ScanError::Unknown { position, error }) => {
                    return Err(place.unknown(segment.number, position, error));
                }
                Err(ScanError::Io(error)) => return Err(place.unread(segment.number, false, error)),
            };
            index.terms().iter().for_each(|run| push_term(&mut terms, run.first_index, run.term));
            segment.index = Some(Arc::new(index));
        }
        sealed.push(segment);
    }
    Ok((LogIndex::with_sealed(sealed, Segment::of(base.clone())), terms))
}

impl Directory<'_> {
    fn unreadable(&self, segment: &Segment, after: &Checkpoint, position: u64) -> RecoveryError {
        RecoveryError::Faulty(Damage {
            file: self.file(segment.number),
            position,
            index: segment.checkpoint.index + 1,
            synced_index: after.index,
            why: "its entries do not reach the next segment's checkpoint",
        })
    }
}
