//! Native frames: cut anywhere they come out the same, and each fault costs what it must and no more.

#![allow(clippy::unwrap_used, reason = "in a test, failing is what unwrap is for")]

use bytes::{Bytes, BytesMut};
use lockstep_protocol::frame::FRAME_HEADER_BYTES;
use lockstep_protocol::native::{Credit, FetchResponse, TrimRequest};
use lockstep_protocol::{
    Api, EncodedFrame, ErrorCode, ErrorOutcome, Frame, FrameDecoder, FrameError, FrameKind, LengthError,
    Outcome, ReplyTo, Wire,
};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

fn trim(correlation: u32) -> EncodedFrame {
    let request = TrimRequest { topic: "orders".into(), partition: 2, log_start: 77 };
    EncodedFrame::request(correlation, &request, vec![])
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    FrameDecoder::new(LIMIT).decode(&mut BytesMut::from(bytes))
}

/// The bytes with a new checksum: a frame that was built wrongly rather than damaged.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_gives_the_same_frames(
        correlations: [u32; 4],
        payload in prop::collection::vec(any::<u8>(), 0..100),
        piece in 1_usize..60,
    ) {
        let payload = Bytes::from(payload);
        let credit = Credit { subscription: 1, bytes: 2 };
        let frame = |correlation| EncodedFrame::request(correlation, &credit, vec![payload.clone()]);
        let stream: Vec<u8> = correlations.iter().flat_map(|correlation| frame(*correlation).to_bytes()).collect();
        let mut decoder = FrameDecoder::new(LIMIT);
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for bytes in stream.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                prop_assert_eq!(Credit::decode(&frame.meta), Ok(credit.clone()));
                prop_assert_eq!(&frame.payload, &payload);
                seen.push(frame.correlation);
            }
        }
        prop_assert_eq!(&seen[..], &correlations[..]);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _any_answer_will_do = decode(&bytes);
        let mut plausible = bytes;
        plausible.splice(0..0, [60, 0, 0, 0]);
        let _any_answer_will_do = decode(&plausible);
    }
}

#[test]
fn every_prefix_of_a_frame_asks_for_more() {
    let bytes = trim(9).to_bytes();
    for end in 0..bytes.len() {
        assert_eq!(decode(&bytes[..end]), Ok(None), "the first {end} bytes");
    }
}

#[test]
fn every_changed_bit_behind_the_length_is_caught() {
    let bytes = trim(9).to_bytes();
    for bit in 4 * 8..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&changed).is_err(), "bit {bit}");
    }
}

#[test]
fn a_frame_beyond_the_limit_is_refused_by_its_first_four_bytes_for_good() {
    let error = decode(&[0xff; 4]).unwrap_err();
    assert_eq!(
        error,
        LengthError::TooLarge { declared: u64::from(u32::MAX) + 4, limit: LIMIT as u64 }.into()
    );
    assert_eq!((error.reply_to(), error.code()), (None, ErrorCode::FrameTooLarge));
}

#[test]
fn the_limit_counts_the_whole_frame() {
    let bytes = trim(9).to_bytes();
    let decode = |limit| FrameDecoder::new(limit).decode(&mut BytesMut::from(&bytes[..]));
    assert!(decode(bytes.len()).unwrap().is_some());
    assert!(matches!(decode(bytes.len() - 1), Err(FrameError::Lengths(LengthError::TooLarge { .. }))));
}

#[test]
fn a_frame_too_short_for_its_header_ends_the_connection() {
    let error = decode(&[15, 0, 0, 0]).unwrap_err();
    assert_eq!((error.clone(), error.reply_to()), (LengthError::TooShort { declared: 19 }.into(), None));
}

#[test]
fn a_message_longer_than_its_frame_ends_the_connection() {
    let mut bytes = trim(9).to_bytes().to_vec();
    let room = (bytes.len() - FRAME_HEADER_BYTES) as u64;
    bytes[16] += 1;
    let error = decode(&bytes).unwrap_err();
    assert_eq!(error, LengthError::MetaBeyondFrame { meta_length: room + 1, room }.into());
    assert_eq!(error.reply_to(), None);
}

#[test]
fn a_damaged_message_can_be_answered_and_the_next_frame_is_read() {
    let mut stream = trim(9).to_bytes().to_vec();
    stream[FRAME_HEADER_BYTES] ^= 1;
    stream.extend_from_slice(&trim(10).to_bytes());
    let mut buffer = BytesMut::from(&stream[..]);
    let mut decoder = FrameDecoder::new(LIMIT);

    let error = decoder.decode(&mut buffer).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadChecksum);
    assert_eq!(error.reply_to(), Some(ReplyTo { api: Api::Trim as u8, correlation: 9 }));
    assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap().correlation, 10);
}

#[test]
fn an_unknown_kind_version_or_api_can_be_answered() {
    let faults = [
        (8, 4, ErrorCode::MalformedRequest),
        (9, 200, ErrorCode::UnknownRequest),
        (10, 2, ErrorCode::UnsupportedVersion),
    ];
    for (at, value, code) in faults {
        let mut bytes = trim(9).to_bytes().to_vec();
        bytes[at] = value;
        let error = decode(&resealed(bytes)).unwrap_err();
        assert_eq!(error.code(), code);
        assert_eq!(error.reply_to().unwrap().correlation, 9);
    }
}

#[test]
fn a_refusal_repeats_what_it_answers_and_reads_as_any_response() {
    let refusal = ErrorOutcome::new(ErrorCode::NotReady, "recovering").with_detail(3);
    let reply_to = ReplyTo { api: Api::Fetch as u8, correlation: 5 };
    let frame = decode(&EncodedFrame::refusal(reply_to, &refusal).to_bytes()).unwrap().unwrap();
    assert_eq!((frame.kind, frame.api, frame.correlation), (FrameKind::Response, Api::Fetch, 5));
    assert_eq!(<Outcome<FetchResponse>>::decode(&frame.meta), Ok(Err(refusal)));
}

#[test]
fn a_payload_is_neither_copied_nor_summed() {
    let payload = Bytes::from_static(b"record batch");
    let request = Credit { subscription: 1, bytes: 2 };
    let frame = EncodedFrame::request(9, &request, vec![payload.clone()]);
    assert_eq!(frame.payload[0].as_ptr(), payload.as_ptr());
    assert_eq!(frame.total_bytes(), frame.to_bytes().len());

    let mut changed = frame.to_bytes().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(decode(&changed).unwrap().unwrap().payload, "record batci");
}
