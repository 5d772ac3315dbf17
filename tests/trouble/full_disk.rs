//! Disks without room: small ones of memory, in mount namespaces of the clusters.

use std::{fs, path::Path};

use crate::{
    assert_says,
    ledger::Ledger,
    processes::{LocalCluster, Surroundings, http_get, http_status, in_mount_namespace},
    said,
};

/// Settings for a disk of a few dozen megabytes: small batches, so that segments may be small.
fn on_a_small_disk(reserve_bytes: u64, mounts: &str) -> Option<Surroundings> {
    in_mount_namespace("true")?;
    let variables = vec![
        ("LOCKSTEP_LIMITS_MAX_RECORD_BYTES", (256 << 10).to_string()),
        ("LOCKSTEP_LIMITS_MAX_BATCH_BYTES", (1 << 20).to_string()),
        ("LOCKSTEP_STORAGE_SEGMENT_BYTES", (4 << 20).to_string()),
        ("LOCKSTEP_STORAGE_SPARE_SEGMENTS", "0".to_owned()),
        ("LOCKSTEP_STORAGE_FREE_SPACE_RESERVE_BYTES", reserve_bytes.to_string()),
    ];
    Some(Surroundings { variables, mounts: Some(mounts.to_owned()) })
}

/// Takes room away, until only so much is left.
fn fill(directory: &Path, leave_bytes: u64) {
    let status = rustix::fs::statvfs(directory).expect("a file system");
    let free = status.f_bavail * status.f_frsize;
    let ballast = vec![1; usize::try_from(free.saturating_sub(leave_bytes)).expect("a small disk")];
    fs::write(directory.join("ballast"), ballast).expect("there is room yet");
}

fn metric(http: &str, name: &str) -> f64 {
    let (_, text) = http_get(http, "/metrics").expect("the broker answers");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("the metric exists").parse().expect("a number")
}

#[test]
fn below_the_reserve_appends_are_refused_reads_go_on_and_room_heals_it() {
    const RESERVE: u64 = 16 << 20;
    let mounts = "mount -t tmpfs -o size=48m none \"$DIR\"";
    let Some(surroundings) = on_a_small_disk(RESERVE, mounts) else { return };
    let cluster = LocalCluster::start_in(surroundings);
    let mut ledger = Ledger::new("reserve");
    ledger.write(&cluster, 10);

    fill(&cluster.directory(), RESERVE / 2);
    // Until all of them do, one that does not may take a batch that is committed once there is room again.
    let noticed = |node: u64| {
        let log =
            fs::read_to_string(cluster.node_directory(node).join("log.txt")).expect("brokers write logs");
        log.contains("free space crossed the reserve")
    };
    cluster.wait_until("the brokers notice", || cluster.nodes().iter().all(|node| noticed(node.id)));
    let produce = |topic| cluster.run_with(&["produce", topic, "--timeout", "0.2"], "one too many\n");
    let output = produce("reserve");
    assert_eq!(output.status.code(), Some(1));
    assert_says(&said(&output), &["below its free-space reserve", "free space, or trim topics"]);
    ledger.is_whole_on(&cluster, &cluster.leader("reserve"));

    fs::remove_file(cluster.directory().join("ballast")).expect("the ballast can be dropped");
    ledger.write(&cluster, 10);
    ledger.is_whole_everywhere(&cluster);
    for node in cluster.nodes() {
        assert_eq!(metric(&node.http, "lockstep_log_failures_total"), 0.0, "nothing was written in vain");
    }
}

#[test]
fn a_node_whose_disk_is_full_costs_no_acknowledged_record_and_catches_up() {
    // A disk of its own for node 1, with what it has so far on it.
    let mounts = r#"
        if [ -d "$DIR/node-1/data" ]; then
            cp -a "$DIR/node-1/data" "$DIR/copy"
            mount -t tmpfs -o size=12m none "$DIR/node-1/data"
            cp -a "$DIR/copy/." "$DIR/node-1/data"
        fi"#;
    let Some(surroundings) = on_a_small_disk(0, mounts) else { return };
    let mut cluster = LocalCluster::start_in(Surroundings { mounts: None, ..surroundings.clone() });
    let mut ledger = Ledger::new("full");
    ledger.write(&cluster, 10);
    cluster.restart_in(surroundings);
    ledger.write(&cluster, 10);

    let full = cluster.node(1);
    let data = cluster.node_directory(1).join("data");
    fill(&data, 1 << 20);
    // Three times of what fits.
    ledger.write_sized(&cluster, 48, 64 << 10);
    cluster.wait_until("the full node says so", || metric(&full.http, "lockstep_log_failures_total") > 0.0);
    let log = fs::read_to_string(cluster.node_directory(1).join("log.txt")).expect("brokers write logs");
    assert_says(&log, &["No space left on device"]);
    ledger.write(&cluster, 10);
    for node in cluster.nodes().iter().filter(|node| node.id != full.id) {
        ledger.is_whole_on(&cluster, node);
    }

    fs::remove_file(data.join("ballast")).expect("the ballast can be dropped");
    cluster.kill(&full);
    cluster.wait_for_restart(&full);
    assert_eq!(http_status(&full.http, "/readyz"), Some(200));
    ledger.write(&cluster, 10);
    ledger.is_whole_everywhere(&cluster);
}
