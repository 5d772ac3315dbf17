//! What native and peer streams share: sealing what an input describes, and cutting it up as a network would.

use bytes::{Bytes, BytesMut};

use super::super::allocation::within_size_class;
use super::super::choices::Choices;

/// No frame may be longer; small, so that the limit is met.
pub const FRAME_LIMIT: usize = 2048;
/// Where the checksum begins in both kinds of frames.
const CHECKED_AT: usize = 8;

/// A stream, and how it arrives.
pub struct Stream {
    /// All of it.
    bytes: Vec<u8>,
    /// Chooses where it is cut.
    cut: u8,
}

impl Stream {
    /// The pieces it arrives in: a few, for byte by byte would cost more than all the rest of an input. The first ends
    /// in a header or soon behind it, the last begins before the stream's end, the cut between is anywhere.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let length = self.bytes.len();
        let near = usize::from(self.cut % 64);
        let mut cuts = [near.min(length), length * usize::from(self.cut) / 256, length - near.min(length)];
        cuts.sort_unstable();
        let ends = cuts.into_iter().chain([length]);
        let starts = [0].into_iter().chain(cuts);
        starts.zip(ends).map(|(start, end)| &self.bytes[start..end])
    }
}

/// The stream an input describes: its bytes as they are, or, so that the fuzzer gets behind lengths and checksum, one
/// frame with right ones, once or twice. `head` gives the header's bytes between the checksum and the last length.
pub fn stream(input: &[u8], head: impl FnOnce(&mut Choices) -> Vec<u8>) -> Stream {
    let mut choices = Choices::new(input);
    let (form, cut) = (choices.byte(), choices.byte());
    if form & 1 == 0 {
        return Stream { bytes: choices.rest().to_vec(), cut };
    }
    let head = head(&mut choices);
    let payload_length = choices.below(0x1_0000) as usize;
    let body = choices.rest();
    let meta_length = body.len().saturating_sub(payload_length);
    let mut bytes = sealed_frame(&head, &body[..meta_length], &body[meta_length..]);
    if form & 8 == 0 {
        bytes.extend_from_within(..);
    }
    Stream { bytes, cut }
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
    for piece in stream.pieces() {
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
