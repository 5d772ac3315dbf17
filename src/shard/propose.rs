//! What a leader does with the requests that wait: judge each once, stamp the LSNs, hand all to Raft as one proposal.
//!
//! What holds here:
//! - Conditions are judged against the leader's whole log, its uncommitted tail included, and never again at apply: a
//!   leader does not truncate its own log, so what held on the prefix holds at commit.
//! - LSNs are stamped on a drained group only: the next entry's index and first LSN are known.
//! - A proposal that is refused is taken back whole.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::batch;
use lockstep_storage::{BODY_PREFIX_BYTES, Entry, EntryKind, Envelope, EnvelopeKind};

use super::{
    Shard, command,
    positions::{PositionCommit, PositionRefusal, is_group},
    producers::Standing,
    state::sequence_of,
    types::{Answer, Append, AppendError, Appended, Command, Output, Token},
    waiters::{Confirm, Verdict},
};
use crate::raft::Role;

/// Bytes of one proposal, at least one batch: what one replication message and one write may grow to.
pub const PROPOSAL_BYTES_MAX: usize = 4 << 20;
/// Bytes of a frame around a body: header and envelope.
const FRAME_OVERHEAD_BYTES: usize = 96;

/// A request that waits for its turn.
pub enum Request {
    /// Append a batch.
    Append(Append),
    /// Change the shard's state.
    Command(Command),
    /// Say how far a group, or every one, has come.
    Positions(Option<Arc<str>>),
}

impl Request {
    fn bytes(&self) -> usize {
        FRAME_OVERHEAD_BYTES
            + match self {
                Self::Append(append) => {
                    append.batch.len() + append.position.as_ref().map_or(0, PositionCommit::bytes)
                }
                Self::Command(Command::CommitPosition(commit)) => commit.bytes(),
                Self::Command(_) | Self::Positions(_) => 0,
            }
    }

    /// Whether a full disk has no room for it: it comes as often as records do.
    fn fills_disk(&self) -> bool {
        matches!(self, Self::Append(_) | Self::Command(Command::CommitPosition(_)))
    }
}

impl Shard {
    /// Turns waiting requests into one proposal; returns whether the group has something to drain.
    pub(super) fn propose(&mut self, now_ms: i64, outputs: &mut Vec<Output>) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        if let Some(error) = self.refusal() {
            outputs
                .extend(self.requests.drain(..).map(|(token, _)| Output::Answer(token, Err(error.clone()))));
            return false;
        }
        if self.disk_full {
            self.refuse_records(outputs);
            if self.requests.is_empty() {
                return false;
            }
        }
        let (chunk, bytes) = self.take_chunk();
        let bytes = if planted::is_active(Bug::CheckpointLaterState) { 0 } else { bytes };
        if let Err(health) = self.roll_if_needed(bytes) {
            let error = AppendError::Failed("the log cannot begin a new segment".into());
            outputs.extend(chunk.into_iter().map(|(token, _)| Output::Answer(token, Err(error.clone()))));
            self.stop(health, outputs);
            return false;
        }
        let first_index = self.state.last_index() + 1;
        let time_ms = self.state.leader_time_ms().max(now_ms);
        let (mut entries, mut verdicts) = (Vec::new(), Vec::new());
        for (token, request) in chunk {
            let verdict = match self.judge(&request) {
                Ok(Some(duplicate)) => Ok(Answer::Appended(duplicate)),
                Err(error) => Err(error),
                Ok(None) => self.stamp(request, time_ms, &mut entries),
            };
            verdicts.push((token, self.state.last_index(), verdict));
        }
        if !entries.is_empty() && self.group.propose(entries).is_err() {
            self.state.roll_back(first_index);
            let error = self.not_leader();
            outputs.extend(verdicts.into_iter().map(|(token, ..)| Output::Answer(token, Err(error.clone()))));
            return false;
        }
        let committed = self.state.committed().index;
        for (token, index, verdict) in verdicts {
            let too_early = match &verdict {
                Err(_) => planted::is_active(Bug::AnswerRefusalFromTail),
                Ok(Answer::Appended(Appended { duplicate: true, .. })) => {
                    planted::is_active(Bug::AnswerDuplicateFromTail)
                }
                Ok(_) => false,
            };
            if too_early {
                outputs.push(Output::Answer(token, verdict));
            } else if index > committed {
                self.waiters.on_commit(token, index, verdict);
            } else {
                self.waiters.on_confirmation(Confirm::Verdict(token, verdict));
            }
        }
        true
    }

    /// Why nothing can be appended here at the moment.
    pub(super) fn refusal(&self) -> Option<AppendError> {
        let leads = self.group.role() == Role::Leader || planted::is_active(Bug::ForwardStampedProposal);
        if !leads || self.group.transferee().is_some() {
            return Some(self.not_leader());
        }
        self.backlog.is_full().then_some(AppendError::Overloaded)
    }

    /// On a full disk neither records nor positions are taken: a trim is, and makes room.
    fn refuse_records(&mut self, outputs: &mut Vec<Output>) {
        let (refused, kept) =
            std::mem::take(&mut self.requests).into_iter().partition(|(_, request)| request.fills_disk());
        self.requests = kept;
        let refused: VecDeque<(Token, Request)> = refused;
        let answer = |(token, _)| Output::Answer(token, Err(AppendError::StorageFull));
        outputs.extend(refused.into_iter().map(answer));
    }

    pub(super) fn not_leader(&self) -> AppendError {
        let leader = self.group.transferee().or(self.group.leader()).filter(|leader| *leader != self.node);
        AppendError::NotLeader { leader, term: self.group.term() }
    }

    /// As many waiting requests as one proposal takes, and their bytes.
    fn take_chunk(&mut self) -> (Vec<(Token, Request)>, usize) {
        let limit = PROPOSAL_BYTES_MAX.min(self.segment_bytes as usize / 4);
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while let Some((_, request)) = self.requests.front() {
            bytes += request.bytes();
            if bytes > limit && !chunk.is_empty() {
                bytes -= request.bytes();
                break;
            }
            chunk.extend(self.requests.pop_front());
        }
        (chunk, bytes)
    }

    /// Whether a request may be appended: `Ok(Some)` if it was before.
    fn judge(&self, request: &Request) -> Result<Option<Appended>, AppendError> {
        match request {
            Request::Command(Command::Fence { epoch }) if *epoch < self.state.fence() => {
                Err(AppendError::Fenced { current: self.state.fence() })
            }
            Request::Command(Command::Trim { log_start }) => {
                let (start, limit) = (self.state.log_start(), self.state.committed().last_lsn + 1);
                let valid = (start..=limit).contains(log_start);
                if valid { Ok(None) } else { Err(AppendError::InvalidTrim { log_start: start, limit }) }
            }
            Request::Command(Command::CommitPosition(commit)) => {
                self.judge_position(commit)?;
                Ok(None)
            }
            Request::Command(Command::DeletePositions { group, .. }) if !is_group(group) => {
                Err(PositionRefusal::Group.into())
            }
            Request::Command(_) | Request::Positions(_) => Ok(None),
            Request::Append(append) => self.judge_append(append),
        }
    }

    /// The order matters: a retry is recognised before its conditions are looked at, for they held the first time.
    fn judge_append(&self, append: &Append) -> Result<Option<Appended>, AppendError> {
        let by_committed = planted::is_active(Bug::JudgeExpectedLsnByCommitted);
        let next_lsn = if by_committed { self.state.committed().last_lsn + 1 } else { self.state.next_lsn() };
        let sequence = sequence_of(&append.header);
        match sequence.map_or(Standing::Next, |sequence| self.state.judge(sequence)) {
            Standing::Next => {}
            Standing::Duplicate { first_lsn } => {
                let anew = planted::is_active(Bug::AnswerDuplicateWithNewLsns);
                let first_lsn = if anew { next_lsn } else { first_lsn };
                let last_lsn = first_lsn + append.header.records_count as u64 - 1;
                return Ok(Some(Appended { first_lsn, last_lsn, duplicate: true }));
            }
            Standing::DuplicateTooOld => return Err(AppendError::DuplicateTooOld),
            Standing::OutOfOrder { expected } => {
                return Err(AppendError::OutOfOrderSequence { expected, got: append.header.base_sequence });
            }
            Standing::Unknown => return Err(AppendError::UnknownProducer),
            Standing::Fenced { current } => return Err(AppendError::ProducerFenced { current }),
        }
        let unfenced = self.state.committed().index < self.state.last_index()
            && planted::is_active(Bug::IgnoreFenceOverTail);
        if append.fence.is_some_and(|fence| fence < self.state.fence() && !unfenced) {
            return Err(AppendError::Fenced { current: self.state.fence() });
        }
        if append.expected_next_lsn.is_some_and(|expected| expected != next_lsn) {
            return Err(AppendError::ConditionFailed { next_lsn });
        }
        if let Some(commit) = &append.position {
            self.judge_position(commit)?;
        }
        Ok(None)
    }

    fn judge_position(&self, commit: &PositionCommit) -> Result<(), AppendError> {
        match self.state.judge_position(commit) {
            Err(PositionRefusal::Conflict { .. } | PositionRefusal::Fenced { .. })
                if planted::is_active(Bug::CommitPositionWithoutCondition) =>
            {
                Ok(())
            }
            judged => Ok(judged?),
        }
    }

    /// Gives a request its place: the envelope, and for a batch the two fields its checksum does not cover. A question
    /// takes none.
    fn stamp(&mut self, request: Request, time_ms: i64, entries: &mut Vec<(Bytes, Bytes)>) -> Verdict {
        let reset = !self.group.has_committed_in_term() && planted::is_active(Bug::ResetLsnOnElection);
        let first_lsn = if reset { self.state.committed().last_lsn + 1 } else { self.state.next_lsn() };
        let term = self.group.term();
        let (envelope, body, answer) = match request {
            Request::Positions(group) => {
                return Ok(Answer::Positions(self.state.positions(group.as_deref())));
            }
            Request::Command(command) => {
                let body = command::encode(&command);
                let envelope = Envelope {
                    kind: EnvelopeKind::State,
                    record_count: 0,
                    first_lsn,
                    leader_time_ms: time_ms,
                    max_timestamp_ms: time_ms,
                    body_crc: Envelope::checksum(&body),
                    state_length: body.len() as u32,
                    fence: self.state.fence(),
                };
                (envelope, body, Answer::Done)
            }
            Request::Append(append) => {
                let Ok(stamp_term) = i32::try_from(term) else {
                    return Err(AppendError::Failed(
                        "the term has outgrown the batch header's 31 bits".into(),
                    ));
                };
                let mut record_count = append.header.records_count as u32;
                if record_count > 1 && planted::is_active(Bug::DropSuffixOfBatch) {
                    record_count -= 1;
                }
                let mut body = BytesMut::new();
                let section = append.position.as_ref();
                body.reserve(section.map_or(0, PositionCommit::bytes) + append.batch.len());
                if let Some(commit) = section {
                    command::encode_position(commit, &mut body);
                }
                let state_length = body.len();
                body.extend_from_slice(&append.batch);
                let stamped_lsn = if planted::is_active(Bug::LeaveOffsetUnstamped) { 1 } else { first_lsn };
                let stamped = batch::stamp(&mut body[state_length..], stamped_lsn, stamp_term);
                stamped.map_err(|error| AppendError::Failed(error.to_string()))?;
                let envelope = Envelope {
                    kind: EnvelopeKind::Batch,
                    record_count,
                    first_lsn,
                    leader_time_ms: time_ms,
                    max_timestamp_ms: append.header.max_timestamp,
                    body_crc: body_crc(&body, state_length, append.header.crc),
                    state_length: state_length as u32,
                    fence: self.state.fence(),
                };
                let last_lsn = first_lsn + u64::from(record_count) - 1;
                (
                    envelope,
                    body.freeze(),
                    Answer::Appended(Appended { first_lsn, last_lsn, duplicate: false }),
                )
            }
        };
        let envelope = Bytes::copy_from_slice(&envelope.encode());
        let index = self.state.last_index() + 1;
        let entry =
            Entry { index, term, kind: EntryKind::Normal, envelope: envelope.clone(), body: body.clone() };
        self.state.apply(&entry).map_err(|error| AppendError::Failed(error.to_string()))?;
        entries.push((envelope, body));
        Ok(answer)
    }
}

/// The checksum of a body from byte 21 on. The batch's own, which its producer computed, is taken over and not made
/// anew: what was damaged since then is found by whoever reads it.
fn body_crc(body: &[u8], state_length: usize, batch_crc: u32) -> u32 {
    if state_length == 0 {
        return batch_crc;
    }
    let before = Envelope::checksum(&body[..state_length + BODY_PREFIX_BYTES]);
    crc32c::crc32c_combine(before, batch_crc, body.len() - state_length - BODY_PREFIX_BYTES)
}
