//! The cluster's metadata: topics and placement, as records of one more of our own logs.
//!
//! What holds:
//! - The metadata log is shard 0, replicated on all members like any partition. Each broker follows its own
//!   replica and applies committed records in order: see [`MetadataState`].
//! - Only the leader of shard 0 changes it. A change is decided on a state confirmed to be current, and
//!   appended on the condition that nothing came between: two brokers never decide on the same state twice.
//! - Whoever has something to write asks that leader: see [`Cluster::submit`].
//! - Decisions (where a topic's replicas go) are pure functions from state to commands.
//! - What the metadata says is acted on by each broker for itself: it opens, creates and deletes its shards.

mod command;
pub mod enrolment;
mod error;
pub mod fold;
mod follower;
pub mod hosting;
pub mod joining;
mod member;
pub mod moves;
mod operating;
pub mod operator;
mod placement;
pub mod planner;
mod questions;
mod reading;
mod refusal;
mod registrar;
mod replicas;
mod roster;
mod spread;
mod state;
pub mod steward;
mod stewardship;
mod topic;
mod writer;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::config::Config;
use crate::engine::{Engine, Health, METADATA_SHARD, PartitionHandle, ShardId, ShardSettings};
use crate::identity::DataDirectory;
pub use command::{COMMAND_VERSION, Command, CommandError};
pub use error::MetadataError;
use follower::Followed;
pub use joining::{BrokerStatus, Joined, Newcomer};
pub use member::{Duty, Member};
pub use operator::{BrokerShare, Cancelled, PlannedMove, REBALANCE_MOVES_MAX, RebalancePlan};
pub use placement::{NewTopic, SettingsChange, TopicChange, TopicRules, alter_topic, create_topic};
pub use questions::{Asked, Colleagues, Reply};
pub use reading::{ReadFault, from_storage, read_committed};
pub use refusal::Refusal;
use replicas::Replicas;
pub use roster::{KnownBroker, Members, Roster};
pub use spread::{Reassignment, Site, Spread};
pub use state::{MetadataState, PARTITIONS_MAX};
pub use topic::{Placement, Topic, TopicSettings};

/// This broker's replica of the metadata log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the metadata log on this node cannot be used: {0}")]
pub struct ClusterError(String);

/// The cluster as this broker knows it, and the way to change it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    node: u64,
    roster: Arc<Roster>,
    rules: TopicRules,
    engine: Engine,
    metadata: PartitionHandle,
    replicas: Arc<Replicas>,
    followed: watch::Receiver<Followed>,
    writing: Mutex<()>,
    producer_ids: Mutex<Range<i64>>,
    colleagues: Arc<dyn Colleagues>,
    following: AbortHandle,
    stopping: watch::Sender<bool>,
    /// What cares for the shards that this broker leads.
    caring: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Cluster {
    /// Opens (on a fresh directory: creates) this node's replica of the metadata log, and follows it. Asks `colleagues`, and
    /// answers what they ask.
    ///
    /// # Errors
    /// The replica cannot be opened.
    pub async fn start(
        config: &Config,
        engine: Engine,
        directory: Arc<DataDirectory>,
        roster: Arc<Roster>,
        colleagues: Arc<dyn Colleagues>,
        asked: mpsc::Receiver<Asked>,
    ) -> Result<Cluster, ClusterError> {
        let defaults =
            ShardSettings { retention_bytes: config.retention.bytes, retention_ms: config.retention.ms };
        let me = registrar::myself(config, directory.identity());
        let replicas = Arc::new(Replicas::new(engine.clone(), Arc::clone(&directory), defaults));
        let joined = directory.joined();
        let voters = joined.map_or_else(|| config.member_ids(), |joined| joined.founders.clone());
        let joined_as = joined.and_then(|_| roster.members().get(me.id).cloned());
        // The metadata log is never trimmed: its state is not in its checkpoints.
        let brokers = roster.members().ids();
        let metadata = replicas
            .open_or_create(METADATA_SHARD, voters.clone(), brokers.clone(), ShardSettings::default())
            .await
            .map_err(ClusterError)?;
        if let Health::Faulty(why) = metadata.view().health
            && brokers == [me.id]
        {
            return Err(ClusterError(why));
        }
        let (sender, followed) = watch::channel(Followed::default());
        let following = {
            let (replicas, roster) = (Arc::clone(&replicas), Arc::clone(&roster));
            tokio::spawn(follower::follow(metadata.clone(), replicas, roster, sender))
        };
        let rules = TopicRules {
            founders: voters,
            max_partitions: config.limits.max_partitions,
            max_batch_bytes: config.limits.max_batch_bytes,
            default_partitions: config.topics.partitions,
            default_replication: config.topics.replication,
        };
        let inner = Inner {
            node: me.id,
            roster,
            rules,
            engine,
            metadata,
            replicas,
            followed,
            writing: Mutex::default(),
            producer_ids: Mutex::new(0..0),
            colleagues,
            following: following.abort_handle(),
            stopping: watch::Sender::new(false),
            caring: Mutex::default(),
        };
        let inner = Arc::new(inner);
        tokio::spawn(questions::answer_all(Arc::downgrade(&inner), asked));
        let caring = tokio::spawn(stewardship::keep(Arc::downgrade(&inner), inner.stopping.subscribe()));
        inner.caring.lock().await.replace(caring);
        tokio::spawn(registrar::keep(Arc::downgrade(&inner), me, joined_as));
        Ok(Cluster { inner })
    }

    /// Ends the care for the shards that this broker leads, and waits for that.
    pub async fn stop(&self) {
        self.inner.stopping.send_replace(true);
        let caring = self.inner.caring.lock().await.take();
        if let Some(caring) = caring {
            let _ = caring.await;
        }
    }

    /// This node's id.
    pub fn node(&self) -> u64 {
        self.inner.node
    }

    /// The brokers of the cluster, as far as this one knows.
    pub fn members(&self) -> Arc<Members> {
        self.inner.roster.members()
    }

    /// Topics and placement as far as this broker has followed them.
    pub fn state(&self) -> Arc<MetadataState> {
        Arc::clone(&self.inner.followed.borrow().state)
    }

    /// Whether the state includes everything that was committed before this broker started. Until then a topic
    /// that is not in it may well exist.
    pub fn is_current(&self) -> bool {
        self.inner.followed.borrow().current
    }

    /// Waits until [`Cluster::is_current`], or for ever.
    pub async fn wait_until_current(&self) {
        let mut followed = self.inner.followed.clone();
        if followed.wait_for(|followed| followed.current).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until `found` finds something in the state; `None` once the broker stops following it.
    pub async fn wait_for<T>(&self, found: impl Fn(&MetadataState) -> Option<T>) -> Option<T> {
        let mut followed = self.inner.followed.clone();
        let reached = followed.wait_for(|followed| found(&followed.state).is_some()).await.ok()?;
        found(&reached.state)
    }

    /// Waits until `found` finds something; it is asked again whenever the state or this node's shards changed.
    /// `None` once the broker stops following.
    pub async fn wait_for_replicas<T>(&self, mut found: impl FnMut() -> Option<T>) -> Option<T> {
        let mut followed = self.inner.followed.clone();
        loop {
            followed.mark_unchanged();
            if let Some(value) = found() {
                return Some(value);
            }
            followed.changed().await.ok()?;
        }
    }

    /// This node's replica of the metadata log.
    pub fn metadata(&self) -> &PartitionHandle {
        &self.inner.metadata
    }

    /// The node that leads the metadata, if known, and the term.
    pub fn controller(&self) -> (Option<u64>, u64) {
        let view = self.inner.metadata.view();
        (view.leader, view.term)
    }

    /// This node's replica of a shard.
    pub fn replica(&self, shard: ShardId) -> Option<PartitionHandle> {
        self.inner.engine.shard(shard)
    }

    /// Why this node's replica of a shard takes no part.
    pub fn fault(&self, shard: ShardId) -> Option<String> {
        self.inner.replicas.fault(shard)
    }

    /// All of this node's replicas that take no part, and why.
    pub fn faults(&self) -> BTreeMap<ShardId, String> {
        self.inner.replicas.faults()
    }

    /// Why this broker takes no part any more, once it does not.
    pub fn expelled(&self) -> watch::Receiver<Option<String>> {
        self.inner.roster.expelled()
    }

    /// Whether this broker knows the cluster and serves its part of it.
    ///
    /// # Errors
    /// What is still missing, for people.
    pub fn readiness(&self) -> Result<(), String> {
        if let Some(why) = self.inner.roster.expelled().borrow().clone() {
            return Err(why);
        }
        let followed = self.inner.followed.borrow().clone();
        if let Some(why) = followed.stuck {
            return Err(format!("the metadata log cannot be followed: {why}"));
        }
        let view = self.inner.metadata.view();
        if view.leader.is_none() {
            return Err("the metadata has no leader: is a majority of the nodes up?".into());
        }
        if followed.reconciled_lsn < view.high_watermark {
            return Err(format!(
                "recovering: metadata applied through LSN {} of {}",
                followed.reconciled_lsn, view.high_watermark
            ));
        }
        if !followed.current {
            return Err("recovering: this run's metadata leader has committed nothing yet".into());
        }
        for (topic, placement) in followed.state.placements() {
            // A replica under repair takes no part; the others do without it.
            let leaderless = self.replica(placement.shard).is_some_and(|handle| {
                let view = handle.view();
                view.leader.is_none() && !matches!(view.health, Health::Faulty(_))
            });
            if leaderless {
                return Err(format!("topic {:?}: shard {} has no leader", topic.name, placement.shard));
            }
        }
        Ok(())
    }
}
