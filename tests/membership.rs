//! Who takes part changes while records are written: nothing is lost, and nobody leads or votes who should not.

mod cluster;

use std::collections::BTreeSet;

use cluster::{Cluster, ELECTION_TICKS};
use lockstep::{
    cluster::moves::{Move, Step},
    raft::Membership,
    raft::MembershipChange::{AddLearner, AddVoter, Remove},
    shard::{Answer, Command, Event, Health, Input},
};

/// Nodes 1 to `voters`, led by node 1, and learners behind them.
fn cluster_with_learners(voters: u64, learners: &[u64]) -> Cluster {
    let mut cluster = Cluster::new(voters);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    let first: Vec<u64> = (1..=voters).collect();
    for learner in learners {
        cluster.add_node(*learner, &first);
        cluster.change_membership(1, vec![AddLearner(*learner)]);
    }
    for _ in 0..5 {
        cluster.tick_all();
    }
    cluster
}

#[test]
fn a_leader_that_takes_itself_out_steps_down_and_the_others_go_on() {
    let mut cluster = cluster_with_learners(3, &[]);
    cluster.step(1, Input::Membership { token: 900, changes: vec![Remove(1)], decided_on: None });
    cluster.run_writes();
    // More follows it into the log, and is synced only after the removal is in force.
    let token = cluster.send(1, &["two"]);
    cluster.hold_disk(1);
    cluster.settle();
    assert!(!cluster.leads(1), "it has no vote any more");
    cluster.release_disk(1);
    cluster.settle();
    assert!(cluster.answer(token).is_some(), "whoever waited is told something");
    cluster.elect(2);
    cluster.produce(2, &["three"]);
    assert_eq!(cluster.describe(2).voters, [2, 3]);
    for _ in 0..100 {
        cluster.step(1, Input::Tick);
        cluster.settle();
    }
    assert!(cluster.leads(2), "the one that is out does not disturb");
    let texts: Vec<String> = cluster.records(2).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[test]
fn when_a_leader_takes_itself_out_the_others_do_not_wait_for_an_election_timeout() {
    let mut cluster = cluster_with_learners(3, &[]);
    cluster.change_membership(1, vec![Remove(1)]);
    // The commit reaches them with the next heartbeat; it may have been the last one.
    cluster.tick_all();
    let mut ticks = 0;
    while !(cluster.leads(2) || cluster.leads(3)) {
        (2..=3).for_each(|node| cluster.step(node, Input::Tick));
        cluster.settle();
        ticks += 1;
        assert!(ticks < ELECTION_TICKS, "nobody leads");
    }
}

#[test]
fn a_voter_left_alone_asks_for_votes_only_when_all_it_holds_is_synced() {
    let mut cluster = cluster_with_learners(2, &[]);
    // The removal waits for node 1's own disk; one more batch is in node 2's write when it takes effect there.
    cluster.hold_disk(1);
    cluster.step(1, Input::Membership { token: 900, changes: vec![Remove(1)], decided_on: None });
    cluster.settle();
    cluster.hold_disk(2);
    cluster.send(1, &["two"]);
    cluster.settle();
    cluster.release_disk(1);
    cluster.settle();
    assert_eq!(cluster.describe(2).voters, [2]);
    assert!(cluster.describe(2).synced_index < cluster.describe(2).last_index);
    cluster.step(2, Input::PeerLost { node: 1 });
    for _ in 0..100 {
        cluster.step(2, Input::Tick);
        cluster.settle();
    }
    assert!(!cluster.leads(2) && cluster.health(2) == Health::Ok);
    cluster.release_disk(2);
    cluster.elect(2);
    assert_eq!(cluster.produce(2, &["three"]).first_lsn, 3);
}

#[test]
fn only_reads_for_a_learner_that_lacks_much_may_wait() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    for number in 0..150 {
        cluster.produce(1, &[&format!("{number}")]);
    }
    cluster.heal();
    for _ in 0..20 {
        cluster.tick_all();
    }
    assert_eq!(cluster.records(3), cluster.records(1), "a voter that was away has caught up");
    assert!(cluster.catch_up_reads().is_empty(), "and was not made to wait");

    cluster.add_node(4, &[1, 2, 3]);
    cluster.change_membership(1, vec![AddLearner(4)]);
    for _ in 0..20 {
        cluster.tick_all();
    }
    assert_eq!(cluster.records(4), cluster.records(1));
    let reads = cluster.catch_up_reads().to_vec();
    assert!(!reads.is_empty() && reads.iter().all(|learner| *learner == 4), "{reads:?}");
    for number in 0..50 {
        cluster.produce(1, &[&format!("more {number}")]);
    }
    cluster.tick_all();
    assert_eq!(cluster.records(4), cluster.records(1));
    assert_eq!(
        cluster.catch_up_reads(),
        reads,
        "who is near the end is sent what is new like everybody else"
    );
}

#[test]
fn a_voter_that_lacks_the_same_as_a_learner_does_not_wait_for_the_learners_read() {
    let mut cluster = Cluster::new(3);
    cluster.isolate(3);
    cluster.elect(1);
    for number in 0..150 {
        cluster.produce(1, &[&format!("{number}")]);
    }
    // Its successor has yet to find out how little node 3 has.
    cluster.elect(2);
    cluster.hold_catch_up_reads();
    cluster.add_node(4, &[1, 2, 3]);
    cluster.change_membership(2, vec![AddLearner(4)]);
    for _ in 0..5 {
        cluster.tick_all();
    }
    assert_eq!(cluster.catch_up_reads(), [4], "it waits, and does not ask twice");
    cluster.heal();
    for _ in 0..20 {
        cluster.tick_all();
    }
    assert_eq!(cluster.records(3), cluster.records(1), "the voter has caught up");
    assert!(cluster.records(4).is_empty() && cluster.catch_up_reads() == [4], "the learner still waits");
    assert_eq!(cluster.release_catch_up_reads(), 1);
    for _ in 0..20 {
        cluster.tick_all();
    }
    assert_eq!(cluster.records(4), cluster.records(1));
}

#[test]
fn a_single_voter_with_learners_loses_nothing_in_power_cuts() {
    let mut cluster = cluster_with_learners(1, &[2, 3]);
    let mut expected = vec!["one".to_owned()];
    for round in 0..10 {
        let text = format!("round {round}");
        cluster.produce(1, &[&text]);
        expected.push(text);
        cluster.send(1, &["perhaps"]);
        cluster.crash(1, round);
        for _ in 0..30 {
            cluster.tick_all();
        }
        assert!(!cluster.leads(2) && !cluster.leads(3), "a learner does not lead");
        cluster.start(1);
        assert_eq!(cluster.wait_for_leader(), 1);
        let kept: Vec<String> = cluster.records(1).into_iter().map(|(_, text)| text).collect();
        let acknowledged: Vec<&String> = kept.iter().filter(|text| *text != "perhaps").collect();
        assert_eq!(acknowledged, expected.iter().collect::<Vec<_>>());
    }
    for _ in 0..10 {
        cluster.tick_all();
    }
    assert_eq!(cluster.records(2), cluster.records(1));
    assert_eq!(cluster.records(3), cluster.records(1));
}

#[test]
fn a_new_leader_leaves_the_joint_configuration_that_another_entered() {
    let mut cluster = cluster_with_learners(3, &[4]);
    cluster
        .step(1, Input::Membership { token: 900, changes: vec![AddVoter(4), Remove(3)], decided_on: None });
    while cluster.describe(1).voters_outgoing.is_empty() {
        assert!(cluster.deliver_one(), "the joint configuration is entered");
    }
    cluster.isolate(1);
    cluster.settle();
    cluster.elect(2);
    for _ in 0..5 {
        cluster.tick_all();
    }
    let description = cluster.describe(2);
    assert_eq!((description.voters, description.voters_outgoing), (vec![1, 2, 4], vec![]));
    cluster.produce(2, &["two"]);
}

#[test]
fn a_restart_goes_back_by_one_membership_at_the_most() {
    let mut cluster = cluster_with_learners(3, &[4, 5]);
    cluster.elect(3);
    cluster.change_membership(3, vec![AddVoter(4), AddVoter(5), Remove(1), Remove(2)]);
    assert_eq!(cluster.describe(3).voters, [3, 4, 5]);
    // 4 and 5 go on without 3, which forgets in a power cut what it knew to be committed.
    for alone in [1, 2, 3] {
        cluster.isolate(alone);
    }
    cluster.crash(3, 1);
    cluster.elect(4);
    cluster.produce(4, &["two"]);
    cluster.start(3);
    cluster.heal();
    cluster.isolate(4);
    cluster.isolate(5);
    for _ in 0..300 {
        for node in 1..=3 {
            cluster.step(node, Input::Tick);
        }
        cluster.settle();
        assert!(!cluster.leads(3), "two who are out do not make it the leader");
    }
    cluster.heal();
    cluster.wait_until("it has caught up", |cluster| cluster.records(3).len() == 2);
    assert_eq!(cluster.records(3), cluster.records(4));
}

#[test]
fn one_who_does_not_know_that_it_is_out_deposes_nobody() {
    let mut cluster = cluster_with_learners(3, &[]);
    cluster.isolate(3);
    cluster.change_membership(1, vec![Remove(3)]);
    let term = cluster.describe(1).view.term;
    cluster.heal();
    for _ in 0..100 {
        cluster.tick_all();
    }
    assert_eq!((cluster.leads(1), cluster.describe(1).view.term), (true, term));
}

#[test]
fn a_change_beside_another_is_refused_and_leaves_no_entry() {
    let mut cluster = cluster_with_learners(3, &[4]);
    cluster
        .step(1, Input::Membership { token: 900, changes: vec![AddVoter(4), Remove(3)], decided_on: None });
    let last_index = cluster.describe(1).last_index;
    cluster.step(1, Input::Membership { token: 901, changes: vec![Remove(2)], decided_on: None });
    assert_eq!(cluster.describe(1).last_index, last_index);
    assert_eq!(cluster.answer(900), Some(&Ok(Answer::Done)));
    assert!(matches!(cluster.answer(901), Some(Err(_))));
    cluster.settle();
    assert_eq!(cluster.describe(1).voters, [1, 2, 4]);
}

#[test]
fn a_learner_behind_the_log_start_gets_the_checkpoint_and_what_follows() {
    let mut cluster = Cluster::with_segments(3, 4096);
    cluster.elect(1);
    for number in 0..200 {
        cluster.produce(1, &[&format!("a value that fills segments, number {number}")]);
    }
    cluster.command(1, Command::Trim { log_start: 150 });
    cluster.settle();
    assert!(cluster.describe(1).first_index > 1, "segments were dropped");
    cluster.add_node(4, &[1, 2, 3]);
    cluster.change_membership(1, vec![AddLearner(4)]);
    cluster.wait_until("the learner has it all", |cluster| cluster.describe(4).last_lsn == 200);
    for _ in 0..5 {
        cluster.tick_all();
    }
    assert!(cluster.events(4).iter().any(|event| matches!(event, Event::SnapshotInstalled { .. })));
    assert_eq!(cluster.records(4).last(), cluster.records(1).last());
    assert_eq!(cluster.describe(4).learners, [4]);
}

#[test]
fn a_newcomer_writes_down_no_membership_that_nobody_made() {
    let mut cluster = Cluster::with_segments(3, 65536);
    cluster.elect(1);
    // More than one message takes: until a follower applies a change, it opens no segment.
    let value = "v".repeat(16 << 10);
    let fill = |cluster: &mut Cluster, records| {
        for _ in 0..records {
            cluster.produce(1, &[&value]);
        }
    };
    fill(&mut cluster, 156);
    cluster.add_node(5, &[1, 2, 3]);
    cluster.change_membership(1, vec![AddLearner(5)]);
    fill(&mut cluster, 104);
    cluster.command(1, Command::Trim { log_start: 150 });
    cluster.settle();
    // Until it comes to the entry that makes it a learner, it is one by the snapshot it was given alone.
    cluster.add_node(4, &[1, 2, 3]);
    cluster.change_membership(1, vec![AddLearner(4)]);
    cluster.wait_until("the learner has it all", |cluster| cluster.describe(4).last_lsn == 260);
    assert!(cluster.events(4).iter().any(|event| matches!(event, Event::SnapshotInstalled { .. })));
    cluster.command(1, Command::Trim { log_start: 240 });
    cluster.wait_until("only what came after the first change is kept", |cluster| {
        cluster.oldest_checkpoint(4).membership_index > 0
    });
    let checkpoint = cluster.oldest_checkpoint(4);
    assert!(checkpoint.index < cluster.describe(4).membership_index, "of before its time");
    assert_eq!(Membership::decode(&checkpoint.membership).unwrap().learners, [5]);
}

#[test]
fn a_replica_that_comes_back_helps_nobody_who_lacks_what_the_former_one_had() {
    let mut cluster = cluster_with_learners(3, &[]);
    cluster.isolate(2);
    cluster.produce(1, &["two"]);
    cluster.change_membership(1, vec![Remove(3)]);
    // Too early: node 2 knows of nothing, and still counts on node 3.
    cluster.drop_replica(3);
    cluster.add_replica_again(3, &[1, 2, 3]);
    assert!(cluster.describe(3).view.term > cluster.describe(1).view.term, "no acknowledgement is mistaken");
    cluster.heal();
    cluster.isolate(1);
    for _ in 0..300 {
        cluster.step(2, Input::Tick);
        cluster.step(3, Input::Tick);
        cluster.settle();
        assert!(!cluster.leads(2) && !cluster.leads(3), "the record is on neither of them");
    }
}

#[test]
fn a_replica_that_comes_back_votes_as_soon_as_it_has_what_a_later_leader_began_with() {
    let mut cluster = cluster_with_learners(3, &[]);
    // The former one had far more than anybody will write soon, none of it committed.
    cluster.elect(3);
    cluster.isolate(3);
    for _ in 0..50 {
        cluster.send(3, &["lost"]);
    }
    cluster.settle();
    cluster.elect(1);
    cluster.change_membership(1, vec![Remove(3)]);
    assert!(cluster.describe(3).last_index > cluster.describe(1).last_index + 40);
    cluster.drop_replica(3);
    cluster.add_replica_again(3, &[1, 2, 3]);
    cluster.heal();
    cluster.elect(1);
    cluster.change_membership(1, vec![AddLearner(3)]);
    for _ in 0..20 {
        cluster.tick_all();
    }
    let leader = cluster.wait_for_leader();
    cluster.change_membership(leader, vec![AddVoter(3)]);
    cluster.crash(leader, 1);
    let next = cluster.wait_for_leader();
    cluster.produce(next, &["two"]);
    assert_eq!(cluster.describe(next).voters, [1, 2, 3], "two of them, the one that came back among them");
}

#[test]
fn a_replica_that_comes_back_costs_its_leader_an_election_and_no_wait() {
    let mut cluster = cluster_with_learners(3, &[]);
    cluster.change_membership(1, vec![Remove(3)]);
    let term = cluster.describe(1).view.term;
    assert_eq!(
        cluster.describe(3).view.term,
        term,
        "the former one promised something in the leader's very term"
    );
    cluster.drop_replica(3);
    cluster.add_replica_again(3, &[1, 2, 3]);
    cluster.step(1, Input::Membership { token: 900, changes: vec![AddLearner(3)], decided_on: None });
    // Not one tick passes.
    cluster.settle();
    assert!(
        cluster.leads(1) && cluster.describe(1).view.term > term,
        "it leads again, in a term that suits all"
    );
    let token = cluster.send(1, &["two"]);
    cluster.settle();
    assert!(matches!(cluster.answer(token), Some(Ok(_))));
    assert_eq!(cluster.records(3), cluster.records(1));
}

/// Takes the next step of a move, as the leader's broker does; whether there was one.
fn step(cluster: &mut Cluster, target: &BTreeSet<u64>, former: &mut BTreeSet<u64>) -> bool {
    let leader = cluster.wait_for_leader();
    let holders: BTreeSet<u64> = cluster.running().into_iter().collect();
    let next = Move { target, learners: &BTreeSet::new(), holders: &holders, hands_over: false };
    match next.next(&cluster.describe(leader)) {
        Step::Done => return false,
        Step::Wait(_) => cluster.tick_all(),
        Step::Create(node) if former.contains(&node) => cluster.add_replica_again(node, &[1, 2, 3]),
        Step::Create(node) => cluster.add_node(node, &[1, 2, 3]),
        Step::Propose(changes) => {
            cluster.step(leader, Input::Membership { token: 0, changes, decided_on: None });
            cluster.settle();
        }
        Step::HandOver(_) => panic!("nobody asked for it"),
        Step::Drop { node, membership_index } => {
            assert!(cluster.may_be_dropped(node, membership_index));
            former.insert(node);
            cluster.drop_replica(node);
        }
    }
    true
}

#[test]
fn a_move_goes_on_where_a_leader_that_died_has_left_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let mut former = BTreeSet::new();
    let (mut texts, mut steps) = (Vec::new(), 0);
    // To other nodes, to one alone, and back again.
    for target in [&[4, 5, 6][..], &[6], &[1, 2, 6]] {
        let target: BTreeSet<u64> = target.iter().copied().collect();
        loop {
            let leader = cluster.wait_for_leader();
            texts.push(format!("before step {steps}"));
            cluster.produce(leader, &[texts.last().expect("just pushed")]);
            if !step(&mut cluster, &target, &mut former) {
                break;
            }
            steps += 1;
            assert!(steps < 200, "the move to {target:?} does not end");
            let leader = cluster.running().into_iter().find(|node| cluster.leads(*node));
            if let Some(leader) = leader.filter(|_| steps % 2 == 0) {
                cluster.crash(leader, steps);
                cluster.start(leader);
            }
        }
        assert_eq!(cluster.running(), target.iter().copied().collect::<Vec<_>>());
        for _ in 0..5 {
            cluster.tick_all();
        }
        cluster.assert_everywhere(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
