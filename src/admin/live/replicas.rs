//! Local replicas as the admin interface shows them.

use super::super::control::ShardSample;
use super::super::views::{ReplicaProgressView, ReplicaState};
use crate::engine::{Health, PartitionHandle, ShardDescription};
use crate::metrics::PartitionSample;

fn health_name(health: &Health) -> (&'static str, Option<String>) {
    match health {
        Health::Ok => ("ok", None),
        Health::Full => ("full", Some("the disk is below its free-space reserve".into())),
        Health::Failed(reason) => ("failed", Some(reason.clone())),
        Health::Faulty(reason) => ("faulty", Some(reason.clone())),
    }
}

pub(super) async fn described(handle: Option<PartitionHandle>) -> Option<ShardDescription> {
    handle?.describe().await
}

pub(super) fn shard_sample(
    description: &ShardDescription,
    named: Option<(&str, u32)>,
    moves: bool,
) -> ShardSample {
    let view = &description.view;
    let lags = || description.replicas.iter().map(|replica| replica.lag_entries);
    // Of the metadata all brokers without a vote are learners for good.
    let catches_up = |node: u64| named.is_some() && description.learners.contains(&node);
    let learners = description.replicas.iter().filter(|replica| catches_up(replica.node));
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
        is_moving: moves && view.is_leader,
        catch_up_bytes: learners.map(|replica| replica.lag_bytes).sum(),
        partition,
    }
}

/// A replica that is placed here and not open.
pub(super) fn closed_sample(is_faulty: bool) -> ShardSample {
    ShardSample {
        health: if is_faulty { "faulty" } else { "recovering" },
        has_leader: false,
        is_leader: false,
        lag_entries: 0,
        log_bytes: 0,
        is_moving: false,
        catch_up_bytes: 0,
        partition: None,
    }
}

pub(super) fn replica_state(broker: u64, description: ShardDescription) -> ReplicaState {
    let ShardDescription { view, .. } = &description;
    let (health, reason) = health_name(&view.health);
    let progress = description.replicas.iter().map(|replica| ReplicaProgressView {
        broker: replica.node,
        matched_index: replica.matched_index,
        next_index: replica.next_index,
        lag_entries: replica.lag_entries,
        state: replica.state.to_owned(),
        recently_active: replica.recent_active,
    });
    ReplicaState {
        broker,
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
