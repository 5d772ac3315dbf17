//! Carrying out what the [`Steward`] and the [`planner`] decide, in a running broker.
//!
//! Woken by news of the metadata, and now and then: more often while something moves. A pass looks at the views of all
//! shards, which costs next to nothing, and in detail only at those that the steward cares for.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::steward::{Act, Steward};
use super::writer::CHANGE_TIMEOUT;
use super::{Cluster, Command, Inner, MetadataError, MetadataState, Placement, planner};
use crate::engine::{METADATA_SHARD, PartitionHandle, ShardId};

/// Between two passes while something moves.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Between two passes while nothing does.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// Cares for the shards this broker leads, until it is to stop or the cluster is gone.
pub(super) async fn keep(cluster: Weak<Inner>, mut stopping: watch::Receiver<bool>) {
    let Some(node) = cluster.upgrade().map(|inner| inner.node) else { return };
    let mut care = Care::new(node);
    tokio::select! {
        () = care.go_on(cluster) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    care.writing.shutdown().await;
}

/// What is under way.
struct Care {
    steward: Steward,
    since: Instant,
    /// Commands on their way into the metadata, each for one shard.
    writing: JoinSet<ShardId>,
    written_for: BTreeSet<ShardId>,
}

impl Care {
    fn new(node: u64) -> Care {
        Care {
            steward: Steward::new(node),
            since: Instant::now(),
            writing: JoinSet::new(),
            written_for: BTreeSet::new(),
        }
    }

    async fn go_on(&mut self, cluster: Weak<Inner>) {
        while let Some(inner) = cluster.upgrade() {
            let cluster = Cluster { inner };
            let mut news = cluster.inner.followed.clone();
            let followed = news.borrow_and_update().clone();
            let pause = match followed.current {
                true => self.pass(&cluster, &followed.state).await,
                false => IDLE_PAUSE,
            };
            drop(cluster);
            if let Ok(Err(_)) = timeout(pause, news.changed()).await {
                return;
            }
        }
    }

    /// Looks at every shard once; returns when to look again.
    async fn pass(&mut self, cluster: &Cluster, state: &Arc<MetadataState>) -> Duration {
        while let Some(done) = self.writing.try_join_next() {
            match done {
                Ok(shard) => drop(self.written_for.remove(&shard)),
                Err(_) => self.written_for.clear(),
            }
        }
        let mut pause = IDLE_PAUSE;
        for placement in state.placement(METADATA_SHARD).into_iter().chain(state.placements().map(|(_, p)| p))
        {
            let Some(handle) = cluster.replica(placement.shard) else { continue };
            let view = handle.view();
            if view.is_leader && placement.moving_to.is_some() {
                pause = BUSY_PAUSE;
            }
            if !self.steward.cares_for(state, placement, &view) {
                continue;
            }
            let Some(leader) = handle.describe().await else { continue };
            let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            if let Some(act) = self.steward.next(state, placement, &leader, now_ms) {
                if !matches!(act, Act::HandOver(_)) {
                    pause = BUSY_PAUSE;
                }
                self.carry_out(cluster, placement, &handle, act).await;
            }
        }
        if !cluster.inner.replicas.departed(state).is_empty() {
            cluster.inner.replicas.drop_departed(|| cluster.state()).await;
        }
        if cluster.metadata().view().is_leader && !planner::next_moves(state).is_empty() {
            self.begin_moves(cluster);
        }
        pause
    }

    async fn carry_out(
        &mut self,
        cluster: &Cluster,
        placement: &Placement,
        handle: &PartitionHandle,
        act: Act,
    ) {
        let shard = placement.shard;
        match act {
            Act::Propose(changes, decided_on) => {
                tracing::info!(shard, ?changes, "the shard's replicas change");
                if let Err(why) = handle.change_membership(changes, decided_on).await {
                    tracing::debug!(shard, %why, "not now");
                }
            }
            Act::HandOver(to) => {
                tracing::info!(shard, to, "leadership is handed over");
                let _ = handle.transfer_leadership(to).await;
            }
            Act::Write(command) => self.write(cluster, shard, command),
        }
    }

    fn begin_moves(&mut self, cluster: &Cluster) {
        if !self.written_for.insert(METADATA_SHARD) {
            return;
        }
        let cluster = cluster.clone();
        self.writing.spawn(async move {
            let deadline = Instant::now() + CHANGE_TIMEOUT;
            if let Err(error) = cluster.change(deadline, |state| Ok(planner::next_moves(state))).await {
                tracing::debug!(%error, "moves could not be begun");
            }
            METADATA_SHARD
        });
    }

    fn write(&mut self, cluster: &Cluster, shard: ShardId, command: Command) {
        if !self.written_for.insert(shard) {
            return;
        }
        let cluster = cluster.clone();
        self.writing.spawn(async move {
            match cluster.submit(vec![command], CHANGE_TIMEOUT).await {
                Ok(_) => tracing::info!(shard, "the shard's replicas are where they were to go"),
                // Written already, or the goal has changed.
                Err(MetadataError::Refused(why)) => tracing::debug!(shard, %why, "not written"),
                Err(error) => {
                    tracing::warn!(shard, %error, "the end of a move could not be written; trying again");
                }
            }
            shard
        });
    }
}
