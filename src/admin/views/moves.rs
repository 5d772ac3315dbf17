//! Moves of replicas.

use serde::{Deserialize, Serialize};

/// The moves that are under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesView {
    /// Whether replicas are being spread evenly: more moves begin as these end.
    pub rebalancing: bool,
    /// By topic and partition.
    pub moves: Vec<MoveView>,
}

/// A partition whose replicas are, or are to be, on other brokers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveView {
    /// The topic.
    pub topic: String,
    /// The partition's number in it.
    pub partition: u32,
    /// The brokers that hold a replica.
    pub from: Vec<u64>,
    /// The brokers that shall hold one, the preferred leader first; the same ones while a move is taken back.
    pub to: Vec<u64>,
}

/// What a move takes and answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveGoal {
    /// The brokers that shall hold a replica, the preferred leader first.
    pub to: Vec<u64>,
}

/// What giving moves up answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// How many moves go back.
    pub cancelled: usize,
}

/// How replicas and leaders would be, or are being, spread evenly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceView {
    /// Whether it goes on.
    pub begun: bool,
    /// What each broker holds and would hold, by id. Moves under way count as done.
    pub brokers: Vec<BrokerShareView>,
    /// What would move: 1,000 moves at most.
    pub moves: Vec<MoveView>,
    /// How many more would move, which are not shown.
    pub moves_left: usize,
    /// How many partitions move at this moment.
    pub moving: usize,
}

/// What one broker holds and would hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerShareView {
    /// The broker.
    pub broker: u64,
    /// Whether it gives its replicas away.
    pub draining: bool,
    /// Partitions that it holds a replica of.
    pub replicas_before: usize,
    /// Partitions that it would hold a replica of.
    pub replicas_after: usize,
    /// Partitions that it is the preferred leader of.
    pub leaders_before: usize,
    /// Partitions that it would be the preferred leader of.
    pub leaders_after: usize,
}
