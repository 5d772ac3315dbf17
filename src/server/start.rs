//! The steps of a start.

use std::sync::Arc;

use super::{ServerError, joining};
use crate::config::Config;
use crate::engine::EngineOptions;
use crate::identity::{self, ClusterId, DataDirectory, IdentityError, format};

/// Threads that write and sync: one reaches 459 syncs a second where eight reach 9,732 (measured; the kernel
/// merges their flushes).
const DISK_WORKERS: usize = 8;

/// The id of a node that is a new cluster by itself and was given none.
const FIRST_NODE: u64 = 1;

/// Threads that serve sockets and run shards.
pub(super) fn worker_count(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        workers => workers,
    }
}

/// Opens the data directory; makes it first, or joins a cluster with it, if this node may.
pub(super) async fn open_directory(config: &Arc<Config>) -> Result<Arc<DataDirectory>, ServerError> {
    let joins = !config.join.is_empty();
    let is_blank = {
        let data = config.data.clone();
        blocking(move || Ok(identity::is_blank(&data))).await?
    };
    if joins && is_blank {
        joining::join(config).await?;
    }
    let opened = {
        let config = Arc::clone(config);
        blocking(move || make_and_open(&config)).await?
    };
    if joins && !is_blank {
        joining::check_cluster(config, opened.identity()).await?;
    }
    Ok(Arc::new(opened))
}

fn make_and_open(config: &Config) -> Result<DataDirectory, IdentityError> {
    let may_format = config.join.is_empty() && (config.is_single_node() || config.bootstrap);
    if may_format && identity::is_blank(&config.data) {
        let cluster = match config.cluster {
            Some(cluster) => cluster,
            None => ClusterId::random()
                .map_err(|source| IdentityError::Io { path: "/dev/urandom".into(), source })?,
        };
        let identity = format(&config.data, cluster, config.node.max(FIRST_NODE))?;
        tracing::info!(cluster = %identity.cluster, data = %config.data.display(), "made a new data directory");
    }
    DataDirectory::open(&config.data, config.cluster, config.node)
}

/// Does something that waits for the disk, off the network's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, ServerError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|panicked| ServerError::Runtime(std::io::Error::other(panicked)))??)
}

/// What the engine needs of the configuration.
pub(super) fn engine_options(config: &Config, seed: u64) -> EngineOptions {
    EngineOptions {
        node: config.node,
        workers: worker_count(config),
        disk_workers: DISK_WORKERS,
        tick: config.tick(),
        election_ticks: config.raft.election_ticks,
        heartbeat_ticks: config.raft.heartbeat_ticks,
        segment_bytes: config.storage.segment_bytes,
        cache_bytes: usize::try_from(config.storage.cache_bytes).unwrap_or(usize::MAX),
        seed,
        spare_segments_max: config.storage.spare_segments,
        free_space_reserve_bytes: config.storage.free_space_reserve_bytes,
        scrub_bytes_per_second: config.storage.scrub_bytes_per_second,
        move_bytes_per_second: config.storage.move_bytes_per_second,
    }
}

/// What this process draws its randomness from.
pub(super) fn seed() -> Result<u64, ServerError> {
    let id = ClusterId::random().map_err(ServerError::Runtime)?;
    let (first, _) = id.0.split_at(8);
    Ok(first.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
}
