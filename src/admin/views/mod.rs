//! The JSON of the admin interface. Field names are part of the interface: add, never rename.

mod brokers;
mod moves;
mod partitions;
mod positions;
mod topics;

pub use brokers::{BrokerView, ClusterView};
pub use moves::{BrokerShareView, Cancelled, MoveGoal, MoveView, MovesView, RebalanceView};
pub use partitions::{LogStart, PartitionView, ReplicaProgressView, ReplicaState, ReplicaView, Transfer};
pub use positions::{NewPosition, PositionView, Source};
pub use topics::{
    NewTopic, SettingsChange, TopicChange, TopicPartition, TopicSettings, TopicSummary, TopicView,
};
