//! Heartbeats: a Raft message of which only a few fields are used, without the others.
//!
//! ```text
//! u64 shard
//! u8  kind      u64 from   u64 to   u64 term   u64 commit
//! u32 length, context …
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use nom::number::complete::le_u32;

use super::raft_message::{RaftMessage, put_bytes};
use crate::wire::{Parsed, Wire, check_count, length_prefixed, wire_length};

/// A leader's sign of life for one shard, or the answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The shard.
    pub shard: u64,
    /// raft-rs's number of the message type.
    pub kind: u8,
    /// The replica it comes from.
    pub from: u64,
    /// The replica it goes to.
    pub to: u64,
    /// The sender's term.
    pub term: u64,
    /// What the receiver may take as committed, or has as committed.
    pub commit: u64,
    /// The read-index request it confirms, or nothing.
    pub context: Bytes,
}

/// Bytes of a heartbeat without context.
const HEARTBEAT_BYTES_MIN: usize = 8 + 1 + 4 * 8 + 4;

impl Heartbeat {
    /// The short form of `message`; `None` if it uses a field that a heartbeat lacks.
    #[must_use]
    pub fn from_message(shard: u64, message: &RaftMessage) -> Option<Self> {
        let RaftMessage { kind, from, to, term, commit, .. } = *message;
        let heartbeat = Self { shard, kind, from, to, term, commit, context: message.context.clone() };
        (heartbeat.to_message() == *message).then_some(heartbeat)
    }

    /// The Raft message this is short for.
    #[must_use]
    pub fn to_message(&self) -> RaftMessage {
        RaftMessage {
            kind: self.kind,
            from: self.from,
            to: self.to,
            term: self.term,
            commit: self.commit,
            context: self.context.clone(),
            ..RaftMessage::default()
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        self.shard.encode(out);
        self.kind.encode(out);
        self.from.encode(out);
        self.to.encode(out);
        self.term.encode(out);
        self.commit.encode(out);
        put_bytes(&self.context, out);
    }

    fn parse<'a>(meta: &Bytes, input: &'a [u8]) -> Parsed<'a, Self> {
        let (input, shard) = u64::parse(input)?;
        let (input, kind) = u8::parse(input)?;
        let (input, from) = u64::parse(input)?;
        let (input, to) = u64::parse(input)?;
        let (input, term) = u64::parse(input)?;
        let (input, commit) = u64::parse(input)?;
        let (input, context) = length_prefixed(input)?;
        Ok((input, Self { shard, kind, from, to, term, commit, context: meta.slice_ref(context) }))
    }
}

/// Appends a count and the heartbeats.
pub(super) fn encode_all(heartbeats: &[Heartbeat], out: &mut BytesMut) {
    out.put_u32_le(wire_length(heartbeats.len()));
    for heartbeat in heartbeats {
        heartbeat.encode(out);
    }
}

/// Takes a count and that many heartbeats; their contexts share the memory of `meta`.
pub(super) fn parse_all(meta: &Bytes) -> Parsed<'_, Vec<Heartbeat>> {
    let (mut input, count) = le_u32(&meta[..])?;
    check_count(count, HEARTBEAT_BYTES_MIN, input)?;
    let mut heartbeats = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (rest, heartbeat) = Heartbeat::parse(meta, input)?;
        heartbeats.push(heartbeat);
        input = rest;
    }
    Ok((input, heartbeats))
}
