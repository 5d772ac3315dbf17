//! The log of one shard: for Raft and for the data alike.
//!
//! A shard owns a [`Log`] and calls it on one thread. All that changes it happens in memory at once and queues
//! disk operations; the host's duties are then, in this order:
//!
//! 1. [`Log::take_group`] whenever [`Log::has_pending`] and no group is in flight.
//! 2. [`WriteGroup::run`](crate::WriteGroup::run) on a thread that may block; one group of a log at a time.
//! 3. [`Log::group_done`] with its outcome. Only now does [`Log::synced_index`] advance, and only through it may
//!    an entry be acknowledged or counted.
//!
//! Invariants:
//! - Indexes are consecutive, terms never decrease, LSNs are exactly 1..n.
//! - `synced_index` never exceeds what a sync of this process covered and no truncation has taken back.
//! - Nothing at or below the committed index is truncated.
//! - After a truncation, and after a recovery that did not end in a clean seal, the log goes on in a new segment:
//!   synced bytes are never overwritten with other bytes while their segment lives.
//! - A failed write or sync latches: the log then only reads.

mod create;
mod errors;
mod lookup;
mod options;
mod retention;

pub use errors::{
    AppendError, CheckpointTooLong, CreateError, Damage, EntriesError, RecoveryError, RollError,
    TruncateError,
};
pub use options::{LogOptions, RollState};

use crate::cache::CacheShare;
use crate::checkpoint::{Checkpoint, MAX_CHECKPOINT_BYTES};
use crate::entry::{Entry, EntryKind};
use crate::frame::{
    self, FRAME_HEADER_BYTES, FrameHeader, FrameType, Nonce, Place, chain_after, entry_frame_bytes,
    entry_header,
};
use crate::group::{GroupOutcome, GroupStats, LogFailed, Step, WriteGroup, Writer};
use crate::index::{Noted, Point, Segment, TermRun, push_term, truncate_terms};
use crate::reader::{LogReader, Shared, View};
use crate::segment::SegmentHeader;
use crate::tail::{Slot, SlotPlace};
use crate::vote::Vote;
use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, MutexGuard};

/// Segments one group removes at most: each costs syncs of directories, and entries behind them wait.
const TRIM_SEGMENTS_PER_GROUP: usize = 2;

/// The last entry, and what follows from all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    /// Its Raft index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The last LSN given out through it.
    pub last_lsn: u64,
    /// Chain value through it.
    pub chain: u64,
}

impl Tip {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { index, term, last_lsn, chain, .. } = *checkpoint;
        Self { index, term, last_lsn, chain }
    }
}

/// What is synced when a group is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The highest index that is durable here.
    pub index: u64,
    /// What the group did.
    pub stats: GroupStats,
}

/// One shard's log. See the module for the host's duties.
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: LogOptions,
    pub(crate) cache: CacheShare,
    pub(crate) tip: Tip,
    pub(crate) terms: Vec<TermRun>,
    /// Membership entries that Raft may still ask for: those since the last roll, and those not applied by then.
    pub(crate) memberships: BTreeMap<u64, Entry>,
    pub(crate) oldest: Arc<Checkpoint>,
    pub(crate) commit: u64,
    pub(crate) synced_index: u64,
    pub(crate) vote: Vote,
    /// The next entry must go to a new segment.
    pub(crate) roll_due: bool,
    /// Nothing was written since the last seal.
    pub(crate) sealed: bool,
    /// A seal was asked for and waits until all else is synced.
    pub(crate) seal_wanted: bool,
    pub(crate) queue: Vec<Step>,
    /// Segments that left the log at its front and are still on disk, oldest first.
    pub(crate) trimmed: VecDeque<u64>,
    pub(crate) queued: GroupStats,
    /// `None` while a group is in flight, and for ever once one has failed.
    pub(crate) writer: Option<Writer>,
    /// The last entry the group in flight makes durable; a truncation lowers it.
    pub(crate) in_flight_target: u64,
    pub(crate) failed: Option<LogFailed>,
}

impl Log {
    /// Appends one entry: readable at once, durable when a group says so. The body's checksum is not computed
    /// here; [`Entry::verify`] does that for what comes from outside.
    ///
    /// # Errors
    /// [`AppendError`] if it does not continue the log, or the log cannot take it.
    pub fn append(&mut self, entry: Entry) -> Result<(), AppendError> {
        self.check_open()?;
        if self.roll_due {
            return Err(AppendError::RollFirst);
        }
        if entry.index != self.tip.index + 1 {
            return Err(AppendError::Index { expected: self.tip.index + 1, found: entry.index });
        }
        if entry.term < self.tip.term {
            return Err(AppendError::Term { last: self.tip.term, found: entry.term });
        }
        let envelope = entry.check_shape()?;
        let (expected, found) =
            (self.next_lsn(), envelope.map_or(self.next_lsn(), |envelope| envelope.first_lsn));
        if found != expected {
            return Err(AppendError::Lsn { expected, found });
        }

        let chain = chain_after(self.tip.chain, &entry);
        let place = self.place();
        let marks_all = planted::is_active(Bug::MarkAllBeforeSynced);
        let synced_index = if marks_all { entry.index - 1 } else { self.synced_index };
        let header = entry_header(&entry, place, synced_index, chain);
        self.queued.entries += 1;
        self.queued.record_bytes += entry.body.len() as u64;
        self.queue_frame(place.position, [header, entry.envelope.clone(), entry.body.clone()]);
        self.sealed = false;
        self.admit(entry, envelope, place.position, chain);
        self.evict();
        Ok(())
    }

    /// Takes an entry that stands at `position` of the active segment into memory.
    pub(crate) fn admit(
        &mut self,
        entry: Entry,
        envelope: Option<crate::Envelope>,
        position: u64,
        chain: u64,
    ) {
        let interval = self.options.index_interval_bytes;
        let before = self.tip;
        let mut view = self.shared.view();
        let segment = view.index.active().number;
        let place = SlotPlace {
            last_lsn_before: before.last_lsn,
            chain_before: before.chain,
            chain,
            segment,
            position,
        };
        let slot = Slot::new(&entry, envelope, place);
        let noted = Noted {
            point: Point {
                first_lsn: before.last_lsn + 1,
                index: entry.index,
                position,
                max_before_ms: i64::MIN,
            },
            term: entry.term,
            max_timestamp_ms: envelope.filter(|e| e.record_count > 0).map(|e| e.max_timestamp_ms),
        };
        self.tip = Tip { index: entry.index, term: entry.term, last_lsn: slot.last_lsn(), chain };
        view.index.note(&noted, interval);
        view.index.set_end(position + entry_frame_bytes(&entry));
        view.tail.push(slot);
        view.last_lsn = self.tip.last_lsn;
        drop(view);

        push_term(&mut self.terms, entry.index, entry.term);
        if entry.kind != EntryKind::Normal {
            self.memberships.insert(entry.index, entry);
        }
    }

    /// Removes entries from `from` on. [`needs_roll`](Self::needs_roll) is true afterwards.
    ///
    /// # Errors
    /// [`TruncateError`] at or below the committed index, or beyond the end.
    pub fn truncate(&mut self, from: u64) -> Result<(), TruncateError> {
        self.check_open()?;
        if from <= self.commit {
            return Err(TruncateError::BelowCommit { from, commit: self.commit });
        }
        let mut view = self.shared.view();
        let Some(slot) = view.tail.get(from).cloned() else {
            return Err(TruncateError::BeyondEnd { from, last: self.tip.index });
        };
        let remove = view.index.truncate(slot.segment, slot.position, from);
        if !planted::is_active(Bug::KeepTailAtTruncation) {
            view.tail.truncate(from);
        }
        view.last_lsn = slot.last_lsn_before;
        view.truncations += 1;
        if !planted::is_active(Bug::KeepSyncMarkAtTruncation) {
            self.synced_index = self.synced_index.min(from - 1);
        }
        view.synced_index = self.synced_index;
        drop(view);
        self.shared.forget_files();

        if !planted::is_active(Bug::KeepTermsAtTruncation) {
            truncate_terms(&mut self.terms, from);
        }
        self.memberships.split_off(&from);
        let term = self.term(from - 1).unwrap_or(self.oldest.term);
        self.tip = Tip { index: from - 1, term, last_lsn: slot.last_lsn_before, chain: slot.chain_before };
        if !planted::is_active(Bug::KeepSyncMarkAtTruncation) {
            self.in_flight_target = self.in_flight_target.min(from - 1);
        }
        if !planted::is_active(Bug::ForgetToTruncate) {
            self.queue.push(Step::Truncate { remove, number: slot.segment, length: slot.position });
        }
        self.roll_due = !planted::is_active(Bug::TruncateWithoutSync);
        self.sealed = false;
        Ok(())
    }

    /// Whether an entry with this much envelope and body must go to a new segment.
    pub fn needs_roll(&self, next_entry_bytes: usize) -> bool {
        let view = self.view();
        let active = view.index.active();
        let full = active.end + (FRAME_HEADER_BYTES + next_entry_bytes) as u64 > self.options.segment_bytes;
        self.roll_due || (full && self.tip.index > active.checkpoint.index)
    }

    /// Whether any entry must go to a new segment, however much room this one has: after a truncation, and after a
    /// recovery that did not end in a clean seal.
    pub fn must_roll(&self) -> bool {
        self.roll_due
    }

    /// Completes the active segment and begins a new one, whose checkpoint stands at the last entry. `nonce` must
    /// be fresh and random. Not between a membership entry's append and its apply, unless the log
    /// [must roll](Self::must_roll); an entry above `state.membership_index` is then kept.
    ///
    /// # Errors
    /// [`RollError`] if the checkpoint is too long or the log has failed.
    pub fn roll(&mut self, state: RollState, nonce: Nonce) -> Result<(), RollError> {
        self.check_open()?;
        let checkpoint = Checkpoint {
            index: self.tip.index,
            term: self.tip.term,
            last_lsn: self.tip.last_lsn,
            chain: self.tip.chain,
            commit: self.commit,
            log_start: state.log_start,
            leader_time_ms: state.leader_time_ms,
            membership_index: state.membership_index,
            membership: state.membership,
            state: state.state,
        };
        check_length(&checkpoint)?;
        let place = self.place();
        let footer_body = self.view().index.active_index().encode(place.position);
        let footer = self.marker(FrameType::Footer, place, footer_body);
        let number = self.view().index.active().number + 1;
        let unapplied = self.memberships.split_off(&(checkpoint.membership_index + 1));
        let predecessor_bytes = place.position + footer.len() as u64;
        let shard = self.options.shard;
        let header = SegmentHeader {
            restart: false,
            repaired: false,
            nonce,
            shard,
            number,
            predecessor_bytes,
            checkpoint,
        };
        self.queued.frame_bytes += footer.len() as u64;
        self.queued.header_bytes += header.header_bytes();
        self.queue.push(Step::Roll {
            footer_position: place.position,
            footer,
            number,
            header: header.encode(),
        });

        let mut view = self.shared.view();
        view.index.set_end(predecessor_bytes);
        view.index.roll(Segment::of(header));
        drop(view);
        self.memberships = unapplied;
        self.roll_due = false;
        self.sealed = true;
        Ok(())
    }

    /// The committed index is now `index`, or stays if that is lower.
    pub fn set_commit(&mut self, index: u64) {
        self.commit = self.commit.max(index.min(self.tip.index));
        self.evict();
    }

    /// The committed index as told, never beyond the last entry.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Replaces term and vote; durable with the next group, before any entry queued after it.
    pub fn set_vote(&mut self, vote: Vote) {
        self.vote = vote;
        match self.queue.iter_mut().find(|step| matches!(step, Step::Vote(_))) {
            // The committed index stays the older one: a newer may speak of entries queued behind this step.
            Some(Step::Vote(queued)) => {
                self.vote.commit = queued.commit;
                *queued = self.vote;
            }
            _ => self.queue.push(Step::Vote(vote)),
        }
    }

    /// Makes the committed index durable with the next group, beside term and vote, as far as it speaks of synced entries.
    fn keep_commit(&mut self) {
        let commit = self.commit.min(self.synced_index);
        if commit <= self.vote.commit {
            return;
        }
        self.vote.commit = commit;
        match self.queue.iter_mut().find(|step| matches!(step, Step::Vote(_))) {
            Some(Step::Vote(queued)) => queued.commit = commit,
            _ => self.queue.push(Step::Vote(self.vote)),
        }
    }

    /// Term and vote as last set, with the committed index that is, or becomes, durable beside them.
    pub fn vote(&self) -> Vote {
        self.vote
    }

    /// Queues a seal, which vouches for all before it: when the log goes idle, and before a clean stop. While
    /// something is not synced it waits, and [`group_done`](Self::group_done) queues it behind the last group. None
    /// is written if nothing was since the last one, nor where the log [must roll](Self::must_roll) first.
    pub fn seal(&mut self) {
        self.seal_wanted = true;
        self.seal_if_idle();
    }

    fn seal_if_idle(&mut self) {
        self.seal_wanted &= !self.sealed;
        let idle = self.queue.is_empty() && self.writer.is_some() && self.synced_index == self.tip.index;
        let idle = idle || planted::is_active(Bug::SealBeforeSync);
        if !idle || self.roll_due || !self.seal_wanted {
            return;
        }
        let place = self.place();
        let seal = self.marker(FrameType::Seal, place, Bytes::copy_from_slice(&self.commit.to_le_bytes()));
        self.shared.view().index.set_end(place.position + seal.len() as u64);
        self.queue_frame(place.position, [seal, Bytes::new(), Bytes::new()]);
        self.sealed = true;
        self.seal_wanted = false;
        self.keep_cached(self.options.cache.resting_bytes(), self.synced_index);
    }

    /// Whether nothing is left to write, not even a seal.
    pub fn is_settled(&self) -> bool {
        (self.sealed || self.roll_due) && !self.has_pending() && !self.in_flight()
    }

    /// Whether something is queued that can be written now.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty() && !self.in_flight()
    }

    /// What is queued, for a thread that may block. `None` if nothing is, or a group is in flight already.
    pub fn take_group(&mut self) -> Option<WriteGroup> {
        if !self.has_pending() {
            return None;
        }
        let writer = self.writer.take()?;
        self.in_flight_target = self.tip.index;
        let (steps, stats) = (std::mem::take(&mut self.queue), std::mem::take(&mut self.queued));
        let trim = self.trimmed.drain(..self.trimmed.len().min(TRIM_SEGMENTS_PER_GROUP)).collect();
        Some(WriteGroup { writer, steps, trim, stats })
    }

    /// Whether something waits to be taken.
    pub fn has_pending(&self) -> bool {
        !(self.queue.is_empty() && self.trimmed.is_empty())
    }

    /// Whether a group is out and its outcome not reported.
    pub fn in_flight(&self) -> bool {
        self.writer.is_none() && self.failed.is_none()
    }

    /// Takes the outcome of the group in flight. A seal that waited for it may then be pending.
    ///
    /// # Errors
    /// [`LogFailed`], now and from then on.
    pub fn group_done(&mut self, outcome: GroupOutcome) -> Result<Synced, LogFailed> {
        match outcome.result {
            Ok(writer) => self.writer = Some(writer),
            Err(failed) => {
                self.queue.clear();
                self.trimmed.clear();
                return Err(self.failed.insert(failed).clone());
            }
        }
        self.synced_index = self.synced_index.max(self.in_flight_target);
        self.shared.view().synced_index = self.synced_index;
        self.evict();
        self.seal_if_idle();
        Ok(Synced { index: self.synced_index, stats: outcome.stats })
    }

    /// The highest index that is durable here; only through it may entries be acknowledged.
    pub fn synced_index(&self) -> u64 {
        self.synced_index
    }

    /// Why the log takes nothing more, if so.
    pub fn failed(&self) -> Option<&LogFailed> {
        self.failed.as_ref()
    }

    /// A handle for readers on other threads.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.shared.view()
    }

    fn evict(&mut self) {
        self.keep_cached(self.cache.limit_bytes(), self.synced_index);
    }

    /// Drops from memory what is above a limit and in the file for good.
    pub(crate) fn keep_cached(&mut self, limit_bytes: usize, synced_index: u64) {
        let mut view = self.shared.view();
        view.tail.evict(limit_bytes, synced_index, self.commit);
        self.cache.holds(view.tail.cost_bytes());
    }

    fn check_open(&self) -> Result<(), LogFailed> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Where the next frame goes.
    fn place(&self) -> Place {
        let view = self.view();
        let active = view.index.active();
        Place { nonce: active.nonce, position: active.end }
    }

    /// A frame that is no entry: it stands behind the last one.
    fn marker(&self, frame_type: FrameType, place: Place, body: Bytes) -> Bytes {
        let header = FrameHeader {
            frame_type,
            kind: EntryKind::Normal,
            body_length: body.len() as u32,
            envelope_length: 0,
            term: self.tip.term,
            index: self.tip.index,
            synced_index: if planted::is_active(Bug::SealBeforeSync) {
                self.tip.index
            } else {
                self.synced_index
            },
            chain: self.tip.chain,
        };
        frame::assemble(header, place, &body)
    }

    /// Queues one frame's parts behind those already queued, as one write where possible.
    fn queue_frame(&mut self, position: u64, parts: [Bytes; 3]) {
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let parts = parts.inspect(|part| self.queued.frame_bytes += part.len() as u64);
        match self.queue.last_mut() {
            Some(Step::Write { buffers, .. }) => buffers.extend(parts),
            _ => self.queue.push(Step::Write { position, buffers: parts.collect() }),
        }
    }
}

fn check_length(checkpoint: &Checkpoint) -> Result<(), CheckpointTooLong> {
    let bytes = checkpoint.encoded_bytes();
    if bytes > MAX_CHECKPOINT_BYTES { Err(CheckpointTooLong { bytes }) } else { Ok(()) }
}
