//! The native frame: how messages are cut out of a byte stream.
//!
//! ```text
//!  0  u32 length         bytes after this field
//!  4  u32 crc            CRC-32C of bytes 8 .. 20 + meta_length
//!  8  u8  kind           1 request, 2 response, 3 push
//!  9  u8  api            which message
//! 10  u16 version        protocol version
//! 12  u32 correlation    chosen by the client, repeated in the response; a push carries its subscription's
//! 16  u32 meta_length
//! 20  meta …             the message
//!     payload …          record batches back to back; the message says how long each is
//! ```
//!
//! - The length is checked against the limit before a byte behind it is waited for.
//! - The checksum leaves the payload out: a record batch carries its own, from producer to consumer.
//! - A fault behind an intact header costs one request; a fault in the lengths costs the connection, because
//!   the start of the next frame is then unknown.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error_code::ErrorCode;
use crate::native::{Api, Message, Request};
use crate::outcome::{ErrorOutcome, Outcome};
use crate::wire::{Wire, wire_length};

/// The protocol version this crate speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// Bytes of the length field, which the length does not count.
const LENGTH_BYTES: usize = 4;
const CRC_AT: usize = LENGTH_BYTES;
const KIND_AT: usize = CRC_AT + 4;
const API_AT: usize = KIND_AT + 1;
const VERSION_AT: usize = API_AT + 1;
const CORRELATION_AT: usize = VERSION_AT + 2;
const META_LENGTH_AT: usize = CORRELATION_AT + 4;
/// Bytes before the message.
pub const FRAME_HEADER_BYTES: usize = META_LENGTH_AT + 4;

const _: () = assert!(FRAME_HEADER_BYTES == 20, "the header drawn above");

/// What a frame is in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// From the client; answered by one response (a credit grant: by none).
    Request = 1,
    /// From the broker, to the request of the same correlation.
    Response = 2,
    /// From the broker, unasked, for the subscription of this correlation.
    Push = 3,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Request),
            2 => Some(Self::Response),
            3 => Some(Self::Push),
            _ => None,
        }
    }
}

/// A frame whose header and message are intact. The payload is not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Request, response or push.
    pub kind: FrameKind,
    /// Which message `meta` holds.
    pub api: Api,
    /// What ties a response to its request.
    pub correlation: u32,
    /// The message, to be given to [`Wire::decode`].
    pub meta: Bytes,
    /// Record batches back to back.
    pub payload: Bytes,
}

/// What an error response repeats of the request it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    /// The api number as it was sent, known or not.
    pub api: u8,
    /// The correlation as it was sent.
    pub correlation: u32,
}

impl ReplyTo {
    /// Nobody in particular: what a broker says before it closes a connection whose stream it has lost. No
    /// request uses this correlation.
    pub const CONNECTION: Self = Self { api: Api::Hello as u8, correlation: u32::MAX };
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than this side accepts.
    #[error(
        "a frame of {declared} bytes exceeds the limit of {limit}: send smaller requests, or raise the limit"
    )]
    TooLarge {
        /// Bytes the frame has, by its length field.
        declared: u64,
        /// Bytes a frame may have.
        limit: u64,
    },
    /// Shorter than its own header.
    #[error("a frame of {declared} bytes cannot hold its header of 20: this is not the Lockstep protocol")]
    TooShort {
        /// Bytes the frame has, by its length field.
        declared: u64,
    },
    /// The message is longer than the frame.
    #[error(
        "a message of {meta_length} bytes does not fit into its frame, which has room for {room}: correct meta_length"
    )]
    MetaBeyondFrame {
        /// The message's declared length in bytes.
        meta_length: u64,
        /// Bytes the frame has after its header.
        room: u64,
    },
    /// The header or the message was changed on the way.
    #[error("the frame's checksum is {computed:#010x}, but it declares {declared:#010x}: send it again")]
    BadChecksum {
        /// Whom to answer, if these bytes were not the ones that changed.
        reply_to: ReplyTo,
        /// The checksum in the frame.
        declared: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// A version this side does not speak.
    #[error("protocol version {version} is not spoken here: use version {PROTOCOL_VERSION}")]
    UnsupportedVersion {
        /// Whom to answer.
        reply_to: ReplyTo,
        /// The frame's version.
        version: u16,
    },
    /// Neither request, response nor push.
    #[error("frame kind {kind} is unknown: use 1 (request), 2 (response) or 3 (push)")]
    UnknownKind {
        /// Whom to answer.
        reply_to: ReplyTo,
        /// The frame's kind.
        kind: u8,
    },
    /// No message has this number.
    #[error("api {} is unknown: use an api number of protocol version {PROTOCOL_VERSION}", .reply_to.api)]
    UnknownApi {
        /// Whom to answer.
        reply_to: ReplyTo,
    },
}

impl FrameError {
    /// Whom to answer with [`EncodedFrame::refusal`]. `None`: the stream has lost its frame boundaries; tell
    /// [`ReplyTo::CONNECTION`], and close it.
    #[must_use]
    pub fn reply_to(&self) -> Option<ReplyTo> {
        match self {
            Self::TooLarge { .. } | Self::TooShort { .. } | Self::MetaBeyondFrame { .. } => None,
            Self::BadChecksum { reply_to, .. }
            | Self::UnsupportedVersion { reply_to, .. }
            | Self::UnknownKind { reply_to, .. }
            | Self::UnknownApi { reply_to } => Some(*reply_to),
        }
    }

    /// The code that tells the other side.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::BadChecksum { .. } => ErrorCode::BadChecksum,
            Self::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
            Self::UnknownApi { .. } => ErrorCode::UnknownRequest,
            Self::TooShort { .. } | Self::MetaBeyondFrame { .. } | Self::UnknownKind { .. } => {
                ErrorCode::MalformedRequest
            }
        }
    }
}

/// Cuts frames out of a stream. Resumable: give it the buffer again when more bytes have arrived.
#[derive(Debug, Clone)]
pub struct FrameDecoder {
    frame_bytes_max: usize,
}

impl FrameDecoder {
    /// A decoder of frames of at most `frame_bytes_max` bytes, length field included.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max }
    }

    /// Takes the first frame off `buffer`, or returns `None` if it has not arrived whole. The frame shares
    /// the buffer's memory.
    ///
    /// # Errors
    /// [`FrameError`]. If it has a [`FrameError::reply_to`], the frame was consumed and the next call goes on
    /// behind it; if not, the connection is beyond repair.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(total) = whole_frame_length(buffer, self.frame_bytes_max)? else { return Ok(None) };
        let frame = buffer.split_to(total).freeze();
        split_frame(&frame).map(Some)
    }
}

/// The length of the first frame, once all of it is there. The lengths are checked as soon as they arrive.
fn whole_frame_length(buffer: &BytesMut, limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(length) = u32_at(buffer, 0) else { return Ok(None) };
    let declared = u64::from(length) + LENGTH_BYTES as u64;
    if declared > limit as u64 {
        return Err(FrameError::TooLarge { declared, limit: limit as u64 });
    }
    if declared < FRAME_HEADER_BYTES as u64 {
        return Err(FrameError::TooShort { declared });
    }
    let Some(meta_length) = u32_at(buffer, META_LENGTH_AT).map(u64::from) else { return Ok(None) };
    let room = declared - FRAME_HEADER_BYTES as u64;
    if meta_length > room {
        return Err(FrameError::MetaBeyondFrame { meta_length, room });
    }
    let total = length as usize + LENGTH_BYTES;
    Ok((buffer.len() >= total).then_some(total))
}

/// Checks a whole frame, whose lengths are known to fit, and takes it apart.
fn split_frame(frame: &Bytes) -> Result<Frame, FrameError> {
    let mut header = &frame[CRC_AT..FRAME_HEADER_BYTES];
    let declared = header.get_u32_le();
    let kind = header.get_u8();
    let api = header.get_u8();
    let version = header.get_u16_le();
    let correlation = header.get_u32_le();
    let meta_end = FRAME_HEADER_BYTES + header.get_u32_le() as usize;

    let reply_to = ReplyTo { api, correlation };
    let computed = crc32c::crc32c(&frame[KIND_AT..meta_end]);
    if computed != declared {
        return Err(FrameError::BadChecksum { reply_to, declared, computed });
    }
    if version != PROTOCOL_VERSION {
        return Err(FrameError::UnsupportedVersion { reply_to, version });
    }
    let kind = FrameKind::from_byte(kind).ok_or(FrameError::UnknownKind { reply_to, kind })?;
    let api = Api::from_byte(api).ok_or(FrameError::UnknownApi { reply_to })?;
    let meta = frame.slice(FRAME_HEADER_BYTES..meta_end);
    Ok(Frame { kind, api, correlation, meta, payload: frame.slice(meta_end..) })
}

/// The little-endian integer at `at`, if it has arrived.
pub(crate) fn u32_at(buffer: &[u8], at: usize) -> Option<u32> {
    let bytes = buffer.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// A frame ready for one vectored write: `head`, then each slice of `payload`, none of them copied.
///
/// A frame beyond the receiver's limit costs the connection: compare [`EncodedFrame::total_bytes`] first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    /// Header and message.
    pub head: Bytes,
    /// Record batches, in the order of the message's lengths.
    pub payload: Vec<Bytes>,
}

impl EncodedFrame {
    /// A client's message. `payload` is empty except for a produce.
    #[must_use]
    pub fn request<M: Message>(correlation: u32, message: &M, payload: Vec<Bytes>) -> Self {
        let reply_to = ReplyTo { api: M::API as u8, correlation };
        Self::new(FrameKind::Request, reply_to, message, payload)
    }

    /// The answer to an `R`. `payload` is empty except for a fetch.
    #[must_use]
    pub fn response<R: Request>(
        correlation: u32,
        outcome: &Outcome<R::Response>,
        payload: Vec<Bytes>,
    ) -> Self {
        let reply_to = ReplyTo { api: R::API as u8, correlation };
        Self::new(FrameKind::Response, reply_to, outcome, payload)
    }

    /// The answer to a request that was refused, understood or not: every response type decodes it.
    #[must_use]
    pub fn refusal(reply_to: ReplyTo, error: &ErrorOutcome) -> Self {
        Self::new(FrameKind::Response, reply_to, error, Vec::new())
    }

    /// Records for the subscription that was opened under `correlation`, or why it ends.
    #[must_use]
    pub fn push(correlation: u32, push: &Outcome<crate::native::Push>, payload: Vec<Bytes>) -> Self {
        Self::new(FrameKind::Push, ReplyTo { api: Api::Subscribe as u8, correlation }, push, payload)
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.head.len() + self.payload.iter().map(Bytes::len).sum::<usize>()
    }

    /// The whole frame in one piece: a copy, for tests and small frames.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.total_bytes());
        out.put_slice(&self.head);
        for slice in &self.payload {
            out.put_slice(slice);
        }
        out.freeze()
    }

    fn new(kind: FrameKind, reply_to: ReplyTo, message: &impl Wire, payload: Vec<Bytes>) -> Self {
        let mut head = BytesMut::with_capacity(128);
        head.put_bytes(0, KIND_AT);
        head.put_u8(kind as u8);
        head.put_u8(reply_to.api);
        head.put_u16_le(PROTOCOL_VERSION);
        head.put_u32_le(reply_to.correlation);
        head.put_u32_le(0);
        message.encode(&mut head);
        let meta_length = head.len() - FRAME_HEADER_BYTES;
        head[META_LENGTH_AT..FRAME_HEADER_BYTES].copy_from_slice(&wire_length(meta_length).to_le_bytes());
        Self { head: seal_head(head, &payload), payload }
    }
}

/// Fills in length and checksum, the first two fields of native and peer frames alike.
pub(crate) fn seal_head(mut head: BytesMut, payload: &[Bytes]) -> Bytes {
    let total = head.len() + payload.iter().map(Bytes::len).sum::<usize>();
    let crc = crc32c::crc32c(&head[KIND_AT..]);
    head[..CRC_AT].copy_from_slice(&wire_length(total - LENGTH_BYTES).to_le_bytes());
    head[CRC_AT..KIND_AT].copy_from_slice(&crc.to_le_bytes());
    head.freeze()
}
