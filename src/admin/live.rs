//! The broker behind the admin interface: names and shapes translated, nothing decided.

use std::time::Duration;

use super::control::{AdminError, Control, Readiness, ShardSample};
use super::views::*;
use crate::broker::{self, Broker, LocateError, TopicError};
use crate::cluster::{self, Placement, Refusal};
use crate::config::Config;
use crate::engine::{AppendError, Health, PartitionHandle, ShardDescription};
use crate::identity::ClusterId;
use crate::metrics::PartitionSample;

/// How long a created topic may take to have leaders; it exists then, with or without.
const CREATE_WAIT: Duration = Duration::from_secs(10);

/// What the admin interface of a running broker needs.
pub struct BrokerControl {
    broker: Broker,
    config: Config,
    cluster: ClusterId,
}

impl BrokerControl {
    /// The admin side of `broker`, which belongs to `cluster` and runs with `config`.
    pub fn new(broker: Broker, config: Config, cluster: ClusterId) -> Self {
        BrokerControl { broker, config, cluster }
    }

    fn address_of(&self, node: u64) -> Option<String> {
        self.broker.cluster().members().get(node).map(|member| member.http.clone())
    }

    fn not_leader(&self, leader: Option<u64>) -> AdminError {
        AdminError::NotLeader { leader, address: leader.and_then(|node| self.address_of(node)) }
    }

    /// The state of a replica that takes no part in consensus.
    fn out_of_service(&self, placement: &Placement) -> ReplicaState {
        let reason = self.broker.cluster().fault(placement.shard);
        ReplicaState {
            node: self.config.node,
            shard: placement.shard,
            role: "none".into(),
            health: if reason.is_some() { "faulty" } else { "recovering" }.into(),
            reason,
            voters: placement.replicas.clone(),
            ..ReplicaState::default()
        }
    }

    fn view(&self, topic: &broker::TopicView) -> TopicView {
        let placed = topic.topic.partitions.iter().zip(&topic.leaders);
        let partition =
            |(number, (placement, leader)): (u32, (&Placement, &broker::LeaderView))| TopicPartition {
                partition: number,
                shard: placement.shard,
                replicas: placement.replicas.clone(),
                leader: leader.leader,
                term: leader.term,
            };
        TopicView {
            name: topic.topic.name.clone(),
            id: topic.topic.id,
            config: settings_view(&topic.topic.settings),
            partitions: (0..).zip(placed).map(partition).collect(),
        }
    }

    fn topic_error(&self, error: TopicError) -> AdminError {
        match error {
            TopicError::NotLeader { leader, .. } => self.not_leader(leader),
            TopicError::Refused(Refusal::UnknownTopic(name)) => AdminError::UnknownTopic(name),
            TopicError::Refused(Refusal::TopicExists(name)) => AdminError::TopicExists(name),
            TopicError::Refused(Refusal::UnknownBroker(id)) => AdminError::UnknownNode(id),
            TopicError::Refused(refusal @ Refusal::BrokerInUse { .. }) => {
                AdminError::NodeInUse(refusal.to_string())
            }
            TopicError::Refused(refusal) => invalid(&refusal.to_string()),
            TopicError::OutcomeUnknown | TopicError::TimedOut => AdminError::TimedOut(error.to_string()),
            TopicError::Log(error) => self.append_error(error),
            TopicError::Elsewhere { .. } | TopicError::Stuck(_) => AdminError::Unavailable(error.to_string()),
        }
    }

    fn append_error(&self, error: AppendError) -> AdminError {
        match error {
            AppendError::NotLeader { leader, .. } => self.not_leader(leader),
            AppendError::OutcomeUnknown => AdminError::TimedOut(error.to_string()),
            AppendError::StorageFull => AdminError::StorageFull,
            AppendError::InvalidTrim { log_start, limit } => AdminError::Invalid {
                detail: error.to_string(),
                fix: format!("send a log_start from {log_start} to {limit}"),
            },
            other => AdminError::Unavailable(other.to_string()),
        }
    }

    fn partition_error(&self, topic: &str, number: u32, error: broker::ControlError) -> AdminError {
        let (topic, partition) = (topic.to_owned(), number);
        match error {
            broker::ControlError::Locate(LocateError::UnknownTopic(name)) => AdminError::UnknownTopic(name),
            broker::ControlError::Locate(LocateError::UnknownPartition { .. }) => {
                AdminError::UnknownPartition { topic, partition }
            }
            broker::ControlError::Locate(LocateError::NotReplica { .. }) => {
                AdminError::NoReplicaHere { topic, partition }
            }
            broker::ControlError::Append(error) => self.append_error(error),
            broker::ControlError::TimedOut { .. } => AdminError::TimedOut(error.to_string()),
            other => AdminError::Unavailable(other.to_string()),
        }
    }
}

impl Control for BrokerControl {
    fn readiness(&self) -> Readiness {
        match self.broker.readiness() {
            Ok(()) => Readiness::Ready,
            Err(reason) => Readiness::NotReady(vec![reason]),
        }
    }

    fn cluster(&self) -> ClusterView {
        let cluster = self.broker.cluster();
        let (metadata_leader, metadata_term) = cluster.controller();
        let state = cluster.state();
        let leaderless = |placement: &Placement| {
            cluster.replica(placement.shard).is_some_and(|handle| handle.view().leader.is_none())
        };
        ClusterView {
            cluster: self.cluster.to_string(),
            node: self.config.node,
            version: env!("CARGO_PKG_VERSION").into(),
            metadata_leader,
            metadata_term,
            nodes: cluster.members().iter().len(),
            topics: state.topics().len(),
            partitions: state.placements().count(),
            leaderless_partitions: state.placements().filter(|(_, placement)| leaderless(placement)).count(),
        }
    }

    fn nodes(&self) -> Vec<NodeView> {
        let view = |status: cluster::BrokerStatus| NodeView {
            reachable: status.broker.id == self.config.node,
            id: status.broker.id,
            native: status.broker.native,
            peer: status.broker.peer,
            http: status.broker.http,
            rack: status.broker.rack,
            draining: status.broker.duty == cluster::Duty::Draining,
            replicas: status.replicas,
            metadata: status.metadata,
        };
        self.broker.cluster().brokers().into_iter().map(view).collect()
    }

    async fn remove_node(&self, id: u64) -> Result<(), AdminError> {
        let removed = self.broker.cluster().remove_broker(id).await;
        removed.map_err(|error| self.topic_error(error))
    }

    fn topics(&self) -> Vec<TopicSummary> {
        let state = self.broker.cluster().state();
        let summary = |topic: &std::sync::Arc<cluster::Topic>| TopicSummary {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.len(),
        };
        state.topics().map(summary).collect()
    }

    async fn topic(&self, name: &str) -> Result<TopicView, AdminError> {
        let topic = self.broker.topic(name).await.map_err(|error| self.topic_error(error))?;
        Ok(self.view(&topic))
    }

    async fn create_topic(&self, topic: NewTopic) -> Result<TopicView, AdminError> {
        let wanted = cluster::NewTopic {
            name: topic.name,
            partitions: chosen("partitions", topic.partitions)?,
            replication: chosen("replication", topic.replication)?,
            settings: cluster::TopicSettings {
                retention_bytes: topic.config.retention_bytes,
                retention_ms: topic.config.retention_ms,
                max_batch_bytes: topic.config.max_batch_bytes,
                trust_producers: topic.config.trust_producers,
            },
        };
        let created = self.broker.create_topic(&wanted, CREATE_WAIT).await;
        created.map(|topic| self.view(&topic)).map_err(|error| self.topic_error(error))
    }

    async fn alter_topic(&self, name: &str, change: TopicChange) -> Result<TopicView, AdminError> {
        let TopicChange { partitions, config } = change;
        let settings = cluster::SettingsChange {
            retention_bytes: config.retention_bytes,
            retention_ms: config.retention_ms,
            max_batch_bytes: config.max_batch_bytes,
            trust_producers: config.trust_producers,
        };
        let change = cluster::TopicChange { partitions, settings };
        let altered = self.broker.alter_topic(name, &change, CREATE_WAIT).await;
        altered.map(|topic| self.view(&topic)).map_err(|error| self.topic_error(error))
    }

    async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        self.broker.delete_topic(name).await.map_err(|error| self.topic_error(error))
    }

    async fn replica(&self, topic: &str, partition: u32) -> Result<ReplicaState, AdminError> {
        match self.broker.describe_partition(topic, partition).await {
            Ok(description) => Ok(replica_state(self.config.node, description)),
            Err(broker::ControlError::Locate(LocateError::Faulty(_) | LocateError::Opening { .. })) => {
                let state = self.broker.cluster().state();
                let placement = state.topic(topic).and_then(|topic| topic.partitions.get(partition as usize));
                placement
                    .map(|placement| self.out_of_service(placement))
                    .ok_or_else(|| AdminError::UnknownTopic(topic.to_owned()))
            }
            Err(error) => Err(self.partition_error(topic, partition, error)),
        }
    }

    async fn transfer(&self, topic: &str, partition: u32, to: u64) -> Result<(), AdminError> {
        let placed = self.topic(topic).await?.partitions.into_iter().nth(partition as usize);
        let unknown = || AdminError::UnknownPartition { topic: topic.to_owned(), partition };
        let replicas = placed.ok_or_else(unknown)?.replicas;
        if !replicas.contains(&to) {
            let detail = format!("node {to} holds no replica of the partition");
            return Err(AdminError::Invalid { detail, fix: format!("name one of the nodes {replicas:?}") });
        }
        let moved = self.broker.transfer_leadership(topic, partition, to).await;
        moved.map_err(|error| self.partition_error(topic, partition, error))
    }

    async fn trim(&self, topic: &str, partition: u32, log_start: u64) -> Result<u64, AdminError> {
        if log_start == 0 {
            let detail = "0 is no LSN".to_owned();
            return Err(AdminError::Invalid { detail, fix: "records are numbered from 1".into() });
        }
        let trimmed = self.broker.trim(topic, partition, log_start).await;
        trimmed.map_err(|error| self.partition_error(topic, partition, error))
    }

    fn config(&self) -> &Config {
        &self.config
    }

    async fn samples(&self) -> Vec<ShardSample> {
        let cluster = self.broker.cluster();
        let mut samples = Vec::new();
        if let Some(description) = cluster.metadata().describe().await {
            samples.push(shard_sample(&description, None));
        }
        let state = cluster.state();
        for topic in state.topics() {
            for (number, placement) in (0..).zip(&topic.partitions) {
                if !placement.replicas.contains(&self.config.node) {
                    continue;
                }
                let handle = cluster.replica(placement.shard);
                let named = (topic.name.as_str(), number);
                samples.push(match described(handle).await {
                    Some(description) => shard_sample(&description, Some(named)),
                    None => closed_sample(cluster.fault(placement.shard).is_some()),
                });
            }
        }
        samples
    }

    fn disk_free_bytes(&self) -> Option<u64> {
        let file_system = rustix::fs::statvfs(&self.config.data).ok()?;
        file_system.f_bavail.checked_mul(file_system.f_frsize)
    }
}

/// A number a request may leave out; 0 stands for that further in, so it cannot be asked for.
fn chosen(field: &str, value: Option<u32>) -> Result<u32, AdminError> {
    match value {
        Some(0) => Err(AdminError::Invalid {
            detail: format!("{field} cannot be 0"),
            fix: "ask for at least 1, or leave it out for the broker's default".into(),
        }),
        value => Ok(value.unwrap_or(0)),
    }
}

/// A refusal whose text names its fix after the semicolon, as the broker's errors do.
fn invalid(text: &str) -> AdminError {
    let (detail, fix) = text.rsplit_once("; ").unwrap_or((text, "correct the value"));
    AdminError::Invalid { detail: detail.to_owned(), fix: fix.to_owned() }
}

fn settings_view(settings: &cluster::TopicSettings) -> TopicSettings {
    TopicSettings {
        retention_bytes: settings.retention_bytes,
        retention_ms: settings.retention_ms,
        max_batch_bytes: settings.max_batch_bytes,
        trust_producers: settings.trust_producers,
    }
}

fn health_name(health: &Health) -> (&'static str, Option<String>) {
    match health {
        Health::Ok => ("ok", None),
        Health::Full => ("full", Some("the disk is below its free-space reserve".into())),
        Health::Failed(reason) => ("failed", Some(reason.clone())),
        Health::Faulty(reason) => ("faulty", Some(reason.clone())),
    }
}

async fn described(handle: Option<PartitionHandle>) -> Option<ShardDescription> {
    handle?.describe().await
}

fn shard_sample(description: &ShardDescription, named: Option<(&str, u32)>) -> ShardSample {
    let view = &description.view;
    let lags = || description.replicas.iter().map(|replica| replica.lag_entries);
    let partition = named.map(|(topic, partition)| PartitionSample {
        topic: topic.to_owned(),
        partition,
        high_watermark: view.high_watermark,
        log_start: view.log_start,
        log_bytes: description.log_bytes,
        is_leader: view.is_leader,
        lag_entries: lags().max().unwrap_or(0),
    });
    ShardSample {
        health: health_name(&view.health).0,
        has_leader: view.leader.is_some(),
        is_leader: view.is_leader,
        lag_entries: lags().sum(),
        log_bytes: description.log_bytes,
        partition,
    }
}

/// A replica that is placed here and not open.
fn closed_sample(is_faulty: bool) -> ShardSample {
    ShardSample {
        health: if is_faulty { "faulty" } else { "recovering" },
        has_leader: false,
        is_leader: false,
        lag_entries: 0,
        log_bytes: 0,
        partition: None,
    }
}

fn replica_state(node: u64, description: ShardDescription) -> ReplicaState {
    let ShardDescription { view, .. } = &description;
    let (health, reason) = health_name(&view.health);
    let progress = description.replicas.iter().map(|replica| ReplicaProgressView {
        node: replica.node,
        matched_index: replica.matched_index,
        next_index: replica.next_index,
        lag_entries: replica.lag_entries,
        state: replica.state.to_owned(),
        recently_active: replica.recent_active,
    });
    ReplicaState {
        node,
        shard: description.shard,
        role: format!("{:?}", description.role).to_lowercase(),
        health: health.to_owned(),
        reason,
        term: view.term,
        leader: view.leader,
        first_index: description.first_index,
        last_index: description.last_index,
        commit_index: description.commit_index,
        synced_index: description.synced_index,
        log_start: view.log_start,
        high_watermark: view.high_watermark,
        last_lsn: description.last_lsn,
        log_bytes: description.log_bytes,
        fence: view.fence,
        producers: description.producers,
        progress: progress.collect(),
        voters: description.voters,
        learners: description.learners,
    }
}
