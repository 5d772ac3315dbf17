//! What holds for every native message, with values drawn from a seed that a failure prints.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::generate::{Generate, Source};
use crate::outcome::Outcome;
use crate::wire::DecodeError;

fn encoded<T: Wire>(value: &T) -> BytesMut {
    let mut out = BytesMut::new();
    value.encode(&mut out);
    out
}

fn comes_back<T: Wire + Generate + PartialEq + Debug>(seed: u64) {
    let value = T::generate(&mut Source::from_seed(seed));
    let bytes = encoded(&value);
    assert_eq!(T::decode(&bytes).as_ref(), Ok(&value));
    assert!(bytes.len() >= T::MIN_BYTES, "{} bytes, at least {}", bytes.len(), T::MIN_BYTES);
}

fn prefixes_and_extensions_are_refused<T: Wire + Generate + PartialEq + Debug>(seed: u64) {
    let mut bytes = encoded(&T::generate(&mut Source::from_seed(seed)));
    for end in 0..bytes.len() {
        assert!(T::decode(&bytes[..end]).is_err(), "the first {end} bytes of {bytes:02x?}");
    }
    bytes.extend_from_slice(&[0]);
    assert_eq!(T::decode(&bytes), Err(DecodeError::TrailingBytes { count: 1 }));
}

/// Whatever the bytes, there is an answer; and what decodes encodes to the same bytes again, except that an
/// error code of the future reads as `Unknown`.
fn any_bytes_are_answered<T: Wire + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = T::decode(bytes) {
        assert_eq!(T::decode(&encoded(&value)), Ok(value));
    }
}

macro_rules! for_every_message {
    ($check:ident, $argument:expr) => {
        for_every_message! { @list $check, $argument;
            HelloRequest, Outcome<HelloResponse>, MetadataRequest, Outcome<MetadataResponse>,
            CreateTopicRequest, Outcome<CreateTopicResponse>, DeleteTopicRequest, Outcome<DeleteTopicResponse>,
            DescribeTopicRequest, Outcome<DescribeTopicResponse>, ListTopicsRequest, Outcome<ListTopicsResponse>,
            ProduceRequest, Outcome<ProduceResponse>, FetchRequest, Outcome<FetchResponse>,
            SubscribeRequest, Outcome<SubscribeResponse>, Outcome<Push>, Credit,
            UnsubscribeRequest, Outcome<UnsubscribeResponse>, TailRequest, Outcome<TailResponse>,
            LsnForTimeRequest, Outcome<LsnForTimeResponse>, TrimRequest, Outcome<TrimResponse>,
            FenceRequest, Outcome<FenceResponse>, InitProducerRequest, Outcome<InitProducerResponse>,
            AlterTopicRequest, Outcome<AlterTopicResponse>,
            CommitPositionRequest, Outcome<CommitPositionResponse>, ListPositionsRequest,
            Outcome<ListPositionsResponse>, DeletePositionsRequest, Outcome<DeletePositionsResponse>,
            JoinRequest, Outcome<JoinResponse>,
            ListBrokersRequest, Outcome<ListBrokersResponse>, RemoveBrokerRequest, Outcome<RemoveBrokerResponse>,
            DrainBrokerRequest, Outcome<DrainBrokerResponse>, MovePartitionRequest, Outcome<MovePartitionResponse>,
            RebalanceRequest, Outcome<RebalanceResponse>, CancelMovesRequest, Outcome<CancelMovesResponse>,
        }
    };
    (@list $check:ident, $argument:expr; $($message:ty,)+) => {
        $($check::<$message>($argument);)+
    };
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was(seed: u64) {
        for_every_message!(comes_back, seed);
    }

    #[test]
    fn every_message_cut_short_or_prolonged_is_refused(seed: u64) {
        for_every_message!(prefixes_and_extensions_are_refused, seed);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for_every_message!(any_bytes_are_answered, &bytes);
    }

    /// Mostly small numbers: such bytes get deeper into lists and strings than random ones.
    #[test]
    fn no_small_numbers_make_a_decoder_panic(bytes in prop::collection::vec(0_u8..4, 0..200)) {
        for_every_message!(any_bytes_are_answered, &bytes);
    }
}

#[test]
fn every_api_has_its_number_and_no_other_is_known() {
    assert!(Api::ALL.is_sorted_by_key(|api| *api as u8));
    for number in 0..=u8::MAX {
        let known = Api::ALL.iter().copied().find(|api| *api as u8 == number);
        assert_eq!(Api::from_byte(number), known);
    }
}

#[test]
fn an_outcome_without_fields_still_says_success() {
    let success: Outcome<DeleteTopicResponse> = Ok(DeleteTopicResponse {});
    assert_eq!(&encoded(&success)[..], [0, 0]);
}

#[test]
fn any_response_type_reads_a_refusal() {
    let refusal = crate::ErrorOutcome::new(crate::ErrorCode::UnknownRequest, "api 99 is unknown");
    let bytes = encoded(&refusal);
    assert_eq!(<Outcome<TailResponse>>::decode(&bytes), Ok(Err(refusal.clone())));
    assert_eq!(<Outcome<ProduceResponse>>::decode(&bytes), Ok(Err(refusal)));
}

fn produce_of(lengths: &[u32]) -> ProduceRequest {
    let item = |batch_length: &u32| ProduceItem {
        topic: "t".into(),
        partition: 0,
        expected_next_lsn: None,
        fence: None,
        position: None,
        batch_length: *batch_length,
    };
    ProduceRequest { timeout_ms: 0, batches: lengths.iter().map(item).collect() }
}

#[test]
fn a_payload_is_cut_where_the_message_says_without_copying() {
    let payload = Bytes::from_static(b"abcdef");
    let pieces = produce_of(&[2, 0, 4]).split_payload(&payload).unwrap();
    assert_eq!(pieces, ["ab", "", "cdef"]);
    assert_eq!(pieces[2].as_ptr(), payload[2..].as_ptr());
}

#[test]
fn a_payload_longer_or_shorter_than_declared_is_refused() {
    let payload = Bytes::from_static(b"abcdef");
    for (lengths, declared) in [(&[2, 3][..], 5), (&[7], 7), (&[u32::MAX, u32::MAX], 8_589_934_590)] {
        let refused = DecodeError::PayloadMismatch { declared, actual: 6 };
        assert_eq!(produce_of(lengths).split_payload(&payload), Err(refused));
    }
}

#[test]
fn a_failed_fetch_item_takes_nothing_of_the_payload() {
    let fetched = Fetched { log_start: 1, high_watermark: 9, first_lsn: 3, payload_length: 6 };
    let failed = crate::ErrorOutcome::from(crate::ErrorCode::UnknownTopic);
    let response = FetchResponse { items: vec![Err(failed), Ok(fetched)] };
    let pieces = response.split_payload(&Bytes::from_static(b"abcdef")).unwrap();
    assert_eq!(pieces, ["", "abcdef"]);
}
