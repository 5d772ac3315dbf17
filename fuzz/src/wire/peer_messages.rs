//! Peer frames of our own making: of known shape, with any contents.

use lockstep_protocol::peer::{
    Confirmed, Heartbeat, Numbered, PeerHello, PeerMessage, PeerWelcome, RepairMessage, Standing,
};
use lockstep_protocol::{ErrorCode, ErrorOutcome, LeaderHint};

use super::super::choices::Choices;
use super::raft_messages::{entry, raft_message};

/// Raft messages of one shard.
pub fn raft(choices: &mut Choices) -> PeerMessage {
    let shard = choices.number();
    let mut messages = Vec::new();
    while !choices.is_empty() && messages.len() < 4 {
        messages.push(raft_message(choices));
    }
    PeerMessage::Raft { shard, messages }
}

/// Any other kind of frame.
pub fn other(choices: &mut Choices) -> PeerMessage {
    match choices.below(8) {
        0 => PeerMessage::Hello(PeerHello {
            version: choices.number() as u16,
            cluster: choices.array(),
            from: choices.number(),
            to: choices.number(),
            directory: choices.array(),
        }),
        1 => PeerMessage::HelloReply(if choices.flag() {
            Ok(PeerWelcome { directory: choices.array() })
        } else {
            Err(refusal(choices))
        }),
        2 => PeerMessage::Heartbeats((0..choices.below(5)).map(|_| heartbeat(choices)).collect()),
        3 => PeerMessage::Question(numbered(choices)),
        4 => PeerMessage::Answer(numbered(choices)),
        _ => PeerMessage::Repair {
            shard: choices.number(),
            number: choices.number(),
            message: repair(choices),
        },
    }
}

fn numbered(choices: &mut Choices) -> Numbered {
    Numbered { number: choices.number(), text: choices.bytes(200) }
}

fn refusal(choices: &mut Choices) -> ErrorOutcome {
    let code = ErrorCode::ALL[choices.below(ErrorCode::ALL.len() as u64) as usize];
    let hint = choices.flag().then(|| LeaderHint {
        node: choices.number(),
        address: format!("node-{}:{}", choices.number(), choices.number()),
        term: choices.number(),
    });
    ErrorOutcome { hint, ..ErrorOutcome::from(code).with_detail(choices.number()) }
}

fn heartbeat(choices: &mut Choices) -> Heartbeat {
    Heartbeat {
        shard: choices.number(),
        kind: choices.byte(),
        from: choices.number(),
        to: choices.number(),
        term: choices.number(),
        commit: choices.number(),
        context: choices.bytes(20),
    }
}

fn repair(choices: &mut Choices) -> RepairMessage {
    match choices.below(8) {
        0 => RepairMessage::Ask,
        1 => RepairMessage::Standing(Standing {
            term: choices.flag().then(|| choices.number()),
            voters: (0..choices.below(5)).map(|_| choices.number()).collect(),
            confirmed: choices.flag().then(|| Confirmed {
                commit_index: choices.number(),
                commit_chain: choices.number(),
                matched_index: choices.number(),
            }),
        }),
        2 => RepairMessage::Fetch {
            from_index: choices.number(),
            to_index: choices.number(),
            max_bytes: choices.number() as u32,
        },
        3 => RepairMessage::FetchCheckpoint,
        4 => RepairMessage::Checkpoint { checkpoint: choices.bytes(200) },
        _ => {
            let chain_before = choices.flag().then(|| choices.number());
            let (first, term, mut lsn) = (choices.number(), choices.number(), choices.number());
            let indexes = (0..choices.below(5)).map(|at| first.wrapping_add(at));
            let entries = indexes.map(|index| entry(choices, index, term, &mut lsn)).collect();
            RepairMessage::Entries { chain_before, entries }
        }
    }
}
