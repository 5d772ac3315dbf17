//! A broker of one broker that answers from memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::super::control::{AdminError, Control, Readiness, ShardSample};
use super::super::views::*;
use crate::config::Config;
use crate::metrics::PartitionSample;

/// The script; each test sets what it needs.
pub(super) struct FakeBroker {
    config: Config,
    state: Mutex<State>,
}

struct State {
    broker: u64,
    readiness: Readiness,
    topics: BTreeMap<String, u32>,
    placement: Vec<(u64, String)>,
    leader: Option<(u64, String)>,
    log_start: u64,
    draining: Vec<u64>,
    moving: Vec<MoveView>,
    positions: Vec<PositionView>,
}

impl Default for FakeBroker {
    fn default() -> Self {
        let state = State {
            broker: 1,
            readiness: Readiness::Ready,
            topics: BTreeMap::new(),
            placement: vec![(1, "127.0.0.1:7402".into())],
            leader: None,
            log_start: 1,
            draining: vec![],
            moving: vec![],
            positions: vec![],
        };
        FakeBroker { config: Config { node: 1, ..Config::default() }, state: Mutex::new(state) }
    }
}

/// A replica of shard 1 that works and has nothing special.
pub(in super::super) fn replica_state(broker: u64, role: &str) -> ReplicaState {
    ReplicaState {
        broker,
        shard: 1,
        role: role.into(),
        health: "ok".into(),
        reason: None,
        term: 1,
        leader: Some(1),
        voters: vec![1, 2, 3],
        learners: vec![],
        first_index: 1,
        last_index: 10,
        commit_index: 10,
        synced_index: 10,
        log_start: 1,
        high_watermark: 7,
        last_lsn: 7,
        log_bytes: 4096,
        fence: 0,
        producers: 0,
        progress: vec![],
    }
}

/// Where the group `billing` is.
pub(super) fn position() -> PositionView {
    PositionView {
        group: "billing".into(),
        topic: "orders".into(),
        partition: 0,
        next_lsn: 5,
        generation: 1,
        metadata: String::new(),
        leader_time_ms: 0,
    }
}

impl FakeBroker {
    pub(super) fn with_topic(name: &str) -> Self {
        let broker = FakeBroker::default();
        broker.state.lock().unwrap().topics.insert(name.into(), 1);
        broker
    }

    pub(super) fn set_readiness(&self, readiness: Readiness) {
        self.state.lock().unwrap().readiness = readiness;
    }

    pub(super) fn set_broker(&self, broker: u64) {
        self.state.lock().unwrap().broker = broker;
    }

    pub(super) fn place(&self, brokers: &[(u64, &str)]) {
        self.state.lock().unwrap().placement =
            brokers.iter().map(|(id, http)| (*id, (*http).into())).collect();
    }

    pub(super) fn lead_elsewhere(&self, broker: u64, address: &str) {
        self.state.lock().unwrap().leader = Some((broker, address.into()));
    }

    pub(super) fn known_topic(&self, name: &str) -> Result<TopicView, AdminError> {
        let state = self.state.lock().unwrap();
        let count = *state.topics.get(name).ok_or_else(|| AdminError::UnknownTopic(name.into()))?;
        let partition = |partition: u32| TopicPartition {
            partition,
            shard: u64::from(partition) + 1,
            replicas: state.placement.iter().map(|(id, _)| *id).collect(),
            moving_to: None,
            leader: Some(1),
            term: 1,
        };
        let partitions = (0..count).map(partition).collect();
        Ok(TopicView { name: name.into(), id: 1, config: TopicSettings::default(), partitions })
    }

    fn check_leader(&self) -> Result<(), AdminError> {
        match self.state.lock().unwrap().leader.clone() {
            Some((broker, address)) => {
                Err(AdminError::NotLeader { leader: Some(broker), address: Some(address) })
            }
            None => Ok(()),
        }
    }

    fn check_partition(&self, topic: &str, partition: u32) -> Result<(), AdminError> {
        let known = self.known_topic(topic)?.partitions.len() as u32;
        let refused = AdminError::UnknownPartition { topic: topic.into(), partition };
        if partition < known { Ok(()) } else { Err(refused) }
    }
}

impl Control for FakeBroker {
    fn readiness(&self) -> Readiness {
        self.state.lock().unwrap().readiness.clone()
    }

    fn cluster(&self) -> ClusterView {
        ClusterView {
            cluster: "0".repeat(32),
            broker: 1,
            version: "0".into(),
            metadata_leader: Some(1),
            metadata_term: 1,
            brokers: 1,
            topics: 0,
            partitions: 0,
            leaderless_partitions: 0,
        }
    }

    fn brokers(&self) -> Vec<BrokerView> {
        let state = self.state.lock().unwrap();
        let view = |(id, http): &(u64, String)| BrokerView {
            id: *id,
            native: String::new(),
            peer: String::new(),
            http: http.clone(),
            rack: None,
            draining: state.draining.contains(id),
            replicas: 0,
            metadata: true,
            reachable: *id == state.broker,
        };
        state.placement.iter().map(view).collect()
    }

    async fn remove_broker(&self, id: u64) -> Result<(), AdminError> {
        self.check_leader()?;
        let mut state = self.state.lock().unwrap();
        if id == state.broker {
            return Err(AdminError::BrokerInUse(format!("broker {id} still holds replicas")));
        }
        let before = state.placement.len();
        state.placement.retain(|(broker, _)| *broker != id);
        if state.placement.len() == before { Err(AdminError::UnknownBroker(id)) } else { Ok(()) }
    }

    async fn drain(&self, id: u64, draining: bool) -> Result<(), AdminError> {
        self.check_leader()?;
        if self.brokers().len() == 1 {
            let (detail, fix) = ("0 brokers would be left".into(), "add one".into());
            return Err(AdminError::TooFewBrokers { detail, fix });
        }
        let mut state = self.state.lock().unwrap();
        state.draining.retain(|drained| *drained != id);
        if draining {
            state.draining.push(id);
        }
        Ok(())
    }

    fn moves(&self) -> MovesView {
        MovesView { rebalancing: false, moves: self.state.lock().unwrap().moving.clone() }
    }

    async fn move_partition(&self, topic: &str, partition: u32, to: &[u64]) -> Result<(), AdminError> {
        self.check_partition(topic, partition)?;
        let mut state = self.state.lock().unwrap();
        if state.moving.iter().any(|moving| moving.to != to) {
            return Err(AdminError::MovingAlready("it moves already".into()));
        }
        state.moving = vec![MoveView { topic: topic.into(), partition, from: vec![1], to: to.into() }];
        Ok(())
    }

    async fn cancel_moves(&self, partition: Option<(&str, u32)>) -> Result<usize, AdminError> {
        if let Some((topic, partition)) = partition {
            self.check_partition(topic, partition)?;
        }
        Ok(std::mem::take(&mut self.state.lock().unwrap().moving).len())
    }

    async fn rebalance(&self, dry_run: bool) -> Result<RebalanceView, AdminError> {
        Ok(RebalanceView { begun: !dry_run, ..RebalanceView::default() })
    }

    fn topics(&self) -> Vec<TopicSummary> {
        let state = self.state.lock().unwrap();
        let summary = |(name, partitions): (&String, &u32)| TopicSummary {
            name: name.clone(),
            id: 1,
            partitions: *partitions as usize,
        };
        state.topics.iter().map(summary).collect()
    }

    async fn topic(&self, name: &str) -> Result<TopicView, AdminError> {
        self.known_topic(name)
    }

    async fn create_topic(&self, topic: NewTopic) -> Result<TopicView, AdminError> {
        self.check_leader()?;
        self.state.lock().unwrap().topics.insert(topic.name.clone(), topic.partitions.unwrap_or(1));
        self.known_topic(&topic.name)
    }

    async fn alter_topic(&self, name: &str, change: TopicChange) -> Result<TopicView, AdminError> {
        self.check_leader()?;
        let mut view = self.known_topic(name)?;
        if let Some(partitions) = change.partitions {
            self.state.lock().unwrap().topics.insert(name.into(), partitions);
            view = self.known_topic(name)?;
        }
        // The fake keeps no settings: it answers those it was told, a null as one that is not set.
        view.config.retention_ms = change.config.retention_ms.unwrap_or(Some(77));
        Ok(view)
    }

    async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        let removed = self.state.lock().unwrap().topics.remove(name);
        removed.map(|_| ()).ok_or_else(|| AdminError::UnknownTopic(name.into()))
    }

    async fn replica(&self, topic: &str, partition: u32) -> Result<ReplicaState, AdminError> {
        self.check_partition(topic, partition)?;
        let state = self.state.lock().unwrap();
        let role = if state.broker == 1 { "leader" } else { "follower" };
        Ok(ReplicaState { log_start: state.log_start, ..replica_state(state.broker, role) })
    }

    async fn transfer(&self, topic: &str, partition: u32, to: u64) -> Result<(), AdminError> {
        self.check_partition(topic, partition)?;
        self.check_leader()?;
        if self.brokers().iter().any(|broker| broker.id == to) {
            return Ok(());
        }
        Err(AdminError::Invalid { detail: format!("broker {to} has no replica"), fix: "name one".into() })
    }

    async fn trim(&self, topic: &str, partition: u32, log_start: u64) -> Result<u64, AdminError> {
        self.check_partition(topic, partition)?;
        self.check_leader()?;
        self.state.lock().unwrap().log_start = log_start;
        Ok(log_start)
    }

    async fn positions(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&str>,
    ) -> Result<Vec<PositionView>, AdminError> {
        self.check_partition(topic, partition)?;
        let mut kept = self.state.lock().unwrap().positions.clone();
        kept.retain(|position| group.is_none_or(|group| position.group == group));
        Ok(kept)
    }

    async fn commit_position(
        &self,
        topic: &str,
        partition: u32,
        group: &str,
        new: NewPosition,
    ) -> Result<(), AdminError> {
        self.check_partition(topic, partition)?;
        let mut state = self.state.lock().unwrap();
        let before = state.positions.iter().find(|position| position.group == group);
        if new.expected_next_lsn.is_some_and(|lsn| lsn != before.map_or(0, |before| before.next_lsn)) {
            return Err(AdminError::PositionConflict("it has moved on".into()));
        }
        state.positions.retain(|position| position.group != group);
        state.positions.push(PositionView { group: group.into(), next_lsn: new.next_lsn, ..position() });
        Ok(())
    }

    async fn delete_positions(&self, topic: &str, partition: u32, group: &str) -> Result<(), AdminError> {
        self.check_partition(topic, partition)?;
        self.state.lock().unwrap().positions.retain(|position| position.group != group);
        Ok(())
    }

    fn config(&self) -> &Config {
        &self.config
    }

    async fn samples(&self) -> Vec<ShardSample> {
        let sample = |topic: &TopicSummary| ShardSample {
            health: "ok",
            has_leader: true,
            is_leader: true,
            lag_entries: 0,
            log_bytes: 4096,
            is_moving: false,
            catch_up_bytes: 0,
            partition: Some(PartitionSample {
                topic: topic.name.clone(),
                partition: 0,
                high_watermark: 7,
                log_start: 1,
                log_bytes: 4096,
                is_leader: true,
                lag_entries: 0,
            }),
        };
        self.topics().iter().map(sample).collect()
    }

    fn disk_free_bytes(&self) -> Option<u64> {
        Some(1 << 30)
    }
}
