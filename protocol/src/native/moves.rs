//! Moves of replicas: brokers drained, partitions moved, the load spread anew. Each states a goal: it is in force, durably,
//! when the answer comes, and the replicas move afterwards. To ask twice does no harm.

use crate::wire::wire_fields;

/// A broker gives its replicas to others and gets no new ones; or keeps what it still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainBrokerRequest {
    /// Its id.
    pub broker: u64,
    /// Whether it gives them away.
    pub draining: bool,
}

wire_fields!(DrainBrokerRequest { broker, draining });

/// It does so from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainBrokerResponse {}

wire_fields!(DrainBrokerResponse {});

/// Moves a partition's replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovePartitionRequest {
    /// The topic.
    pub topic: String,
    /// The partition's number in it.
    pub partition: u32,
    /// The brokers that shall hold a replica, preferred leader first.
    pub to: Vec<u64>,
}

wire_fields!(MovePartitionRequest { topic, partition, to });

/// It is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovePartitionResponse {}

wire_fields!(MovePartitionResponse {});

/// Spreads replicas and preferred leaders evenly over the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebalanceRequest {
    /// Whether the plan is only shown.
    pub dry_run: bool,
}

wire_fields!(RebalanceRequest { dry_run });

/// The plan; in force unless it was only to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebalanceResponse {
    /// What each broker holds and will hold, by id.
    pub brokers: Vec<BrokerShare>,
    /// The partitions that move, the first 1,000 of them.
    pub moves: Vec<PlannedMove>,
    /// How many more move: all of them do, a few at a time.
    pub moves_left: u32,
    /// How many partitions move at this moment, whoever asked for it.
    pub moving: u32,
    /// Whether replicas were being spread evenly before this was asked.
    pub under_way: bool,
}

wire_fields!(RebalanceResponse { brokers, moves, moves_left, moving, under_way });

/// What a broker holds before and after. Moves that were under way count as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerShare {
    /// The broker.
    pub broker: u64,
    /// Whether it gives its replicas to others.
    pub draining: bool,
    /// Partitions it holds a replica of.
    pub replicas_before: u32,
    /// Partitions it will hold a replica of.
    pub replicas_after: u32,
    /// Partitions it is the preferred leader of.
    pub leaders_before: u32,
    /// Partitions it will be the preferred leader of.
    pub leaders_after: u32,
}

wire_fields!(BrokerShare {
    broker,
    draining,
    replicas_before,
    replicas_after,
    leaders_before,
    leaders_after
});

/// A partition that gets other replicas, or only another preferred leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMove {
    /// The topic.
    pub topic: String,
    /// The partition's number in it.
    pub partition: u32,
    /// The brokers that hold a replica, preferred leader first.
    pub from: Vec<u64>,
    /// The brokers that will.
    pub to: Vec<u64>,
}

wire_fields!(PlannedMove { topic, partition, from, to });

/// Gives moves up: replicas stay where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelMovesRequest {
    /// Whose; without it, all moves but those off brokers that are draining.
    pub partition: Option<TopicPartition>,
}

wire_fields!(CancelMovesRequest { partition });

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition's number in it.
    pub partition: u32,
}

wire_fields!(TopicPartition { topic, partition });

/// They are given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelMovesResponse {
    /// How many.
    pub cancelled: u32,
}

wire_fields!(CancelMovesResponse { cancelled });
