//! Following the metadata log: committed commands are applied in order, and the node acts on them.
//!
//! What holds: [`Followed::current`] is set only once the state includes everything that was committed before
//! this run. A term that has a leader now and a committed entry of that very term proves it: every entry
//! committed in earlier terms lies below that one (Raft's leader completeness), and this replica has them all
//! (its log matching property). Until then "there is no such topic" is not known, and must not be said.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::MetadataState;
use super::fold::{self, apply_batch};
use super::reading::read_committed;
use super::replicas::{AGAIN_AFTER, Replicas};
use super::roster::Roster;
use crate::engine::PartitionHandle;

/// Bytes of metadata read and applied at once.
const READ_BYTES: usize = 1 << 20;

/// How often a state that is not known to be current is looked at again: the commit that confirms it holds no
/// record, so the high watermark does not tell.
const CONFIRM_PAUSE: Duration = Duration::from_millis(20);

/// How long to wait before a log that could not be read is read again.
const READ_PAUSE: Duration = Duration::from_millis(500);

/// Why the metadata log is not followed.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    /// It could not be read; a repair or another try may help.
    #[error("{0}")]
    Unreadable(String),
    /// It was read, and makes no sense.
    #[error("{0}")]
    Senseless(String),
}

/// How far this broker has followed the metadata log.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    /// What the applied log amounts to.
    pub(super) state: Arc<MetadataState>,
    /// The LSN through which this node's shards match the state.
    pub(super) reconciled_lsn: u64,
    /// Whether the state includes everything that was committed before this run.
    pub(super) current: bool,
    /// Why nothing more will be applied, if so.
    pub(super) stuck: Option<String>,
}

/// Applies the log as it grows, until the shard or every receiver is gone.
pub(super) async fn follow(
    handle: PartitionHandle,
    replicas: Arc<Replicas>,
    roster: Arc<Roster>,
    followed: watch::Sender<Followed>,
) {
    let mut view = handle.watch();
    let mut state = MetadataState::default();
    loop {
        match catch_up(&handle, &mut view, &mut state).await {
            Ok(()) => followed.send_if_modified(|followed| followed.stuck.take().is_some()),
            Err(why) => {
                tracing::error!(%why, applied_lsn = state.applied_lsn(), "cannot follow the metadata log");
                let ends = matches!(why, Stuck::Senseless(_));
                followed.send_modify(|followed| followed.stuck = Some(why.to_string()));
                if ends || followed.is_closed() {
                    return;
                }
                // The replica may be under repair.
                tokio::time::sleep(READ_PAUSE).await;
                continue;
            }
        };
        let current = followed.borrow().current || is_current(&handle, state.applied_lsn()).await;
        let now = Arc::new(state.clone());
        roster.follow(&now);
        replicas.know(&roster.members(), current);
        followed.send_modify(|followed| {
            followed.state = Arc::clone(&now);
            followed.current = current;
        });
        replicas.reconcile(&now).await;
        followed.send_modify(|followed| followed.reconciled_lsn = now.applied_lsn());
        let news = view.wait_for(|view| view.high_watermark > now.applied_lsn());
        let pause = match (current, replicas.faults().is_empty()) {
            (false, _) => CONFIRM_PAUSE,
            (true, false) => AGAIN_AFTER,
            (true, true) => Duration::MAX,
        };
        if let Ok(Err(_)) = tokio::time::timeout(pause, news).await {
            return;
        }
    }
}

/// Whether the last committed entry is of a term that has a leader, and the state includes what is below it.
async fn is_current(handle: &PartitionHandle, applied_lsn: u64) -> bool {
    let Some(description) = handle.describe().await else { return false };
    let last = description.commit_index;
    let Some(reader) = handle.reader().filter(|_| description.view.leader.is_some()) else { return false };
    let read = tokio::task::spawn_blocking(move || reader.read_entries(last, last + 1, 1)).await;
    let entry = read.ok().and_then(Result::ok).and_then(|entries| entries.into_iter().next());
    fold::is_current(&description, applied_lsn, entry.map(|entry| entry.term))
}

async fn catch_up(
    handle: &PartitionHandle,
    view: &mut watch::Receiver<crate::engine::ShardView>,
    state: &mut MetadataState,
) -> Result<(), Stuck> {
    loop {
        let high_watermark = view.borrow_and_update().high_watermark;
        if state.applied_lsn() >= high_watermark {
            return Ok(());
        }
        let batches = read_committed(handle, state.applied_lsn() + 1, READ_BYTES)
            .await
            .map_err(|error| Stuck::Unreadable(error.to_string()))?;
        if batches.is_empty() {
            let why = format!("LSN {} is committed but cannot be read", state.applied_lsn() + 1);
            return Err(Stuck::Unreadable(why));
        }
        for batch in batches {
            apply_batch(batch.bytes, state).map_err(Stuck::Senseless)?;
        }
    }
}
