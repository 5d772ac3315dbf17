//! Leaders that die, fall silent or come back: nobody waits for an election timeout, and false alarms depose nobody.

mod cluster;

use cluster::{Cluster, ELECTION_TICKS};
use lockstep::shard::Input;

fn led_by_one() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    for _ in 0..5 {
        cluster.tick_all();
    }
    cluster
}

/// The same after all of it went down.
fn started_again() -> Cluster {
    let mut cluster = led_by_one();
    for node in [1, 2, 3] {
        cluster.crash(node, node);
    }
    for node in [1, 2, 3] {
        cluster.start(node);
    }
    cluster
}

/// Ticks everyone until somebody other than `node` leads; how many ticks that took.
fn ticks_until_another_leads(cluster: &mut Cluster, node: u64) -> usize {
    for ticks in 0..20 * ELECTION_TICKS {
        if cluster.running().into_iter().any(|other| other != node && cluster.leads(other)) {
            return ticks;
        }
        cluster.tick_all();
    }
    panic!("nobody was elected");
}

#[test]
fn the_survivors_of_a_leader_elect_another_before_the_next_tick() {
    let mut cluster = led_by_one();
    cluster.crash(1, 7);
    for survivor in [2, 3] {
        cluster.step(survivor, Input::PeerLost { node: 1 });
    }
    cluster.settle();
    assert_eq!(ticks_until_another_leads(&mut cluster, 1), 0);
}

#[test]
fn one_that_hears_of_the_death_before_the_other_is_elected_well_before_a_timeout() {
    for (first, second) in [(2, 3), (3, 2)] {
        let mut cluster = led_by_one();
        cluster.crash(1, 7);
        cluster.step(first, Input::PeerLost { node: 1 });
        cluster.settle();
        cluster.step(second, Input::PeerLost { node: 1 });
        cluster.settle();
        let ticks = ticks_until_another_leads(&mut cluster, 1);
        assert!(ticks < ELECTION_TICKS / 2, "it took {ticks} ticks");
    }
}

#[test]
fn a_false_alarm_deposes_nobody_whom_others_still_hear() {
    let mut cluster = led_by_one();
    let term = cluster.describe(1).view.term;
    cluster.step(2, Input::PeerLost { node: 1 });
    cluster.step(3, Input::Tick);
    cluster.settle();
    for _ in 0..3 * ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(cluster.leads(1));
    assert_eq!(cluster.describe(1).view.term, term);
    assert_eq!(cluster.describe(2).view.leader, Some(1), "the leader has answered whoever asked for votes");
}

#[test]
fn a_leader_brings_a_peer_up_to_date_as_soon_as_it_is_found() {
    let mut cluster = led_by_one();
    cluster.isolate(3);
    cluster.produce(1, &["two"]);
    cluster.step(1, Input::PeerLost { node: 3 });
    cluster.heal();
    cluster.settle();
    assert_eq!(cluster.describe(3).last_lsn, 1);
    cluster.step(1, Input::PeerFound { node: 3 });
    cluster.settle();
    assert_eq!(cluster.describe(3).last_lsn, 2, "no tick has passed");
}

#[test]
fn a_cluster_that_starts_again_does_not_wait_for_an_election_timeout() {
    let mut cluster = started_again();
    let ticks = ticks_until_another_leads(&mut cluster, 0);
    assert!(ticks < ELECTION_TICKS / 2, "it took {ticks} ticks");
}

#[test]
fn a_replica_that_starts_again_hears_at_once_who_leads() {
    for node in [2, 3] {
        let mut cluster = led_by_one();
        let term = cluster.describe(1).view.term;
        cluster.crash(node, node);
        cluster.start(node);
        // Whoever's turn it is asks with the first tick, the others before it: for the answer alone.
        cluster.step(node, Input::Tick);
        cluster.settle();
        assert_eq!(cluster.describe(node).view.leader, Some(1), "node {node}");
        assert_eq!(cluster.describe(1).view.term, term);
    }
}

#[test]
fn an_election_is_left_to_whoever_stands_while_its_votes_are_synced() {
    let mut cluster = started_again();
    let term = cluster.describe(2).view.term;
    // As after a start of many shards: the disks are busy.
    [1, 2, 3].into_iter().for_each(|node| cluster.hold_disk(node));
    for _ in 0..3 {
        cluster.tick_all();
    }
    let terms: Vec<u64> = [1, 2, 3].map(|node| cluster.describe(node).view.term).into();
    assert!(terms.contains(&(term + 1)), "nobody stood: {terms:?}");
    [1, 2, 3].into_iter().for_each(|node| cluster.release_disk(node));
    assert!(ticks_until_another_leads(&mut cluster, 0) < ELECTION_TICKS / 2);
    assert_eq!(cluster.describe(2).view.term, term + 1, "one election was enough");
}

#[test]
fn a_leader_that_is_asked_to_leave_hands_over_without_a_tick() {
    let mut cluster = led_by_one();
    cluster.step(1, Input::HandOver { token: 900 });
    cluster.settle();
    assert!(!cluster.leads(1) && (cluster.leads(2) || cluster.leads(3)));
}

#[test]
fn a_hand_over_to_a_peer_that_is_lost_is_given_up_at_once() {
    let mut cluster = led_by_one();
    cluster.isolate(2);
    cluster.isolate(3);
    cluster.step(1, Input::Transfer { token: 900, to: 2 });
    cluster.settle();
    cluster.step(1, Input::PeerLost { node: 2 });
    cluster.heal();
    cluster.settle();
    cluster.produce(1, &["two"]);
}
