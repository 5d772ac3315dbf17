//! How much groups say. At rest they say next to nothing, and nobody who needs them notices; busy, no more than entries and
//! their acknowledgements.

mod cluster;

use cluster::{Cluster, ELECTION_TICKS};
use lockstep::shard::{Answer, Input};

/// Far more than a group is quiet for before it rests.
const LONG: usize = 40 * ELECTION_TICKS;

fn at_rest() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    for _ in 0..2 * ELECTION_TICKS {
        cluster.tick_all();
    }
    cluster
}

/// How many messages pass while so many ticks do.
fn messages_in(cluster: &mut Cluster, ticks: usize) -> usize {
    cluster.take_messages_sent();
    (0..ticks).for_each(|_| cluster.tick_all());
    cluster.take_messages_sent()
}

#[test]
fn a_group_at_rest_says_a_tenth_of_what_one_awake_does() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    // Written to again and again, it does not come to rest; what that costs itself is not counted.
    let mut awake = 0;
    for _ in 0..LONG / 4 {
        cluster.produce(1, &["one"]);
        awake += messages_in(&mut cluster, 4);
    }
    let mut cluster = at_rest();
    let resting = messages_in(&mut cluster, LONG);
    assert!(resting > 0, "it speaks");
    assert!(resting * 9 < awake, "{resting} messages at rest, {awake} awake");
}

#[test]
fn the_ticks_of_a_group_at_rest_need_not_be_handed_over_one_by_one() {
    let mut cluster = at_rest();
    let mut looked_at = 0;
    for _ in 0..LONG {
        // That a tick does nothing which was said to do nothing is asserted by the cluster.
        looked_at += [1, 2, 3].into_iter().filter(|node| cluster.spare_ticks(*node) == 0).count();
        cluster.tick_all();
    }
    assert!(looked_at * 10 < 3 * LONG, "{looked_at} of {} ticks may do something", 3 * LONG);
}

#[test]
fn a_group_at_rest_has_another_leader_before_the_next_tick_where_the_leaders_broker_is_lost() {
    let mut cluster = at_rest();
    cluster.crash(1, 7);
    for survivor in [2, 3] {
        cluster.step(survivor, Input::PeerLost { node: 1 });
    }
    cluster.settle();
    assert!(cluster.leads(2) || cluster.leads(3), "no tick has passed");
}

#[test]
fn a_group_at_rest_that_nobody_tells_of_its_leaders_end_notices_all_the_same() {
    let mut cluster = at_rest();
    cluster.crash(1, 7);
    cluster.wait_until("another leads", |cluster| cluster.leads(2) || cluster.leads(3));
}

#[test]
fn a_group_at_rest_commits_and_confirms_reads_without_a_tick() {
    let mut cluster = at_rest();
    cluster.produce(1, &["two"]);
    let token = cluster.tail(1);
    cluster.settle();
    assert_eq!(cluster.answer(token), Some(&Ok(Answer::Tail(2))));
}

#[test]
fn a_leader_that_was_replaced_while_at_rest_confirms_no_read() {
    let mut cluster = at_rest();
    cluster.isolate(1);
    for survivor in [2, 3] {
        cluster.step(survivor, Input::PeerLost { node: 1 });
    }
    cluster.settle();
    let leader = [2, 3].into_iter().find(|node| cluster.leads(*node)).expect("another leads");
    cluster.produce(leader, &["two"]);
    assert!(cluster.leads(1), "it has not heard of that");
    let token = cluster.tail(1);
    for _ in 0..2 * ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(!matches!(cluster.answer(token), Some(Ok(_))), "{:?}", cluster.answer(token));
    assert!(!cluster.leads(1), "awake it looks for its quorum as often as ever");
}

#[test]
fn a_follower_that_wakes_alone_deposes_nobody() {
    let mut cluster = at_rest();
    let term = cluster.describe(1).view.term;
    for _ in 0..20 {
        // A message of the past reaches one follower alone.
        cluster.step(2, Input::PeerLost { node: 3 });
        cluster.step(3, Input::PeerLost { node: 1 });
        for _ in 0..ELECTION_TICKS {
            cluster.tick_all();
        }
    }
    assert!(cluster.leads(1));
    assert_eq!(cluster.describe(1).view.term, term);
}

fn produce_one_by_one(cluster: &mut Cluster, batches: usize) {
    for _ in 0..batches {
        cluster.produce(1, &["one"]);
    }
}

#[test]
fn the_commits_of_a_busy_leader_ride_on_its_next_entries_or_on_the_next_tick() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let produce = |cluster: &mut Cluster, batches: usize| {
        cluster.take_messages_sent();
        produce_one_by_one(cluster, batches);
        cluster.take_messages_sent()
    };
    let known = |cluster: &Cluster| [1, 2, 3].map(|node| cluster.describe(node).view.high_watermark);
    assert_eq!(produce(&mut cluster, 10), 10 * 8, "entries, acknowledgements, the commit, and its answer");
    assert_eq!(known(&cluster), [10, 10, 10]);
    cluster.tick_all();
    assert_eq!(produce(&mut cluster, 10), 10 * 4, "entries and acknowledgements");
    assert_eq!(known(&cluster), [20, 19, 19]);
    cluster.tick_all();
    assert_eq!(known(&cluster), [20, 20, 20]);
    cluster.tick_all();
    assert_eq!(produce(&mut cluster, 1), 8, "not busy any more");
    assert_eq!(known(&cluster), [21, 21, 21]);
}

#[test]
fn what_was_committed_without_a_word_is_told_again_if_the_word_was_lost() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for _ in 0..2 {
        produce_one_by_one(&mut cluster, 10);
        cluster.tick_all();
    }
    produce_one_by_one(&mut cluster, 10);
    cluster.isolate(3);
    (0..2).for_each(|_| cluster.tick_all());
    assert_eq!(cluster.describe(3).view.high_watermark, 29);
    cluster.heal();
    (0..4).for_each(|_| cluster.tick_all());
    assert_eq!(cluster.describe(3).view.high_watermark, 30);
}

#[test]
fn a_log_is_sealed_once_and_not_before_it_has_been_idle_for_long_enough() {
    let mut cluster = Cluster::new(3);
    cluster.seal_ticks = 4;
    cluster.restart_all();
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    let syncs = |cluster: &Cluster| cluster.disk(1).counters().file_syncs;
    let before = syncs(&cluster);
    (0..4).for_each(|_| cluster.tick_all());
    assert_eq!(syncs(&cluster), before);
    (0..20).for_each(|_| cluster.tick_all());
    assert_eq!(syncs(&cluster), before + 1);
}
