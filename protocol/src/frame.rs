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

use bytes::{Buf, Bytes, BytesMut};

use crate::error_code::ErrorCode;
use crate::frame_lengths::{CHECKED_AT, CRC_AT, LengthError, META_LENGTH_BYTES, take_frame};
use crate::native::Api;

/// The protocol version this crate speaks.
pub const PROTOCOL_VERSION: u16 = 1;

const KIND_AT: usize = CHECKED_AT;
const API_AT: usize = KIND_AT + 1;
const VERSION_AT: usize = API_AT + 1;
const CORRELATION_AT: usize = VERSION_AT + 2;
const META_LENGTH_AT: usize = CORRELATION_AT + 4;
/// Bytes before the message.
pub const FRAME_HEADER_BYTES: usize = META_LENGTH_AT + META_LENGTH_BYTES;

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
    /// The message, to be given to [`crate::Wire::decode`].
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
    /// The lengths cannot be: fatal for the connection.
    #[error(transparent)]
    Lengths(#[from] LengthError),
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
    /// Whom to answer with [`crate::EncodedFrame::refusal`]. `None`: the stream has lost its frame boundaries; tell
    /// [`ReplyTo::CONNECTION`], and close it.
    #[must_use]
    pub fn reply_to(&self) -> Option<ReplyTo> {
        match self {
            Self::Lengths(_) => None,
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
            Self::Lengths(error) => error.code(),
            Self::BadChecksum { .. } => ErrorCode::BadChecksum,
            Self::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
            Self::UnknownApi { .. } => ErrorCode::UnknownRequest,
            Self::UnknownKind { .. } => ErrorCode::MalformedRequest,
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
        let frame = take_frame(buffer, FRAME_HEADER_BYTES, self.frame_bytes_max)?;
        frame.map(|frame| split_frame(&frame)).transpose()
    }
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
    let computed = crc32c::crc32c(&frame[CHECKED_AT..meta_end]);
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
