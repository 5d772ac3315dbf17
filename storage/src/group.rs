//! What a log has queued for the disk, and the doing of it.
//!
//! Invariants:
//! - Steps run in the order they were queued, on one thread, one group of a log at a time.
//! - In the normal case a group is one vectored write and one `fdatasync`.
//! - A new segment gets its name only after its predecessor and its own header are synced, and its first frame
//!   only after that name is. So a group that spans both never leaves the old one torn and the new one whole.
//! - Whatever fails ends the group, and the log with it: nothing is retried.

use crate::cut;
use crate::io::{Disk, DiskFile, OpenMode};
use crate::pool::{POOL_DIRECTORY, SegmentPool};
use crate::segment;
use crate::vote::{VOTE_FILE_BYTES, Vote, VoteFile};
use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use std::io;
use std::sync::Arc;

/// A write or a sync failed. Final for this log: what is on disk is known again only after recovery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} in {directory} failed: {message}; check disk space and health, then restart to recover")]
pub struct LogFailed {
    /// What was being done.
    pub operation: &'static str,
    /// The log's directory.
    pub directory: String,
    /// The operating system's kind of error.
    pub kind: io::ErrorKind,
    /// Its words.
    pub message: String,
}

/// One queued disk operation.
#[derive(Debug)]
pub(crate) enum Step {
    /// Frames at the end of the active segment.
    Write { position: u64, buffers: Vec<Bytes> },
    /// Footer behind the active segment, then a new active segment.
    Roll { footer_position: u64, footer: Bytes, number: u64, header: Bytes },
    /// Segments removed newest first, then segment `number` cut to `length` and active again.
    Truncate { remove: Vec<u64>, number: u64, length: u64 },
    /// A new term and vote.
    Vote(Vote),
    /// A new active segment that voids all before it.
    Restart { number: u64, header: Bytes, remove: Vec<u64> },
}

/// What a group did, for metrics. Durations are the caller's to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Entries written.
    pub entries: u64,
    /// Bytes of frames written: local headers, envelopes and bodies, seals and footers.
    pub frame_bytes: u64,
    /// Bytes of bodies among them.
    pub record_bytes: u64,
    /// Bytes of segment headers and votes.
    pub header_bytes: u64,
    /// Calls of `fsync` or `fdatasync` on files and directories.
    pub syncs: u64,
    /// New segments that took a recycled or prepared file.
    pub recycled: u64,
}

/// The one thing that writes to a log's files. It travels: in the log between groups, in the group while it runs.
pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: String,
    pub(crate) pool: Option<Arc<SegmentPool>>,
    pub(crate) segment_bytes: u64,
    pub(crate) votes: VoteFile,
    pub(crate) active: Arc<dyn DiskFile>,
    /// Whether recovery wrote to the active segment what no sync covers: a seal. The first group does.
    pub(crate) unsynced: bool,
}

/// Queued operations on their way to a sync worker. Dropping one instead of running it leaves the log waiting.
#[must_use = "the log waits for this group's outcome"]
pub struct WriteGroup {
    pub(crate) writer: Writer,
    pub(crate) steps: Vec<Step>,
    /// Segments dropped from the front when all else is synced, oldest first; few, for the outcome waits for them.
    pub(crate) trim: Vec<u64>,
    pub(crate) stats: GroupStats,
}

/// What became of a [`WriteGroup`]; hand it to [`Log::group_done`](crate::Log::group_done).
#[must_use = "the log waits for it"]
pub struct GroupOutcome {
    pub(crate) result: Result<Writer, LogFailed>,
    /// What was done, as far as it got.
    pub stats: GroupStats,
}

impl GroupOutcome {
    /// Whether all of it is durable.
    pub fn is_ok(&self) -> bool {
        self.result.is_ok()
    }
}

impl WriteGroup {
    /// Does it: blocking, in order, at most one sync at the end in the normal case. Never panics.
    pub fn run(self) -> GroupOutcome {
        let mut writer = self.writer;
        let unsynced = std::mem::take(&mut writer.unsynced);
        let mut run = Run { writer, stats: self.stats, unsynced };
        let mut steps = self.steps.into_iter();
        let synced = steps.try_for_each(|step| run.step(step)).and_then(|()| run.finish());
        let outcome = synced.and_then(|()| named("dropping old segments", run.remove(&self.trim)));
        let Run { writer, stats, .. } = run;
        match outcome {
            Ok(()) => GroupOutcome { result: Ok(writer), stats },
            Err(_) if planted::is_active(Bug::IgnoreFailedGroup) => {
                GroupOutcome { result: Ok(writer), stats }
            }
            Err((operation, error)) => {
                let (kind, message) = (error.kind(), error.to_string());
                let failed = LogFailed { operation, directory: writer.directory, kind, message };
                GroupOutcome { result: Err(failed), stats }
            }
        }
    }
}

/// An operation's name with its error.
type StepResult = Result<(), (&'static str, io::Error)>;

struct Run {
    writer: Writer,
    stats: GroupStats,
    /// Whether the active segment has writes that no sync covers.
    unsynced: bool,
}

impl Run {
    fn step(&mut self, step: Step) -> StepResult {
        match step {
            Step::Write { position, buffers } => {
                self.unsynced = true;
                named("writing frames", self.writer.active.write_vectored_at(&buffers, position))
            }
            Step::Roll { footer_position, footer, number, header } => {
                let footer_written = self.writer.active.write_vectored_at(&[footer], footer_position);
                named("writing a segment's footer", footer_written)?;
                self.unsynced = !planted::is_active(Bug::RollWithoutSyncingPredecessor);
                self.finish()?;
                named("creating a segment", self.create_segment(number, header))
            }
            Step::Truncate { remove, number, length } => {
                named("truncating the log", self.truncate(&remove, number, length))
            }
            Step::Vote(vote) => {
                self.stats.syncs += 2;
                self.stats.header_bytes += VOTE_FILE_BYTES;
                let Writer { disk, votes, .. } = &mut self.writer;
                named("writing the vote", votes.write(&**disk, vote))
            }
            Step::Restart { number, header, remove } => {
                self.finish()?;
                named("creating a segment for a snapshot", self.create_segment(number, header))?;
                named("dropping segments before a snapshot", self.remove(&remove))
            }
        }
    }

    fn finish(&mut self) -> StepResult {
        if std::mem::take(&mut self.unsynced) && !planted::is_active(Bug::SkipSync) {
            self.stats.syncs += 1;
            let mut synced = self.writer.active.sync_data();
            if synced.is_err() && planted::is_active(Bug::RetryFailedSync) {
                synced = self.writer.active.sync_data();
            }
            named("syncing frames", synced)?;
        }
        Ok(())
    }

    fn create_segment(&mut self, number: u64, header: Bytes) -> io::Result<()> {
        let Writer { disk, directory, pool, .. } = &self.writer;
        let temporary = format!("{directory}/{}", segment::temporary_name(number));
        let recycled = match pool {
            Some(pool) => pool.take(&temporary)?,
            None => false,
        };
        let mode = if recycled { OpenMode::ReadWrite } else { OpenMode::CreateNew };
        let file = disk.open(&temporary, mode)?;
        file.write_vectored_at(&[header], 0)?;
        if !planted::is_active(Bug::NameSegmentBeforeHeaderSync) {
            file.sync_all()?;
        }
        disk.rename(&temporary, &segment_path(directory, number))?;
        if !planted::is_active(Bug::ForgetDirectorySyncAfterRoll) {
            disk.sync_dir(directory)?;
        }
        if recycled {
            disk.sync_dir(POOL_DIRECTORY)?;
            self.stats.recycled += 1;
        }
        self.stats.syncs += 2 + u64::from(recycled);
        self.writer.active = file;
        Ok(())
    }

    fn truncate(&mut self, remove: &[u64], number: u64, length: u64) -> io::Result<()> {
        self.remove(remove)?;
        let path = segment_path(&self.writer.directory, number);
        let file = self.writer.disk.open(&path, OpenMode::ReadWrite)?;
        if planted::is_active(Bug::TruncateWithoutSync) {
            file.set_len(length)?;
        } else {
            let Writer { disk, directory, .. } = &self.writer;
            cut::mark(&**disk, directory)?;
            self.stats.syncs += cut::cut(&*file, length)? + 1;
            cut::unmark(&**disk, directory)?;
        }
        if planted::is_active(Bug::LoseVoteAtTruncation) {
            let Writer { disk, votes, .. } = &mut self.writer;
            votes.write(&**disk, Vote::default())?;
        }
        self.writer.active = file;
        self.unsynced = false;
        Ok(())
    }

    /// Removes segments in the order given, each durably before the next, so that no hole can appear.
    fn remove(&mut self, numbers: &[u64]) -> io::Result<()> {
        let Writer { disk, directory, pool, segment_bytes, .. } = &self.writer;
        let pool = pool.as_deref().map(|pool| (pool, *segment_bytes));
        for number in numbers {
            self.stats.syncs += 1;
            remove_segment(&**disk, directory, pool, *number)?;
        }
        Ok(())
    }
}

/// Removes one segment durably, or gives its file to the pool of segments of so many bytes.
pub(crate) fn remove_segment(
    disk: &dyn Disk,
    directory: &str,
    pool: Option<(&SegmentPool, u64)>,
    number: u64,
) -> io::Result<()> {
    let path = segment_path(directory, number);
    match pool {
        Some((pool, segment_bytes)) => pool.give(&path, segment_bytes),
        None => {
            disk.remove_file(&path)?;
            if planted::is_active(Bug::ForgetDirectorySyncAfterRemoval) {
                return Ok(());
            }
            disk.sync_dir(directory)
        }
    }
}

pub(crate) fn segment_path(directory: &str, number: u64) -> String {
    format!("{directory}/{}", segment::file_name(number))
}

fn named(operation: &'static str, result: io::Result<()>) -> StepResult {
    result.map_err(|error| (operation, error))
}
