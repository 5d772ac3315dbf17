//! Raft messages as a peer might send them: of known shape, with any contents.

use bytes::Bytes;
use lockstep_protocol::peer::{RaftMessage, WireEntry, WireSnapshot};
use lockstep_storage::{Checkpoint, ENVELOPE_BYTES, Envelope, EnvelopeKind};

use super::super::choices::Choices;

/// The next message.
pub fn raft_message(choices: &mut Choices) -> RaftMessage {
    let (kind, present) = (choices.byte() % 20, choices.byte());
    let mut message = RaftMessage {
        kind,
        from: choices.below(5),
        to: 1,
        term: choices.number(),
        index: choices.number(),
        ..RaftMessage::default()
    };
    message.log_term = choices.number();
    message.commit = choices.number();
    if present & 1 != 0 {
        message.commit_term = choices.number();
        message.reject = choices.flag();
        message.reject_hint = choices.number();
        message.request_snapshot = choices.number();
    }
    if present & 2 != 0 {
        message.priority = choices.number() as i64;
        message.deprecated_priority = choices.number();
        message.context = choices.bytes(20);
        message.to = choices.number();
        message.from = choices.number();
    }
    if present & 4 != 0 {
        let follows = present & 8 == 0;
        let (mut index, mut lsn) = (message.index, choices.number());
        for _ in 0..choices.below(5) {
            index = if follows { index.wrapping_add(1) } else { choices.number() };
            message.entries.push(entry(choices, index, message.term, &mut lsn));
        }
    }
    if present & 16 != 0 {
        message.snapshot = Some(snapshot(choices));
    }
    message
}

/// An entry of that index; `lsn` is the next one, as long as the entries make sense.
pub fn entry(choices: &mut Choices, index: u64, usual_term: u64, lsn: &mut u64) -> WireEntry {
    let form = choices.byte();
    let term = if form & 1 == 0 { usual_term } else { choices.number() };
    let body = choices.bytes(80);
    let envelope = match form & 6 {
        0 => Bytes::new(),
        2 => choices.bytes(ENVELOPE_BYTES as u64 + 2),
        _ => {
            let envelope = Envelope {
                kind: if form & 8 == 0 { EnvelopeKind::Batch } else { EnvelopeKind::State },
                record_count: choices.number() as u32,
                first_lsn: if form & 16 == 0 { *lsn } else { choices.number() },
                leader_time_ms: choices.number() as i64,
                max_timestamp_ms: choices.number() as i64,
                body_crc: Envelope::checksum(&body),
                state_length: choices.number() as u32,
                fence: choices.number(),
            };
            *lsn = lsn.wrapping_add(u64::from(envelope.record_count));
            Bytes::copy_from_slice(&envelope.encode())
        }
    };
    WireEntry { index, term, kind: (form >> 5) % 4, envelope, body }
}

fn snapshot(choices: &mut Choices) -> WireSnapshot {
    let form = choices.byte();
    let (index, term) = (choices.number(), choices.number());
    let mut nodes = || {
        let count = choices.below(4);
        (0..count).map(|_| choices.number()).collect::<Vec<_>>()
    };
    let (voters, learners) = (nodes(), nodes());
    let joint = form & 1 != 0;
    let (voters_outgoing, learners_next) = if joint { (nodes(), nodes()) } else { Default::default() };
    let data = match form & 2 {
        0 => choices.bytes(200),
        _ => checkpoint(choices, index, term).encode(),
    };
    WireSnapshot {
        index,
        term,
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave: form & 4 != 0,
        data,
    }
}

/// A checkpoint of that index with anything in it.
fn checkpoint(choices: &mut Choices, index: u64, term: u64) -> Checkpoint {
    Checkpoint {
        index,
        term,
        last_lsn: choices.number(),
        chain: choices.number(),
        commit: choices.number(),
        log_start: choices.number(),
        leader_time_ms: choices.number() as i64,
        membership_index: choices.number(),
        membership: choices.bytes(100),
        state: choices.bytes(100),
    }
}
