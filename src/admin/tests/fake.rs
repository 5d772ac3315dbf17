//! A broker of one node that answers from memory.

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
    node: u64,
    readiness: Readiness,
    topics: BTreeMap<String, u32>,
    placement: Vec<(u64, String)>,
    leader: Option<(u64, String)>,
    log_start: u64,
}

impl Default for FakeBroker {
    fn default() -> Self {
        let state = State {
            node: 1,
            readiness: Readiness::Ready,
            topics: BTreeMap::new(),
            placement: vec![(1, "127.0.0.1:7402".into())],
            leader: None,
            log_start: 1,
        };
        FakeBroker { config: Config { node: 1, ..Config::default() }, state: Mutex::new(state) }
    }
}

/// A replica of shard 1 that works and has nothing special.
pub(in super::super) fn replica_state(node: u64, role: &str) -> ReplicaState {
    ReplicaState {
        node,
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

impl FakeBroker {
    pub(super) fn with_topic(name: &str) -> Self {
        let broker = FakeBroker::default();
        broker.state.lock().unwrap().topics.insert(name.into(), 1);
        broker
    }

    pub(super) fn set_readiness(&self, readiness: Readiness) {
        self.state.lock().unwrap().readiness = readiness;
    }

    pub(super) fn set_node(&self, node: u64) {
        self.state.lock().unwrap().node = node;
    }

    pub(super) fn place(&self, nodes: &[(u64, &str)]) {
        self.state.lock().unwrap().placement = nodes.iter().map(|(id, http)| (*id, (*http).into())).collect();
    }

    pub(super) fn lead_elsewhere(&self, node: u64, address: &str) {
        self.state.lock().unwrap().leader = Some((node, address.into()));
    }

    pub(super) fn known_topic(&self, name: &str) -> Result<TopicView, AdminError> {
        let state = self.state.lock().unwrap();
        let count = *state.topics.get(name).ok_or_else(|| AdminError::UnknownTopic(name.into()))?;
        let partition = |partition: u32| TopicPartition {
            partition,
            shard: u64::from(partition) + 1,
            replicas: state.placement.iter().map(|(id, _)| *id).collect(),
            leader: Some(1),
            term: 1,
        };
        let partitions = (0..count).map(partition).collect();
        Ok(TopicView { name: name.into(), id: 1, config: TopicSettings::default(), partitions })
    }

    fn check_leader(&self) -> Result<(), AdminError> {
        match self.state.lock().unwrap().leader.clone() {
            Some((node, address)) => {
                Err(AdminError::NotLeader { leader: Some(node), address: Some(address) })
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
            node: 1,
            version: "0".into(),
            metadata_leader: Some(1),
            metadata_term: 1,
            nodes: 1,
            topics: 0,
            partitions: 0,
            leaderless_partitions: 0,
        }
    }

    fn nodes(&self) -> Vec<NodeView> {
        let state = self.state.lock().unwrap();
        let view = |(id, http): &(u64, String)| NodeView {
            id: *id,
            native: String::new(),
            peer: String::new(),
            http: http.clone(),
            rack: None,
            draining: false,
            replicas: 0,
            metadata: true,
            reachable: *id == state.node,
        };
        state.placement.iter().map(view).collect()
    }

    async fn remove_node(&self, id: u64) -> Result<(), AdminError> {
        self.check_leader()?;
        let mut state = self.state.lock().unwrap();
        if id == state.node {
            return Err(AdminError::NodeInUse(format!("node {id} still holds replicas")));
        }
        let before = state.placement.len();
        state.placement.retain(|(node, _)| *node != id);
        if state.placement.len() == before { Err(AdminError::UnknownNode(id)) } else { Ok(()) }
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
        let role = if state.node == 1 { "leader" } else { "follower" };
        Ok(ReplicaState { log_start: state.log_start, ..replica_state(state.node, role) })
    }

    async fn transfer(&self, topic: &str, partition: u32, to: u64) -> Result<(), AdminError> {
        self.check_partition(topic, partition)?;
        self.check_leader()?;
        if self.nodes().iter().any(|node| node.id == to) {
            return Ok(());
        }
        Err(AdminError::Invalid { detail: format!("node {to} has no replica"), fix: "name one".into() })
    }

    async fn trim(&self, topic: &str, partition: u32, log_start: u64) -> Result<u64, AdminError> {
        self.check_partition(topic, partition)?;
        self.check_leader()?;
        self.state.lock().unwrap().log_start = log_start;
        Ok(log_start)
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
