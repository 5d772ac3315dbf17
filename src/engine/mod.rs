//! The shell around shards: it gives the synchronous core its ticks, messages, disk workers and waiting requests.
//!
//! What holds here:
//! - Every shard lives on one worker loop; a loop hosts many. What came in for a shard while the loop was busy is one
//!   turn, so load makes groups larger, not queues longer.
//! - Write groups run on disk workers, one in flight per shard, each reported alone; none is cancelled or reordered.
//! - A panic inside a shard stops that shard and no other.
//! - The engine decides nothing: whatever can be decided without IO is in [`crate::shard`].

mod disk_workers;
mod handle;
mod hosted;
mod pace;
mod scrub;
mod segments;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dashmap::DashMap;
use lockstep_protocol::peer::{RaftMessage, RepairMessage};
use lockstep_storage::{Cache, LogOptions, ReadFiles, io::Disk, salvage};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

pub use crate::shard::positions::{Position, PositionCommit, PositionRefusal};
pub use crate::shard::{
    Append, AppendError, Appended, Command, Health, OpenError, ShardDescription, ShardId, ShardSettings,
    ShardView,
};
use crate::{
    metrics,
    raft::GroupOptions,
    random::Random,
    replica::{self, Mark, Replica},
    shard::{self, Input, ShardOptions},
};
use disk_workers::DiskWorkers;
pub use handle::PartitionHandle;
use hosted::Shown;
use pace::Pace;
use segments::Segments;
use worker::{Mail, Worker};

/// The shard that holds topics and placement.
pub const METADATA_SHARD: ShardId = 0;

/// Bytes of one append message, at least one batch.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Append messages on their way to one follower.
const INFLIGHT_MESSAGES_MAX: usize = 128;
/// Entries that a leader commits in a tick before it leaves commits to be told with the next ones.
const BUSY_COMMITS: u64 = 8;
/// Where a tick is longer, each commit is told at once: readers at a follower would have to wait for the next one.
const SHORT_TICK: Duration = Duration::from_millis(100);
/// Files that readers keep open, of all shards together.
pub const READ_FILES_MAX: usize = 256;
/// How long a log is idle before it is sealed. Where many shards are written in turn, sealing each at once doubles the syncs.
const SEAL_AFTER: Duration = Duration::from_secs(1);
/// How often the free space is looked at: less than the reserve can be written in between.
const FREE_SPACE_PERIOD: Duration = Duration::from_millis(100);
/// How long a leaving leader waits for its successors.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// What an engine needs to know of its place.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// This node's id, never 0.
    pub node: u64,
    /// Worker loops.
    pub workers: usize,
    /// Threads that write and sync; eight to sixteen let the kernel merge flushes.
    pub disk_workers: usize,
    /// How long one tick takes.
    pub tick: Duration,
    /// A follower that hears nothing for this many ticks, up to twice as many, asks for votes.
    pub election_ticks: usize,
    /// A leader speaks at least this often.
    pub heartbeat_ticks: usize,
    /// Bytes of a segment before the next is begun.
    pub segment_bytes: u64,
    /// Bytes of the newest entries that are kept in memory, of all shards that are written to together.
    pub cache_bytes: usize,
    /// What all randomness of this node comes from.
    pub seed: u64,
    /// Segment files written ahead or kept for reuse, at the most.
    pub spare_segments_max: usize,
    /// Below this much free space the node takes no writes.
    pub free_space_reserve_bytes: u64,
    /// How fast sealed segments are read to find rot; 0 for never.
    pub scrub_bytes_per_second: u64,
    /// How fast the log is read for new replicas elsewhere, all together; 0 for as fast as it goes.
    pub move_bytes_per_second: u64,
}

/// The way to the other nodes. Sending never blocks; what does not fit is lost, and Raft repeats it.
pub trait PeerSender: Send + Sync + 'static {
    /// Sends messages of one shard to a node.
    fn send(&self, to: u64, shard: ShardId, messages: Vec<RaftMessage>);

    /// Sends what concerns the repair of a shard's replica, behind what was sent to the node before.
    fn send_repair(&self, to: u64, shard: ShardId, number: u64, message: RepairMessage);
}

/// Hosts the shards of one node. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    options: EngineOptions,
    disk: Arc<dyn Disk>,
    peers: Arc<dyn PeerSender>,
    workers: Vec<mpsc::UnboundedSender<Mail>>,
    shards: DashMap<ShardId, PartitionHandle>,
    /// What replicas that have moved away had shown, in this run: the next ones here go on from that, once they are open.
    shown: DashMap<ShardId, ShardView>,
    segments: Option<Arc<Segments>>,
    pace: Option<Arc<Pace>>,
    cache: Arc<Cache>,
    read_files: Arc<ReadFiles>,
    random: Mutex<Random>,
}

impl Engine {
    /// Starts the worker loops; needs a tokio runtime. They end when the engine is dropped or shut down.
    pub fn start(options: EngineOptions, disk: Arc<dyn Disk>, peers: Arc<dyn PeerSender>) -> Self {
        let segments = Segments::open(&disk, options.spare_segments_max, options.free_space_reserve_bytes);
        if let Some(segments) = &segments {
            Segments::keep_ready(segments, options.segment_bytes);
        }
        let disk_workers = Arc::new(DiskWorkers::start(options.disk_workers, segments.clone()));
        let pace = Pace::start(options.move_bytes_per_second);
        let workers = (0..options.workers.max(1))
            .map(|_| Worker::spawn(options.tick, Arc::clone(&peers), Arc::clone(&disk_workers), pace.clone()))
            .collect();
        let random = Mutex::new(Random::new(options.seed));
        let read_files = ReadFiles::new(READ_FILES_MAX);
        let cache = Cache::new(options.cache_bytes);
        let inner = Inner {
            options,
            disk,
            peers,
            workers,
            shards: DashMap::new(),
            shown: DashMap::new(),
            segments,
            pace,
            cache,
            read_files,
            random,
        };
        let engine = Self { inner: Arc::new(inner) };
        engine.watch_free_space();
        if engine.inner.options.scrub_bytes_per_second > 0 {
            let weak = Arc::downgrade(&engine.inner);
            tokio::spawn(scrub::run(weak, engine.inner.options.scrub_bytes_per_second));
        }
        engine
    }

    /// Makes a shard's files where none ever were; [`Engine::open_shard`] opens them.
    pub async fn create_shard(
        &self,
        shard: ShardId,
        voters: Vec<u64>,
        settings: ShardSettings,
    ) -> Result<(), OpenError> {
        let (engine, options) = (self.clone(), self.shard_options(shard, None, settings));
        let mut random = self.draw();
        blocking(move || {
            make_parent(&*engine.inner.disk)
                .map_err(|error| OpenError::Content { shard, why: error.to_string() })?;
            shard::create(&engine.inner.disk, &options, &voters, &mut random)
        })
        .await
    }

    /// Recovers a shard that was here before and hosts it; a damaged one is repaired from the other nodes of
    /// `replicas`, the first of which is preferred as leader. One that is hosted already is returned as it is.
    pub async fn open_shard(
        &self,
        shard: ShardId,
        replicas: Vec<u64>,
        settings: ShardSettings,
    ) -> Result<PartitionHandle, OpenError> {
        if let Some(handle) = self.shard(shard) {
            return Ok(handle);
        }
        let started = std::time::Instant::now();
        let options = self.shard_options(shard, replicas.first().copied(), settings);
        let (disk, random) = (Arc::clone(&self.inner.disk), self.draw());
        let peers = replicas.into_iter().filter(|node| *node != self.inner.options.node).collect();
        let shown = self.inner.shown.get(&shard).map(|shown| shown.clone());
        let (replica, outputs) = blocking(move || {
            make_parent(&*disk).map_err(|error| OpenError::Content { shard, why: error.to_string() })?;
            let mut outputs = Vec::new();
            let mut replica = Replica::open(disk, options, peers, random, &mut outputs)?;
            if let Some(shown) = shown {
                replica.go_on_from(&shown, &mut outputs);
            }
            Ok::<_, OpenError>((replica, outputs))
        })
        .await?;
        // Not before: who opens it after a failure goes on from the same.
        self.inner.shown.remove(&shard);
        metrics::recovered(started.elapsed());
        let (view, watch) = watch::channel(replica.view().clone());
        let (reader, readers) = watch::channel(replica.reader());
        let worker = self.worker_of(shard);
        let handle = PartitionHandle::new(shard, readers, watch, worker.clone());
        let shown = Shown { view, reader };
        let _ = worker.send(Mail::Host { replica: Box::new(replica), outputs, shown });
        self.inner.shards.insert(shard, handle.clone());
        Ok(handle)
    }

    /// Whether a shard's directory is there.
    pub fn exists(&self, shard: ShardId) -> bool {
        self.inner.disk.exists(&directory(shard)).unwrap_or(false)
    }

    /// Stops a shard and deletes its files.
    pub async fn remove_shard(&self, shard: ShardId) -> std::io::Result<()> {
        if self.inner.shards.remove(&shard).is_some() {
            let (reply, done) = oneshot::channel();
            let _ = self.worker_of(shard).send(Mail::Evict { shard, reply });
            let _ = done.await;
        }
        let disk = Arc::clone(&self.inner.disk);
        blocking(move || {
            remove_files(&*disk, &directory(shard))?;
            Mark::remove(&*disk, &directory(shard))
        })
        .await
    }

    /// Stops a shard whose replica is not wanted here any more, if it knows of no membership later than that of
    /// `membership_index`, and writes down what it has promised; returns whether. Its files are still here then.
    pub async fn retire_shard(&self, shard: ShardId, membership_index: u64) -> std::io::Result<bool> {
        let (reply, promised) = oneshot::channel();
        let _ = self.worker_of(shard).send(Mail::Retire { shard, membership_index, reply });
        let Ok(Some(promised)) = promised.await else { return Ok(false) };
        if let Some((_, handle)) = self.inner.shards.remove(&shard) {
            self.inner.shown.insert(shard, handle.view());
        }
        let disk = Arc::clone(&self.inner.disk);
        blocking(move || promised.write(&*disk, &directory(shard))).await.map(|()| true)
    }

    /// Forgets what replicas of these had shown: there will be no more.
    pub fn forget_deleted(&self, is_deleted: impl Fn(ShardId) -> bool) {
        self.inner.shown.retain(|shard, _| !is_deleted(*shard));
    }

    /// Which nodes hold the other replicas of a shard.
    pub fn update_replicas(&self, shard: ShardId, replicas: &[u64]) {
        let peers = replicas.iter().copied().filter(|node| *node != self.inner.options.node).collect();
        let _ = self.worker_of(shard).send(Mail::Input { shard, input: replica::Input::Peers(peers) });
    }

    /// How many brokers send log to each of these, for its new replicas: each sends its part of what one may take in.
    pub fn share_pace(&self, senders: BTreeMap<u64, u64>) {
        if let Some(pace) = &self.inner.pace {
            pace.share(senders);
        }
    }

    /// A shard that this node hosts.
    pub fn shard(&self, shard: ShardId) -> Option<PartitionHandle> {
        self.inner.shards.get(&shard).map(|handle| handle.clone())
    }

    /// Every shard that this node hosts, by id.
    pub fn shards(&self) -> Vec<PartitionHandle> {
        let mut shards: Vec<_> = self.inner.shards.iter().map(|entry| entry.value().clone()).collect();
        shards.sort_unstable_by_key(PartitionHandle::shard);
        shards
    }

    /// Hands a peer's messages to a shard; those for a shard that is not hosted here are dropped.
    pub fn deliver(&self, shard: ShardId, messages: Vec<RaftMessage>) {
        metrics::messages_received(messages.len() as u64);
        let _ = self.worker_of(shard).send(Mail::Messages { shard, messages });
    }

    /// Hands a shard what a peer says about repair.
    pub fn deliver_repair(&self, shard: ShardId, from: u64, number: u64, message: RepairMessage) {
        let input = replica::Input::Repair { from, number, message };
        let _ = self.worker_of(shard).send(Mail::Input { shard, input });
    }

    /// Tells a node that asks how this one stands that it holds no replica of the shard, and has none to come back: what former
    /// ones have promised.
    pub fn tell_former(&self, shard: ShardId, to: u64, number: u64) {
        let (disk, peers) = (Arc::clone(&self.inner.disk), Arc::clone(&self.inner.peers));
        tokio::spawn(async move {
            let standing = move || replica::standing_without_replica(&*disk, &directory(shard));
            match blocking(standing).await {
                Ok(standing) => peers.send_repair(to, shard, number, RepairMessage::Standing(standing)),
                Err(error) => tracing::error!(shard, %error, "node {to} is not told what was promised"),
            }
        });
    }

    /// The connection from a node closed, or nothing is heard on it. Messages may be lost, and if it led, it may be dead:
    /// do not wait for the election timeout.
    pub fn peer_disconnected(&self, node: u64) {
        for worker in &self.inner.workers {
            let _ = worker.send(Mail::PeerLost(node));
        }
    }

    /// A node can be reached, for the first time or again: what it missed need not wait for the next heartbeat.
    pub fn peer_connected(&self, node: u64) {
        for worker in &self.inner.workers {
            let _ = worker.send(Mail::PeerFound(node));
        }
    }

    /// Changes what may be changed while a shard runs.
    pub fn update_settings(&self, shard: ShardId, settings: ShardSettings) {
        let input = Input::Settings(settings).into();
        let _ = self.worker_of(shard).send(Mail::Input { shard, input });
    }

    /// Hands leadership over, seals and syncs every log, and stops. Nothing is hosted afterwards.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        self.inner.shards.clear();
        for worker in &self.inner.workers {
            let (reply, done) = oneshot::channel();
            let _ = worker.send(Mail::Stop { reply });
            let _ = done.await;
        }
    }

    /// Asks the best follower of each shard that is led here to lead it, all at once, and waits a little for them to.
    pub async fn hand_over(&self) {
        let led = self.shards().into_iter().filter(|handle| handle.view().is_leader);
        let asked: Vec<_> = led.map(|handle| (handle.hand_over(), handle)).collect();
        let wait = async {
            for (asked, handle) in asked {
                let mut watch = handle.watch();
                let begun = asked.await.is_ok();
                while begun && watch.borrow_and_update().is_leader && watch.changed().await.is_ok() {}
            }
        };
        let _ = tokio::time::timeout(HAND_OVER_TIMEOUT, wait).await;
    }

    /// Tells the shards when the disk falls below its reserve, and when it has room again.
    fn watch_free_space(&self) {
        let weak = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(FREE_SPACE_PERIOD);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut was_full = false;
            loop {
                interval.tick().await;
                let Some(inner) = weak.upgrade() else { return };
                let reserve = inner.options.free_space_reserve_bytes;
                // Full until there is a little more than the reserve: not full and not full again with each file of others.
                let wanted = if was_full { reserve + reserve / 16 } else { reserve };
                let disk = Arc::clone(&inner.disk);
                let full = blocking(move || disk.free_bytes().is_ok_and(|free| free < wanted)).await;
                if full != was_full {
                    was_full = full;
                    tracing::warn!(full, reserve, "free space crossed the reserve");
                    for worker in &inner.workers {
                        let _ = worker.send(Mail::DiskFull(full));
                    }
                }
            }
        });
    }

    fn shard_options(&self, shard: ShardId, preferred: Option<u64>, settings: ShardSettings) -> ShardOptions {
        let options = &self.inner.options;
        ShardOptions {
            shard,
            directory: directory(shard),
            log: LogOptions {
                shard,
                segment_bytes: options.segment_bytes,
                cache: Arc::clone(&self.inner.cache),
                pool: self.inner.segments.as_ref().map(|segments| Arc::clone(&segments.pool)),
                read_files: Arc::clone(&self.inner.read_files),
                ..LogOptions::default()
            },
            group: GroupOptions {
                node: options.node,
                preferred,
                rotation: shard,
                election_ticks: options.election_ticks,
                heartbeat_ticks: options.heartbeat_ticks,
                busy_commits: if options.tick <= SHORT_TICK { BUSY_COMMITS } else { u64::MAX },
                message_bytes_max: MESSAGE_BYTES_MAX,
                inflight_messages_max: INFLIGHT_MESSAGES_MAX,
            },
            tick_ms: options.tick.as_millis() as u64,
            seal_ticks: SEAL_AFTER.as_nanos().div_ceil(options.tick.as_nanos().max(1)) as u64,
            settings,
        }
    }

    fn worker_of(&self, shard: ShardId) -> &mpsc::UnboundedSender<Mail> {
        &self.inner.workers[shard as usize % self.inner.workers.len()]
    }

    fn draw(&self) -> Random {
        self.inner.random.lock().unwrap_or_else(PoisonError::into_inner).split()
    }
}

/// Where the shards live, relative to the data directory.
const SHARDS: &str = "shards";

/// Where a shard lives, relative to the data directory.
pub fn directory(shard: ShardId) -> String {
    format!("{SHARDS}/{shard}")
}

/// Removes a shard's directory, durably. What a crash leaves of it is removed by the next attempt.
///
/// # Errors
/// Whatever the disk says.
pub fn remove_files(disk: &dyn Disk, directory: &str) -> std::io::Result<()> {
    if disk.exists(directory)? {
        salvage::discard_damaged(disk, directory)?;
        for name in disk.list(directory)? {
            disk.remove_file(&format!("{directory}/{name}"))?;
        }
        disk.remove_dir(directory)?;
    }
    // An attempt before this one may have ended before its removal was durable: what came back would be half a log.
    if disk.exists(SHARDS)? { disk.sync_dir(SHARDS) } else { Ok(()) }
}

fn make_parent(disk: &dyn Disk) -> std::io::Result<()> {
    if disk.exists(SHARDS)? {
        return Ok(());
    }
    disk.create_dir(SHARDS)?;
    disk.sync_dir("")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}
