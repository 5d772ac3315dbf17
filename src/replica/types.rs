//! What goes into a replica and what comes out of it.

use lockstep_protocol::peer::{RaftMessage, RepairMessage};
use lockstep_storage::{LogReader, RecoveryReport, WriteGroup};

use super::job::{Done, Job};
use crate::shard::{self, Answer, AppendError, Event, ShardView, Token};

/// What a turn works on.
pub enum Input {
    /// For the shard, or about it.
    Shard(shard::Input),
    /// A peer's question or answer about repair.
    Repair {
        /// The peer's node.
        from: u64,
        /// The question's number.
        number: u64,
        /// The question, or the answer.
        message: RepairMessage,
    },
    /// The nodes that hold the other replicas have changed.
    Peers(Vec<u64>),
    /// A [`Job`] is done.
    Done(Done),
    /// A read found that stored bytes have changed.
    Damaged(String),
}

impl From<shard::Input> for Input {
    fn from(input: shard::Input) -> Self {
        Self::Shard(input)
    }
}

/// What a turn asks of its shell.
pub enum Output {
    /// Send to another node. Losing it is allowed.
    Send(RaftMessage),
    /// Send to another node, behind what was sent to it before. Losing it is allowed.
    Repair {
        /// The node.
        to: u64,
        /// The question's number.
        number: u64,
        /// The question, or the answer.
        message: RepairMessage,
    },
    /// Run on a disk worker and hand the outcome back. Never dropped, never reordered, one at a time.
    Write(WriteGroup),
    /// Run on a disk worker and hand the outcome back.
    Job(Job),
    /// Answer a request.
    Answer(Token, Result<Answer, AppendError>),
    /// Whoever still waits for an answer gets none: the outcome is unknown.
    Forget,
    /// What everyone may know has changed.
    View(ShardView),
    /// Committed records are read here from now on.
    Reader(LogReader),
    /// The log was recovered.
    Recovered(RecoveryReport),
    /// Something happened that is worth counting.
    Event(Event),
}
