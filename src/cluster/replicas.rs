//! The shards this node holds: made to match the metadata.
//!
//! What holds:
//! - A shard is created only if this node never had it. One that it had and whose files are gone has forgotten what
//!   it acknowledged: it takes no part until its peers have given that back.
//! - A shard is deleted only if the metadata gave its id out and its topic is gone, never for being unknown:
//!   a broker that is behind does not know the newest shards yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use super::{MetadataState, Topic, TopicSettings};
use crate::engine::{Engine, PartitionHandle, ShardId, ShardSettings};
use crate::identity::DataDirectory;

/// Shards that are opened at once: each reads its last segment.
const OPENING_AT_ONCE: usize = 8;

/// The shards of this node.
pub(super) struct Replicas {
    engine: Engine,
    directory: Arc<DataDirectory>,
    defaults: ShardSettings,
    faults: Mutex<BTreeMap<ShardId, String>>,
}

impl Replicas {
    pub(super) fn new(engine: Engine, directory: Arc<DataDirectory>, defaults: ShardSettings) -> Replicas {
        Replicas { engine, directory, defaults, faults: Mutex::default() }
    }

    /// Why a shard that should be here is not.
    pub(super) fn fault(&self, shard: ShardId) -> Option<String> {
        self.lock_faults().get(&shard).cloned()
    }

    /// All shards that should be here and are not, and why.
    pub(super) fn faults(&self) -> BTreeMap<ShardId, String> {
        self.lock_faults().clone()
    }

    /// Opens a shard that was here before, creates one that never was.
    pub(super) async fn open_or_create(
        &self,
        shard: ShardId,
        voters: Vec<u64>,
        settings: ShardSettings,
    ) -> Result<PartitionHandle, String> {
        let was_here = self.directory.shards().contains(&shard);
        let opened = bring_up(&self.engine, shard, voters, settings, was_here).await?;
        self.directory.record_shards(&[shard], &[]).map_err(|error| error.to_string())?;
        Ok(opened)
    }

    /// Opens, creates and deletes shards until this node has what the state says.
    pub(super) async fn reconcile(&self, state: &MetadataState) {
        self.add_missing(state).await;
        self.remove_deleted(state).await;
    }

    async fn add_missing(&self, state: &MetadataState) {
        let node = self.directory.identity().node;
        let was_here = self.directory.shards();
        let mut missing = Vec::new();
        for (topic, placement) in state.placements() {
            let here = placement.replicas.contains(&node);
            let settled =
                self.engine.shard(placement.shard).is_some() || self.fault(placement.shard).is_some();
            if here && !settled {
                missing.push((placement.shard, placement.replicas.clone(), self.settings(topic)));
            }
        }
        let mut opened = Vec::new();
        let mut running: JoinSet<(ShardId, Result<PartitionHandle, String>)> = JoinSet::new();
        let mut missing = missing.into_iter();
        loop {
            while running.len() < OPENING_AT_ONCE
                && let Some((shard, voters, settings)) = missing.next()
            {
                let (engine, was_here) = (self.engine.clone(), was_here.contains(&shard));
                running.spawn(
                    async move { (shard, bring_up(&engine, shard, voters, settings, was_here).await) },
                );
            }
            match running.join_next().await {
                None => break,
                Some(Ok((shard, Ok(_)))) => opened.push(shard),
                Some(Ok((shard, Err(why)))) => self.record_fault(shard, why),
                Some(Err(panicked)) => tracing::error!(%panicked, "opening a shard panicked"),
            }
        }
        if let Err(error) = self.directory.record_shards(&opened, &[]) {
            tracing::error!(%error, "cannot write down which shards are here");
        }
    }

    async fn remove_deleted(&self, state: &MetadataState) {
        let live: BTreeSet<ShardId> = state.placements().map(|(_, placement)| placement.shard).collect();
        let hosted = self.engine.shards().into_iter().map(|handle| handle.shard());
        let known: BTreeSet<ShardId> = self.directory.shards().into_iter().chain(hosted).collect();
        let mut removed = Vec::new();
        for shard in known.difference(&live).copied().filter(|shard| state.is_deleted(*shard)) {
            self.lock_faults().remove(&shard);
            match self.engine.remove_shard(shard).await {
                Ok(()) => removed.push(shard),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => removed.push(shard),
                Err(error) => {
                    tracing::error!(shard, %error, "cannot delete the files of a deleted partition");
                }
            }
        }
        if let Err(error) = self.directory.record_shards(&[], &removed) {
            tracing::error!(%error, "cannot write down which shards are gone");
        }
    }

    fn settings(&self, topic: &Topic) -> ShardSettings {
        let TopicSettings { retention_bytes, retention_ms, .. } = topic.settings;
        ShardSettings {
            retention_bytes: retention_bytes.or(self.defaults.retention_bytes),
            retention_ms: retention_ms.or(self.defaults.retention_ms),
        }
    }

    fn record_fault(&self, shard: ShardId, why: String) {
        tracing::error!(shard, why, "this broker's replica takes no part");
        self.lock_faults().insert(shard, why);
    }

    fn lock_faults(&self) -> std::sync::MutexGuard<'_, BTreeMap<ShardId, String>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn bring_up(
    engine: &Engine,
    shard: ShardId,
    voters: Vec<u64>,
    settings: ShardSettings,
    was_here: bool,
) -> Result<PartitionHandle, String> {
    let opened = match (engine.exists(shard), was_here) {
        (false, false) => engine.create_shard(shard, voters, settings).await,
        // A shard's directory appears whole, by a rename: it is a log even if there is no note of it yet. One that was
        // here and is gone has forgotten what it acknowledged: it is repaired like any other that did.
        (true, _) | (false, true) => engine.open_shard(shard, voters, settings).await,
    };
    opened.map_err(|error| error.to_string())
}
