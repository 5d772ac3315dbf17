//! The broker's errors as stable codes. The one place that knows both.

use lockstep_protocol::native::{PartitionMetadata, TopicConfig, TopicMetadata};
use lockstep_protocol::{ErrorCode, ErrorOutcome, LeaderHint};

use crate::broker::{Broker, ControlError, FetchError, LocateError, ProduceError, TopicError, TopicView};
use crate::cluster::{ReadFault, Refusal, TopicSettings};
use crate::engine::{AppendError, PositionRefusal};

/// Where the other brokers are: for the hints.
pub trait Brokers {
    /// The native address of a member of the cluster.
    fn native_address(&self, node: u64) -> Option<String>;
}

impl Brokers for Broker {
    fn native_address(&self, node: u64) -> Option<String> {
        self.cluster().members().get(node).map(|member| member.native.clone())
    }
}

/// An error of the broker that has a code.
pub trait ToOutcome {
    /// The error as the client gets it.
    fn to_outcome(&self, brokers: &dyn Brokers) -> ErrorOutcome;
}

fn not_leader(brokers: &dyn Brokers, message: String, leader: Option<u64>, term: u64) -> ErrorOutcome {
    match leader.and_then(|node| Some((node, brokers.native_address(node)?))) {
        Some((node, address)) => {
            ErrorOutcome::new(ErrorCode::NotLeader, message).with_hint(LeaderHint { node, address, term })
        }
        None => ErrorOutcome::new(ErrorCode::LeaderUnknown, message),
    }
}

impl ToOutcome for LocateError {
    fn to_outcome(&self, brokers: &dyn Brokers) -> ErrorOutcome {
        let code = match self {
            LocateError::UnknownTopic(_) => ErrorCode::UnknownTopic,
            LocateError::UnknownPartition { .. } => ErrorCode::UnknownPartition,
            LocateError::NotReplica { node } => return not_leader(brokers, self.to_string(), Some(*node), 0),
            LocateError::Opening { .. } => ErrorCode::NotReady,
            LocateError::Faulty(_) => ErrorCode::ShardFaulty,
        };
        ErrorOutcome::new(code, self.to_string())
    }
}

impl ToOutcome for AppendError {
    fn to_outcome(&self, brokers: &dyn Brokers) -> ErrorOutcome {
        let (code, detail) = match self {
            AppendError::NotLeader { leader, term } => {
                return not_leader(brokers, self.to_string(), *leader, *term);
            }
            AppendError::OutcomeUnknown => (ErrorCode::OutcomeUnknown, 0),
            AppendError::ConditionFailed { next_lsn } => (ErrorCode::ConditionFailed, *next_lsn),
            AppendError::Fenced { current } => (ErrorCode::Fenced, *current),
            AppendError::OutOfOrderSequence { expected, .. } => {
                (ErrorCode::OutOfOrderSequence, u64::try_from(*expected).unwrap_or(0))
            }
            AppendError::UnknownProducer => (ErrorCode::UnknownProducer, 0),
            AppendError::ProducerFenced { current } => {
                (ErrorCode::ProducerFenced, u64::try_from(*current).unwrap_or(0))
            }
            AppendError::DuplicateTooOld => (ErrorCode::DuplicateTooOld, 0),
            AppendError::Position(PositionRefusal::Conflict { next_lsn }) => {
                (ErrorCode::PositionConflict, *next_lsn)
            }
            AppendError::Position(PositionRefusal::Fenced { current }) => {
                (ErrorCode::GenerationFenced, *current)
            }
            AppendError::Position(_) => (ErrorCode::InvalidPosition, 0),
            AppendError::InvalidTrim { limit, .. } => (ErrorCode::LsnBeyondTail, *limit),
            AppendError::StorageFull => (ErrorCode::StorageFull, 0),
            AppendError::Overloaded | AppendError::ChangeUnderWay => (ErrorCode::Overloaded, 0),
            AppendError::Failed(_) => (ErrorCode::ShardFailed, 0),
            AppendError::Faulty(_) => (ErrorCode::ShardFaulty, 0),
            AppendError::Stopped => (ErrorCode::NotReady, 0),
        };
        ErrorOutcome::new(code, self.to_string()).with_detail(detail)
    }
}

impl ToOutcome for ReadFault {
    fn to_outcome(&self, _: &dyn Brokers) -> ErrorOutcome {
        match self {
            ReadFault::BelowLogStart { log_start } => {
                ErrorOutcome::new(ErrorCode::LsnBelowLogStart, self.to_string()).with_detail(*log_start)
            }
            ReadFault::Unreadable(_) => ErrorOutcome::new(ErrorCode::ShardFailed, self.to_string()),
        }
    }
}

impl ToOutcome for ProduceError {
    fn to_outcome(&self, brokers: &dyn Brokers) -> ErrorOutcome {
        match self {
            ProduceError::Locate(error) => error.to_outcome(brokers),
            ProduceError::Invalid(error) => ErrorOutcome::new(error.code(), error.to_string()),
            ProduceError::Append(error) => error.to_outcome(brokers),
            ProduceError::TimedOut { .. } => ErrorOutcome::new(ErrorCode::RequestTimedOut, self.to_string()),
        }
    }
}

impl ToOutcome for FetchError {
    fn to_outcome(&self, brokers: &dyn Brokers) -> ErrorOutcome {
        match self {
            FetchError::Locate(error) => error.to_outcome(brokers),
            FetchError::InvalidLsn => ErrorOutcome::new(ErrorCode::InvalidLsn, self.to_string()),
            FetchError::BeyondTail { next_lsn, .. } => {
                ErrorOutcome::new(ErrorCode::LsnBeyondTail, self.to_string()).with_detail(*next_lsn)
            }
            FetchError::Read(fault) => fault.to_outcome(brokers),
            FetchError::Closed => ErrorOutcome::new(ErrorCode::NotReady, self.to_string()),
        }
    }
}

impl ToOutcome for ControlError {
    fn to_outcome(&self, brokers: &dyn Brokers) -> ErrorOutcome {
        match self {
            ControlError::Locate(error) => error.to_outcome(brokers),
            ControlError::Append(error) => error.to_outcome(brokers),
            ControlError::Read(fault) => fault.to_outcome(brokers),
            ControlError::TimedOut { .. } => ErrorOutcome::new(ErrorCode::RequestTimedOut, self.to_string()),
        }
    }
}

impl ToOutcome for TopicError {
    fn to_outcome(&self, brokers: &dyn Brokers) -> ErrorOutcome {
        let code = match self {
            TopicError::NotLeader { leader, term } => {
                return not_leader(brokers, self.to_string(), *leader, *term);
            }
            TopicError::Refused(refusal) => code_of(refusal),
            TopicError::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            TopicError::TimedOut => ErrorCode::RequestTimedOut,
            TopicError::Log(error) => return error.to_outcome(brokers),
            TopicError::Elsewhere { .. } => ErrorCode::Unknown,
            TopicError::Stuck(_) => ErrorCode::NotReady,
        };
        ErrorOutcome::new(code, self.to_string())
    }
}

fn code_of(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::TopicExists(_) => ErrorCode::TopicExists,
        Refusal::UnknownTopic(_) => ErrorCode::UnknownTopic,
        Refusal::InvalidName(_) => ErrorCode::InvalidTopicName,
        Refusal::InvalidPartitions { .. } | Refusal::FewerPartitions { .. } => {
            ErrorCode::InvalidPartitionCount
        }
        Refusal::InvalidReplication { .. } => ErrorCode::InvalidReplicationFactor,
        Refusal::InvalidSetting { .. } => ErrorCode::InvalidConfig,
        Refusal::TooManyPartitions { .. } => ErrorCode::TooManyTopics,
        Refusal::NotFounded => ErrorCode::NotReady,
        Refusal::InvalidAddress { .. } => ErrorCode::InvalidConfig,
        Refusal::UnknownBroker(_) => ErrorCode::UnknownBroker,
        Refusal::BrokerRemoved(_) => ErrorCode::BrokerRemoved,
        Refusal::BrokerTaken(_) | Refusal::DirectoryTaken(_) | Refusal::AddressTaken { .. } => {
            ErrorCode::BrokerConflict
        }
        Refusal::BrokerInUse { .. } => ErrorCode::BrokerInUse,
        Refusal::UnknownPartition { .. } => ErrorCode::UnknownPartition,
        Refusal::TooFewBrokers { .. } | Refusal::BrokerNeeded { .. } | Refusal::BrokerSilent { .. } => {
            ErrorCode::TooFewBrokers
        }
        Refusal::InvalidReplicas(_) | Refusal::BrokerDraining(_) => ErrorCode::InvalidReplicas,
        Refusal::MovingAlready(_) => ErrorCode::MovingAlready,
        // Brokers' own business: no client's request leads here.
        Refusal::FoundedAlready
        | Refusal::UnknownShard(_)
        | Refusal::NotMoving(_)
        | Refusal::MoveIsOver(_) => ErrorCode::Unknown,
    }
}

/// A topic as the client gets it.
pub(super) fn to_metadata(view: &TopicView) -> TopicMetadata {
    let partitions = (0..).zip(view.topic.partitions.iter().zip(&view.leaders));
    let to_partition = |(partition, (placement, leader)): (
        u32,
        (&crate::cluster::Placement, &crate::broker::LeaderView),
    )| {
        PartitionMetadata {
            partition,
            shard: placement.shard,
            leader: leader.leader,
            term: leader.term,
            replicas: placement.replicas.clone(),
            moving_to: placement.moving_to.clone(),
        }
    };
    TopicMetadata {
        name: view.topic.name.clone(),
        id: view.topic.id,
        partitions: partitions.map(to_partition).collect(),
        config: to_config(&view.topic.settings),
    }
}

fn to_config(settings: &TopicSettings) -> TopicConfig {
    let TopicSettings { retention_bytes, retention_ms, max_batch_bytes, trust_producers } = *settings;
    TopicConfig { retention_bytes, retention_ms, max_batch_bytes, trust_producers }
}

/// A client's topic settings as the broker knows them.
pub(super) fn to_settings(config: &TopicConfig) -> TopicSettings {
    let TopicConfig { retention_bytes, retention_ms, max_batch_bytes, trust_producers } = *config;
    TopicSettings { retention_bytes, retention_ms, max_batch_bytes, trust_producers }
}
