//! What is lost at a log's beginning: headers, files, and where it began.

use lockstep::shard::Command;

use super::*;
use crate::cluster::ELECTION_TICKS;

#[test]
fn a_lost_first_header_is_taken_from_a_peer() {
    let mut cluster = stopped_cluster();
    let oldest = cluster.segments(1).remove(0);
    cluster.disk(1).flip_bit(&oldest, 40, 0);
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn a_replica_that_lost_its_first_header_too_does_not_say_where_the_log_begins() {
    let mut cluster = stopped_cluster();
    for node in [1, 2] {
        let oldest = cluster.segments(node).remove(0);
        cluster.disk(node).flip_bit(&oldest, 40, 0);
    }
    // The two can ask each other alone at first.
    for node in [1, 2] {
        cluster.start(node);
    }
    for _ in 0..100 {
        cluster.tick_all();
    }
    for node in [1, 2] {
        assert!(matches!(cluster.health(node), Health::Faulty(_)), "{:?}", cluster.health(node));
    }
    cluster.start(3);
    cluster.wait_until("everyone is well", |cluster| (1..=3).all(|node| cluster.health(node) == Health::Ok));
    assert_all_records(&mut cluster);
}

fn lose_oldest_segment(cluster: &Cluster, node: u64) {
    let oldest = cluster.segments(node).remove(0);
    assert!(cluster.disk(node).lose(&oldest));
}

#[test]
fn an_oldest_segment_that_is_gone_is_told_by_the_log_start_and_comes_back() {
    let mut cluster = stopped_cluster();
    lose_oldest_segment(&cluster, 3);
    cluster.start(3);
    assert!(is_faulty(&cluster, 3), "{:?}", cluster.health(3));
    cluster.crash(3, 0);
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn a_replica_that_lacks_its_oldest_segment_too_does_not_say_where_the_log_begins() {
    let mut cluster = stopped_cluster();
    let oldest = cluster.segments(1).remove(0);
    cluster.disk(1).flip_bit(&oldest, 40, 0);
    lose_oldest_segment(&cluster, 2);
    for node in [1, 2] {
        cluster.start(node);
    }
    for _ in 0..20 * ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(is_faulty(&cluster, 1) && is_faulty(&cluster, 2), "node 3 may have what is missing");
    cluster.start(3);
    (1..=2).for_each(|node| wait_until_well(&mut cluster, node));
    assert_all_records(&mut cluster);
}

#[test]
fn what_all_others_have_dropped_is_given_up_at_the_front() {
    let mut cluster = stopped_cluster();
    lose_oldest_segment(&cluster, 3);
    for node in [1, 2] {
        cluster.start(node);
    }
    let leader = cluster.wait_for_leader();
    cluster.command(leader, Command::Trim { log_start: 30 });
    cluster.produce(leader, &["one more"]);
    cluster.start(3);
    wait_until_well(&mut cluster, 3);
    cluster.tick_all();
    let kept = cluster.records(leader);
    assert_eq!(kept.first().map(|(lsn, _)| *lsn), Some(30));
    (1..=3).for_each(|node| assert_eq!(cluster.records(node), kept, "on node {node}"));
    // Where it begins now is where it begins after a restart.
    cluster.crash(3, 0);
    cluster.start(3);
    assert_eq!(cluster.health(3), Health::Ok);
}

#[test]
fn a_log_that_was_trimmed_lacks_nothing() {
    let mut cluster = stopped_cluster();
    (1..=3).for_each(|node| cluster.start(node));
    let leader = cluster.wait_for_leader();
    let segments = cluster.segments(leader).len();
    for log_start in [10, 20, 30, 61] {
        cluster.command(leader, Command::Trim { log_start });
        cluster.let_them_seal();
        cluster.crash(3, 0);
        cluster.start(3);
        assert_eq!(cluster.health(3), Health::Ok, "trimmed to {log_start}");
        cluster.wait_for_leader();
    }
    assert!(cluster.segments(3).len() < segments, "nothing was dropped");
}
