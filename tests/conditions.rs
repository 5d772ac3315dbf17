//! What a leader answers, and when: sequences, fences, expected LSNs, confirmed tails.
//!
//! Conditions are judged once, against the leader's whole log; the answer, whatever it is, waits until what it was
//! judged on is committed.

mod cluster;

use cluster::{Cluster, clients::append_of};
use lockstep::shard::{Answer, Append, AppendError, Appended, Command};
use lockstep_protocol::batch_builder::ProducerSequence;

const PRODUCER: ProducerSequence = ProducerSequence { id: 9, epoch: 0, base_sequence: 0 };

fn led_by_1() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster
}

fn plain(values: &[&str]) -> Append {
    append_of(values, ProducerSequence::NONE)
}

#[test]
fn of_two_batches_that_expect_the_same_lsn_one_is_appended() {
    let mut cluster = led_by_1();
    cluster.produce(1, &["one"]);
    let expecting = |value| Append { expected_next_lsn: Some(2), ..plain(&[value]) };
    let (first, second) = (cluster.append(1, expecting("two")), cluster.append(1, expecting("also two")));
    cluster.settle();
    let appended = Appended { first_lsn: 2, last_lsn: 2, duplicate: false };
    assert_eq!(cluster.answer(first), Some(&Ok(Answer::Appended(appended))));
    assert_eq!(cluster.answer(second), Some(&Err(AppendError::ConditionFailed { next_lsn: 3 })));
    cluster.assert_everywhere(&["one", "two"]);
}

#[test]
fn a_negative_answer_waits_until_what_it_was_judged_on_is_committed() {
    let mut cluster = led_by_1();
    cluster.isolate(1);
    cluster.send(1, &["one"]);
    let judged = cluster.append(1, Append { expected_next_lsn: Some(1), ..plain(&["also one"]) });
    cluster.settle();
    assert_eq!(cluster.answer(judged), None, "LSN 1 is not committed: it may yet be free");
    cluster.elect(2);
    cluster.heal();
    for _ in 0..3 {
        cluster.tick_all();
    }
    assert_eq!(cluster.answer(judged), Some(&Err(AppendError::OutcomeUnknown)));
}

#[test]
fn a_duplicate_of_an_uncommitted_batch_is_not_answered_before_the_batch_is_committed() {
    let mut cluster = led_by_1();
    cluster.hold_disk(2);
    cluster.hold_disk(3);
    let first = cluster.send_as(1, &["one"], PRODUCER);
    let retry = cluster.send_as(1, &["one"], PRODUCER);
    cluster.settle();
    assert_eq!((cluster.answer(first), cluster.answer(retry)), (None, None));
    cluster.release_disk(2);
    cluster.settle();
    let lsns = |duplicate| Some(Ok(Answer::Appended(Appended { first_lsn: 1, last_lsn: 1, duplicate })));
    assert_eq!(cluster.answer(first).cloned(), lsns(false));
    assert_eq!(cluster.answer(retry).cloned(), lsns(true));
    cluster.assert_everywhere(&["one"]);
}

#[test]
fn a_retry_finds_its_lsns_after_every_node_restarted_and_segments_were_dropped() {
    let mut cluster = Cluster::with_segments(3, 8192);
    cluster.elect(1);
    cluster.send_as(1, &["one", "two"], PRODUCER);
    cluster.settle();
    for _ in 0..20 {
        cluster.produce(1, &[&"x".repeat(1000)]);
    }
    let trim = cluster.command(1, Command::Trim { log_start: 15 });
    cluster.settle();
    assert_eq!(cluster.answer(trim), Some(&Ok(Answer::Done)));
    for node in 1..=3 {
        cluster.crash(node, node);
        cluster.start(node);
    }
    let leader = cluster.wait_for_leader();
    let retry = cluster.send_as(leader, &["one", "two"], PRODUCER);
    cluster.settle();
    let original = Appended { first_lsn: 1, last_lsn: 2, duplicate: true };
    assert_eq!(cluster.answer(retry), Some(&Ok(Answer::Appended(original))));
}

#[test]
fn a_sequence_with_a_hole_before_it_is_refused() {
    let mut cluster = led_by_1();
    cluster.send_as(1, &["one"], PRODUCER);
    let hole = cluster.send_as(1, &["three"], ProducerSequence { base_sequence: 2, ..PRODUCER });
    let unknown = cluster.send_as(1, &["?"], ProducerSequence { id: 10, base_sequence: 5, ..PRODUCER });
    cluster.settle();
    assert_eq!(cluster.answer(hole), Some(&Err(AppendError::OutOfOrderSequence { expected: 1, got: 2 })));
    assert_eq!(cluster.answer(unknown), Some(&Err(AppendError::UnknownProducer)));
    cluster.assert_everywhere(&["one"]);
}

#[test]
fn a_fenced_writer_is_refused_by_this_leader_and_the_next() {
    let mut cluster = led_by_1();
    let fence = cluster.command(1, Command::Fence { epoch: 5 });
    let old = cluster.append(1, Append { fence: Some(4), ..plain(&["old"]) });
    let new = cluster.append(1, Append { fence: Some(5), ..plain(&["new"]) });
    cluster.settle();
    assert_eq!(cluster.answer(fence), Some(&Ok(Answer::Done)));
    assert_eq!(cluster.answer(old), Some(&Err(AppendError::Fenced { current: 5 })));
    assert!(matches!(cluster.answer(new), Some(Ok(Answer::Appended(_)))));
    cluster.elect(2);
    let old = cluster.append(2, Append { fence: Some(4), ..plain(&["old"]) });
    let lower = cluster.command(2, Command::Fence { epoch: 4 });
    let again = cluster.command(2, Command::Fence { epoch: 5 });
    cluster.settle();
    assert_eq!(cluster.answer(old), Some(&Err(AppendError::Fenced { current: 5 })));
    assert_eq!(cluster.answer(lower), Some(&Err(AppendError::Fenced { current: 5 })));
    assert_eq!(cluster.answer(again), Some(&Ok(Answer::Done)), "a retry of what is in force is harmless");
    cluster.assert_everywhere(&["new"]);
}

#[test]
fn a_fence_that_lost_an_election_is_rolled_back() {
    let mut cluster = led_by_1();
    cluster.produce(1, &["one"]);
    cluster.isolate(1);
    cluster.command(1, Command::Fence { epoch: 5 });
    cluster.settle();
    cluster.elect(2);
    cluster.produce(2, &["two"]);
    cluster.heal();
    for _ in 0..3 {
        cluster.tick_all();
    }
    cluster.elect(1);
    let unfenced = cluster.append(1, Append { fence: Some(0), ..plain(&["three"]) });
    cluster.settle();
    assert!(matches!(cluster.answer(unfenced), Some(Ok(Answer::Appended(_)))));
}

#[test]
fn a_deposed_leader_confirms_no_tail() {
    let mut cluster = led_by_1();
    cluster.produce(1, &["one"]);
    cluster.isolate(1);
    let stale = cluster.tail(1);
    cluster.settle();
    cluster.elect(2);
    cluster.produce(2, &["two"]);
    assert_eq!(cluster.answer(stale), None, "no quorum confirms node 1");
    cluster.heal();
    for _ in 0..3 {
        cluster.tick_all();
    }
    assert_eq!(cluster.answer(stale), Some(&Err(AppendError::OutcomeUnknown)));
    let fresh = cluster.tail(2);
    cluster.settle();
    assert_eq!(cluster.answer(fresh), Some(&Ok(Answer::Tail(2))));
}

#[test]
fn a_node_that_does_not_lead_says_who_does() {
    let mut cluster = led_by_1();
    cluster.produce(1, &["one"]);
    let (refused, tail) = (cluster.send(2, &["two"]), cluster.tail(2));
    cluster.settle();
    for token in [refused, tail] {
        assert!(matches!(cluster.answer(token), Some(Err(AppendError::NotLeader { leader: Some(1), .. }))));
    }
}

#[test]
fn trimming_beyond_the_tail_is_refused() {
    let mut cluster = led_by_1();
    cluster.produce(1, &["one", "two"]);
    let beyond = cluster.command(1, Command::Trim { log_start: 4 });
    let all = cluster.command(1, Command::Trim { log_start: 3 });
    cluster.settle();
    assert_eq!(cluster.answer(beyond), Some(&Err(AppendError::InvalidTrim { log_start: 1, limit: 3 })));
    assert_eq!(cluster.answer(all), Some(&Ok(Answer::Done)));
    assert_eq!(cluster.describe(2).view.log_start, 3);
    assert_eq!(cluster.produce(1, &["three"]).first_lsn, 3);
}

#[test]
fn a_leader_that_slept_through_two_elections_does_not_take_their_entries_for_its_own() {
    let mut cluster = led_by_1();
    cluster.produce(1, &["one"]);
    cluster.isolate(1);
    let lost = cluster.send(1, &["lost"]);
    cluster.settle();
    cluster.heal();
    cluster.pause(1);
    // Both new leaders send node 1 what stands under the index it waits for; it reads it all in one go.
    cluster.elect(2);
    cluster.transfer(2, 3);
    cluster.resume(1);
    for _ in 0..5 {
        cluster.tick_all();
    }
    assert_eq!(cluster.answer(lost), Some(&Err(AppendError::OutcomeUnknown)));
    cluster.assert_everywhere(&["one"]);
}
