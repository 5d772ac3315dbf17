//! What goes into a shard's turn and what comes out of it. Plain data: no channels, no clocks, no files.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_protocol::{
    batch::BatchHeader,
    peer::{Confirmed, RaftMessage},
};
use lockstep_storage::{Entry, GroupOutcome, LogReader, WriteGroup};

use super::positions::{Position, PositionCommit, PositionRefusal};

use crate::raft::{ColdRead, ColdReadId, MembershipChange, ReplicaProgress, Role};

/// Names a shard within its cluster. Never reused.
pub type ShardId = u64;

/// Names a request while it waits for its answer; chosen by the shell, opaque to the shard.
pub type Token = u64;

/// A batch to be appended. It has been validated, and its header is the one parsed from its bytes.
#[derive(Clone, Debug)]
pub struct Append {
    /// A whole record batch v2, as the producer built it.
    pub batch: Bytes,
    /// What its header says.
    pub header: BatchHeader,
    /// Append only if the batch's first LSN will be this one.
    pub expected_next_lsn: Option<u64>,
    /// Append only if the partition's fencing epoch is not greater than this one.
    pub fence: Option<u64>,
    /// Commit this position with the batch: both or neither.
    pub position: Option<PositionCommit>,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// LSN of the batch's first record.
    pub first_lsn: u64,
    /// LSN of the batch's last record.
    pub last_lsn: u64,
    /// The batch had been appended before, by the same producer with the same sequence: these are its original LSNs.
    pub duplicate: bool,
}

/// A change of a shard's own state, which takes a Raft index and no LSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// From now on, batches that carry a lower fencing epoch are refused.
    Fence {
        /// Not lower than the one in force; that one again changes nothing, so a retry is harmless.
        epoch: u64,
    },
    /// Records below `log_start` may be dropped.
    Trim {
        /// The first LSN to be kept: at most one past the high watermark.
        log_start: u64,
    },
    /// How far a group has come.
    CommitPosition(PositionCommit),
    /// A group's positions go, and its generations with them.
    DeletePositions {
        /// The group.
        group: Arc<str>,
        /// In what it reads there; `None` in everything.
        source: Option<ShardId>,
    },
}

/// Why nothing was appended, or why it cannot be said whether it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// This replica does not lead the shard; nothing was appended.
    #[error("this broker does not lead the partition; ask {}", leader.map_or("again for the leader".into(), |l| format!("broker {l}")))]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
        /// The term this is about.
        term: u64,
    },
    /// Leadership or the log was lost before the commit was known: retry with the same producer sequence.
    #[error("leadership changed before the commit was known; retry with the same producer id and sequence")]
    OutcomeUnknown,
    /// The next LSN is not the expected one; nothing was appended.
    #[error("the next LSN is {next_lsn}, not the expected one; read up to it and decide anew")]
    ConditionFailed {
        /// The LSN the next record will get.
        next_lsn: u64,
    },
    /// The partition is fenced with a greater epoch; nothing was appended.
    #[error("the partition's fencing epoch is {current}; this writer has been replaced")]
    Fenced {
        /// The epoch in force.
        current: u64,
    },
    /// A sequence before this one is missing; nothing was appended.
    #[error("producer sequence {got} does not follow: {expected} is next")]
    OutOfOrderSequence {
        /// The sequence that would be accepted.
        expected: i32,
        /// The sequence that came.
        got: i32,
    },
    /// The producer's state is not (or no longer) known here and its sequence is not 0; nothing was appended.
    #[error(
        "this partition knows nothing of the producer; ask for a new producer id and start at sequence 0"
    )]
    UnknownProducer,
    /// A newer epoch of the producer has written; nothing was appended.
    #[error("producer epoch {current} has taken over; this producer must stop")]
    ProducerFenced {
        /// The epoch in force.
        current: i16,
    },
    /// A retry of a batch so old that its LSNs are no longer kept.
    #[error(
        "the batch was appended before, too long ago for its LSNs to be remembered; do not send it again"
    )]
    DuplicateTooOld,
    /// The position is not committed; nothing was appended.
    #[error(transparent)]
    Position(#[from] PositionRefusal),
    /// A trim point outside of the log.
    #[error("the log can be trimmed to {log_start} up to {limit}, one past the last committed record")]
    InvalidTrim {
        /// The log start in force.
        log_start: u64,
        /// The greatest possible one.
        limit: u64,
    },
    /// The disk is nearly full; nothing was appended.
    #[error("the broker's disk is below its free-space reserve; free space, or trim topics")]
    StorageFull,
    /// Too much waits for the disks of a majority, or for this broker's own; nothing was appended.
    #[error("the disks do not keep up with the partition's writers; wait a little and retry")]
    Overloaded,
    /// A change of the membership is under way; nothing was proposed.
    #[error("a change of the partition's replicas is under way; wait for its end and retry")]
    ChangeUnderWay,
    /// The log failed; it takes nothing until the broker has recovered it.
    #[error("the partition's log on this broker has failed: {0}")]
    Failed(String),
    /// The replica is damaged and takes no part.
    #[error("the partition's replica on this broker is damaged: {0}")]
    Faulty(String),
    /// The broker is stopping.
    #[error("the broker is stopping")]
    Stopped,
}

/// What a request gets when all went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A batch is synced on a majority.
    Appended(Appended),
    /// A command is committed, or an instruction is under way.
    Done,
    /// The last committed LSN, at a moment after the request came, confirmed by a quorum.
    Tail(u64),
    /// What a replica under repair must reach, confirmed by a quorum after the request came.
    Standing(Confirmed),
    /// Positions, in order of group and source, as of a moment after the request came.
    Positions(Vec<Position>),
}

/// Whether a replica works.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Health {
    /// It does.
    #[default]
    Ok,
    /// The disk is below its free-space reserve: reads only.
    Full,
    /// A write or sync failed, or an invariant broke. Final until the log is recovered anew.
    Failed(String),
    /// Synced entries are missing or damaged: no vote, no acknowledgement.
    Faulty(String),
}

/// What everyone may know of a replica at any time.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ShardView {
    /// The last committed LSN; nobody is shown a record above it.
    pub high_watermark: u64,
    /// The first LSN still kept.
    pub log_start: u64,
    /// The current term.
    pub term: u64,
    /// Its leader, if known.
    pub leader: Option<u64>,
    /// Whether this replica is the leader.
    pub is_leader: bool,
    /// The fencing epoch.
    pub fence: u64,
    /// The leader's time of the last committed batch or command, in milliseconds since 1970; 0 without one.
    pub leader_time_ms: i64,
    /// Whether the replica works.
    pub health: Health,
}

/// A replica in detail, for people.
#[derive(Clone, Debug, Default)]
pub struct ShardDescription {
    /// The shard.
    pub shard: ShardId,
    /// What this replica is.
    pub role: Role,
    /// What everyone may know.
    pub view: ShardView,
    /// Nodes that vote.
    pub voters: Vec<u64>,
    /// Nodes that only follow.
    pub learners: Vec<u64>,
    /// Nodes that vote until the joint configuration is left; empty unless there is one.
    pub voters_outgoing: Vec<u64>,
    /// Index of the entry that made this membership.
    pub membership_index: u64,
    /// Whether the entry before that made the same one: then a majority know it for good.
    pub membership_confirmed: bool,
    /// Whether a membership entry is in the log that is not in force yet.
    pub membership_pending: bool,
    /// The first Raft index of the current term; 0 if this log has none.
    pub term_begins_at: u64,
    /// First Raft index kept.
    pub first_index: u64,
    /// Last Raft index in this log.
    pub last_index: u64,
    /// Last committed Raft index.
    pub commit_index: u64,
    /// Through this Raft index this log's syncs have returned.
    pub synced_index: u64,
    /// Last LSN in this log, committed or not.
    pub last_lsn: u64,
    /// Bytes in the log's segments.
    pub log_bytes: u64,
    /// Producers remembered.
    pub producers: usize,
    /// Consumer groups' positions remembered.
    pub positions: usize,
    /// How far the others are; on the leader only.
    pub replicas: Vec<ReplicaProgress>,
}

/// What a turn works on.
pub enum Input {
    /// One tick has passed.
    Tick,
    /// A peer's message.
    Peer(RaftMessage),
    /// Append a batch.
    Append {
        /// Who waits.
        token: Token,
        /// What for.
        append: Append,
    },
    /// Change the shard's state.
    Command {
        /// Who waits.
        token: Token,
        /// What for.
        command: Command,
    },
    /// Say how far groups have come.
    Positions {
        /// Who waits.
        token: Token,
        /// Of this group; `None` of all.
        group: Option<Arc<str>>,
    },
    /// Change the membership.
    Membership {
        /// Who waits; answered once it is proposed.
        token: Token,
        /// The changes, made at once.
        changes: Vec<MembershipChange>,
        /// Index of the membership they were decided on, if on one: another in force refuses them.
        decided_on: Option<u64>,
    },
    /// Confirm the tail with a quorum.
    Tail {
        /// Who waits.
        token: Token,
    },
    /// Say what a replica under repair must reach, confirmed by a quorum.
    Standing {
        /// Who waits.
        token: Token,
        /// The replica's node.
        replica: u64,
    },
    /// Hand leadership over.
    Transfer {
        /// Who waits; answered once it is under way.
        token: Token,
        /// The node that shall lead.
        to: u64,
    },
    /// The write group in flight is done.
    Synced(GroupOutcome),
    /// A cold read is done; `None` if it failed.
    ColdRead {
        /// Which.
        id: ColdReadId,
        /// Its entries.
        entries: Option<Vec<Entry>>,
    },
    /// The connection from a peer closed, or nothing is heard on it: its process may be dead.
    PeerLost {
        /// Which peer.
        node: u64,
    },
    /// A peer can be reached, for the first time or again.
    PeerFound {
        /// Which peer.
        node: u64,
    },
    /// Hand leadership to whichever voter has come furthest.
    HandOver {
        /// Who waits; answered once it is under way.
        token: Token,
    },
    /// Whether the disk is below its free-space reserve.
    DiskFull(bool),
    /// New retention settings.
    Settings(super::ShardSettings),
    /// Seal the log: the broker is about to stop.
    Seal,
}

/// What a turn asks of its shell.
pub enum Output {
    /// Send to another node. Losing it is allowed.
    Send(RaftMessage),
    /// Run on a sync worker and hand the outcome back. Never dropped, never reordered, one at a time.
    Write(WriteGroup),
    /// Read entries off the turn and hand them back.
    ColdRead(ColdRead, LogReader),
    /// Answer a request.
    Answer(Token, Result<Answer, AppendError>),
    /// What everyone may know has changed.
    View(ShardView),
    /// Something happened that is worth counting.
    Event(Event),
}

/// What the shell may want to count or log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This replica began to lead.
    BecameLeader {
        /// In this term.
        term: u64,
    },
    /// This replica stopped leading.
    LostLeadership {
        /// Its new term.
        term: u64,
    },
    /// A suffix that lost an election was rolled back.
    RolledBack {
        /// First index removed.
        from_index: u64,
        /// Entries removed.
        entries: u64,
    },
    /// A snapshot replaced the log.
    SnapshotInstalled {
        /// The snapshot's index.
        index: u64,
    },
    /// A peer's message held an entry whose bytes had changed on the way; it was dropped, and Raft repeats it.
    DamagedMessage {
        /// The entry's index.
        index: u64,
        /// What does not match.
        why: String,
    },
    /// A committed membership change made no sense and changed nothing.
    MembershipRefused {
        /// The entry's index.
        index: u64,
        /// Why not.
        why: String,
    },
}
