//! What leaves the log at its front: trimmed segments, and everything a snapshot replaces.
//!
//! Invariants: segments go whole, oldest first, and none that holds an uncommitted entry. Where the log begins is
//! the leader's decision; this only computes a proposal and carries a decision out.

use super::{Log, RollError, Tip, check_length};
use crate::checkpoint::Checkpoint;
use crate::frame::Nonce;
use crate::group::Step;
use crate::index::{LogIndex, Segment};
use crate::segment::SegmentHeader;
use crate::tail::Tail;
use lockstep_planted::{self as planted, Bug};

impl Log {
    /// The log now starts at `log_start_lsn`, or stays where it does if that is lower. Sealed segments wholly
    /// below that LSN and committed are dropped: at once for readers, on disk a few with each group, and not before the
    /// committed index is durable. So a log that does not reach back to where it starts by what is committed has lost
    /// something, unless it began with a snapshot.
    pub fn trim(&mut self, log_start_lsn: u64) {
        self.trim_to(log_start_lsn, |_| true);
    }

    /// [`Log::trim`], by which the log never comes to begin with a checkpoint that `may_be_first` refuses.
    pub fn trim_to(&mut self, log_start_lsn: u64, may_be_first: impl Fn(&Checkpoint) -> bool) {
        if self.failed.is_some() {
            return;
        }
        let commit = self.commit;
        let mut view = self.shared.view();
        view.log_start = view.log_start.max(log_start_lsn);
        let remove = view.index.trim(|next| {
            let start = &next.checkpoint;
            start.last_lsn < log_start_lsn && start.index <= commit && may_be_first(start)
        });
        if remove.is_empty() {
            return;
        }
        self.oldest = view.index.oldest().checkpoint.clone();
        drop(view);
        self.shared.forget_files();
        self.keep_commit();
        self.trimmed.extend(remove);
        let first = self.first_index();
        let whole_runs = self.terms.partition_point(|run| run.first_index <= first).saturating_sub(1);
        self.terms.drain(..whole_runs);
    }

    /// Replaces the whole log by a snapshot: another replica's oldest checkpoint. `nonce` must be fresh and random.
    ///
    /// # Errors
    /// [`RollError`] if it is behind what is committed, too long, or the log has failed.
    pub fn install(&mut self, checkpoint: Checkpoint, nonce: Nonce) -> Result<(), RollError> {
        self.check_open()?;
        check_length(&checkpoint)?;
        if checkpoint.index < self.commit {
            return Err(RollError::Behind { index: checkpoint.index, commit: self.commit });
        }
        let mut view = self.shared.view();
        let kept = view.index.segments().map(|segment| segment.number);
        let remove = std::mem::take(&mut self.trimmed).into_iter().chain(kept).collect();
        let number = view.index.active().number + 1;
        let shard = self.options.shard;
        let restart = !planted::is_active(Bug::InstallSnapshotWithoutRestart);
        let (repaired, predecessor_bytes) = (false, 0);
        let header = SegmentHeader { restart, repaired, nonce, shard, number, predecessor_bytes, checkpoint };
        self.queued.header_bytes += header.header_bytes();
        self.queue.push(Step::Restart { number, header: header.encode(), remove });

        let segment = Segment::of(header);
        let checkpoint = segment.checkpoint.clone();
        self.tip = Tip::of(&checkpoint);
        view.index = LogIndex::new(segment);
        view.tail = Tail::default();
        view.last_lsn = self.tip.last_lsn;
        view.log_start = view.log_start.max(checkpoint.log_start).max(checkpoint.last_lsn + 1);
        view.truncations += 1;
        // Until the new segment is synced the old log is what a crash leaves, and above its committed index the old
        // log's entries may be others than those the snapshot stands for.
        self.synced_index = self.synced_index.min(self.commit);
        self.in_flight_target = self.in_flight_target.min(self.synced_index);
        view.synced_index = self.synced_index;
        drop(view);
        self.shared.forget_files();

        self.commit = checkpoint.index;
        self.terms.clear();
        self.memberships.clear();
        self.oldest = checkpoint;
        self.roll_due = false;
        self.sealed = true;
        Ok(())
    }

    /// The checkpoint of the oldest segment kept: the shard's snapshot.
    pub fn oldest_checkpoint(&self) -> &Checkpoint {
        &self.oldest
    }

    /// Where the log should start for at most about `max_bytes` (it keeps at least that many) and for records no
    /// older than `oldest_time_ms` of leader time: a new log start LSN, or `None` if nothing can go.
    pub fn retention_point(&self, max_bytes: Option<u64>, oldest_time_ms: Option<i64>) -> Option<u64> {
        let view = self.shared.view();
        let mut bytes = view.index.bytes();
        let mut point = None;
        for (segment, next) in
            view.index.sealed().take_while(|(_, next)| next.checkpoint.index <= self.commit)
        {
            bytes -= segment.end;
            let too_many = max_bytes.is_some_and(|max_bytes| bytes >= max_bytes);
            let too_old = oldest_time_ms.is_some_and(|oldest| next.checkpoint.leader_time_ms < oldest);
            if !too_many && !too_old {
                break;
            }
            point = Some(next.checkpoint.last_lsn + 1);
        }
        point.filter(|lsn| *lsn > view.log_start)
    }

    /// Bytes of the log's segments, headers included, prepared space behind their ends not.
    pub fn log_bytes(&self) -> u64 {
        self.shared.view().index.bytes()
    }

    /// About how many bytes of log stand from entry `index` on.
    pub fn bytes_from(&self, index: u64) -> u64 {
        self.shared.view().index.bytes_from(index, self.tip.index)
    }

    /// The first LSN kept.
    pub fn log_start(&self) -> u64 {
        self.shared.view().log_start
    }
}
