//! The scenarios of the talk (Ahn et al., HotCloud '19), step by step, with their variants.
//!
//! S1, S2, S3 are nodes 1, 2, 3. What the slide draws as a box is a record, what it draws as a reference is a batch.

mod cluster;

use cluster::Cluster;
use lockstep::{
    raft::MembershipChange,
    shard::{Answer, AppendError, Event},
};
use lockstep_protocol::batch_builder::ProducerSequence;

/// Steps 1 and 2 of the slide: LSN 1 is everywhere; then S1, cut off, appends LSNs 2, 3 and LSN 4 to its own log only.
/// Returns the tokens of the two batches.
fn s1_appends_what_nobody_gets(cluster: &mut Cluster) -> [u64; 2] {
    cluster.elect(1);
    assert_eq!(cluster.produce(1, &["one"]).first_lsn, 1);
    cluster.assert_everywhere(&["one"]);

    cluster.isolate(1);
    let lost = [cluster.send(1, &["lost two", "lost three"]), cluster.send(1, &["lost four"])];
    cluster.settle();
    let texts: Vec<_> = cluster.whole_log(1).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "lost two", "lost three", "lost four"]);
    assert_eq!(cluster.records(1).len(), 1, "what is not committed is not shown");
    lost
}

/// Step 4: S1 comes back and hears of the new leader.
fn s1_comes_back(cluster: &mut Cluster) {
    cluster.heal();
    for _ in 0..5 {
        cluster.tick_all();
    }
}

#[test]
fn a_returning_leader_rolls_its_suffix_back_so_that_the_new_payloads_get_lsns_2_and_3() {
    let mut cluster = Cluster::new(3);
    let lost = s1_appends_what_nobody_gets(&mut cluster);

    cluster.elect(2);
    let appended = cluster.produce(2, &["two", "three"]);
    assert_eq!((appended.first_lsn, appended.last_lsn), (2, 3));

    s1_comes_back(&mut cluster);
    cluster.assert_everywhere(&["one", "two", "three"]);
    assert_eq!(cluster.whole_log(1), cluster.records(1), "nothing is left behind LSN 3");
    assert!(cluster.events(1).iter().any(|event| matches!(event, Event::RolledBack { .. })));
    for token in lost {
        assert_eq!(cluster.answer(token), Some(&Err(AppendError::OutcomeUnknown)));
    }
}

#[test]
fn a_rolled_back_suffix_is_never_served() {
    let mut cluster = Cluster::new(3);
    s1_appends_what_nobody_gets(&mut cluster);
    cluster.elect(2);
    cluster.produce(2, &["two", "three"]);
    s1_comes_back(&mut cluster);
    for lost in ["lost two", "lost three", "lost four"] {
        assert!((1..=3).all(|node| !cluster.was_shown(node, lost)), "{lost} was shown");
    }
}

#[test]
fn the_new_entry_may_hold_fewer_payloads_than_the_old_one() {
    let mut cluster = Cluster::new(3);
    s1_appends_what_nobody_gets(&mut cluster);
    cluster.elect(2);
    cluster.produce(2, &["two"]);
    s1_comes_back(&mut cluster);
    cluster.assert_everywhere(&["one", "two"]);
    assert_eq!(cluster.produce(2, &["three"]).first_lsn, 3);
    cluster.assert_everywhere(&["one", "two", "three"]);
}

#[test]
fn the_new_entry_may_hold_more_payloads_than_the_old_one() {
    let mut cluster = Cluster::new(3);
    s1_appends_what_nobody_gets(&mut cluster);
    cluster.elect(2);
    cluster.produce(2, &["two", "three", "four", "five", "six"]);
    s1_comes_back(&mut cluster);
    cluster.assert_everywhere(&["one", "two", "three", "four", "five", "six"]);
}

#[test]
fn the_new_entry_may_be_a_system_entry_without_any_payload() {
    let mut cluster = Cluster::new(3);
    s1_appends_what_nobody_gets(&mut cluster);
    // S2's first entry as a leader has no records; it alone replaces S1's entry 2.
    cluster.elect(2);
    s1_comes_back(&mut cluster);
    cluster.assert_everywhere(&["one"]);
    assert_eq!(cluster.describe(1).last_lsn, 1);
    assert_eq!(cluster.produce(2, &["two"]).first_lsn, 2);
    cluster.assert_everywhere(&["one", "two"]);
}

#[test]
fn many_uncommitted_entries_roll_back_at_once_across_segment_boundaries() {
    // Segments so small that each holds a few batches only.
    let mut cluster = Cluster::with_segments(3, 8192);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.isolate(1);
    let text = "x".repeat(700);
    for _ in 0..40 {
        cluster.send(1, &[&text, &text]);
        cluster.settle();
    }
    assert_eq!(cluster.describe(1).last_lsn, 81);
    cluster.elect(2);
    cluster.produce(2, &["two", "three"]);
    s1_comes_back(&mut cluster);
    cluster.assert_everywhere(&["one", "two", "three"]);
    cluster.crash(1, 0);
    cluster.start(1);
    s1_comes_back(&mut cluster);
    cluster.assert_everywhere(&["one", "two", "three"]);
}

#[test]
fn clients_retry_at_the_new_leader_and_get_each_number_once() {
    let producer = |base_sequence| ProducerSequence { id: 9, epoch: 0, base_sequence };
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let first = cluster.send_as(1, &["one"], producer(0));
    cluster.settle();
    cluster.isolate(1);
    let unacknowledged = cluster.send_as(1, &["two", "three"], producer(1));
    cluster.settle();
    assert_eq!(cluster.answer(unacknowledged), None);

    cluster.elect(2);
    let retried_first = cluster.send_as(2, &["one"], producer(0));
    let retried = cluster.send_as(2, &["two", "three"], producer(1));
    let again = cluster.send_as(2, &["two", "three"], producer(1));
    cluster.settle();
    s1_comes_back(&mut cluster);

    let lsns = |token| match cluster.answer(token) {
        Some(Ok(Answer::Appended(appended))) => (appended.first_lsn, appended.last_lsn, appended.duplicate),
        other => panic!("not acknowledged: {other:?}"),
    };
    assert_eq!(lsns(first), (1, 1, false));
    assert_eq!(lsns(retried_first), (1, 1, true));
    assert_eq!(lsns(retried), (2, 3, false));
    assert_eq!(lsns(again), (2, 3, true));
    cluster.assert_everywhere(&["one", "two", "three"]);
}

#[test]
fn a_rolled_back_batch_leaves_no_producer_state_behind() {
    let producer = |base_sequence| ProducerSequence { id: 9, epoch: 0, base_sequence };
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.isolate(1);
    cluster.send_as(1, &["lost"], producer(0));
    cluster.settle();
    cluster.elect(2);
    cluster.produce(2, &["two"]);
    s1_comes_back(&mut cluster);
    // S1 leads again: for it, too, the producer has never written.
    cluster.elect(1);
    let token = cluster.send_as(1, &["three"], producer(0));
    cluster.settle();
    assert!(
        matches!(cluster.answer(token), Some(Ok(Answer::Appended(a))) if !a.duplicate && a.first_lsn == 3)
    );
    cluster.assert_everywhere(&["one", "two", "three"]);
}

#[test]
fn a_batch_of_two_is_never_half_committed() {
    // S1 crashes in the middle of everything it does for the batch; whoever leads then has both records or neither.
    for crash_after in 0..60 {
        let mut cluster = Cluster::new(3);
        cluster.elect(1);
        cluster.produce(1, &["one"]);
        cluster.send(1, &["two", "three"]);
        for _ in 0..crash_after {
            if !cluster.deliver_one() {
                break;
            }
        }
        cluster.crash(1, crash_after);
        cluster.elect(2);
        cluster.start(1);
        s1_comes_back(&mut cluster);
        let records = cluster.records(2).len();
        assert!(records == 1 || records == 3, "crash after {crash_after} steps left {records} records");
        let texts = ["one", "two", "three"];
        cluster.assert_everywhere(&texts[..records]);
    }
}

#[test]
fn leader_and_membership_entries_in_the_middle_leave_lsns_continuous() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one", "two"]);
    cluster.add_node(4, &[1, 2, 3]);
    cluster.change_membership(1, vec![MembershipChange::AddLearner(4)]);
    assert_eq!(cluster.produce(1, &["three"]).first_lsn, 3);
    cluster.elect(3);
    assert_eq!(cluster.produce(3, &["four"]).first_lsn, 4);
    cluster.change_membership(3, vec![MembershipChange::AddVoter(4)]);
    assert_eq!(cluster.produce(3, &["five"]).first_lsn, 5);
    for _ in 0..5 {
        cluster.tick_all();
    }
    cluster.assert_everywhere(&["one", "two", "three", "four", "five"]);
    let description = cluster.describe(3);
    assert_eq!(description.voters, [1, 2, 3, 4]);
    assert!(description.last_index > description.last_lsn, "system entries took indexes of their own");
}

#[test]
fn new_batches_are_accepted_while_earlier_ones_are_in_flight() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.hold_disk(2);
    cluster.hold_disk(3);
    let tokens: Vec<_> = (0..10).map(|number| cluster.send(1, &[&format!("value {number}")])).collect();
    cluster.settle();
    assert!(tokens.iter().all(|token| cluster.answer(*token).is_none()), "nothing is on a majority's disks");
    cluster.release_disk(3);
    cluster.settle();
    for (lsn, token) in (1..).zip(tokens) {
        assert!(matches!(cluster.answer(token), Some(Ok(Answer::Appended(a))) if a.first_lsn == lsn));
    }
}

#[test]
fn the_leaders_slow_disk_hides_behind_the_fastest_majority() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.hold_disk(1);
    let token = cluster.send(1, &["one"]);
    cluster.settle();
    assert!(cluster.answer(token).is_some(), "both followers have synced it");
    assert_eq!(cluster.records(1), [(1, "one".to_owned())]);
}

#[test]
fn a_follower_acknowledges_only_what_it_has_synced() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.hold_disk(1);
    cluster.hold_disk(2);
    let token = cluster.send(1, &["one"]);
    cluster.settle();
    assert_eq!(cluster.answer(token), None, "one synced copy of three is no majority");
    cluster.release_disk(2);
    cluster.settle();
    assert!(cluster.answer(token).is_some());
}

#[test]
fn what_waits_for_the_disk_becomes_one_write() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    cluster.hold_disk(1);
    for number in 0..100 {
        cluster.send(1, &[&format!("value {number}")]);
    }
    cluster.release_disk(1);
    let mut groups = 0;
    while cluster.run_writes() {
        groups += 1;
    }
    assert_eq!(groups, 2, "the first batch, and the ninety-nine that came while it was written");
    assert_eq!(cluster.records(1).len(), 100);
}
