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
fn where_no_peer_reaches_back_to_the_log_start_the_front_comes_from_the_earliest_without_a_leader() {
    let mut cluster = stopped_cluster();
    (0..3).for_each(|_| lose_oldest_segment(&cluster, 3));
    for node in [1, 2] {
        cluster.start(node);
    }
    let leader = cluster.wait_for_leader();
    // Node 3 does not hear of it.
    cluster.command(leader, Command::Trim { log_start: 20 });
    cluster.produce(leader, &["one more"]);
    cluster.let_them_seal();
    cluster.crash(2, 0);
    cluster.know_only(3, &[1]);
    cluster.start(3);
    assert!(is_faulty(&cluster, 3), "{:?}", cluster.health(3));
    wait_until_well(&mut cluster, 3);
    cluster.start(2);
    let leader = cluster.wait_for_leader();
    cluster.produce(leader, &["and another"]);
    cluster.tick_all();
    let kept = cluster.records(leader);
    assert_eq!(kept.first().map(|(lsn, _)| *lsn), Some(20));
    (1..=3).for_each(|node| assert_eq!(cluster.records(node), kept, "on node {node}"));
}

#[test]
fn a_front_that_the_leader_has_dropped_is_given_up_and_what_is_behind_it_stays() {
    let mut cluster = Cluster::with_segments(5, 4096 + 2048);
    cluster.elect(1);
    for value in values() {
        cluster.produce(1, &[&value]);
    }
    cluster.let_them_seal();
    cluster.crash(5, 0);
    cluster.command(1, Command::Trim { log_start: 30 });
    cluster.produce(1, &["one more"]);
    cluster.tick_all();
    // It does not say what its log begins with.
    cluster.crash(4, 0);
    lose_oldest_segment(&cluster, 5);
    let newest = cluster.segments(5).pop().expect("several segments");
    cluster.start(5);
    assert!(is_faulty(&cluster, 5), "{:?}", cluster.health(5));
    wait_until_well(&mut cluster, 5);
    assert!(cluster.segments(5).contains(&newest), "{:?}", cluster.segments(5));
    cluster.tick_all();
    assert_eq!(cluster.records(5), cluster.records(1));
}

#[test]
fn a_front_before_a_suffix_that_lost_an_election_comes_from_the_leader_with_all_behind_it() {
    let mut cluster = cluster_with_a_lost_suffix_on_node_1(20);
    let leader = cluster.wait_for_leader();
    for number in 1..=20 {
        cluster.produce(leader, &[&value(number)]);
    }
    assert!(cluster.segments(1).len() > 1, "the second begins behind what lost the election");
    let oldest = cluster.segments(1).remove(0);
    cluster.disk(1).flip_bit(&oldest, 40, 0);
    cluster.start(1);
    assert!(is_faulty(&cluster, 1), "{:?}", cluster.health(1));
    wait_until_well(&mut cluster, 1);
    cluster.tick_all();
    assert_eq!(cluster.records(1), cluster.records(leader));
}

#[test]
fn a_lost_end_of_a_log_that_differs_before_the_leaders_beginning_comes_with_the_leaders_checkpoint() {
    let mut cluster = cluster_with_a_lost_suffix_on_node_1(40);
    let leader = cluster.wait_for_leader();
    for number in 1..=30 {
        cluster.produce(leader, &[&value(number)]);
    }
    cluster.command(leader, Command::Trim { log_start: 25 });
    cluster.produce(leader, &["one more"]);
    cluster.let_them_seal();
    // What they have dropped is in their memory no longer.
    for node in [2, 3] {
        cluster.crash(node, 0);
        cluster.start(node);
    }
    let leader = cluster.wait_for_leader();
    let (path, position) = find(&cluster, 1, "lost 39");
    cluster.disk(1).make_unreadable(&path, position, 1).expect("it is there");
    cluster.start(1);
    wait_until_well(&mut cluster, 1);
    cluster.tick_all();
    assert_eq!(cluster.records(1), cluster.records(leader));
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
