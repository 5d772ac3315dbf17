//! What brokers say to each other, on connections of their own.
//!
//! ```text
//!  0  u32 length         bytes after this field
//!  4  u32 crc            CRC-32C of bytes 8 .. 16 + meta_length
//!  8  u8  kind           1 hello, 2 hello reply, 3 raft, 4 heartbeats, 5 repair, 6 question, 7 answer
//!  9  u8  zero
//! 10  u16 version        peer protocol version
//! 12  u32 meta_length
//! 16  meta …             the message
//!     payload …          bodies of log entries, back to back; the message says how long each is
//! ```
//!
//! - The first frame from the side that connects is a hello, and the first back is its reply.
//! - The checksum covers the message with all envelopes, and each envelope holds its body's CRC: so a body is
//!   summed once where it was made, and once where it arrives. The few bytes in front that the envelope's CRC
//!   leaves out have one in the message. A body without envelope stands in the message itself.
//! - Every fault ends the connection; brokers connect again.

mod heartbeat;
mod hello;
mod question;
mod raft_message;
mod repair;

#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::encoded_frame::EncodedFrame;
use crate::frame_lengths::{CHECKED_AT, CRC_AT, LengthError, META_LENGTH_BYTES, seal_head, take_frame};
use crate::outcome::Outcome;
use crate::wire::{DecodeError, Parsed, Wire, finish};

pub use heartbeat::Heartbeat;
pub use hello::{PeerHello, PeerWelcome};
pub use question::Numbered;
use raft_message::{Bodies, encode_messages, parse_messages};
pub use raft_message::{RaftMessage, WireEntry, WireSnapshot};
pub use repair::{Confirmed, RepairMessage, Standing};

/// The peer protocol version this crate speaks.
pub const PEER_VERSION: u16 = 1;

const KIND_AT: usize = CHECKED_AT;
const ZERO_AT: usize = KIND_AT + 1;
const VERSION_AT: usize = ZERO_AT + 1;
const META_LENGTH_AT: usize = VERSION_AT + 2;
/// Bytes before the message.
pub const PEER_HEADER_BYTES: usize = META_LENGTH_AT + META_LENGTH_BYTES;

const _: () = assert!(PEER_HEADER_BYTES == 16, "the header drawn above");

const KIND_HELLO: u8 = 1;
const KIND_HELLO_REPLY: u8 = 2;
const KIND_RAFT: u8 = 3;
const KIND_HEARTBEATS: u8 = 4;
const KIND_REPAIR: u8 = 5;
const KIND_QUESTION: u8 = 6;
const KIND_ANSWER: u8 = 7;

/// One frame between brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// Who connects, and to whom.
    Hello(PeerHello),
    /// Whether it is welcome.
    HelloReply(Outcome<PeerWelcome>),
    /// Raft messages of one shard, in order.
    Raft {
        /// The shard.
        shard: u64,
        /// Its messages.
        messages: Vec<RaftMessage>,
    },
    /// Heartbeats of many shards, and their answers: one frame per tick.
    Heartbeats(Vec<Heartbeat>),
    /// About the repair of one shard's replica.
    Repair {
        /// The shard.
        shard: u64,
        /// The question's number; its answer repeats it.
        number: u64,
        /// The question, or the answer.
        message: RepairMessage,
    },
    /// A broker asks another about the cluster; from the side that connects.
    Question(Numbered),
    /// What it is told; back on the same connection.
    Answer(Numbered),
}

/// Why bytes are not a peer frame. Each ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFrameError {
    /// The lengths cannot be.
    #[error(transparent)]
    Lengths(#[from] LengthError),
    /// Changed on the way.
    #[error(
        "the peer frame's checksum is {computed:#010x}, but it declares {declared:#010x}: check the network"
    )]
    BadChecksum {
        /// The checksum in the frame.
        declared: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// A version this broker does not speak.
    #[error("peer protocol version {version} is not spoken here: upgrade the brokers one version at a time")]
    UnsupportedVersion {
        /// The frame's version.
        version: u16,
    },
    /// The message is not what its kind says.
    #[error("a peer message is malformed: {0}")]
    Malformed(#[from] DecodeError),
}

impl PeerMessage {
    /// The frame, ready for one vectored write; entry bodies are passed by reference.
    #[must_use]
    pub fn encode(&self) -> EncodedFrame {
        let mut head = BytesMut::with_capacity(256);
        head.put_bytes(0, CHECKED_AT);
        head.put_u8(self.kind());
        head.put_u8(0);
        head.put_u16_le(PEER_VERSION);
        head.put_bytes(0, META_LENGTH_BYTES);
        let mut payload = Vec::new();
        match self {
            Self::Hello(hello) => hello.encode(&mut head),
            Self::HelloReply(reply) => reply.encode(&mut head),
            Self::Raft { shard, messages } => {
                shard.encode(&mut head);
                encode_messages(messages, &mut head, &mut payload);
            }
            Self::Heartbeats(heartbeats) => heartbeat::encode_all(heartbeats, &mut head),
            Self::Repair { shard, number, message } => {
                shard.encode(&mut head);
                number.encode(&mut head);
                message.encode(&mut head, &mut payload);
            }
            Self::Question(numbered) | Self::Answer(numbered) => numbered.encode(&mut head),
        }
        EncodedFrame { head: seal_head(head, PEER_HEADER_BYTES, &payload), payload }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => KIND_HELLO,
            Self::HelloReply(_) => KIND_HELLO_REPLY,
            Self::Raft { .. } => KIND_RAFT,
            Self::Heartbeats(_) => KIND_HEARTBEATS,
            Self::Repair { .. } => KIND_REPAIR,
            Self::Question(_) => KIND_QUESTION,
            Self::Answer(_) => KIND_ANSWER,
        }
    }

    fn decode(kind: u8, meta: &Bytes, payload: Bytes) -> Result<Self, DecodeError> {
        if ![KIND_RAFT, KIND_REPAIR].contains(&kind) && !payload.is_empty() {
            return Err(DecodeError::PayloadMismatch { declared: 0, actual: payload.len() as u64 });
        }
        match kind {
            KIND_HELLO => PeerHello::decode(meta).map(Self::Hello),
            KIND_HELLO_REPLY => Wire::decode(meta).map(Self::HelloReply),
            KIND_RAFT => decode_raft(meta, payload),
            KIND_REPAIR => decode_repair(meta, payload),
            KIND_HEARTBEATS => exact(heartbeat::parse_all(meta)).map(Self::Heartbeats),
            KIND_QUESTION => exact(Numbered::parse(meta)).map(Self::Question),
            KIND_ANSWER => exact(Numbered::parse(meta)).map(Self::Answer),
            _ => Err(DecodeError::InvalidTag { what: "peer frame kind", value: kind.into() }),
        }
    }
}

fn decode_raft(meta: &Bytes, payload: Bytes) -> Result<PeerMessage, DecodeError> {
    let mut bodies = Bodies::new(meta, payload);
    let (rest, shard) = finish(u64::parse(meta))?;
    let messages = exact(parse_messages(&mut bodies, rest))?;
    bodies.finish()?;
    Ok(PeerMessage::Raft { shard, messages })
}

fn decode_repair(meta: &Bytes, payload: Bytes) -> Result<PeerMessage, DecodeError> {
    let mut bodies = Bodies::new(meta, payload);
    let (rest, shard) = finish(u64::parse(meta))?;
    let (rest, number) = finish(u64::parse(rest))?;
    let message = exact(RepairMessage::parse(&mut bodies, rest))?;
    bodies.finish()?;
    Ok(PeerMessage::Repair { shard, number, message })
}

/// The parsed value, if nothing follows it.
fn exact<T>(parsed: Parsed<'_, T>) -> Result<T, DecodeError> {
    match finish(parsed)? {
        ([], value) => Ok(value),
        (rest, _) => Err(DecodeError::TrailingBytes { count: rest.len() as u64 }),
    }
}

/// Cuts peer frames out of a stream. Resumable: give it the buffer again when more bytes have arrived.
#[derive(Debug, Clone)]
pub struct PeerDecoder {
    frame_bytes_max: usize,
}

impl PeerDecoder {
    /// A decoder of frames of at most `frame_bytes_max` bytes, length field included.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max }
    }

    /// Takes the first frame off `buffer`, or returns `None` if it has not arrived whole. Bodies and envelopes
    /// share the buffer's memory.
    ///
    /// # Errors
    /// [`PeerFrameError`]; close the connection.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<PeerMessage>, PeerFrameError> {
        let frame = take_frame(buffer, PEER_HEADER_BYTES, self.frame_bytes_max)?;
        frame.map(|frame| split_frame(&frame)).transpose()
    }
}

/// Checks a whole frame, whose lengths are known to fit, and takes it apart.
fn split_frame(frame: &Bytes) -> Result<PeerMessage, PeerFrameError> {
    let mut header = &frame[CRC_AT..PEER_HEADER_BYTES];
    let declared = header.get_u32_le();
    let kind = header.get_u8();
    let zero = header.get_u8();
    let version = header.get_u16_le();
    let meta_end = PEER_HEADER_BYTES + header.get_u32_le() as usize;
    let computed = crc32c::crc32c(&frame[CHECKED_AT..meta_end]);
    if computed != declared {
        return Err(PeerFrameError::BadChecksum { declared, computed });
    }
    if version != PEER_VERSION {
        return Err(PeerFrameError::UnsupportedVersion { version });
    }
    if zero != 0 {
        return Err(DecodeError::InvalidTag { what: "reserved byte", value: zero.into() }.into());
    }
    let meta = frame.slice(PEER_HEADER_BYTES..meta_end);
    Ok(PeerMessage::decode(kind, &meta, frame.slice(meta_end..))?)
}
