//! Following the metadata log: committed commands are applied in order, and the node acts on them.

use std::sync::Arc;

use lockstep_protocol::record::RecordIter;
use lockstep_storage::ReadBatch;
use tokio::sync::watch;

use super::reading::read_committed;
use super::replicas::Replicas;
use super::{Command, MetadataState};
use crate::engine::PartitionHandle;

/// Bytes of metadata read and applied at once.
const READ_BYTES: usize = 1 << 20;

/// How far this broker has followed the metadata log.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    /// What the applied log amounts to.
    pub(super) state: Arc<MetadataState>,
    /// The LSN through which this node's shards match the state.
    pub(super) reconciled_lsn: u64,
    /// Why nothing more will be applied, if so.
    pub(super) stuck: Option<String>,
}

/// Applies the log as it grows, until the shard or every receiver is gone.
pub(super) async fn follow(
    handle: PartitionHandle,
    replicas: Arc<Replicas>,
    followed: watch::Sender<Followed>,
) {
    let mut view = handle.watch();
    let mut state = MetadataState::default();
    loop {
        if let Err(why) = catch_up(&handle, &mut view, &mut state).await {
            tracing::error!(why, applied_lsn = state.applied_lsn(), "cannot follow the metadata log");
            followed.send_modify(|followed| followed.stuck = Some(why));
            return;
        }
        let now = Arc::new(state.clone());
        followed.send_modify(|followed| followed.state = Arc::clone(&now));
        replicas.reconcile(&now).await;
        followed.send_modify(|followed| followed.reconciled_lsn = now.applied_lsn());
        if view.wait_for(|view| view.high_watermark > now.applied_lsn()).await.is_err() {
            return;
        }
    }
}

async fn catch_up(
    handle: &PartitionHandle,
    view: &mut watch::Receiver<crate::engine::ShardView>,
    state: &mut MetadataState,
) -> Result<(), String> {
    loop {
        let high_watermark = view.borrow_and_update().high_watermark;
        if state.applied_lsn() >= high_watermark {
            return Ok(());
        }
        let batches = read_committed(handle, state.applied_lsn() + 1, READ_BYTES)
            .await
            .map_err(|error| error.to_string())?;
        if batches.is_empty() {
            return Err(format!("LSN {} is committed but cannot be read", state.applied_lsn() + 1));
        }
        for batch in batches {
            apply_batch(batch, state)?;
        }
    }
}

fn apply_batch(batch: ReadBatch, state: &mut MetadataState) -> Result<(), String> {
    for numbered in RecordIter::new(batch.bytes).map_err(|error| error.to_string())? {
        let numbered = numbered.map_err(|error| error.to_string())?;
        if numbered.lsn <= state.applied_lsn() {
            continue;
        }
        let command = Command::from_record(&numbered.record).map_err(|error| error.to_string())?;
        match state.apply(&command) {
            Ok(()) => tracing::info!(lsn = numbered.lsn, kind = command.kind(), "metadata applied"),
            Err(refusal) => tracing::warn!(lsn = numbered.lsn, %refusal, "a metadata command had no effect"),
        }
    }
    Ok(())
}
