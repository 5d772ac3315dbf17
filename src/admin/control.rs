//! What the admin interface asks of the broker, and how the broker refuses.

use std::future::Future;

use super::views::{
    BrokerView, ClusterView, MovesView, NewPosition, NewTopic, PositionView, RebalanceView, ReplicaState,
    TopicChange, TopicSummary, TopicView,
};
use crate::config::Config;
use crate::metrics::PartitionSample;

/// The broker as its operator sees it. Reads answer from what this broker knows; writes are committed when they return.
pub trait Control: Send + Sync + 'static {
    /// Whether this broker can serve, and why not.
    fn readiness(&self) -> Readiness;

    /// The cluster at a glance.
    fn cluster(&self) -> ClusterView;

    /// The cluster's brokers; whether they answer is found out by the caller.
    fn brokers(&self) -> Vec<BrokerView>;

    /// Removes a broker that holds nothing; returns when it is committed.
    fn remove_broker(&self, id: u64) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// Lets a broker give its replicas to others and get no new ones, or (not `draining`) keep what it still holds.
    fn drain(&self, id: u64, draining: bool) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// The moves that are under way.
    fn moves(&self) -> MovesView;

    /// Moves a partition's replicas to these brokers, the preferred leader first.
    fn move_partition(
        &self,
        topic: &str,
        partition: u32,
        to: &[u64],
    ) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// Gives up the moves of a partition, or (none) all but those off brokers that are draining; returns how many.
    fn cancel_moves(
        &self,
        partition: Option<(&str, u32)>,
    ) -> impl Future<Output = Result<usize, AdminError>> + Send;

    /// Spreads replicas and leaders evenly; only says how, if it is a `dry_run`.
    fn rebalance(&self, dry_run: bool) -> impl Future<Output = Result<RebalanceView, AdminError>> + Send;

    /// All topics, by name.
    fn topics(&self) -> Vec<TopicSummary>;

    /// One topic.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`].
    fn topic(&self, name: &str) -> impl Future<Output = Result<TopicView, AdminError>> + Send;

    /// Creates a topic; returns when it is committed.
    fn create_topic(&self, topic: NewTopic) -> impl Future<Output = Result<TopicView, AdminError>> + Send;

    /// Changes a topic, all of it or nothing; returns when it is committed.
    fn alter_topic(
        &self,
        name: &str,
        change: TopicChange,
    ) -> impl Future<Output = Result<TopicView, AdminError>> + Send;

    /// Deletes a topic and its records; returns when it is committed.
    fn delete_topic(&self, name: &str) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// The state of this broker's replica of a partition.
    fn replica(
        &self,
        topic: &str,
        partition: u32,
    ) -> impl Future<Output = Result<ReplicaState, AdminError>> + Send;

    /// Hands the partition's leadership to broker `to`; returns when it has left.
    fn transfer(
        &self,
        topic: &str,
        partition: u32,
        to: u64,
    ) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// Gives up the records below `log_start`; returns the log start in force, once it is committed.
    fn trim(
        &self,
        topic: &str,
        partition: u32,
        log_start: u64,
    ) -> impl Future<Output = Result<u64, AdminError>> + Send;

    /// The positions kept in a partition, of one group or of all, confirmed by a majority.
    fn positions(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&str>,
    ) -> impl Future<Output = Result<Vec<PositionView>, AdminError>> + Send;

    /// Commits a group's position, to be kept in this partition.
    fn commit_position(
        &self,
        topic: &str,
        partition: u32,
        group: &str,
        position: NewPosition,
    ) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// Deletes all positions of a group that are kept in this partition.
    fn delete_positions(
        &self,
        topic: &str,
        partition: u32,
        group: &str,
    ) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// The settings in force.
    fn config(&self) -> &Config;

    /// All local replicas, for a scrape.
    fn samples(&self) -> impl Future<Output = Vec<ShardSample>> + Send;

    /// Free bytes of the data directory's file system, if they can be read.
    fn disk_free_bytes(&self) -> Option<u64>;
}

/// Whether a broker can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, for these reasons, each a sentence.
    NotReady(Vec<String>),
}

/// One local replica at the moment of a scrape.
#[derive(Clone, Debug)]
pub struct ShardSample {
    /// One of [`crate::metrics::SHARD_HEALTHS`].
    pub health: &'static str,
    /// Whether the replica knows a leader.
    pub has_leader: bool,
    /// Whether it is the leader.
    pub is_leader: bool,
    /// Entries all followers are behind, summed; 0 on followers.
    pub lag_entries: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Whether it leads and its replicas move.
    pub is_moving: bool,
    /// About how many bytes of its log new replicas lack; 0 on followers.
    pub catch_up_bytes: u64,
    /// What the opt-in series show; none for the metadata and for what is not open.
    pub partition: Option<PartitionSample>,
}

/// Why the broker did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// No topic of this name.
    #[error("there is no topic {0:?}")]
    UnknownTopic(String),
    /// No such partition in the topic.
    #[error("topic {topic:?} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition that was asked for.
        partition: u32,
    },
    /// This broker has no replica of the partition.
    #[error("this broker holds no replica of partition {partition} of topic {topic:?}")]
    NoReplicaHere {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// The name is taken.
    #[error("there is a topic {0:?} already")]
    TopicExists(String),
    /// No broker of this id.
    #[error("there is no broker {0}")]
    UnknownBroker(u64),
    /// The broker cannot go yet.
    #[error("{0}")]
    BrokerInUse(String),
    /// Those that stay would be too few.
    #[error("{detail}")]
    TooFewBrokers {
        /// What is wrong.
        detail: String,
        /// What to do first.
        fix: String,
    },
    /// The partition moves elsewhere already.
    #[error("{0}")]
    MovingAlready(String),
    /// Somebody else has written since: the condition of a position's commit does not hold.
    #[error("{0}")]
    PositionConflict(String),
    /// A value in the request cannot be used.
    #[error("{detail}")]
    Invalid {
        /// What is wrong.
        detail: String,
        /// What to write instead.
        fix: String,
    },
    /// Another broker must do it.
    #[error("this broker does not lead what the request changes")]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
        /// Its admin address, as `host:port`, if known.
        address: Option<String>,
    },
    /// It was not known in time whether it was done.
    #[error("the outcome was not known in time: {0}")]
    TimedOut(String),
    /// The disk is below its free-space reserve.
    #[error("the disk is below its free-space reserve")]
    StorageFull,
    /// The shard is faulty or failed, or the broker is stopping.
    #[error("{0}")]
    Unavailable(String),
}
