//! The broker behind the admin interface: names and shapes translated, nothing decided.

mod refusals;
mod replicas;

use std::time::Duration;

use self::replicas::{closed_sample, described, replica_state, shard_sample};
use super::control::{AdminError, Control, Readiness, ShardSample};
use super::views::*;
use crate::broker::{self, Broker, GroupCommit, GroupPosition, LocateError};
use crate::cluster::{self, Placement};
use crate::config::Config;
use crate::identity::ClusterId;

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

    /// The state of a replica that takes no part in consensus.
    fn out_of_service(&self, placement: &Placement) -> ReplicaState {
        let reason = self.broker.cluster().fault(placement.shard);
        ReplicaState {
            broker: self.config.node,
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
                moving_to: placement.moving_to.clone(),
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
            broker: self.config.node,
            version: env!("CARGO_PKG_VERSION").into(),
            metadata_leader,
            metadata_term,
            brokers: cluster.members().iter().len(),
            topics: state.topics().len(),
            partitions: state.placements().count(),
            leaderless_partitions: state.placements().filter(|(_, placement)| leaderless(placement)).count(),
        }
    }

    fn brokers(&self) -> Vec<BrokerView> {
        let view = |status: cluster::BrokerStatus| BrokerView {
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

    async fn remove_broker(&self, id: u64) -> Result<(), AdminError> {
        let removed = self.broker.cluster().remove_broker(id).await;
        removed.map_err(|error| self.topic_error(error))
    }

    async fn drain(&self, id: u64, draining: bool) -> Result<(), AdminError> {
        let drained = self.broker.cluster().drain_broker(id, draining).await;
        drained.map_err(|error| self.topic_error(error))
    }

    fn moves(&self) -> MovesView {
        let state = self.broker.cluster().state();
        let of_topic = |topic: &std::sync::Arc<cluster::Topic>| {
            let placed = (0..).zip(&topic.partitions);
            let moving = placed.filter_map(|(partition, placement)| {
                let to = placement.moving_to.clone()?;
                Some(MoveView { topic: topic.name.clone(), partition, from: placement.replicas.clone(), to })
            });
            moving.collect::<Vec<_>>()
        };
        MovesView { rebalancing: state.is_rebalancing(), moves: state.topics().flat_map(of_topic).collect() }
    }

    async fn move_partition(&self, topic: &str, partition: u32, to: &[u64]) -> Result<(), AdminError> {
        let moved = self.broker.cluster().move_partition(topic, partition, to).await;
        moved.map_err(|error| self.topic_error(error))
    }

    async fn cancel_moves(&self, partition: Option<(&str, u32)>) -> Result<usize, AdminError> {
        let which = match partition {
            None => cluster::Cancelled::All,
            Some((topic, partition)) => cluster::Cancelled::Partition { topic, partition },
        };
        let cancelled = self.broker.cluster().cancel_moves(which).await;
        cancelled.map_err(|error| self.topic_error(error))
    }

    async fn rebalance(&self, dry_run: bool) -> Result<RebalanceView, AdminError> {
        let plan = self.broker.cluster().rebalance(dry_run).await;
        Ok(rebalance_view(plan.map_err(|error| self.topic_error(error))?, dry_run))
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
            let detail = format!("broker {to} holds no replica of the partition");
            return Err(AdminError::Invalid { detail, fix: format!("name one of the brokers {replicas:?}") });
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

    async fn positions(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&str>,
    ) -> Result<Vec<PositionView>, AdminError> {
        let kept = self.broker.positions(topic, partition, group).await;
        let kept = kept.map_err(|error| self.partition_error(topic, partition, error))?;
        Ok(kept.into_iter().map(position_view).collect())
    }

    async fn commit_position(
        &self,
        topic: &str,
        partition: u32,
        group: &str,
        position: NewPosition,
    ) -> Result<(), AdminError> {
        let source = position.source.unwrap_or_else(|| Source { topic: topic.to_owned(), partition });
        let commit = GroupCommit {
            group: group.to_owned(),
            topic: source.topic,
            partition: source.partition,
            next_lsn: position.next_lsn,
            generation: position.generation,
            metadata: position.metadata,
            expected_next_lsn: position.expected_next_lsn,
            expected_generation: position.expected_generation,
        };
        let committed = self.broker.commit_position(topic, partition, commit).await;
        committed.map_err(|error| self.partition_error(topic, partition, error))
    }

    async fn delete_positions(&self, topic: &str, partition: u32, group: &str) -> Result<(), AdminError> {
        let deleted = self.broker.delete_positions(topic, partition, group, None).await;
        deleted.map_err(|error| self.partition_error(topic, partition, error))
    }

    fn config(&self) -> &Config {
        &self.config
    }

    async fn samples(&self) -> Vec<ShardSample> {
        let cluster = self.broker.cluster();
        let mut samples = Vec::new();
        if let Some(description) = cluster.metadata().describe().await {
            samples.push(shard_sample(&description, None, false));
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
                    Some(description) => {
                        shard_sample(&description, Some(named), placement.moving_to.is_some())
                    }
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

fn settings_view(settings: &cluster::TopicSettings) -> TopicSettings {
    TopicSettings {
        retention_bytes: settings.retention_bytes,
        retention_ms: settings.retention_ms,
        max_batch_bytes: settings.max_batch_bytes,
        trust_producers: settings.trust_producers,
    }
}

fn rebalance_view(plan: cluster::RebalancePlan, dry_run: bool) -> RebalanceView {
    let begun = plan.under_way || !dry_run && !plan.moves.is_empty();
    let share = |share: cluster::BrokerShare| BrokerShareView {
        broker: share.broker,
        draining: share.draining,
        replicas_before: share.replicas_before,
        replicas_after: share.replicas_after,
        leaders_before: share.leaders_before,
        leaders_after: share.leaders_after,
    };
    let planned = |planned: cluster::PlannedMove| MoveView {
        topic: planned.topic,
        partition: planned.partition,
        from: planned.reassignment.from,
        to: planned.reassignment.to,
    };
    RebalanceView {
        begun,
        brokers: plan.brokers.into_iter().map(share).collect(),
        moves: plan.moves.into_iter().map(planned).collect(),
        moves_left: plan.moves_left,
        moving: plan.moving,
    }
}

fn position_view(position: GroupPosition) -> PositionView {
    PositionView {
        group: position.group.to_string(),
        topic: position.topic,
        partition: position.partition,
        next_lsn: position.next_lsn,
        generation: position.generation,
        metadata: position.metadata.to_string(),
        leader_time_ms: position.leader_time_ms,
    }
}
