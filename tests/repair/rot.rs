//! Rot that is found while a log is in use.

use lockstep::shard::AppendError;

use super::*;
use crate::cluster::ELECTION_TICKS;

#[test]
fn rot_in_a_sealed_segment_is_found_by_the_scrub_and_healed() {
    let mut cluster = stopped_cluster();
    rot(&cluster, 2, 10);
    heal(&mut cluster);
    assert!(cluster.scrub(2), "the scrub finds it");
    assert!(matches!(cluster.health(2), Health::Faulty(_)));
    cluster.wait_until("node 2 is well", |cluster| cluster.health(2) == Health::Ok);
    assert!(!cluster.scrub(2), "nothing is left to find");
    assert_all_records(&mut cluster);
}

/// A cluster led by node 1, in a sealed segment of which a bit has flipped.
fn cluster_with_a_rotten_leader() -> Cluster {
    let mut cluster = stopped_cluster();
    rot(&cluster, 1, 10);
    heal(&mut cluster);
    cluster.elect(1);
    // Everyone's answer to a heartbeat, so that the leader knows who is there.
    cluster.tick_all();
    cluster
}

#[test]
fn a_leader_that_finds_rot_hands_over_before_it_gives_up_its_raft_node() {
    let mut cluster = cluster_with_a_rotten_leader();
    assert!(cluster.scrub(1), "the scrub finds it");
    let Health::Faulty(why) = cluster.health(1) else { panic!("{:?}", cluster.health(1)) };
    assert!(why.contains("handing leadership over"), "{why}");
    // Not one tick passes: nobody waits for an election timeout.
    cluster.settle();
    assert!(cluster.leads(2) || cluster.leads(3), "somebody took over");
    assert!(!cluster.leads(1) && matches!(cluster.health(1), Health::Faulty(_)));
    cluster.wait_until("node 1 is well", |cluster| cluster.health(1) == Health::Ok);
    assert!(!cluster.scrub(1), "nothing is left to find");
    assert_all_records(&mut cluster);
}

#[test]
fn a_leader_that_hands_over_because_of_rot_acknowledges_nothing_more() {
    let mut cluster = cluster_with_a_rotten_leader();
    let waiting = cluster.send(1, &["sent before the damage was found"]);
    assert_eq!(cluster.answer(waiting), None);
    assert!(cluster.scrub(1), "the scrub finds it");
    assert_eq!(cluster.answer(waiting), Some(&Err(AppendError::OutcomeUnknown)));
    let refused = cluster.send(1, &["sent after"]);
    assert!(
        matches!(cluster.answer(refused), Some(Err(AppendError::NotLeader { leader: Some(2 | 3), .. }))),
        "{:?}",
        cluster.answer(refused)
    );
}

#[test]
fn a_rotten_leader_that_nobody_relieves_gives_up_after_an_election_timeout() {
    let mut cluster = cluster_with_a_rotten_leader();
    cluster.isolate(1);
    assert!(cluster.scrub(1), "the scrub finds it");
    assert!(cluster.leads(1), "it waits for somebody to take over");
    for _ in 0..ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(!cluster.leads(1));
    let Health::Faulty(why) = cluster.health(1) else { panic!("{:?}", cluster.health(1)) };
    assert!(!why.contains("handing leadership over"), "{why}");
    cluster.heal();
    cluster.wait_until("node 1 is well", |cluster| cluster.health(1) == Health::Ok);
    assert_all_records(&mut cluster);
}

#[test]
fn a_rotten_leader_gives_nobody_its_vote() {
    let mut cluster = cluster_with_a_rotten_leader();
    cluster.crash(3, 0);
    assert!(cluster.scrub(1), "the scrub finds it");
    let mut steps = 0;
    // Once filled with its peer's bytes, it may vote again.
    while cluster.health(1) != Health::Ok {
        assert!(!cluster.leads(2), "one of three votes is no majority");
        steps += 1;
        if !cluster.deliver_one() {
            cluster.tick_all();
        }
    }
    assert!(steps > 3, "only {steps} steps: was anybody asked to take over?");
    cluster.wait_until("node 1 is well", |cluster| cluster.health(1) == Health::Ok);
    cluster.start(3);
    assert_all_records(&mut cluster);
}

#[test]
fn rot_that_is_found_while_a_repair_is_served_is_repaired_too() {
    let mut cluster = stopped_cluster();
    rot(&cluster, 2, 10);
    cluster.start(2);
    assert_eq!(cluster.health(2), Health::Ok, "a sealed segment is not read at the start");
    rot(&cluster, 3, 10);
    rot(&cluster, 3, RECORDS - 1);
    cluster.start(3);
    cluster.wait_until("node 2 finds it", |cluster| is_faulty(cluster, 2));
    cluster.start(1);
    (2..=3).for_each(|node| wait_until_well(&mut cluster, node));
    assert_all_records(&mut cluster);
}
