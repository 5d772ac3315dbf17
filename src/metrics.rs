//! Metrics: functions that say what happened; names, kinds and help stand in [`definitions`].
//!
//! What holds here:
//! 1. Only the shell calls these functions (engine, broker, net, admin): the code that decides knows no metrics.
//! 2. Recording never blocks, fails or reads a clock: durations are handed in.
//! 3. Each name is registered before the first scrape, so a dashboard sees a zero rather than nothing.

pub mod definitions;
mod process;

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_protocol::peer::{RaftMessage, WireEntry};
use metrics::Label;

use definitions::{BUILD_INFO, ERRORS, HTTP_REQUESTS, PARTITION_SERIES, REQUESTS, SHARDS, handles};

/// Registers all metrics. Called once at start, so that the first scrape is complete; later calls do nothing.
pub fn start() {
    static STARTED: LazyLock<()> = LazyLock::new(|| {
        process::note_start();
        let version = Label::from_static_parts("version", env!("CARGO_PKG_VERSION"));
        handles().gauge(BUILD_INFO, vec![version]).set(1.0);
        for health in SHARD_HEALTHS {
            shards_by_health(health, 0);
        }
        http_request_count(200).increment(0);
        handles().counter(REQUESTS, vec![Label::from_static_parts("api", "produce")]).increment(0);
        let no_error_yet =
            vec![Label::from_static_parts("api", "produce"), Label::from_static_parts("code", "Unknown")];
        handles().counter(ERRORS, no_error_yet).increment(0);
    });
    LazyLock::force(&STARTED);
}

/// The values of the `health` label of `lockstep_shards`.
pub const SHARD_HEALTHS: [&str; 5] = ["ok", "recovering", "full", "faulty", "failed"];

// ---- Requests ----

/// A request of message `api` (lower case, as `produce`) was answered, well or not.
pub fn request_answered(api: &'static str) {
    handles().counter(REQUESTS, vec![Label::from_static_parts("api", api)]).increment(1);
}

/// A request, or one item of it, was answered with an error; `code` is the stable name of the error code.
pub fn request_failed(api: &'static str, code: &'static str) {
    let labels = vec![Label::from_static_parts("api", api), Label::from_static_parts("code", code)];
    handles().counter(ERRORS, labels).increment(1);
}

/// A produce request was answered `duration` after its last byte arrived; `bytes` and `records` of all its batches.
pub fn produce_answered(duration: Duration, bytes: u64, records: u64) {
    let handles = handles();
    handles.produce_duration.record(duration);
    handles.produce_request_bytes.record(bytes as f64);
    handles.produce_request_records.record(records as f64);
}

/// A batch was acknowledged: it is synced on a majority. Duplicates are counted by [`batch_duplicate`] instead.
pub fn batch_acknowledged(bytes: u64, records: u64) {
    let handles = handles();
    handles.produce_batches.increment(1);
    handles.produce_bytes.increment(bytes);
    handles.produce_records.increment(records);
}

/// A retried batch was answered with the LSNs of its first append.
pub fn batch_duplicate() {
    handles().produce_duplicates.increment(1);
}

/// A fetch request was answered after `duration`, waiting included.
pub fn fetch_answered(duration: Duration, bytes: u64, records: u64) {
    let handles = handles();
    handles.fetch_duration.record(duration);
    handles.fetch_bytes.increment(bytes);
    handles.fetch_records.increment(records);
}

/// A push went to a subscriber.
pub fn pushed(bytes: u64, records: u64) {
    handles().push_bytes.increment(bytes);
    handles().push_records.increment(records);
}

/// A subscription was opened; pair each with a [`subscription_closed`].
pub fn subscription_opened() {
    handles().subscriptions.increment(1.0);
}

/// A subscription ended.
pub fn subscription_closed() {
    handles().subscriptions.decrement(1.0);
}

/// A subscription has data to push and no credit left.
pub fn credit_waited() {
    handles().credit_waits.increment(1);
}

// ---- Connections ----

/// A client connection was accepted; pair each with a [`connection_closed`].
pub fn connection_opened() {
    handles().connections_opened.increment(1);
    handles().connections.increment(1.0);
}

/// A client connection ended.
pub fn connection_closed() {
    handles().connections.decrement(1.0);
}

/// A client connection was closed at once because the limit was reached.
pub fn connection_refused() {
    handles().connections_refused.increment(1);
}

/// Bytes of batches accepted and not yet answered, and the budget for them.
pub fn inflight(bytes: u64, limit_bytes: u64) {
    handles().inflight_bytes.set(bytes as f64);
    handles().inflight_limit_bytes.set(limit_bytes as f64);
}

/// A client socket is not read because the byte budget is used up.
pub fn inflight_waited() {
    handles().inflight_waits.increment(1);
}

// ---- Raft and peers ----

/// A local replica began or ceased to lead.
pub fn leader_changed() {
    handles().leader_changes.increment(1);
}

/// A leader answered a request as committed, `duration` after it reached the shard.
pub fn committed(duration: Duration) {
    handles().entries_committed.increment(1);
    handles().commit_duration.record(duration);
}

/// Raft messages were handed to peer connections.
pub fn messages_sent(count: u64) {
    handles().messages_sent.increment(count);
}

/// A message leaves for a peer: what it carries of snapshot and log.
pub fn sent_to_peer(message: &RaftMessage) {
    if let Some(snapshot) = &message.snapshot {
        handles().snapshot_bytes_sent.increment(snapshot.data.len() as u64);
    }
    if !message.entries.is_empty() {
        let bytes = |entry: &WireEntry| (entry.envelope.len() + entry.body.len()) as u64;
        handles().entry_bytes_sent.increment(message.entries.iter().map(bytes).sum());
    }
}

/// Raft messages arrived from a peer.
pub fn messages_received(count: u64) {
    handles().messages_received.increment(count);
}

/// Bytes were written to a peer's socket.
pub fn peer_sent(bytes: u64) {
    handles().peer_bytes_sent.increment(bytes);
}

/// Bytes were read from a peer's socket.
pub fn peer_received(bytes: u64) {
    handles().peer_bytes_received.increment(bytes);
}

/// Messages were dropped: the peer is away or its queue is full. Raft repeats them.
pub fn peer_messages_dropped(count: u64) {
    handles().peer_messages_dropped.increment(count);
}

/// The bytes waiting for a peer changed by `change` (negative when they were written or dropped).
pub fn peer_queue_changed(change: i64) {
    handles().peer_queue_bytes.increment(change as f64);
}

/// An outgoing connection to a peer completed its handshake; pair each with a [`peer_disconnected`].
pub fn peer_connected() {
    handles().peer_reconnects.increment(1);
    handles().peers_connected.increment(1.0);
}

/// An outgoing connection to a peer that had completed its handshake ended.
pub fn peer_disconnected() {
    handles().peers_connected.decrement(1.0);
}

// ---- Log ----

/// What one write group cost, as its sync worker saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupWritten {
    /// Entries in the group.
    pub entries: u64,
    /// Bytes of frames written: headers, envelopes, bodies, seals, footers.
    pub frame_bytes: u64,
    /// Bytes of entry bodies among them.
    pub record_bytes: u64,
    /// Syncs that returned.
    pub syncs: u64,
}

static FRAME_BYTES: AtomicU64 = AtomicU64::new(0);
static RECORD_BYTES: AtomicU64 = AtomicU64::new(0);

/// A group was written and synced in `duration`.
pub fn group_written(group: GroupWritten, duration: Duration) {
    let handles = handles();
    handles.groups.increment(1);
    handles.syncs.increment(group.syncs);
    handles.record_bytes.increment(group.record_bytes);
    handles.frame_bytes.increment(group.frame_bytes);
    if group.entries > 0 {
        handles.group_entries.record(group.entries as f64);
        handles.group_bytes.record(group.frame_bytes as f64);
    }
    handles.sync_duration.record(duration);
    FRAME_BYTES.fetch_add(group.frame_bytes, Ordering::Relaxed);
    RECORD_BYTES.fetch_add(group.record_bytes, Ordering::Relaxed);
}

/// `bytes` of zeros were written ahead for a segment to come; not write amplification of any record.
pub fn segment_prepared(bytes: u64) {
    handles().prepared_bytes.increment(bytes);
}

/// A write or sync failed; the log instance is closed for good.
pub fn log_failed() {
    handles().log_failures.increment(1);
}

/// A replica removed `entries` uncommitted entries that its leader did not have.
pub fn truncated(entries: u64) {
    handles().truncations.increment(1);
    handles().truncated_entries.increment(entries);
}

/// A read was answered from memory.
pub fn tail_cache_hit() {
    handles().tail_cache_hits.increment(1);
}

/// A read had to go to segment files.
pub fn tail_cache_missed() {
    handles().tail_cache_misses.increment(1);
}

/// `bytes` were read from segment files and verified in `duration`.
pub fn cold_read(bytes: u64, duration: Duration) {
    let handles = handles();
    handles.cold_reads.increment(1);
    handles.cold_read_bytes.increment(bytes);
    handles.cold_read_duration.record(duration);
}

/// `bytes` of log were read for a new replica elsewhere.
pub fn caught_up(bytes: u64) {
    handles().catch_up_bytes.increment(bytes);
}

/// A read of a segment file failed or did not verify.
pub fn cold_read_failed() {
    handles().read_failures.increment(1);
}

/// The scrub verified bytes of closed segments.
pub fn scrubbed(bytes: u64) {
    handles().scrubbed_bytes.increment(bytes);
}

/// The scrub found damage.
pub fn scrub_found_damage() {
    handles().scrub_damage.increment(1);
}

/// A replica was found to lack synced bytes.
pub fn replica_became_faulty() {
    handles().replicas_faulty.increment(1);
}

/// A log was recovered in `duration`.
pub fn recovered(duration: Duration) {
    handles().recoveries.increment(1);
    handles().recovery_duration.record(duration);
}

// ---- State, set at each scrape ----

/// How many local replicas have `health`, one of [`SHARD_HEALTHS`].
pub fn shards_by_health(health: &'static str, count: usize) {
    handles().gauge(SHARDS, vec![Label::from_static_parts("health", health)]).set(count as f64);
}

/// The sums over local replicas that a scrape shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Replicas that lead.
    pub leaders: u64,
    /// Replicas that know no leader.
    pub leaderless: u64,
    /// Entries all followers of the leaders here are behind.
    pub lag_entries: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Replicas that lead a partition whose replicas move.
    pub moving: u64,
    /// Bytes of log that new replicas of the partitions led here lack.
    pub catch_up_bytes: u64,
}

/// Sets the sums over local replicas.
pub fn shard_totals(totals: ShardTotals) {
    let handles = handles();
    handles.leaders.set(totals.leaders as f64);
    handles.leaderless.set(totals.leaderless as f64);
    handles.replication_lag.set(totals.lag_entries as f64);
    handles.log_bytes.set(totals.log_bytes as f64);
    handles.moving_partitions.set(totals.moving as f64);
    handles.catch_up_left.set(totals.catch_up_bytes as f64);
}

/// Free bytes of the data directory's file system.
pub fn disk_free(bytes: u64) {
    handles().disk_free_bytes.set(bytes as f64);
}

fn http_request_count(status: u16) -> metrics::Counter {
    handles().counter(HTTP_REQUESTS, vec![Label::new("status", status.to_string())])
}

/// The admin interface answered with `status`.
pub fn http_answered(status: u16) {
    http_request_count(status).increment(1);
}

// ---- Rendering ----

/// All metrics in Prometheus' text format, process values read afresh.
pub fn render() -> String {
    start();
    process::refresh();
    let record_bytes = RECORD_BYTES.load(Ordering::Relaxed);
    if record_bytes > 0 {
        let ratio = FRAME_BYTES.load(Ordering::Relaxed) as f64 / record_bytes as f64;
        handles().write_amplification.set(ratio);
    }
    let mut text = handles().prometheus().render();
    text.push_str(&process::render_cpu());
    text
}

/// Moves recorded samples into their buckets. Call it every few seconds: between scrapes samples pile up otherwise.
pub fn run_upkeep() {
    handles().prometheus().run_upkeep();
}

/// One partition's replica on this node, as the opt-in series show it.
#[derive(Clone, Debug)]
pub struct PartitionSample {
    /// The topic's name.
    pub topic: String,
    /// The partition's number in the topic.
    pub partition: u32,
    /// Last committed LSN.
    pub high_watermark: u64,
    /// First LSN kept.
    pub log_start: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Whether this node leads it.
    pub is_leader: bool,
    /// Entries the slowest follower is behind.
    pub lag_entries: u64,
}

/// The opt-in series per partition in Prometheus' text format, to be appended to [`render`].
pub fn render_partitions(samples: &[PartitionSample]) -> String {
    let mut text = String::new();
    for (position, definition) in PARTITION_SERIES.iter().enumerate() {
        let name = definition.name;
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} gauge", definition.help);
        for sample in samples {
            let values = [
                sample.high_watermark,
                sample.log_start,
                sample.log_bytes,
                u64::from(sample.is_leader),
                sample.lag_entries,
            ];
            let (topic, partition, value) = (escape_label(&sample.topic), sample.partition, values[position]);
            let _ = writeln!(text, "{name}{{topic=\"{topic}\",partition=\"{partition}\"}} {value}");
        }
        text.push('\n');
    }
    text
}

/// Escapes a label's value as the text format asks.
fn escape_label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
