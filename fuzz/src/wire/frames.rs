//! What native and peer streams share: sealing what an input describes, and cutting it up as a network would.

use bytes::{Bytes, BytesMut};

use super::super::allocation::within_size_class;
use super::super::choices::Choices;

/// No frame may be longer; small, so that the limit is met.
pub const FRAME_LIMIT: usize = 2048;
/// Where the checksum begins in both kinds of frames.
const CHECKED_AT: usize = 8;

/// A stream, and the length of the pieces it arrives in.
pub struct Stream {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Bytes that arrive at a time.
    pub piece: usize,
}

/// The stream an input describes: its bytes as they are, or, so that the fuzzer gets behind lengths and checksum, one
/// frame with right ones, twice. `head` gives the header's bytes between the checksum and the last length.
pub fn stream(input: &[u8], head: impl FnOnce(&mut Choices) -> Vec<u8>) -> Stream {
    let mut choices = Choices::new(input);
    let sealed = choices.flag();
    let piece = 1 + choices.below(64) as usize;
    if !sealed {
        return Stream { bytes: choices.rest().to_vec(), piece };
    }
    let head = head(&mut choices);
    let payload_length = choices.below(0x1_0000) as usize;
    let body = choices.rest();
    let meta_length = body.len().saturating_sub(payload_length);
    let frame = sealed_frame(&head, &body[..meta_length], &body[meta_length..]);
    Stream { bytes: [&frame[..], &frame[..]].concat(), piece }
}

/// A frame with right lengths and checksum.
fn sealed_frame(head: &[u8], meta: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; CHECKED_AT];
    frame.extend_from_slice(head);
    frame.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    frame.extend_from_slice(meta);
    let crc = crc32c::crc32c(&frame[CHECKED_AT..]);
    let length = (frame.len() + payload.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Decodes the stream at once and piece by piece, and returns the frames if both ways agree.
///
/// `decode` takes one frame off a buffer; `goes_on` says whether the stream can be read on behind an error.
pub fn decode_both_ways<F: PartialEq + std::fmt::Debug, E: PartialEq + std::fmt::Debug>(
    stream: &Stream,
    mut decode: impl FnMut(&mut BytesMut) -> Result<Option<F>, E>,
    goes_on: impl Fn(&E) -> bool,
) -> Vec<Result<F, E>> {
    let mut drain = |buffer: &mut BytesMut, frames: &mut Vec<Result<F, E>>| -> bool {
        loop {
            match within_size_class(buffer.len(), || decode(buffer)) {
                Ok(None) => return true,
                Ok(Some(frame)) => frames.push(Ok(frame)),
                Err(error) => {
                    let fatal = !goes_on(&error);
                    frames.push(Err(error));
                    if fatal {
                        return false;
                    }
                }
            }
        }
    };
    let mut at_once = Vec::new();
    drain(&mut BytesMut::from(&stream.bytes[..]), &mut at_once);
    let (mut in_pieces, mut buffer) = (Vec::new(), BytesMut::new());
    for piece in stream.bytes.chunks(stream.piece) {
        buffer.extend_from_slice(piece);
        if !drain(&mut buffer, &mut in_pieces) {
            break;
        }
    }
    assert_eq!(at_once, in_pieces, "a stream decodes the same however it is cut");
    at_once
}

/// The bytes as one shared buffer.
pub fn shared(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
