//! Peer frames: what brokers read from each other.

use bytes::BytesMut;
use lockstep_protocol::peer::{PEER_VERSION, PeerDecoder, PeerFrameError, PeerMessage};

use super::super::choices::Choices;
use super::frames::{FRAME_LIMIT, decode_both_ways, stream};
use super::peer_messages::{other, raft};

/// A stream of frames; or a message of our own making, which must come back as it was sent.
pub fn frames(input: &[u8]) {
    if input.first().is_some_and(|form| form & 2 != 0) {
        let mut choices = Choices::new(&input[1..]);
        let message = if input[0] & 4 == 0 { raft(&mut choices) } else { other(&mut choices) };
        return comes_back(&message);
    }
    let stream = stream(input, head);
    let mut decoder = PeerDecoder::new(FRAME_LIMIT);
    let ends = |_: &PeerFrameError| false;
    for frame in decode_both_ways(&stream, |buffer| decoder.decode(buffer), ends) {
        match frame {
            Ok(message) => comes_back(&message),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Kind, zero and version; mostly ones that exist.
fn head(choices: &mut Choices) -> Vec<u8> {
    let (kind, odd) = (choices.byte() % 10, choices.byte());
    let [low, high] = (PEER_VERSION + u16::from(odd == 254)).to_le_bytes();
    vec![kind, u8::from(odd == 255), low, high]
}

/// Encoded and decoded again it is the same, and nothing is left of the stream.
fn comes_back(message: &PeerMessage) {
    let encoded = message.encode();
    let mut buffer = BytesMut::from(&encoded.to_bytes()[..]);
    assert_eq!(buffer.len(), encoded.total_bytes());
    let decoded = PeerDecoder::new(usize::MAX).decode(&mut buffer);
    assert_eq!(decoded.as_ref().map(Option::as_ref), Ok(Some(message)));
    assert!(buffer.is_empty());
}
