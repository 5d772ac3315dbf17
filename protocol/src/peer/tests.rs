//! What holds for every peer message, with values drawn from a seed that a failure prints.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::generate::{Generate, Source, generate_fields};

generate_fields!(WireEntry { index, term, kind, envelope, body });
generate_fields!(WireSnapshot {
    index,
    term,
    voters,
    learners,
    voters_outgoing,
    learners_next,
    auto_leave,
    data,
});
generate_fields!(RaftMessage {
    kind,
    from,
    to,
    term,
    log_term,
    index,
    commit,
    commit_term,
    reject,
    reject_hint,
    request_snapshot,
    priority,
    deprecated_priority,
    context,
    entries,
    snapshot,
});
generate_fields!(Numbered { number, text });
generate_fields!(Heartbeat { shard, kind, from, to, term, commit, context });

impl Generate for RepairMessage {
    fn generate(source: &mut Source) -> Self {
        match source.below(6) {
            0 => Self::Ask,
            1 => Self::Standing(Generate::generate(source)),
            2 => Self::Fetch {
                from_index: Generate::generate(source),
                to_index: Generate::generate(source),
                max_bytes: Generate::generate(source),
            },
            3 => Self::Entries {
                chain_before: Generate::generate(source),
                entries: Generate::generate(source),
            },
            4 => Self::FetchCheckpoint,
            _ => Self::Checkpoint { checkpoint: Generate::generate(source) },
        }
    }
}

impl Generate for PeerMessage {
    fn generate(source: &mut Source) -> Self {
        match source.below(7) {
            5 => Self::Question(Generate::generate(source)),
            6 => Self::Answer(Generate::generate(source)),
            4 => Self::Repair {
                shard: Generate::generate(source),
                number: Generate::generate(source),
                message: Generate::generate(source),
            },
            0 => Self::Hello(Generate::generate(source)),
            1 => Self::HelloReply(Generate::generate(source)),
            2 => Self::Heartbeats(Generate::generate(source)),
            _ => Self::Raft { shard: Generate::generate(source), messages: Generate::generate(source) },
        }
    }
}

/// Far above what the generated messages need.
const LIMIT: usize = 1 << 20;

fn decode(bytes: &[u8]) -> Result<Option<PeerMessage>, PeerFrameError> {
    PeerDecoder::new(LIMIT).decode(&mut BytesMut::from(bytes))
}

/// A frame around a message that is not one, with a right checksum.
fn framed(kind: u8, meta: &[u8], payload: &'static [u8]) -> Bytes {
    let mut head = BytesMut::zeroed(PEER_HEADER_BYTES);
    head[KIND_AT] = kind;
    head[VERSION_AT..META_LENGTH_AT].copy_from_slice(&PEER_VERSION.to_le_bytes());
    head.extend_from_slice(meta);
    let payload = vec![Bytes::from_static(payload)];
    EncodedFrame { head: seal_head(head, PEER_HEADER_BYTES, &payload), payload }.to_bytes()
}

proptest! {
    #[test]
    fn every_peer_message_comes_back_as_it_was(seed: u64) {
        let message = PeerMessage::generate(&mut Source::from_seed(seed));
        prop_assert_eq!(decode(&message.encode().to_bytes()), Ok(Some(message)));
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_messages(seed: u64, piece in 1_usize..40) {
        let source = &mut Source::from_seed(seed);
        let messages: Vec<PeerMessage> = (0..3).map(|_| PeerMessage::generate(source)).collect();
        let stream: Vec<u8> = messages.iter().flat_map(|message| message.encode().to_bytes()).collect();
        let mut decoder = PeerDecoder::new(LIMIT);
        let mut buffer = BytesMut::new();
        let mut decoded = Vec::new();
        for bytes in stream.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Some(message) = decoder.decode(&mut buffer).unwrap() {
                decoded.push(message);
            }
        }
        prop_assert_eq!(decoded, messages);
    }

    #[test]
    fn a_message_cut_short_inside_its_frame_is_refused(seed: u64) {
        let frame = PeerMessage::generate(&mut Source::from_seed(seed)).encode();
        let meta = &frame.head[PEER_HEADER_BYTES..];
        for end in 0..meta.len() {
            let cut = decode(&framed(frame.head[KIND_AT], &meta[..end], b""));
            prop_assert!(matches!(cut, Err(PeerFrameError::Malformed(_))), "the first {end} bytes: {cut:?}");
        }
    }

    #[test]
    fn any_changed_bit_behind_the_length_and_outside_the_bodies_is_caught(seed: u64, at: prop::sample::Index) {
        let frame = PeerMessage::generate(&mut Source::from_seed(seed)).encode();
        let bit = at.index((frame.head.len() - CRC_AT) * 8);
        let mut bytes = BytesMut::from(&frame.to_bytes()[..]);
        bytes[CRC_AT + bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(kind in 0_u8..9, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _unframed = decode(&bytes);
        if let Ok(Some(message)) = decode(&framed(kind, &bytes, b"")) {
            prop_assert_eq!(decode(&message.encode().to_bytes()), Ok(Some(message)));
        }
    }
}

#[test]
fn bodies_under_an_envelope_travel_by_reference_and_others_under_the_frames_checksum() {
    let body = Bytes::from_static(b"record batch");
    let enveloped = WireEntry { envelope: "envelope".into(), body: body.clone(), ..WireEntry::default() };
    let bare = WireEntry { body: "membership change".into(), ..WireEntry::default() };
    let message = RaftMessage { entries: vec![enveloped, bare], ..RaftMessage::default() };
    let frame = PeerMessage::Raft { shard: 1, messages: vec![message] }.encode();
    assert_eq!(frame.payload.len(), 1);
    assert_eq!(frame.payload[0].as_ptr(), body.as_ptr());
    assert!(frame.head.windows(17).any(|window| window == b"membership change"));
}

#[test]
fn a_payload_no_message_claims_is_refused() {
    let heartbeats = PeerMessage::Heartbeats(vec![]).encode();
    let with_payload = framed(KIND_HEARTBEATS, &heartbeats.head[PEER_HEADER_BYTES..], b"x");
    assert!(matches!(decode(&with_payload), Err(PeerFrameError::Malformed(_))));

    let raft = PeerMessage::Raft { shard: 1, messages: vec![] }.encode();
    let with_payload = framed(KIND_RAFT, &raft.head[PEER_HEADER_BYTES..], b"x");
    let unclaimed = DecodeError::TrailingBytes { count: 1 };
    assert_eq!(decode(&with_payload), Err(PeerFrameError::Malformed(unclaimed)));
}

#[test]
fn a_frame_beyond_the_limit_is_refused_by_its_first_four_bytes() {
    let refused = LengthError::TooLarge { declared: u64::from(u32::MAX) + 4, limit: LIMIT as u64 }.into();
    assert_eq!(decode(&[0xff; 4]), Err(refused));
}

#[test]
fn a_message_longer_than_its_frame_is_refused_before_the_frame_has_arrived() {
    let mut bytes = framed(KIND_HELLO, &[0; 50], b"").to_vec();
    bytes[META_LENGTH_AT] = 51;
    let refused = LengthError::MetaBeyondFrame { meta_length: 51, room: 50 }.into();
    assert_eq!(decode(&bytes[..PEER_HEADER_BYTES]), Err(refused));
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bytes = framed(KIND_HELLO, &[], b"").to_vec();
    bytes[VERSION_AT] = 9;
    let crc = crc32c::crc32c(&bytes[KIND_AT..]);
    bytes[CRC_AT..KIND_AT].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(decode(&bytes), Err(PeerFrameError::UnsupportedVersion { version: 9 }));
}

#[test]
fn a_message_is_a_heartbeat_only_if_nothing_is_lost_by_it() {
    let heartbeat = RaftMessage { kind: 8, from: 1, to: 2, term: 3, commit: 4, ..RaftMessage::default() };
    let short = Heartbeat::from_message(7, &heartbeat).unwrap();
    assert_eq!((short.shard, short.to_message()), (7, heartbeat.clone()));

    let with_index = RaftMessage { index: 5, ..heartbeat };
    assert_eq!(Heartbeat::from_message(7, &with_index), None);
}
