//! Every metric the broker exports: name, kind, unit and help, each written once.
//!
//! What holds here:
//! 1. Names start with `lockstep_`, carry base units (seconds, bytes) and end in `_total` if they count.
//! 2. No label holds a client, a key or anything else without a small fixed bound. Topics and partitions are labels
//!    only in the [`PARTITION_SERIES`], which an operator switches on.
//! 3. A histogram's buckets follow from its unit alone, so that two histograms of a unit can be compared.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the process runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Sorts values into fixed buckets.
    Histogram(Unit),
}

/// The unit of a histogram's values; its buckets follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Buckets double from 256 µs to 33.6 s.
    Seconds,
    /// Buckets double from 256 B to 32 MiB.
    Bytes,
    /// Buckets double from 1 to 8192.
    Count,
}

impl Unit {
    /// The upper bounds of the buckets; one more, without a bound, always follows.
    fn buckets(self) -> Vec<f64> {
        let (first, count) = match self {
            Unit::Seconds => (0.000_256, 18),
            Unit::Bytes => (256.0, 18),
            Unit::Count => (1.0, 14),
        };
        (0..count).map(|power| first * f64::from(1u32 << power)).collect()
    }
}

/// One metric as `/metrics` and the documentation describe it.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The full name, unit last.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What one reads from it, in a sentence.
    pub help: &'static str,
}

macro_rules! define_metrics {
    (
        counters { $($counter:ident $counter_name:literal $counter_help:literal;)* }
        gauges { $($gauge:ident $gauge_name:literal $gauge_help:literal;)* }
        histograms { $($histogram:ident $unit:ident $histogram_name:literal $histogram_help:literal;)* }
        labelled { $($labelled:ident $kind:ident $labelled_name:literal $labels:tt $labelled_help:literal;)* }
    ) => {
        /// The handles of all metrics without labels; [`handles`] gives the process's own.
        pub(super) struct Handles {
            recorder: PrometheusRecorder,
            $(pub(super) $counter: Counter,)*
            $(pub(super) $gauge: Gauge,)*
            $(pub(super) $histogram: Histogram,)*
        }

        /// All metrics except the opt-in [`PARTITION_SERIES`].
        pub const DEFINITIONS: &[Definition] = &[
            $(Definition { name: $counter_name, kind: Kind::Counter, labels: &[], help: $counter_help },)*
            $(Definition { name: $gauge_name, kind: Kind::Gauge, labels: &[], help: $gauge_help },)*
            $(Definition {
                name: $histogram_name,
                kind: Kind::Histogram(Unit::$unit),
                labels: &[],
                help: $histogram_help,
            },)*
            $(Definition { name: $labelled_name, kind: Kind::$kind, labels: &$labels, help: $labelled_help },)*
        ];

        $(pub(super) const $labelled: &str = $labelled_name;)*

        fn register() -> Handles {
            let recorder = recorder();
            let (counter, gauge, histogram) = {
                let recorder = &recorder;
                (
                    |name| recorder.register_counter(&Key::from_static_name(name), &METADATA),
                    |name| recorder.register_gauge(&Key::from_static_name(name), &METADATA),
                    |name| recorder.register_histogram(&Key::from_static_name(name), &METADATA),
                )
            };
            Handles {
                $($counter: counter($counter_name),)*
                $($gauge: gauge($gauge_name),)*
                $($histogram: histogram($histogram_name),)*
                recorder,
            }
        }
    };
}

define_metrics! {
    counters {
        produce_batches "lockstep_produce_batches_total" "Batches acknowledged to producers, each synced on a majority.";
        produce_records "lockstep_produce_records_total" "Records in acknowledged batches.";
        produce_bytes "lockstep_produce_bytes_total" "Bytes of acknowledged batches.";
        produce_duplicates "lockstep_produce_duplicates_total" "Retried batches answered with the LSNs of their first append.";
        fetch_records "lockstep_fetch_records_total" "Records handed to fetch requests.";
        fetch_bytes "lockstep_fetch_bytes_total" "Bytes of batches handed to fetch requests.";
        push_records "lockstep_push_records_total" "Records pushed to subscribers.";
        push_bytes "lockstep_push_bytes_total" "Bytes of batches pushed to subscribers.";
        credit_waits "lockstep_subscription_credit_waits_total" "Times a subscription had data and no credit left.";
        connections_opened "lockstep_connections_opened_total" "Client connections accepted.";
        connections_refused "lockstep_connections_refused_total" "Client connections closed at once: the limit was reached.";
        inflight_waits "lockstep_inflight_waits_total" "Times a client socket was not read because the byte budget was used up.";
        leader_changes "lockstep_raft_leader_changes_total" "Times a local replica began or ceased to lead.";
        entries_committed "lockstep_raft_entries_committed_total" "Appends, commands and confirmations that leaders here answered as committed.";
        messages_sent "lockstep_raft_messages_sent_total" "Raft messages handed to peer connections.";
        messages_received "lockstep_raft_messages_received_total" "Raft messages received from peers.";
        snapshot_bytes_sent "lockstep_raft_snapshot_sent_bytes_total" "Bytes of snapshots sent to followers whose log ends before this one begins.";
        entry_bytes_sent "lockstep_raft_entry_sent_bytes_total" "Bytes of log entries sent to followers.";
        peer_bytes_sent "lockstep_peer_sent_bytes_total" "Bytes written to peer connections.";
        peer_bytes_received "lockstep_peer_received_bytes_total" "Bytes read from peer connections.";
        peer_messages_dropped "lockstep_peer_messages_dropped_total" "Messages dropped because a peer was away or its queue full; Raft repeats them.";
        peer_reconnects "lockstep_peer_connects_total" "Connections to peers that completed their handshake.";
        truncations "lockstep_log_truncations_total" "Times a replica cut an uncommitted suffix its leader did not have.";
        truncated_entries "lockstep_log_truncated_entries_total" "Uncommitted entries removed by truncation.";
        groups "lockstep_log_groups_total" "Write groups: all that waited, written together and synced once.";
        syncs "lockstep_log_syncs_total" "Syncs of log files (fdatasync) that returned.";
        log_failures "lockstep_log_failures_total" "Failed writes or syncs; each is final for its log instance.";
        record_bytes "lockstep_log_record_bytes_total" "Bytes of entry bodies written to logs: the payload.";
        frame_bytes "lockstep_log_frame_bytes_total" "Bytes of frames written to logs: headers, envelopes, bodies, seals, footers.";
        prepared_bytes "lockstep_log_prepared_bytes_total" "Bytes written ahead to prepare segments, counted apart from frames.";
        tail_cache_hits "lockstep_tail_cache_hits_total" "Reads for consumers answered from memory.";
        tail_cache_misses "lockstep_tail_cache_misses_total" "Reads for consumers that had to go to segment files.";
        cold_reads "lockstep_cold_reads_total" "Verified reads of segment files, for consumers and slow followers.";
        cold_read_bytes "lockstep_cold_read_bytes_total" "Bytes read from segment files.";
        catch_up_bytes "lockstep_catch_up_bytes_total" "Bytes of log read for new replicas on other brokers, bounded by storage.move_bytes_per_second.";
        read_failures "lockstep_cold_read_failures_total" "Reads of segment files that failed or did not verify.";
        recoveries "lockstep_recoveries_total" "Logs opened by recovery.";
        scrubbed_bytes "lockstep_scrubbed_bytes_total" "Bytes of closed segments that the scrub has verified.";
        replicas_faulty "lockstep_replicas_faulty_total" "Times a replica here was found to lack synced bytes; it takes no part until it is repaired.";
        scrub_damage "lockstep_scrub_damage_total" "Damage that the scrub has found.";
    }
    gauges {
        connections "lockstep_connections" "Client connections open.";
        subscriptions "lockstep_subscriptions" "Subscriptions open.";
        inflight_bytes "lockstep_inflight_bytes" "Bytes of batches accepted and not yet answered.";
        inflight_limit_bytes "lockstep_inflight_limit_bytes" "The node's budget for batches in flight; at it, client sockets are not read.";
        leaders "lockstep_raft_leaders" "Shards whose leader is on this node.";
        leaderless "lockstep_raft_leaderless" "Local replicas that know no leader.";
        replication_lag "lockstep_raft_replication_lag_entries" "Entries the followers of this node's shards are behind, summed.";
        log_bytes "lockstep_log_bytes" "Bytes of log kept on this node.";
        moving_partitions "lockstep_moving_partitions" "Partitions led here whose replicas are being moved.";
        catch_up_left "lockstep_catch_up_left_bytes" "About how many bytes of log new replicas of the partitions led here still lack.";
        write_amplification "lockstep_log_write_amplification_ratio" "Frame bytes per record byte since start; 1 is the ideal.";
        peer_queue_bytes "lockstep_peer_queue_bytes" "Bytes waiting to be written to peers.";
        peers_connected "lockstep_peers_connected" "Peers this node has an outgoing connection to.";
        disk_free_bytes "lockstep_disk_free_bytes" "Free bytes of the data directory's file system.";
        process_resident "lockstep_process_resident_memory_bytes" "Resident memory of this process.";
        process_open_files "lockstep_process_open_files" "Open file descriptors of this process.";
        process_start_time "lockstep_process_start_time_seconds" "When this process started, seconds since 1970.";
    }
    histograms {
        produce_duration Seconds "lockstep_produce_duration_seconds" "From a produce request's last byte to its answer.";
        fetch_duration Seconds "lockstep_fetch_duration_seconds" "From a fetch request to its answer, waiting for data included.";
        produce_request_bytes Bytes "lockstep_produce_request_bytes" "Sizes of produce requests.";
        produce_request_records Count "lockstep_produce_request_records" "Records per produce request.";
        commit_duration Seconds "lockstep_raft_commit_duration_seconds" "From a request's arrival at its shard to the commit.";
        group_entries Count "lockstep_log_group_entries" "Entries per write group.";
        group_bytes Bytes "lockstep_log_group_bytes" "Frame bytes per write group.";
        sync_duration Seconds "lockstep_log_sync_duration_seconds" "Writing and syncing one group.";
        cold_read_duration Seconds "lockstep_cold_read_duration_seconds" "One verified read of a segment file.";
        recovery_duration Seconds "lockstep_recovery_duration_seconds" "Recovery of one log.";
    }
    labelled {
        REQUESTS Counter "lockstep_requests_total" ["api"] "Requests answered, by message of the native protocol.";
        ERRORS Counter "lockstep_errors_total" ["api", "code"] "Requests and items answered with an error, by stable error code.";
        SHARDS Gauge "lockstep_shards" ["health"] "Local replicas by health.";
        HTTP_REQUESTS Counter "lockstep_http_requests_total" ["status"] "Answers of the admin interface, by status.";
        PROCESS_CPU Counter "lockstep_process_cpu_seconds_total" [] "Processor time of this process, user and system.";
        BUILD_INFO Gauge "lockstep_build_info" ["version"] "Always 1; the label says what runs.";
    }
}

/// Series with a topic and a partition: opt-in, since their number grows with the topics. They are written at each
/// scrape from the shards that exist, so a deleted partition leaves nothing behind.
pub const PARTITION_SERIES: &[Definition] = &[
    partition_gauge("lockstep_partition_high_watermark", "The last committed LSN this replica knows."),
    partition_gauge("lockstep_partition_log_start", "The first LSN still kept."),
    partition_gauge("lockstep_partition_log_bytes", "Bytes of log this replica keeps."),
    partition_gauge("lockstep_partition_leader", "1 where this node leads the partition, else 0."),
    partition_gauge(
        "lockstep_partition_lag_entries",
        "Entries the slowest follower is behind; 0 on followers.",
    ),
];

const fn partition_gauge(name: &'static str, help: &'static str) -> Definition {
    Definition { name, kind: Kind::Gauge, labels: &["topic", "partition"], help }
}

static METADATA: Metadata<'static> = Metadata::new("lockstep", Level::INFO, None);

/// The process's metrics. Several brokers in one process (tests) share them.
pub(super) fn handles() -> &'static Handles {
    static HANDLES: LazyLock<Handles> = LazyLock::new(register);
    &HANDLES
}

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for definition in DEFINITIONS {
        if let Kind::Histogram(unit) = definition.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(definition.name.to_owned()), &unit.buckets())
                .expect("a unit always has buckets");
        }
    }
    let recorder = builder.build_recorder();
    for Definition { name, kind, help, .. } in DEFINITIONS.iter().copied() {
        let (name, help) = (KeyName::from_const_str(name), help.into());
        match kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
        }
    }
    recorder
}

impl Handles {
    /// The counter of `name` with these labels; made on first use.
    pub(super) fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    /// The gauge of `name` with these labels; made on first use.
    pub(super) fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    /// What renders the text format.
    pub(super) fn prometheus(&self) -> PrometheusHandle {
        self.recorder.handle()
    }
}
