//! Everything a shard derives from its log: producers, positions, fence, log start, the last LSN of each uncommitted
//! entry.
//!
//! What holds here:
//! - The state is a function of the log's prefix: [`ShardState::apply`] is called once for each entry, in order.
//! - It rolls back with the log. What the uncommitted tail changed can be taken back, newest first, down to the
//!   committed index; a rolled-back suffix leaves no trace (design: invariant 8).
//! - The high watermark is the last LSN of the committed prefix, and never goes back.
//!
//! In a checkpoint, little endian (the log start and leader time stand in the checkpoint itself):
//! ```text
//!  0  u8   version 1
//!  1  u64  fence
//!  9  …    producers
//!  …  …    positions
//!  …  u16  membership entries that are not applied yet
//!     then each: u64 index | u64 term | u8 kind (1, 2) | u16 length | body
//! ```

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::batch::BatchHeader;
use lockstep_storage::{Checkpoint, Entry, EntryKind, Envelope, EnvelopeKind, RollState};

use super::{
    command,
    positions::{self, Position, PositionCommit, PositionRefusal, Positions},
    producers::{self, Producers, Sequence, Standing},
    types::Command,
};
use crate::raft::Membership;

const VERSION: u8 = 1;

/// The state after the last entry, and the way back to the committed one.
#[derive(Clone, Debug, Default)]
pub struct ShardState {
    fence: u64,
    log_start: u64,
    leader_time_ms: i64,
    producers: Producers,
    positions: Positions,
    last_index: u64,
    last_lsn: u64,
    committed: Committed,
    tail: VecDeque<Change>,
    /// Membership entries take effect only once they are committed and synced here.
    unapplied_membership: Vec<Entry>,
}

/// What is known of the committed prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Its last index.
    pub index: u64,
    /// Its last LSN: the high watermark.
    pub last_lsn: u64,
    /// Its log start.
    pub log_start: u64,
    /// The leader's time of its last batch or command, in milliseconds since 1970; 0 without one.
    pub leader_time_ms: i64,
}

/// One uncommitted entry, and how to take it back.
#[derive(Clone, Debug)]
struct Change {
    index: u64,
    last_lsn: u64,
    log_start: u64,
    leader_time_ms: i64,
    before_lsn: u64,
    before_leader_time_ms: i64,
    undo: Undo,
    /// A batch may change both its producer and a position.
    undo_positions: Option<positions::Undo>,
}

#[derive(Clone, Debug)]
enum Undo {
    Nothing,
    Producer(producers::Undo),
    Fence(u64),
    LogStart(u64),
}

/// An entry that cannot be what a leader of ours wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} does not read as one of ours: {why}")]
pub struct StateError {
    index: u64,
    why: String,
}

impl ShardState {
    /// The state as of a checkpoint whose index is committed; `None` if its state section does not read.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Option<Self> {
        let mut bytes = &checkpoint.state[..];
        let (mut fence, mut producers, mut positions, mut unapplied_membership) = Default::default();
        if !bytes.is_empty() {
            if bytes.try_get_u8().ok()? != VERSION {
                return None;
            }
            fence = bytes.try_get_u64_le().ok()?;
            producers = Producers::decode(&mut bytes)?;
            positions = Positions::decode(&mut bytes)?;
            unapplied_membership = decode_entries(&mut bytes)?;
        }
        let committed = Committed {
            index: checkpoint.index,
            last_lsn: checkpoint.last_lsn,
            log_start: checkpoint.log_start,
            leader_time_ms: checkpoint.leader_time_ms,
        };
        bytes.is_empty().then_some(Self {
            fence,
            log_start: checkpoint.log_start,
            leader_time_ms: checkpoint.leader_time_ms,
            producers,
            positions,
            last_index: checkpoint.index,
            last_lsn: checkpoint.last_lsn,
            committed,
            tail: VecDeque::new(),
            unapplied_membership,
        })
    }

    /// The state section of a checkpoint as of the last applied entry.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(VERSION);
        bytes.put_u64_le(self.fence);
        if planted::is_active(Bug::ForgetProducersInCheckpoint) {
            Producers::default().encode(&mut bytes);
        } else {
            self.producers.encode(&mut bytes);
        }
        if planted::is_active(Bug::ForgetPositionsInCheckpoint) {
            Positions::default().encode(&mut bytes);
        } else {
            self.positions.encode(&mut bytes);
        }
        encode_entries(&self.unapplied_membership, &mut bytes);
        bytes.freeze()
    }

    /// What the log as a whole says of fence, time, producers and positions, whatever of it is committed.
    pub fn derived(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(self.fence);
        bytes.put_i64_le(self.leader_time_ms);
        self.producers.encode(&mut bytes);
        self.positions.encode(&mut bytes);
        bytes.freeze()
    }

    /// What a new segment's checkpoint says, as of the last applied entry.
    pub fn roll_state(&self, membership: &Membership, membership_index: u64) -> RollState {
        RollState {
            membership: membership.encode(),
            membership_index,
            state: self.encode(),
            log_start: self.log_start,
            leader_time_ms: self.leader_time_ms,
        }
    }

    /// Takes the next entry of the log into account.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), StateError> {
        let error = |why: String| StateError { index: entry.index, why };
        if entry.index != self.last_index + 1 {
            return Err(error(format!("{} was applied last", self.last_index)));
        }
        let mut change = Change {
            index: entry.index,
            last_lsn: self.last_lsn,
            log_start: self.log_start,
            leader_time_ms: self.leader_time_ms,
            before_lsn: self.last_lsn,
            before_leader_time_ms: self.leader_time_ms,
            undo: Undo::Nothing,
            undo_positions: None,
        };
        if !entry.envelope.is_empty() {
            let envelope = Envelope::decode(&entry.envelope).map_err(|refused| error(refused.to_string()))?;
            change.last_lsn += u64::from(envelope.record_count);
            (change.undo, change.undo_positions) = self.apply_body(entry, &envelope).map_err(error)?;
            change.log_start = self.log_start;
            self.leader_time_ms = self.leader_time_ms.max(envelope.leader_time_ms);
            change.leader_time_ms = self.leader_time_ms;
        } else if planted::is_active(Bug::GiveSystemEntryAnLsn) {
            change.last_lsn += 1;
        }
        if entry.kind != EntryKind::Normal {
            self.unapplied_membership.push(entry.clone());
        }
        self.last_index = change.index;
        self.last_lsn = change.last_lsn;
        self.tail.push_back(change);
        Ok(())
    }

    fn apply_body(
        &mut self,
        entry: &Entry,
        envelope: &Envelope,
    ) -> Result<(Undo, Option<positions::Undo>), String> {
        let (index, leader_time_ms) = (entry.index, envelope.leader_time_ms);
        if envelope.kind == EnvelopeKind::State {
            let undo = match command::decode(&entry.body).ok_or("an unknown command")? {
                Command::Fence { epoch } => Undo::Fence(std::mem::replace(&mut self.fence, epoch)),
                Command::Trim { log_start } => {
                    Undo::LogStart(std::mem::replace(&mut self.log_start, log_start))
                }
                Command::CommitPosition(commit) => {
                    let undo = self.positions.record(&commit, index, leader_time_ms);
                    return Ok((Undo::Nothing, Some(undo)));
                }
                Command::DeletePositions { group, source } => {
                    return Ok((Undo::Nothing, Some(self.positions.delete(&group, source))));
                }
            };
            return Ok((undo, None));
        }
        let (section, batch) = entry
            .body
            .split_at_checked(envelope.state_length as usize)
            .ok_or("a state section beyond the body")?;
        let header = BatchHeader::parse(batch).map_err(|refused| refused.to_string())?;
        let commit = match section.is_empty() {
            true => None,
            false => Some(command::decode_position(section).ok_or("an unknown state section")?),
        };
        let undo_positions = commit.map(|commit| self.positions.record(&commit, index, leader_time_ms));
        let undo = match sequence_of(&header) {
            Some(sequence) => Undo::Producer(self.producers.record(sequence, index, envelope.first_lsn)),
            None => Undo::Nothing,
        };
        Ok((undo, undo_positions))
    }

    /// The entries up to `index` are committed; returns whether that is news.
    pub fn commit(&mut self, index: u64) -> bool {
        let before = self.committed;
        while self.tail.front().is_some_and(|change| change.index <= index) {
            let Some(change) = self.tail.pop_front() else { break };
            let Change { index, last_lsn, log_start, leader_time_ms, .. } = change;
            self.committed = Committed { index, last_lsn, log_start, leader_time_ms };
        }
        self.committed != before
    }

    /// Takes back every entry from `index` on. Committed ones stay: the log refuses to truncate them first.
    pub fn roll_back(&mut self, index: u64) {
        self.unapplied_membership.retain(|entry| entry.index < index);
        while self.tail.back().is_some_and(|change| change.index >= index) {
            let Some(change) = self.tail.pop_back() else { break };
            self.last_index = change.index - 1;
            self.last_lsn = change.before_lsn;
            self.leader_time_ms = change.before_leader_time_ms;
            if let Some(undo) = change.undo_positions
                && !planted::is_active(Bug::KeepPositionsAtRollback)
            {
                self.positions.undo(undo);
            }
            match change.undo {
                Undo::Nothing => {}
                Undo::Producer(_) if planted::is_active(Bug::KeepProducersAtRollback) => {}
                Undo::Fence(_) if planted::is_active(Bug::KeepFenceAtRollback) => {}
                Undo::Producer(undo) => self.producers.undo(undo),
                Undo::Fence(epoch) => self.fence = epoch,
                Undo::LogStart(log_start) => self.log_start = log_start,
            }
        }
    }

    /// Membership entries in the log that are not applied yet.
    pub fn unapplied_membership(&self) -> &[Entry] {
        &self.unapplied_membership
    }

    /// The membership entries up to `index` are in force.
    pub fn membership_applied(&mut self, index: u64) {
        self.unapplied_membership.retain(|entry| entry.index > index);
    }

    /// Judges a producer's sequence against everything in the log, committed or not.
    pub fn judge(&self, sequence: Sequence) -> Standing {
        self.producers.judge(sequence)
    }

    /// Judges a commit of a position against everything in the log, committed or not.
    pub fn judge_position(&self, commit: &PositionCommit) -> Result<(), PositionRefusal> {
        self.positions.judge(commit)
    }

    /// The positions of a group, or of all, after everything in the log, committed or not.
    pub fn positions(&self, group: Option<&str>) -> Vec<Position> {
        self.positions.list(group).collect()
    }

    /// The committed prefix.
    pub fn committed(&self) -> Committed {
        self.committed
    }

    /// Index of the last applied entry.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The last LSN given out.
    pub fn last_lsn(&self) -> u64 {
        self.last_lsn
    }

    /// The LSN the next record gets.
    pub fn next_lsn(&self) -> u64 {
        self.last_lsn + 1
    }

    /// The fencing epoch, 0 if nobody ever set one.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// The first LSN kept, once everything in the log is committed.
    pub fn log_start(&self) -> u64 {
        self.log_start
    }

    /// The greatest leader time so far, in milliseconds since 1970.
    pub fn leader_time_ms(&self) -> i64 {
        self.leader_time_ms
    }

    /// Producers remembered.
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// Positions remembered.
    pub fn position_count(&self) -> usize {
        self.positions.len()
    }
}

/// Who wrote the batch, if it says.
pub fn sequence_of(header: &BatchHeader) -> Option<Sequence> {
    (header.producer_id >= 0).then_some(Sequence {
        producer: header.producer_id,
        epoch: header.producer_epoch,
        first: header.base_sequence,
        count: header.records_count.max(1) as u32,
    })
}

fn encode_entries(entries: &[Entry], out: &mut BytesMut) {
    out.put_u16_le(entries.len() as u16);
    for entry in entries {
        out.put_u64_le(entry.index);
        out.put_u64_le(entry.term);
        out.put_u8(if entry.kind == EntryKind::Membership { 1 } else { 2 });
        out.put_u16_le(entry.body.len() as u16);
        out.put_slice(&entry.body);
    }
}

fn decode_entries(bytes: &mut &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for _ in 0..bytes.try_get_u16_le().ok()? {
        let (index, term) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
        let kind = match bytes.try_get_u8().ok()? {
            1 => EntryKind::Membership,
            2 => EntryKind::MembershipV2,
            _ => return None,
        };
        let length = usize::from(bytes.try_get_u16_le().ok()?);
        let (body, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        entries.push(Entry { index, term, kind, envelope: Bytes::new(), body: Bytes::copy_from_slice(body) });
    }
    Some(entries)
}
