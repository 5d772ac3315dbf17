//! What a message may say, by what its sender's disk holds.

use lockstep_protocol::peer::RaftMessage;

use super::replica::ReplicaTruth;
use super::violation::{Checked, breach};

/// raft-rs's numbers of the messages that speak of what is on disk.
mod kind {
    pub const APPEND: u8 = 3;
    pub const APPEND_RESPONSE: u8 = 4;
    pub const REQUEST_VOTE: u8 = 5;
    pub const REQUEST_VOTE_RESPONSE: u8 = 6;
    pub const HEARTBEAT: u8 = 8;
}

/// Judges a message that leaves a replica of which so much is known; `marked` is whether it is marked as faulty.
pub(super) fn may_leave(
    shard: u64,
    message: &RaftMessage,
    marked: bool,
    known: Option<&ReplicaTruth>,
) -> Checked {
    let node = message.from;
    if marked {
        return breach(
            "faulty-is-silent",
            format!(
                "node {node}, marked as faulty, sent a message of kind {} of shard {shard}",
                message.kind
            ),
        );
    }
    let Some(known) = known else { return Ok(()) };
    if message.kind == kind::REQUEST_VOTE && !known.may_stand() {
        return breach(
            "only-voters-lead",
            format!("node {node} asks for votes in shard {shard} and has none itself"),
        );
    }
    speaks_of_its_vote(message, known)?;
    // An acknowledgement may be overtaken by a snapshot that replaces the entry it speaks of.
    if message.kind == kind::APPEND_RESPONSE
        && !message.reject
        && message.index > known.durable.max(known.base)
    {
        return breach(
            "acknowledged-entry-durable",
            format!(
                "node {node} acknowledged entry {} of shard {shard}, synced through {}",
                message.index, known.durable
            ),
        );
    }
    Ok(())
}

fn speaks_of_its_vote(message: &RaftMessage, known: &ReplicaTruth) -> Checked {
    let speaks_of_term = match message.kind {
        kind::REQUEST_VOTE | kind::APPEND | kind::HEARTBEAT => true,
        kind::REQUEST_VOTE_RESPONSE | kind::APPEND_RESPONSE => !message.reject,
        _ => false,
    };
    let candidate = match message.kind {
        kind::REQUEST_VOTE => Some(message.from),
        kind::REQUEST_VOTE_RESPONSE => Some(message.to),
        _ => None,
    };
    let vote = known.vote.unwrap_or_default();
    let voted = candidate.is_none_or(|candidate| vote.term > message.term || vote.voted_for == candidate);
    if speaks_of_term && (vote.term < message.term || !voted) {
        return breach(
            "vote-durable-before-message",
            format!(
                "node {} sent a message of kind {} in term {}; its disk has {vote:?}",
                message.from, message.kind, message.term
            ),
        );
    }
    Ok(())
}
