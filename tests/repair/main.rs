//! A replica that lost what it once acknowledged takes no part until its peers have given it back, proven.

#[path = "../cluster/mod.rs"]
mod cluster;

mod front;
mod holes;
mod rot;
mod votes;
mod whole;

use cluster::Cluster;
use lockstep::shard::Health;
use lockstep_storage::io::{Disk, OpenMode};

const RECORDS: usize = 60;

fn value(number: usize) -> String {
    format!("record {number:03} of a log with several segments")
}

fn values() -> Vec<String> {
    (1..=RECORDS).map(value).collect()
}

/// Three replicas with the same sixty records in several sealed segments, all stopped cleanly.
fn stopped_cluster() -> Cluster {
    let mut cluster = Cluster::with_segments(3, 4096 + 2048);
    cluster.elect(1);
    for value in values() {
        cluster.produce(1, &[&value]);
    }
    cluster.let_them_seal();
    for node in 1..=3 {
        cluster.crash(node, 0);
    }
    cluster
}

/// Three replicas, of which the first has crashed with so many records behind the only committed one that the others never
/// got: "lost 00" and so on.
fn cluster_with_a_lost_suffix_on_node_1(records: usize) -> Cluster {
    let mut cluster = Cluster::with_segments(3, 4096 + 2048);
    cluster.elect(1);
    cluster.produce(1, &["kept"]);
    cluster.isolate(1);
    for number in 0..records {
        cluster.send(1, &[&format!("lost {number:02} of a suffix that nobody else has")]);
    }
    cluster.settle();
    cluster.crash(1, 0);
    cluster.heal();
    cluster
}

/// Starts everyone and waits until nobody is faulty any more.
fn heal(cluster: &mut Cluster) {
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.settle();
    cluster.wait_until("everyone is well", |cluster| (1..=3).all(|node| cluster.health(node) == Health::Ok));
    cluster.wait_for_leader();
}

fn assert_all_records(cluster: &mut Cluster) {
    let leader = cluster.wait_for_leader();
    cluster.produce(leader, &["one more"]);
    // Followers hear of the commit with the next heartbeat.
    cluster.tick_all();
    let mut expected = values();
    expected.push("one more".into());
    cluster.assert_everywhere(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Where a record's bytes stand in a node's files.
fn find(cluster: &Cluster, node: u64, text: &str) -> (String, u64) {
    let disk = cluster.disk(node);
    for path in cluster.segments(node) {
        let file = disk.open(&path, OpenMode::Read).expect("a segment opens");
        let bytes = file.read_at(1 << 20, 0).expect("a segment reads");
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            return (path, at as u64);
        }
    }
    panic!("{text:?} is not on node {node}");
}

fn rot(cluster: &Cluster, node: u64, number: usize) {
    let (path, position) = find(cluster, node, &value(number));
    cluster.disk(node).flip_bit(&path, position + 5, 3);
}

fn is_faulty(cluster: &Cluster, node: u64) -> bool {
    matches!(cluster.health(node), Health::Faulty(_))
}

fn wait_until_well(cluster: &mut Cluster, node: u64) {
    cluster.wait_until(&format!("node {node} is well"), |cluster| cluster.health(node) == Health::Ok);
}
