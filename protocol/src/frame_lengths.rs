//! What native and peer frames share: how their lengths are checked and their heads sealed.
//!
//! Both begin with `u32 length, u32 crc`, both headers end with `u32 meta_length`, and the checksum covers the
//! rest of the header and the message.

use bytes::{Bytes, BytesMut};

use crate::error_code::ErrorCode;
use crate::wire::wire_length;

/// Bytes of the length field, which the length does not count.
const LENGTH_BYTES: usize = 4;
/// Where the checksum stands.
pub(crate) const CRC_AT: usize = LENGTH_BYTES;
/// Where the bytes begin that the checksum covers.
pub(crate) const CHECKED_AT: usize = CRC_AT + 4;
/// Bytes of the header's last field.
pub(crate) const META_LENGTH_BYTES: usize = 4;

/// Why a frame's lengths cannot be. Where the next frame begins is then unknown, and the connection is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// Longer than this side accepts.
    #[error(
        "a frame of {declared} bytes exceeds the limit of {limit}: send smaller frames, or raise the limit"
    )]
    TooLarge {
        /// Bytes the frame has, by its length field.
        declared: u64,
        /// Bytes a frame may have.
        limit: u64,
    },
    /// Shorter than its own header.
    #[error("a frame of {declared} bytes cannot hold its header: this is not the Lockstep protocol")]
    TooShort {
        /// Bytes the frame has, by its length field.
        declared: u64,
    },
    /// The message is longer than the frame.
    #[error("a message of {meta_length} bytes is in a frame with room for {room}: correct meta_length")]
    MetaBeyondFrame {
        /// The message's declared length in bytes.
        meta_length: u64,
        /// Bytes the frame has after its header.
        room: u64,
    },
}

impl LengthError {
    /// The code that tells the other side.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::TooShort { .. } | Self::MetaBeyondFrame { .. } => ErrorCode::MalformedRequest,
        }
    }
}

/// Takes the first frame off `buffer` once it is whole, sharing its memory. Its header is `header_bytes` long,
/// and each length is checked as soon as it has arrived.
pub(crate) fn take_frame(
    buffer: &mut BytesMut,
    header_bytes: usize,
    limit: usize,
) -> Result<Option<Bytes>, LengthError> {
    let Some(length) = u32_at(buffer, 0) else { return Ok(None) };
    let declared = u64::from(length) + LENGTH_BYTES as u64;
    if declared > limit as u64 {
        return Err(LengthError::TooLarge { declared, limit: limit as u64 });
    }
    let Some(room) = declared.checked_sub(header_bytes as u64) else {
        return Err(LengthError::TooShort { declared });
    };
    let meta_length = u32_at(buffer, header_bytes - META_LENGTH_BYTES).map(u64::from);
    let Some(meta_length) = meta_length else { return Ok(None) };
    if meta_length > room {
        return Err(LengthError::MetaBeyondFrame { meta_length, room });
    }
    let total = length as usize + LENGTH_BYTES;
    Ok((buffer.len() >= total).then(|| buffer.split_to(total).freeze()))
}

/// The little-endian integer at `at`, if it has arrived.
fn u32_at(buffer: &[u8], at: usize) -> Option<u32> {
    let bytes = buffer.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Fills in the lengths and the checksum of a header and message.
pub(crate) fn seal_head(mut head: BytesMut, header_bytes: usize, payload: &[Bytes]) -> Bytes {
    let meta_length = head.len() - header_bytes;
    head[header_bytes - META_LENGTH_BYTES..header_bytes]
        .copy_from_slice(&wire_length(meta_length).to_le_bytes());
    let total = head.len() + payload.iter().map(Bytes::len).sum::<usize>();
    head[..CRC_AT].copy_from_slice(&wire_length(total - LENGTH_BYTES).to_le_bytes());
    let crc = crc32c::crc32c(&head[CHECKED_AT..]);
    head[CRC_AT..CHECKED_AT].copy_from_slice(&crc.to_le_bytes());
    head.freeze()
}
