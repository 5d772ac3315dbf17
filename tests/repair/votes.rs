//! Lost votes: replaced in a term in which the replica cannot have voted.

use lockstep::{
    raft::MembershipChange::{self, AddLearner, AddVoter, Remove},
    shard::Former,
};
use lockstep_storage::io::Disk;

use super::*;
use crate::cluster::ELECTION_TICKS;

#[test]
fn a_damaged_replica_gives_nobody_its_vote() {
    let mut cluster = stopped_cluster();
    rot(&cluster, 3, RECORDS - 1);
    cluster.start(2);
    cluster.start(3);
    cluster.isolate(3);
    for _ in 0..300 {
        cluster.tick_all();
    }
    assert!(!cluster.leads(2), "one of three votes is no majority");
    assert!(matches!(cluster.health(3), Health::Faulty(_)));
    cluster.heal();
    wait_until_well(&mut cluster, 3);
    cluster.start(1);
    assert_all_records(&mut cluster);
}

#[test]
fn a_lost_vote_is_replaced_once_every_other_replica_has_told_its_term() {
    let mut cluster = stopped_cluster();
    cluster.disk(3).remove_file(&cluster.vote_file()).expect("a healthy disk");
    cluster.start(2);
    cluster.start(3);
    for _ in 0..200 {
        cluster.tick_all();
    }
    assert!(
        matches!(cluster.health(3), Health::Faulty(_)),
        "node 1 has not answered: {:?}",
        cluster.health(3)
    );
    assert!(!cluster.leads(2), "node 3 gives no vote");
    cluster.start(1);
    wait_until_well(&mut cluster, 3);
    assert_all_records(&mut cluster);
}

#[test]
fn a_vote_of_which_one_copy_is_broken_and_one_cannot_be_read_is_lost_in_the_end() {
    let mut cluster = stopped_cluster();
    let vote = cluster.vote_file();
    cluster.disk(3).flip_bit(&vote, 30, 0);
    cluster.disk(3).make_unreadable(&vote, 4096, 48).expect("it is there");
    cluster.start(3);
    assert!(matches!(cluster.health(3), Health::Failed(_)), "perhaps it can be read the next time");
    cluster.crash(3, 0);
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn two_lost_votes_of_three_wait_and_name_each_other() {
    let mut cluster = stopped_cluster();
    for node in [2, 3] {
        cluster.disk(node).remove_file(&cluster.vote_file()).expect("a healthy disk");
    }
    (1..=3).for_each(|node| cluster.start(node));
    for _ in 0..200 {
        cluster.tick_all();
    }
    for (node, other) in [(2, "node 3 has not"), (3, "node 2 has not")] {
        let Health::Faulty(why) = cluster.health(node) else {
            panic!("node {node}: {:?}", cluster.health(node))
        };
        assert!(why.contains("its vote is lost") && why.contains(other), "{why}");
    }
    assert!(!cluster.leads(1), "nobody votes for it");
}

/// Nodes 1 to 3, of which the third was away when the membership was changed, and lost its vote; it was told of the first
/// three only.
fn cluster_that_changed_without_node_3(changes: Vec<MembershipChange>) -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.add_node(4, &[1, 2, 3]);
    cluster.change_membership(1, vec![AddLearner(4)]);
    cluster.tick_all();
    cluster.crash(3, 0);
    cluster.change_membership(1, changes);
    (0..5).for_each(|_| cluster.tick_all());
    cluster.disk(3).remove_file(&cluster.vote_file()).expect("a healthy disk");
    cluster.know_only(3, &[1, 2]);
    cluster
}

#[test]
fn a_lost_vote_waits_for_a_voter_that_only_others_know_of() {
    let mut cluster = cluster_that_changed_without_node_3(vec![AddVoter(4)]);
    cluster.crash(4, 0);
    cluster.start(3);
    for _ in 0..20 * ELECTION_TICKS {
        cluster.tick_all();
    }
    let Health::Faulty(why) = cluster.health(3) else { panic!("it may have voted for node 4") };
    assert!(why.contains("node 4 has not"), "{why}");
    cluster.start(4);
    wait_until_well(&mut cluster, 3);
    let leader = cluster.wait_for_leader();
    cluster.produce(leader, &["two"]);
    cluster.tick_all();
    cluster.assert_everywhere(&["one", "two"]);
}

#[test]
fn a_lost_vote_waits_for_nobody_whom_a_confirmed_leader_knows_to_have_none() {
    let mut cluster = cluster_that_changed_without_node_3(vec![AddVoter(4), Remove(1)]);
    cluster.crash(1, 0);
    let leader = cluster.wait_for_leader();
    cluster.produce(leader, &["two"]);
    cluster.start(3);
    wait_until_well(&mut cluster, 3);
    cluster.wait_until("node 3 knows who votes", |cluster| cluster.describe(3).voters == [2, 3, 4]);
    cluster.tick_all();
    cluster.assert_everywhere(&["one", "two"]);
}

#[test]
fn a_voter_that_the_leader_itself_has_removed_may_win_until_that_has_committed_more() {
    let mut cluster = cluster_that_changed_without_node_3(vec![AddVoter(4), Remove(2)]);
    assert!(cluster.leads(1), "it was elected while node 2 voted");
    // Nothing has been written since, so node 2 may have all there is.
    let last_index = cluster.describe(1).last_index;
    assert_eq!(cluster.describe(2).last_index, last_index);
    cluster.crash(2, 0);
    cluster.hold_disk(4);
    cluster.start(3);
    for _ in 0..20 * ELECTION_TICKS {
        cluster.tick_all();
    }
    let Health::Faulty(why) = cluster.health(3) else { panic!("it may have voted for node 2") };
    assert!(why.contains("node 2 has not"), "{why}");
    cluster.release_disk(4);
    wait_until_well(&mut cluster, 3);
    assert!(cluster.describe(1).commit_index > last_index, "node 2 lacks that");
    let leader = cluster.wait_for_leader();
    cluster.produce(leader, &["two"]);
    cluster.wait_until("node 3 knows who votes", |cluster| cluster.describe(3).voters == [1, 3, 4]);
}

#[test]
fn a_lost_vote_of_two_needs_no_leader_where_a_node_has_dropped_its_replica() {
    let mut cluster = Cluster::new(2);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.add_node(3, &[1, 2]);
    for changes in [vec![AddLearner(3)], vec![AddVoter(3), Remove(2)]] {
        cluster.change_membership(1, changes);
        (0..5).for_each(|_| cluster.tick_all());
    }
    cluster.crash(1, 0);
    cluster.disk(1).remove_file(&cluster.vote_file()).expect("a healthy disk");
    let promised = cluster.describe(2).view.term;
    cluster.isolate(2);
    cluster.start(1);
    for _ in 0..20 * ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(is_faulty(&cluster, 1), "its log names node 2, and node 3 alone cannot lead");
    cluster.drop_replica(2);
    cluster.heal();
    wait_until_well(&mut cluster, 1);
    assert!(cluster.describe(1).view.term > promised);
    let leader = cluster.wait_for_leader();
    cluster.produce(leader, &["two"]);
    cluster.tick_all();
    for node in [1, 3] {
        assert_eq!(cluster.records(node).len(), 2, "on node {node}");
    }
}

#[test]
fn a_lost_vote_is_replaced_behind_what_a_former_replica_of_the_node_has_promised() {
    let mut cluster = stopped_cluster();
    cluster.disk(3).remove_file(&cluster.vote_file()).expect("a healthy disk");
    Former { term: 500 }.write(cluster.disk(3), "shard").expect("a healthy disk");
    (1..=3).for_each(|node| cluster.start(node));
    wait_until_well(&mut cluster, 3);
    assert!(cluster.describe(3).view.term > 500, "term {}", cluster.describe(3).view.term);
    assert_all_records(&mut cluster);
}
