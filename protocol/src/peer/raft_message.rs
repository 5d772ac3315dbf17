//! Raft messages, field for field those of raft-rs's `Message`, in a layout of our own.
//!
//! ```text
//! message:   u8 kind
//!            u64 from, to, term, log_term, index, commit, commit_term
//!            u8 reject
//!            u64 reject_hint, request_snapshot
//!            i64 priority
//!            u64 deprecated_priority
//!            u32 length, context …
//!            u32 count, entries …
//!            u8 present, snapshot
//! entry:     u64 index, u64 term, u8 kind
//!            u32 length, envelope …
//!            u32 body_length
//!            envelope empty:   body …
//!            else:             u32 CRC-32C of the body's first 21 bytes; the body stands in the frame's payload
//! snapshot:  u64 index, u64 term
//!            u32 count, u64 …  four times: voters, learners, voters_outgoing, learners_next
//!            u8 auto_leave
//!            u32 length, data …
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use nom::number::complete::le_u32;

use crate::wire::{DecodeError, Parsed, Wire, check_count, length_prefixed, wire_length};

/// A Raft message between two replicas of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftMessage {
    /// raft-rs's number of the message type.
    pub kind: u8,
    /// The replica it comes from.
    pub from: u64,
    /// The replica it goes to.
    pub to: u64,
    /// The sender's term.
    pub term: u64,
    /// Term of the entry at `index`.
    pub log_term: u64,
    /// Index before the entries, or the one that is acknowledged or rejected.
    pub index: u64,
    /// The sender's committed index, as far as the receiver may use it.
    pub commit: u64,
    /// Term of the entry at `commit`.
    pub commit_term: u64,
    /// Whether the request is rejected.
    pub reject: bool,
    /// Where the sender of a rejection would continue.
    pub reject_hint: u64,
    /// Index from which a snapshot is asked for.
    pub request_snapshot: u64,
    /// Election priority.
    pub priority: i64,
    /// Election priority, as older raft-rs sends it.
    pub deprecated_priority: u64,
    /// Read-index context, or a campaign's mark.
    pub context: Bytes,
    /// Log entries.
    pub entries: Vec<WireEntry>,
    /// A snapshot, for a follower that is too far behind.
    pub snapshot: Option<WireSnapshot>,
}

impl RaftMessage {
    /// Whether it answers a heartbeat: raft-rs's `MsgHeartbeatResponse`.
    #[must_use]
    pub fn answers_heartbeat(&self) -> bool {
        self.kind == 9
    }

    /// Whether it acknowledges an entry at or after an index: raft-rs's `MsgAppendResponse`.
    #[must_use]
    pub fn acknowledges_from(&self, index: u64) -> bool {
        self.kind == 4 && !self.reject && self.index >= index
    }
}

/// A log entry on its way to a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireEntry {
    /// Its Raft index.
    pub index: u64,
    /// Its Raft term.
    pub term: u64,
    /// raft-rs's number of the entry type.
    pub kind: u8,
    /// What storage knows of the body, its CRC included; empty for entries that Raft itself makes.
    pub envelope: Bytes,
    /// What is stored under it, the same bytes on every replica.
    pub body: Bytes,
}

/// A checkpoint and the membership at its index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireSnapshot {
    /// Index of the last entry it stands for.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Replicas that vote.
    pub voters: Vec<u64>,
    /// Replicas that learn.
    pub learners: Vec<u64>,
    /// Replicas that vote in the outgoing half of a joint configuration.
    pub voters_outgoing: Vec<u64>,
    /// Replicas that become learners when the joint configuration ends.
    pub learners_next: Vec<u64>,
    /// Whether the joint configuration ends by itself.
    pub auto_leave: bool,
    /// The checkpoint, a few KiB.
    pub data: Bytes,
}

/// Bytes of a message without context, entries or snapshot.
const MESSAGE_BYTES_MIN: usize = 1 + 7 * 8 + 1 + 4 * 8 + 4 + 4 + 1;
/// Bytes of an entry without envelope and body.
const ENTRY_BYTES_MIN: usize = 8 + 8 + 1 + 4 + 4;

/// Where the part of a body begins that its envelope's checksum covers: what a record batch sums itself.
const CHECKSUMMED_AT: usize = crate::batch::ATTRIBUTES_AT;

/// Appends a count and the messages; bodies under an envelope go to `payload` instead.
pub(super) fn encode_messages(messages: &[RaftMessage], out: &mut BytesMut, payload: &mut Vec<Bytes>) {
    out.put_u32_le(wire_length(messages.len()));
    for message in messages {
        encode_message(message, out, payload);
    }
}

fn encode_message(message: &RaftMessage, out: &mut BytesMut, payload: &mut Vec<Bytes>) {
    message.kind.encode(out);
    message.from.encode(out);
    message.to.encode(out);
    message.term.encode(out);
    message.log_term.encode(out);
    message.index.encode(out);
    message.commit.encode(out);
    message.commit_term.encode(out);
    message.reject.encode(out);
    message.reject_hint.encode(out);
    message.request_snapshot.encode(out);
    message.priority.encode(out);
    message.deprecated_priority.encode(out);
    put_bytes(&message.context, out);
    encode_entries(&message.entries, out, payload);
    message.snapshot.is_some().encode(out);
    if let Some(snapshot) = &message.snapshot {
        encode_snapshot(snapshot, out);
    }
}

/// Appends a count and the entries; bodies under an envelope go to `payload` instead.
pub(super) fn encode_entries(entries: &[WireEntry], out: &mut BytesMut, payload: &mut Vec<Bytes>) {
    out.put_u32_le(wire_length(entries.len()));
    for entry in entries {
        encode_entry(entry, out, payload);
    }
}

fn encode_entry(entry: &WireEntry, out: &mut BytesMut, payload: &mut Vec<Bytes>) {
    entry.index.encode(out);
    entry.term.encode(out);
    entry.kind.encode(out);
    put_bytes(&entry.envelope, out);
    if entry.envelope.is_empty() {
        put_bytes(&entry.body, out);
    } else {
        out.put_u32_le(wire_length(entry.body.len()));
        out.put_u32_le(prefix_checksum(&entry.body));
        payload.push(entry.body.clone());
    }
}

fn encode_snapshot(snapshot: &WireSnapshot, out: &mut BytesMut) {
    snapshot.index.encode(out);
    snapshot.term.encode(out);
    snapshot.voters.encode(out);
    snapshot.learners.encode(out);
    snapshot.voters_outgoing.encode(out);
    snapshot.learners_next.encode(out);
    snapshot.auto_leave.encode(out);
    put_bytes(&snapshot.data, out);
}

/// The envelope's checksum begins behind these bytes, so they get one of their own.
fn prefix_checksum(body: &[u8]) -> u32 {
    crc32c::crc32c(&body[..body.len().min(CHECKSUMMED_AT)])
}

/// Appends a length and the bytes.
pub(super) fn put_bytes(bytes: &Bytes, out: &mut BytesMut) {
    out.put_u32_le(wire_length(bytes.len()));
    out.put_slice(bytes);
}

/// The frame that is being parsed: where slices point to, and the bodies that are not claimed yet.
pub(super) struct Bodies<'m> {
    meta: &'m Bytes,
    payload: Bytes,
}

impl<'m> Bodies<'m> {
    pub(super) fn new(meta: &'m Bytes, payload: Bytes) -> Self {
        Self { meta, payload }
    }

    /// Takes a length and that many bytes of the message, without copying.
    pub(super) fn bytes<'a>(&self, input: &'a [u8]) -> Parsed<'a, Bytes> {
        let (rest, bytes) = length_prefixed(input)?;
        Ok((rest, self.meta.slice_ref(bytes)))
    }

    /// Takes a body that stands in the payload.
    fn claim(&mut self, length: u32) -> Result<Bytes, nom::Err<DecodeError>> {
        check_count(length, 1, &self.payload)?;
        Ok(self.payload.split_to(length as usize))
    }

    /// All bodies must have been claimed.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.payload.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { count: count as u64 }),
        }
    }
}

/// Takes a count and that many messages.
pub(super) fn parse_messages<'a>(bodies: &mut Bodies<'_>, input: &'a [u8]) -> Parsed<'a, Vec<RaftMessage>> {
    list(input, MESSAGE_BYTES_MIN, |input| parse_message(bodies, input))
}

fn list<'a, T>(
    input: &'a [u8],
    item_bytes_min: usize,
    mut item: impl FnMut(&'a [u8]) -> Parsed<'a, T>,
) -> Parsed<'a, Vec<T>> {
    let (mut input, count) = le_u32(input)?;
    check_count(count, item_bytes_min, input)?;
    let mut items = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (rest, value) = item(input)?;
        items.push(value);
        input = rest;
    }
    Ok((input, items))
}

fn parse_message<'a>(bodies: &mut Bodies<'_>, input: &'a [u8]) -> Parsed<'a, RaftMessage> {
    let mut message = RaftMessage::default();
    let mut rest = input;
    (rest, message.kind) = u8::parse(rest)?;
    (rest, message.from) = u64::parse(rest)?;
    (rest, message.to) = u64::parse(rest)?;
    (rest, message.term) = u64::parse(rest)?;
    (rest, message.log_term) = u64::parse(rest)?;
    (rest, message.index) = u64::parse(rest)?;
    (rest, message.commit) = u64::parse(rest)?;
    (rest, message.commit_term) = u64::parse(rest)?;
    (rest, message.reject) = bool::parse(rest)?;
    (rest, message.reject_hint) = u64::parse(rest)?;
    (rest, message.request_snapshot) = u64::parse(rest)?;
    (rest, message.priority) = i64::parse(rest)?;
    (rest, message.deprecated_priority) = u64::parse(rest)?;
    (rest, message.context) = bodies.bytes(rest)?;
    (rest, message.entries) = parse_entries(bodies, rest)?;
    let (mut rest, present) = bool::parse(rest)?;
    if present {
        let snapshot;
        (rest, snapshot) = parse_snapshot(bodies, rest)?;
        message.snapshot = Some(snapshot);
    }
    Ok((rest, message))
}

/// Takes a count and that many entries.
pub(super) fn parse_entries<'a>(bodies: &mut Bodies<'_>, input: &'a [u8]) -> Parsed<'a, Vec<WireEntry>> {
    list(input, ENTRY_BYTES_MIN, |input| parse_entry(bodies, input))
}

fn parse_entry<'a>(bodies: &mut Bodies<'_>, input: &'a [u8]) -> Parsed<'a, WireEntry> {
    let (input, index) = u64::parse(input)?;
    let (input, term) = u64::parse(input)?;
    let (input, kind) = u8::parse(input)?;
    let (input, envelope) = bodies.bytes(input)?;
    let (input, body) = if envelope.is_empty() {
        bodies.bytes(input)?
    } else {
        let (input, length) = le_u32(input)?;
        let (input, declared) = le_u32(input)?;
        let body = bodies.claim(length)?;
        if prefix_checksum(&body) != declared {
            return Err(nom::Err::Failure(DecodeError::BodyChecksum { index }));
        }
        (input, body)
    };
    Ok((input, WireEntry { index, term, kind, envelope, body }))
}

fn parse_snapshot<'a>(bodies: &Bodies<'_>, input: &'a [u8]) -> Parsed<'a, WireSnapshot> {
    let (input, index) = u64::parse(input)?;
    let (input, term) = u64::parse(input)?;
    let (input, voters) = Vec::parse(input)?;
    let (input, learners) = Vec::parse(input)?;
    let (input, voters_outgoing) = Vec::parse(input)?;
    let (input, learners_next) = Vec::parse(input)?;
    let (input, auto_leave) = bool::parse(input)?;
    let (input, data) = bodies.bytes(input)?;
    let snapshot =
        WireSnapshot { index, term, voters, learners, voters_outgoing, learners_next, auto_leave, data };
    Ok((input, snapshot))
}
