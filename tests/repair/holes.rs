//! Holes: entries with something intact behind them.

use std::sync::Arc;

use lockstep::{random::Random, shard::Command};
use lockstep_storage::{
    Checkpoint, Finding, Log, LogOptions, inspect,
    io::{Disk, FakeDisk, OpenMode},
};

use super::*;
use crate::cluster::ELECTION_TICKS;

#[test]
fn a_hole_in_the_last_segment_is_filled_from_a_peer() {
    let mut cluster = stopped_cluster();
    rot(&cluster, 3, RECORDS - 1);
    cluster.start(3);
    assert!(is_faulty(&cluster, 3), "{:?}", cluster.health(3));
    cluster.crash(3, 0);
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn a_hole_in_entries_that_lost_an_election_is_given_up_for_the_leaders() {
    for entries_since in [1, 12] {
        let mut cluster = Cluster::new(3);
        cluster.elect(1);
        cluster.produce(1, &["kept"]);
        cluster.isolate(1);
        for number in 0..6 {
            cluster.send(1, &[&format!("lost {number}")]);
            cluster.settle();
        }
        let (path, position) = find(&cluster, 1, "lost 2");
        cluster.crash(1, 0);
        cluster.disk(1).flip_bit(&path, position, 3);
        cluster.heal();
        let leader = cluster.wait_for_leader();
        for _ in 0..entries_since {
            cluster.produce(leader, &["stands"]);
        }
        cluster.start(1);
        assert!(matches!(cluster.health(1), Health::Faulty(_)), "{:?}", cluster.health(1));
        cluster.wait_until("node 1 is well", |cluster| cluster.health(1) == Health::Ok);
        cluster.tick_all();
        let expected: Vec<&str> = ["kept"].into_iter().chain(vec!["stands"; entries_since]).collect();
        cluster.assert_everywhere(&expected);
    }
}

#[test]
fn a_hole_whose_beginning_the_others_have_trimmed_is_given_up_for_their_checkpoint() {
    let mut cluster = Cluster::with_segments(3, 4096 + 2048);
    cluster.elect(1);
    for (number, value) in (1..).zip(values()) {
        cluster.produce(1, &[&value]);
        // Whoever starts anew goes on in a new segment: this one's begin elsewhere than the others'.
        if number == RECORDS / 2 {
            cluster.crash(3, 0);
            cluster.start(3);
        }
    }
    cluster.let_them_seal();
    let starts = |cluster: &Cluster, node: u64| {
        let mut starts = Vec::new();
        let mut note = |finding: Finding<'_>| {
            if let Finding::Segment { file, header, .. } = finding {
                starts.push((file.to_owned(), header.checkpoint.index, header.checkpoint.last_lsn));
            }
        };
        inspect(cluster.disk(node), "shard", &mut note).expect("a healthy disk");
        starts
    };
    let (others, here) = (starts(&cluster, 1), starts(&cluster, 3));
    let inside = |at: u64| here.windows(2).position(|pair| pair[0].1 < at && at < pair[1].1);
    let (hole, log_start) = others
        .iter()
        .find_map(|(_, at, last_lsn)| inside(*at).filter(|hole| *hole > 0).map(|hole| (hole, last_lsn + 1)))
        .expect("a segment of the others begins in the middle of one here");
    cluster.crash(3, 0);
    cluster.disk(3).flip_bit(&here[hole].0, 40, 0);
    cluster.command(1, Command::Trim { log_start });
    cluster.produce(1, &["one more"]);
    cluster.start(3);
    assert!(is_faulty(&cluster, 3), "{:?}", cluster.health(3));
    wait_until_well(&mut cluster, 3);
    cluster.tick_all();
    let kept = cluster.records(1);
    assert_eq!(kept.first().map(|(lsn, _)| *lsn), Some(log_start));
    (2..=3).for_each(|node| assert_eq!(cluster.records(node), kept, "on node {node}"));
}

#[test]
fn what_recovery_cannot_read_again_and_again_comes_back_from_the_leader() {
    let mut cluster = stopped_cluster();
    let (path, position) = find(&cluster, 3, &value(RECORDS - 1));
    let harm = cluster.disk(3).make_unreadable(&path, position, 1).expect("it is there");
    cluster.start(3);
    assert!(matches!(cluster.health(3), Health::Failed(_)), "perhaps it can be read the next time");
    cluster.crash(3, 0);
    heal(&mut cluster);
    assert_all_records(&mut cluster);
    assert!(!cluster.disk(3).is_harmed(harm));
}

#[test]
fn replicas_that_cannot_read_closed_segments_heal_each_other_without_a_leader() {
    let mut cluster = stopped_cluster();
    for (node, at) in [(2, 1), (3, 2)] {
        let segments = cluster.segments(node);
        assert!(at + 1 < segments.len(), "{} segments", segments.len());
        cluster.disk(node).make_unreadable(&segments[at], 8, 512).expect("it is there");
        cluster.start(node);
        assert!(matches!(cluster.health(node), Health::Failed(_)), "{:?}", cluster.health(node));
    }
    // Node 1 stays away: whoever waits for a leader waits for ever.
    cluster.wait_until("both are well", |cluster| {
        [2, 3].into_iter().all(|node| cluster.health(node) == Health::Ok)
    });
    cluster.start(1);
    assert_all_records(&mut cluster);
}

#[test]
fn what_cannot_be_read_in_the_last_group_is_not_taken_for_a_tear() {
    let mut cluster = Cluster::with_segments(3, 4096 + 2048);
    cluster.elect(1);
    for value in values() {
        cluster.produce(1, &[&value]);
    }
    cluster.crash(3, 0);
    let (path, position) = find(&cluster, 3, &value(RECORDS));
    cluster.disk(3).make_unreadable(&path, position, 1).expect("it is there");
    // It was acknowledged: cut off, it would be missing from a majority as soon as another replica lost it.
    let before = cluster.disk(3).durable_bytes(&path);
    cluster.start(3);
    assert!(matches!(cluster.health(3), Health::Failed(_)));
    assert_eq!(cluster.disk(3).durable_bytes(&path), before, "nothing is cut");
    wait_until_well(&mut cluster, 3);
    assert_all_records(&mut cluster);
}

#[test]
fn replicas_damaged_at_different_places_heal_each_other_without_a_leader() {
    let mut cluster = stopped_cluster();
    for (node, number) in [(1, RECORDS - 2), (2, RECORDS - 1), (3, RECORDS)] {
        rot(&cluster, node, number);
    }
    for node in 1..=3 {
        cluster.start(node);
        assert!(matches!(cluster.health(node), Health::Faulty(_)), "node {node}: {:?}", cluster.health(node));
        cluster.crash(node, 0);
    }
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn the_same_record_damaged_everywhere_halts_the_shard_and_says_so() {
    let mut cluster = stopped_cluster();
    for node in 1..=3 {
        rot(&cluster, node, RECORDS - 1);
    }
    let before: Vec<_> = (1..=3).map(|node| cluster.segments(node)).collect();
    for node in 1..=3 {
        cluster.start(node);
    }
    for _ in 0..500 {
        cluster.tick_all();
    }
    for node in 1..=3 {
        let Health::Faulty(why) = cluster.health(node) else {
            panic!("node {node}: {:?}", cluster.health(node))
        };
        assert!(why.contains("no other replica has"), "{why}");
        assert_eq!(cluster.segments(node), before[node as usize - 1], "nothing is deleted");
    }
}

#[test]
fn a_header_that_was_meant_for_another_shard_is_damage_where_the_vote_is_ones_own() {
    let mut cluster = stopped_cluster();
    let mut random = Random::new(1);
    let disk: Arc<dyn Disk> = FakeDisk::new();
    let foreign = LogOptions { shard: 2, ..LogOptions::default() };
    Log::create(Arc::clone(&disk), "other", &foreign, Checkpoint::default(), random.nonce())
        .expect("a fresh disk");
    let file = disk.open("other/00000000000000000001.segment", OpenMode::Read).expect("it was created");
    let misdirected = file.read_at(4096, 0).expect("a healthy disk");
    for segment in cluster.segments(3) {
        cluster.disk(3).corrupt(&segment, 0, &misdirected).expect("it is there");
    }
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn entries_that_lost_an_election_fill_no_hole() {
    let mut cluster = cluster_with_a_lost_suffix_on_node_1(20);
    let mut expected = vec!["kept".to_owned()];
    let leader = cluster.wait_for_leader();
    for number in 1..=20 {
        cluster.produce(leader, &[&value(number)]);
        expected.push(value(number));
    }
    cluster.let_them_seal();
    (2..=3).for_each(|node| cluster.crash(node, 0));
    // The hole begins where both logs were the same, and where they were others already.
    for number in [1, 5] {
        rot(&cluster, 3, number);
    }
    cluster.start(1);
    cluster.start(3);
    for _ in 0..20 * ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(is_faulty(&cluster, 3), "node 1 has other entries there");
    cluster.start(2);
    wait_until_well(&mut cluster, 3);
    let leader = cluster.wait_for_leader();
    cluster.produce(leader, &["one more"]);
    expected.push("one more".into());
    cluster.tick_all();
    cluster.assert_everywhere(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}
