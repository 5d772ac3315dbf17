//! Native frames: what a broker reads from a client, and a client from a broker.

use std::fmt::Debug;

use bytes::BytesMut;
use lockstep_protocol::native::*;
use lockstep_protocol::{
    Api, Batches, Frame, FrameDecoder, FrameError, Outcome, PROTOCOL_VERSION, ValidationLimits, Wire,
    validate,
};

use super::super::allocation::{within, within_size_class};
use super::super::choices::Choices;
use super::frames::{FRAME_LIMIT, Stream, decode_both_ways, stream};

/// Frames as a broker gets them.
pub fn requests(input: &[u8]) {
    let stream = stream(input, |choices| head(choices, 1));
    for frame in decode(&stream) {
        match frame.api {
            Api::Hello => exact::<HelloRequest>(&frame),
            Api::Metadata => exact::<MetadataRequest>(&frame),
            Api::CreateTopic => exact::<CreateTopicRequest>(&frame),
            Api::DeleteTopic => exact::<DeleteTopicRequest>(&frame),
            Api::AlterTopic => exact::<AlterTopicRequest>(&frame),
            Api::Join => exact::<JoinRequest>(&frame),
            Api::ListBrokers => exact::<ListBrokersRequest>(&frame),
            Api::RemoveBroker => exact::<RemoveBrokerRequest>(&frame),
            Api::DrainBroker => exact::<DrainBrokerRequest>(&frame),
            Api::MovePartition => exact::<MovePartitionRequest>(&frame),
            Api::Rebalance => exact::<RebalanceRequest>(&frame),
            Api::CancelMoves => exact::<CancelMovesRequest>(&frame),
            Api::DescribeTopic => exact::<DescribeTopicRequest>(&frame),
            Api::ListTopics => exact::<ListTopicsRequest>(&frame),
            Api::Produce => produce(&frame),
            Api::Fetch => exact::<FetchRequest>(&frame),
            Api::Subscribe => exact::<SubscribeRequest>(&frame),
            Api::Credit => exact::<Credit>(&frame),
            Api::Unsubscribe => exact::<UnsubscribeRequest>(&frame),
            Api::Tail => exact::<TailRequest>(&frame),
            Api::LsnForTime => exact::<LsnForTimeRequest>(&frame),
            Api::Trim => exact::<TrimRequest>(&frame),
            Api::Fence => exact::<FenceRequest>(&frame),
            Api::InitProducer => exact::<InitProducerRequest>(&frame),
            Api::CommitPosition => exact::<CommitPositionRequest>(&frame),
            Api::ListPositions => exact::<ListPositionsRequest>(&frame),
            Api::DeletePositions => exact::<DeletePositionsRequest>(&frame),
        }
    }
}

/// Frames as a client gets them: answers and pushes.
pub fn responses(input: &[u8]) {
    let stream = stream(input, |choices| {
        let kind = 2 + choices.byte() % 2;
        head(choices, kind)
    });
    for frame in decode(&stream) {
        match frame.api {
            Api::Hello => answer::<HelloResponse>(&frame),
            Api::Metadata => answer::<MetadataResponse>(&frame),
            Api::CreateTopic => answer::<CreateTopicResponse>(&frame),
            Api::DeleteTopic => answer::<DeleteTopicResponse>(&frame),
            Api::AlterTopic => answer::<AlterTopicResponse>(&frame),
            Api::Join => answer::<JoinResponse>(&frame),
            Api::ListBrokers => answer::<ListBrokersResponse>(&frame),
            Api::RemoveBroker => answer::<RemoveBrokerResponse>(&frame),
            Api::DrainBroker => answer::<DrainBrokerResponse>(&frame),
            Api::MovePartition => answer::<MovePartitionResponse>(&frame),
            Api::Rebalance => answer::<RebalanceResponse>(&frame),
            Api::CancelMoves => answer::<CancelMovesResponse>(&frame),
            Api::DescribeTopic => answer::<DescribeTopicResponse>(&frame),
            Api::ListTopics => answer::<ListTopicsResponse>(&frame),
            Api::Produce => answer::<ProduceResponse>(&frame),
            Api::Fetch => fetched(&frame),
            Api::Subscribe if frame.kind == lockstep_protocol::FrameKind::Push => answer::<Push>(&frame),
            Api::Subscribe => answer::<SubscribeResponse>(&frame),
            Api::Credit => {}
            Api::Unsubscribe => answer::<UnsubscribeResponse>(&frame),
            Api::Tail => answer::<TailResponse>(&frame),
            Api::LsnForTime => answer::<LsnForTimeResponse>(&frame),
            Api::Trim => answer::<TrimResponse>(&frame),
            Api::Fence => answer::<FenceResponse>(&frame),
            Api::InitProducer => answer::<InitProducerResponse>(&frame),
            Api::CommitPosition => answer::<CommitPositionResponse>(&frame),
            Api::ListPositions => answer::<ListPositionsResponse>(&frame),
            Api::DeletePositions => answer::<DeletePositionsResponse>(&frame),
        }
    }
}

/// More than there are: an api that is added leaves kept inputs what they were.
const APIS_MAX: u8 = 32;

/// Kind, api, version and correlation; mostly ones that exist.
fn head(choices: &mut Choices, usual_kind: u8) -> Vec<u8> {
    let (api, odd) = (choices.byte() % APIS_MAX, choices.byte());
    let kind = if odd == 255 { 9 } else { usual_kind };
    let version = PROTOCOL_VERSION + u16::from(odd == 254);
    let [low, high] = version.to_le_bytes();
    [&[kind, api, low, high][..], &choices.array::<4>()].concat()
}

fn decode(stream: &Stream) -> Vec<Frame> {
    let mut decoder = FrameDecoder::new(FRAME_LIMIT);
    let goes_on = |error: &FrameError| error.reply_to().is_some();
    let frames = decode_both_ways(stream, |buffer| decoder.decode(buffer), goes_on);
    for error in frames.iter().filter_map(|frame| frame.as_ref().err()) {
        assert!(!error.to_string().is_empty() && !error.code().name().is_empty());
    }
    frames.into_iter().flatten().collect()
}

/// A message has one encoding: what decodes, encodes to the same bytes, and no shorter bytes will do.
fn exact<T: Wire + PartialEq + Debug>(frame: &Frame) {
    let meta = &frame.meta[..];
    let Ok(message) = within_size_class(meta.len(), || T::decode(meta)) else { return };
    let mut encoded = BytesMut::new();
    message.encode(&mut encoded);
    assert_eq!(&encoded[..], meta, "a message has one encoding");
    assert!(meta.is_empty() || T::decode(&meta[..meta.len() - 1]).is_err(), "a cut-off message is refused");
}

/// An answer survives being sent on. Its bytes may differ: a code of a later version reads as "unknown".
fn answer<T: Wire + PartialEq + Debug>(frame: &Frame) {
    let meta = &frame.meta[..];
    let Ok(message) = within_size_class(meta.len(), || Outcome::<T>::decode(meta)) else { return };
    let mut encoded = BytesMut::new();
    message.encode(&mut encoded);
    assert_eq!(Outcome::<T>::decode(&encoded), Ok(message));
    assert!(Outcome::<T>::decode(&meta[..meta.len() - 1]).is_err(), "a cut-off answer is refused");
}

/// A produce request is also taken apart, and each of its batches judged.
fn produce(frame: &Frame) {
    exact::<ProduceRequest>(frame);
    let Ok(request) = ProduceRequest::decode(&frame.meta) else { return };
    let Ok(batches) = request.split_payload(&frame.payload) else { return };
    assert_eq!(batches.concat(), frame.payload, "the pieces are the payload");
    for batch in batches {
        let _verdict = within(0, || validate(&batch, &ValidationLimits::default()));
    }
}

/// The payload of a fetch is cut up for each partition, and then into batches.
fn fetched(frame: &Frame) {
    answer::<FetchResponse>(frame);
    let Ok(Ok(response)) = Outcome::<FetchResponse>::decode(&frame.meta) else { return };
    let Ok(payloads) = response.split_payload(&frame.payload) else { return };
    assert_eq!(payloads.concat(), frame.payload, "the pieces are the payload");
    for payload in payloads {
        let cut: usize = Batches::new(payload.clone()).flatten().map(|batch| batch.len()).sum();
        assert!(cut <= payload.len());
    }
}
