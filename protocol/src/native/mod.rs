//! The messages of the native protocol, one file per family.
//!
//! - Each request names its [`Api`] and its response type; an answer is an [`crate::Outcome`] of that type.
//! - The first request on a connection is [`HelloRequest`].
//! - Responses come in any order; the correlation ties them to their requests.
//! - Fields stand on the wire in the order they are declared in (see [`crate::wire`]).

mod brokers;
mod fence;
mod fetch;
mod hello;
mod metadata;
mod moves;
mod offsets;
mod payload;
mod positions;
mod produce;
mod producer;
mod subscribe;
mod topics;
mod trim;

#[cfg(test)]
mod tests;

use crate::wire::Wire;

pub use brokers::{
    BrokerInfo, JoinRequest, JoinResponse, ListBrokersRequest, ListBrokersResponse, RemoveBrokerRequest,
    RemoveBrokerResponse,
};
pub use fence::{FenceRequest, FenceResponse};
pub use fetch::{FetchItem, FetchRequest, FetchResponse, Fetched};
pub use hello::{HelloRequest, HelloResponse};
pub use metadata::{
    MetadataRequest, MetadataResponse, NodeInfo, PartitionMetadata, TopicConfig, TopicMetadata,
};
pub use moves::{
    BrokerShare, CancelMovesRequest, CancelMovesResponse, DrainBrokerRequest, DrainBrokerResponse,
    MovePartitionRequest, MovePartitionResponse, PlannedMove, RebalanceRequest, RebalanceResponse,
    TopicPartition,
};
pub use offsets::{LsnForTimeRequest, LsnForTimeResponse, TailRequest, TailResponse};
pub use positions::{
    CommitPositionRequest, CommitPositionResponse, DeletePositionsRequest, DeletePositionsResponse,
    ListPositionsRequest, ListPositionsResponse, Position, PositionCommit, PositionSource,
};
pub use produce::{Durability, ProduceItem, ProduceRequest, ProduceResponse, Produced};
pub use producer::{InitProducerRequest, InitProducerResponse};
pub use subscribe::{
    Credit, Push, SubscribeRequest, SubscribeResponse, UnsubscribeRequest, UnsubscribeResponse,
};
pub use topics::{
    AlterTopicRequest, AlterTopicResponse, CreateTopicRequest, CreateTopicResponse, DeleteTopicRequest,
    DeleteTopicResponse, DescribeTopicRequest, DescribeTopicResponse, ListTopicsRequest, ListTopicsResponse,
    PartitionStatus, TopicSummary,
};
pub use trim::{TrimRequest, TrimResponse};

/// A message a client sends.
pub trait Message: Wire {
    /// Its number on the wire.
    const API: Api;
}

/// A message that is answered.
pub trait Request: Message {
    /// What answers it, if it succeeds.
    type Response: Wire;
}

macro_rules! apis {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)+) => {
        /// Which message a frame holds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Api {
            $($(#[$doc])* $name = $number,)+
        }

        impl Api {
            /// Every api, by number.
            pub const ALL: &[Api] = &[$(Api::$name),+];

            /// The api with this number, if there is one.
            #[must_use]
            pub fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The name in the documentation, in logs and in metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

apis! {
    /// [`HelloRequest`]
    Hello = 0,
    /// [`MetadataRequest`]
    Metadata = 1,
    /// [`CreateTopicRequest`]
    CreateTopic = 2,
    /// [`DeleteTopicRequest`]
    DeleteTopic = 3,
    /// [`DescribeTopicRequest`]
    DescribeTopic = 4,
    /// [`ListTopicsRequest`]
    ListTopics = 5,
    /// [`ProduceRequest`]
    Produce = 6,
    /// [`FetchRequest`]
    Fetch = 7,
    /// [`SubscribeRequest`], and the pushes it asks for
    Subscribe = 8,
    /// [`Credit`]
    Credit = 9,
    /// [`UnsubscribeRequest`]
    Unsubscribe = 10,
    /// [`TailRequest`]
    Tail = 11,
    /// [`LsnForTimeRequest`]
    LsnForTime = 12,
    /// [`TrimRequest`]
    Trim = 13,
    /// [`FenceRequest`]
    Fence = 14,
    /// [`InitProducerRequest`]
    InitProducer = 15,
    /// [`AlterTopicRequest`]
    AlterTopic = 16,
    /// [`CommitPositionRequest`]
    CommitPosition = 17,
    /// [`ListPositionsRequest`]
    ListPositions = 18,
    /// [`DeletePositionsRequest`]
    DeletePositions = 19,
    /// [`JoinRequest`]
    Join = 20,
    /// [`ListBrokersRequest`]
    ListBrokers = 21,
    /// [`RemoveBrokerRequest`]
    RemoveBroker = 22,
    /// [`DrainBrokerRequest`]
    DrainBroker = 23,
    /// [`MovePartitionRequest`]
    MovePartition = 24,
    /// [`RebalanceRequest`]
    Rebalance = 25,
    /// [`CancelMovesRequest`]
    CancelMoves = 26,
}

macro_rules! requests {
    ($($request:ident => $api:ident, $response:ident;)+) => {$(
        impl Message for $request {
            const API: Api = Api::$api;
        }

        impl Request for $request {
            type Response = $response;
        }
    )+};
}

requests! {
    HelloRequest => Hello, HelloResponse;
    MetadataRequest => Metadata, MetadataResponse;
    CreateTopicRequest => CreateTopic, CreateTopicResponse;
    DeleteTopicRequest => DeleteTopic, DeleteTopicResponse;
    DescribeTopicRequest => DescribeTopic, DescribeTopicResponse;
    ListTopicsRequest => ListTopics, ListTopicsResponse;
    ProduceRequest => Produce, ProduceResponse;
    FetchRequest => Fetch, FetchResponse;
    SubscribeRequest => Subscribe, SubscribeResponse;
    UnsubscribeRequest => Unsubscribe, UnsubscribeResponse;
    TailRequest => Tail, TailResponse;
    LsnForTimeRequest => LsnForTime, LsnForTimeResponse;
    TrimRequest => Trim, TrimResponse;
    FenceRequest => Fence, FenceResponse;
    InitProducerRequest => InitProducer, InitProducerResponse;
    AlterTopicRequest => AlterTopic, AlterTopicResponse;
    CommitPositionRequest => CommitPosition, CommitPositionResponse;
    ListPositionsRequest => ListPositions, ListPositionsResponse;
    DeletePositionsRequest => DeletePositions, DeletePositionsResponse;
    JoinRequest => Join, JoinResponse;
    ListBrokersRequest => ListBrokers, ListBrokersResponse;
    RemoveBrokerRequest => RemoveBroker, RemoveBrokerResponse;
    DrainBrokerRequest => DrainBroker, DrainBrokerResponse;
    MovePartitionRequest => MovePartition, MovePartitionResponse;
    RebalanceRequest => Rebalance, RebalanceResponse;
    CancelMovesRequest => CancelMoves, CancelMovesResponse;
}

impl Message for Credit {
    const API: Api = Api::Credit;
}
