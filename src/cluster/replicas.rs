//! The shards this node holds: made to match the metadata.
//!
//! What holds:
//! - A shard is created only if this node never had it. One that it had and whose files are gone has forgotten what
//!   it acknowledged: it takes no part until its peers have given that back.
//! - Before it is opened it is written down as here: whatever voted or acknowledged anything is never taken for new.
//! - A shard is deleted only if the metadata gave its id out and its topic is gone, never for being unknown:
//!   a broker that is behind does not know the newest shards yet.
//! - A replica that has moved away is deleted only if it agrees ([`Shard::may_be_dropped`]), so it is open until then; what
//!   it has promised is written down before, and that it goes.
//!
//! [`Shard::may_be_dropped`]: crate::shard::Shard::may_be_dropped

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::hosting::{self, Here, Wanted};
use super::{Members, MetadataState, planner};
use crate::engine::{Engine, METADATA_SHARD, PartitionHandle, ShardId, ShardSettings};
use crate::identity::{Acquaintance, DataDirectory};

/// Shards that are opened or made at once: each reads its last segment, and waits for a few syncs that the kernel merges
/// with those of the others.
const OPENING_AT_ONCE: usize = 32;

/// What could not be made or opened, as on a full disk, is tried again after this time.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The shards of this node.
pub(super) struct Replicas {
    engine: Engine,
    directory: Arc<DataDirectory>,
    defaults: ShardSettings,
    faults: Mutex<BTreeMap<ShardId, Fault>>,
    /// What each open shard was told last.
    told: Mutex<BTreeMap<ShardId, Told>>,
    /// One change of what is here at a time.
    changing: tokio::sync::Mutex<()>,
}

/// Why a shard that should be here is not, and when that is tried again.
struct Fault {
    why: String,
    again_at: Instant,
}

/// What a shard was told: its settings, and who holds it.
type Told = (ShardSettings, Vec<u64>);

impl Replicas {
    pub(super) fn new(engine: Engine, directory: Arc<DataDirectory>, defaults: ShardSettings) -> Replicas {
        Replicas {
            engine,
            directory,
            defaults,
            faults: Mutex::default(),
            told: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Why a shard that should be here is not.
    pub(super) fn fault(&self, shard: ShardId) -> Option<String> {
        self.lock_faults().get(&shard).map(|fault| fault.why.clone())
    }

    /// All shards that should be here and are not, and why.
    pub(super) fn faults(&self) -> BTreeMap<ShardId, String> {
        self.lock_faults().iter().map(|(shard, fault)| (*shard, fault.why.clone())).collect()
    }

    /// Opens a shard that was here before, creates one that never was. `hosts` may hold replicas of it.
    pub(super) async fn open_or_create(
        &self,
        shard: ShardId,
        founders: Vec<u64>,
        hosts: Vec<u64>,
        settings: ShardSettings,
    ) -> Result<PartitionHandle, String> {
        let may_be_made = !self.directory.shards().contains(&shard);
        let wanted = Wanted { shard, may_be_made, founders, hosts, settings };
        let wanted = self.create_missing(vec![wanted]).await.pop().ok_or_else(|| self.why_not(shard))?;
        open(&self.engine, wanted).await
    }

    /// Opens, creates and deletes shards until this node has what the state says.
    pub(super) async fn reconcile(&self, state: &MetadataState) {
        let _turn = self.changing.lock().await;
        self.finish_dropping().await;
        self.add_missing(state).await;
        self.tell(state);
        self.remove_deleted(state).await;
    }

    /// Deletes what has moved away from here, as far as it agrees.
    pub(super) async fn drop_departed(&self, state: impl FnOnce() -> Arc<MetadataState>) {
        let _turn = self.changing.lock().await;
        let state = state();
        for (shard, membership_index) in self.departed(&state) {
            match self.engine.retire_shard(shard, membership_index).await {
                Ok(false) => {}
                Ok(true) => match self.directory.record_dropping(shard) {
                    Ok(()) => {
                        self.lock_faults().remove(&shard);
                        tracing::info!(shard, "the replica has moved away; its files go");
                    }
                    Err(error) => {
                        self.record_fault(shard, format!("cannot write down that it goes: {error}"));
                    }
                },
                Err(error) => {
                    self.record_fault(shard, format!("cannot write down what it promised: {error}"));
                }
            }
        }
        self.finish_dropping().await;
    }

    /// The shards that are open here and live elsewhere, each with the index of the membership that says so.
    pub(super) fn departed(&self, state: &MetadataState) -> Vec<(ShardId, u64)> {
        self.here().departed(state, self.open())
    }

    fn here(&self) -> Here {
        let node = self.directory.identity().node;
        Here { node, shards: self.directory.shards(), dropping: self.directory.dropping() }
    }

    fn open(&self) -> Vec<ShardId> {
        self.engine.shards().iter().map(PartitionHandle::shard).collect()
    }

    /// Deletes the files of shards that were about to go.
    async fn finish_dropping(&self) {
        for shard in self.directory.dropping() {
            let removed = match self.engine.remove_shard(shard).await {
                Ok(()) => self.directory.record_shards(&[], &[shard]).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = removed {
                tracing::error!(shard, error, "cannot delete the files of a replica that has moved away");
            }
        }
    }

    /// Tells each open shard its settings and who holds it, if that is not what it was told last.
    fn tell(&self, state: &MetadataState) {
        self.engine.share_pace(planner::senders(state));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|shard, _| self.engine.shard(*shard).is_some());
        for (topic, placement) in state.placements() {
            if self.engine.shard(placement.shard).is_none() {
                continue;
            }
            let now = (hosting::settings(topic, &self.defaults), placement.hosts().collect());
            if told.get(&placement.shard) != Some(&now) {
                self.engine.update_settings(placement.shard, now.0.clone());
                self.engine.update_replicas(placement.shard, &now.1);
                told.insert(placement.shard, now);
            }
        }
    }

    /// These are the brokers, as far as is known: each follows the metadata, and has a replica of it. They are remembered
    /// once they are known for certain.
    pub(super) fn know(&self, members: &Members, for_certain: bool) {
        let brokers = members.ids();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&METADATA_SHARD).is_none_or(|(_, known)| *known != brokers) {
            self.engine.update_replicas(METADATA_SHARD, &brokers);
            told.insert(METADATA_SHARD, (ShardSettings::default(), brokers));
        }
        drop(told);
        let known = members.iter().map(Acquaintance::from).collect();
        if for_certain && let Err(error) = self.directory.record_brokers(known) {
            tracing::error!(%error, "cannot write down which brokers there are");
        }
    }

    async fn add_missing(&self, state: &MetadataState) {
        let waits =
            |shard| self.lock_faults().get(&shard).is_some_and(|fault| fault.again_at > Instant::now());
        let is_settled = |shard| self.engine.shard(shard).is_some() || waits(shard);
        let wanted = self.here().missing(state, &self.defaults, is_settled);
        let wanted = self.create_missing(wanted).await;
        let opened = some_at_once(wanted, |wanted| {
            let engine = self.engine.clone();
            async move { (wanted.shard, open(&engine, wanted).await) }
        });
        for (shard, opened) in opened.await {
            match opened {
                Ok(_) => drop(self.lock_faults().remove(&shard)),
                Err(why) => self.record_fault(shard, why),
            }
        }
    }

    /// Makes the files of those that never were here, and writes all of them down, before any is opened: what votes and
    /// acknowledges is known to have been here. Returns those that can be opened.
    async fn create_missing(&self, wanted: Vec<Wanted>) -> Vec<Wanted> {
        let created = some_at_once(wanted, |wanted| {
            let engine = self.engine.clone();
            async move { (create(&engine, &wanted).await, wanted) }
        });
        let mut here = Vec::new();
        for (created, wanted) in created.await {
            match created {
                Ok(()) => here.push(wanted),
                Err(why) => self.record_fault(wanted.shard, why),
            }
        }
        // The others are written down already.
        let is_new = |wanted: &Wanted| wanted.may_be_made;
        let new: Vec<ShardId> =
            here.iter().filter(|wanted| is_new(wanted)).map(|wanted| wanted.shard).collect();
        if let Err(error) = self.directory.record_shards(&new, &[]) {
            let why = format!("cannot write down that it is here: {error}");
            new.into_iter().for_each(|shard| self.record_fault(shard, why.clone()));
            here.retain(|wanted| !is_new(wanted));
        }
        here
    }

    async fn remove_deleted(&self, state: &MetadataState) {
        let mut removed = Vec::new();
        for shard in self.here().deleted(state, self.open()) {
            self.lock_faults().remove(&shard);
            match self.engine.remove_shard(shard).await {
                Ok(()) => removed.push(shard),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => removed.push(shard),
                Err(error) => {
                    tracing::error!(shard, %error, "cannot delete the files of a deleted partition");
                }
            }
        }
        self.engine.forget_deleted(|shard| state.is_deleted(shard));
        if let Err(error) = self.directory.record_shards(&[], &removed) {
            tracing::error!(%error, "cannot write down which shards are gone");
        }
    }

    fn why_not(&self, shard: ShardId) -> String {
        self.fault(shard).unwrap_or_else(|| "making its files panicked".to_owned())
    }

    fn record_fault(&self, shard: ShardId, why: String) {
        tracing::error!(shard, why, "this broker's replica takes no part");
        self.lock_faults().insert(shard, Fault { why, again_at: Instant::now() + AGAIN_AFTER });
    }

    fn lock_faults(&self) -> std::sync::MutexGuard<'_, BTreeMap<ShardId, Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a shard's files, if it never was here. Its directory appears whole, by a rename: it is a log even if there is no
/// note of it yet. One that was here and is gone has forgotten what it acknowledged: it is repaired like any other that did.
async fn create(engine: &Engine, wanted: &Wanted) -> Result<(), String> {
    if !wanted.may_be_made || engine.exists(wanted.shard) {
        return Ok(());
    }
    let created = engine.create_shard(wanted.shard, wanted.founders.clone(), wanted.settings.clone());
    created.await.map_err(|error| error.to_string())
}

async fn open(engine: &Engine, wanted: Wanted) -> Result<PartitionHandle, String> {
    let opened = engine.open_shard(wanted.shard, wanted.hosts, wanted.settings);
    opened.await.map_err(|error| error.to_string())
}

/// Does something with each, a few at once. What panics has no outcome.
async fn some_at_once<T, F>(each: Vec<T>, work: impl Fn(T) -> F) -> Vec<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let mut each = each.into_iter();
    let mut running = JoinSet::new();
    let mut outcomes = Vec::new();
    loop {
        while running.len() < OPENING_AT_ONCE
            && let Some(one) = each.next()
        {
            running.spawn(work(one));
        }
        match running.join_next().await {
            None => return outcomes,
            Some(Ok(outcome)) => outcomes.push(outcome),
            Some(Err(panicked)) => tracing::error!(%panicked, "opening a shard panicked"),
        }
    }
}
