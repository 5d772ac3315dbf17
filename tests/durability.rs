//! What survives: power cuts, failed syncs, full disks, followers that are far behind.

mod cluster;

use cluster::Cluster;
use lockstep::{
    raft::MembershipChange,
    random::Random,
    shard::{Answer, AppendError, Command, Event, Health, Input},
};
use lockstep_protocol::peer::RaftMessage;

/// Sends batches while disks stall at random, and cuts everyone's power right after an acknowledgement.
/// Returns the texts that were acknowledged, and those the cluster holds once it runs again.
fn cut_the_power_of_everyone(cluster: &mut Cluster, seed: u64) -> (Vec<String>, Vec<String>) {
    let mut random = Random::new(seed);
    cluster.elect(1);
    let mut sent = Vec::new();
    for number in 0..20 {
        match random.below(4) {
            0 => cluster.hold_disk(1 + random.below(3)),
            1 => (1..=3).for_each(|node| cluster.release_disk(node)),
            _ => {}
        }
        let text = format!("value {number}");
        sent.push((cluster.send(1, &[&text]), text));
        for _ in 0..random.below(8) {
            cluster.deliver_one();
        }
    }
    let acknowledged = sent.iter().filter(|(token, _)| matches!(cluster.answer(*token), Some(Ok(_))));
    let acknowledged: Vec<_> = acknowledged.map(|(_, text)| text.clone()).collect();
    for node in 1..=3 {
        cluster.release_disk(node);
        cluster.crash(node, random.next_u64());
    }
    for node in 1..=3 {
        cluster.start(node);
    }
    let leader = cluster.wait_for_leader();
    (acknowledged, cluster.records(leader).into_iter().map(|(_, text)| text).collect())
}

#[test]
fn an_acknowledged_batch_survives_a_power_cut_of_every_node() {
    let mut acknowledged_in_all = 0;
    for seed in 0..100 {
        let (acknowledged, kept) = cut_the_power_of_everyone(&mut Cluster::new(3), seed);
        assert!(
            kept.starts_with(&acknowledged),
            "seed {seed}: {acknowledged:?} was acknowledged, {kept:?} is left"
        );
        acknowledged_in_all += acknowledged.len();
    }
    assert!(
        acknowledged_in_all > 100,
        "only {acknowledged_in_all} batches were acknowledged: nothing was tested"
    );
}

#[test]
fn disks_that_lie_about_their_syncs_would_be_found_out_by_the_test_above() {
    let lost = (0..20).any(|seed| {
        let mut cluster = Cluster::new(3);
        cluster.let_disks_lie();
        let lied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (acknowledged, kept) = cut_the_power_of_everyone(&mut cluster, seed);
            !kept.starts_with(&acknowledged)
        }));
        lied.unwrap_or(true)
    });
    assert!(lost, "no acknowledged batch was lost although nothing was ever synced");
}

#[test]
fn a_failed_sync_stops_this_replica_for_good_and_no_other() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.fail_next_sync(1);
    let token = cluster.send(1, &["two"]);
    cluster.settle();
    assert!(matches!(cluster.health(1), Health::Failed(_)));
    let refused = cluster.send(1, &["three"]);
    assert!(matches!(cluster.answer(refused), Some(Err(AppendError::Failed(_)))));
    // The followers have synced it; the leader could not count itself, and cannot say so any more.
    assert!(matches!(cluster.answer(token), Some(Ok(_) | Err(AppendError::OutcomeUnknown))));
    cluster.elect(2);
    cluster.produce(2, &["four"]);
    let texts: Vec<_> = cluster.records(2).into_iter().map(|(_, text)| text).collect();
    assert!(texts == ["one", "two", "four"] || texts == ["one", "four"], "{texts:?}");
    cluster.crash(1, 1);
    cluster.start(1);
    for _ in 0..5 {
        cluster.tick_all();
    }
    assert_eq!(cluster.records(1), cluster.records(2), "recovery brings the replica back");
}

/// A cluster whose log begins behind what node 3, which is cut off, has of it.
fn trimmed_beyond_node_3() -> Cluster {
    let mut cluster = Cluster::with_segments(3, 8192);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.isolate(3);
    for _ in 0..40 {
        cluster.produce(1, &[&"x".repeat(1000)]);
    }
    cluster.command(1, Command::Trim { log_start: 30 });
    cluster.settle();
    assert!(cluster.describe(1).first_index > 5, "whole segments went");
    cluster
}

#[test]
fn a_follower_far_behind_gets_a_tiny_snapshot_and_the_retained_log() {
    let mut cluster = trimmed_beyond_node_3();
    cluster.heal();
    for _ in 0..10 {
        cluster.tick_all();
    }
    assert!(cluster.events(3).iter().any(|event| matches!(event, Event::SnapshotInstalled { .. })));
    assert_eq!(cluster.records(3), cluster.records(1));
    cluster.crash(3, 5);
    cluster.start(3);
    for _ in 0..5 {
        cluster.tick_all();
    }
    assert_eq!(cluster.records(3), cluster.records(1));
    assert_eq!(cluster.produce(1, &["next"]).first_lsn, 42);
}

#[test]
fn a_follower_asks_for_no_votes_while_its_snapshot_is_not_on_the_disk() {
    let mut cluster = trimmed_beyond_node_3();
    cluster.heal();
    let installed = |cluster: &Cluster| {
        cluster.events(3).iter().any(|event| matches!(event, Event::SnapshotInstalled { .. }))
    };
    for _ in 0..1_000 {
        if installed(&cluster) {
            break;
        }
        if !cluster.deliver_one() {
            cluster.step(1, Input::Tick);
        }
    }
    assert!(installed(&cluster));
    cluster.hold_disk(3);
    cluster.isolate(3);
    for _ in 0..60 {
        cluster.step(3, Input::Tick);
    }
    assert_eq!(cluster.health(3), Health::Ok, "it did not panic");
    cluster.heal();
    cluster.release_disk(3);
    for _ in 0..60 {
        cluster.tick_all();
    }
    cluster.wait_for_leader();
    assert_eq!(cluster.records(3), cluster.records(1));
}

#[test]
fn who_votes_alone_does_not_elect_itself_with_entries_that_are_not_on_the_disk() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.hold_disk(1);
    cluster.send(1, &["two"]);
    cluster.settle();
    // A node that once belonged to the group says that there is a later term, and hears no answer.
    cluster.add_node(2, &[1]);
    cluster.isolate(2);
    let later = RaftMessage { kind: 8, from: 2, to: 1, term: 100, ..RaftMessage::default() };
    cluster.step(1, Input::Peer(later));
    assert!(!cluster.leads(1));
    for _ in 0..60 {
        cluster.step(1, Input::Tick);
    }
    assert_eq!((cluster.health(1), cluster.leads(1)), (Health::Ok, false), "it did not panic");
    cluster.release_disk(1);
    cluster.wait_for_leader();
    cluster.produce(1, &["three"]);
    let values: Vec<_> = cluster.records(1).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["one", "two", "three"]);
}

#[test]
fn a_follower_far_behind_is_fed_from_the_segments_when_memory_no_longer_has_them() {
    let mut cluster = Cluster::with_segments(3, 64 << 10);
    cluster.limit_cache(4096);
    cluster.elect(1);
    cluster.isolate(3);
    for number in 0..100 {
        cluster.produce(1, &[&format!("{number} {}", "x".repeat(1000))]);
    }
    cluster.heal();
    for _ in 0..20 {
        cluster.tick_all();
    }
    assert!(cluster.cold_reads() > 0, "everything came from memory");
    assert_eq!(cluster.records(3).len(), 100);
    assert_eq!(cluster.records(3), cluster.records(1));
}

#[test]
fn a_leader_whose_disk_is_full_refuses_writes_serves_reads_and_hands_over() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.step(1, Input::DiskFull(true));
    let refused = cluster.send(1, &["two"]);
    assert_eq!(cluster.answer(refused), Some(&Err(AppendError::StorageFull)));
    assert_eq!(cluster.records(1).len(), 1);
    for _ in 0..5 {
        cluster.tick_all();
    }
    let leader = cluster.wait_for_leader();
    assert_ne!(leader, 1);
    cluster.produce(leader, &["two"]);
    cluster.step(1, Input::DiskFull(false));
    for _ in 0..5 {
        cluster.tick_all();
    }
    cluster.assert_everywhere(&["one", "two"]);
}

#[test]
fn with_every_disk_full_reads_are_confirmed_trims_make_room_and_room_heals_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    for node in 1..=3 {
        cluster.step(node, Input::DiskFull(true));
    }
    // Whoever is handed leadership is full too: it must lead all the same, and not hand it back for ever.
    for _ in 0..50 {
        cluster.tick_all();
    }
    let changes = |cluster: &Cluster| -> usize {
        let led = |event: &&Event| matches!(event, Event::BecameLeader { .. });
        (1..=3).map(|node| cluster.events(node).iter().filter(led).count()).sum()
    };
    assert!(changes(&cluster) <= 4, "leadership went round {} times", changes(&cluster));
    let leader = cluster.wait_for_leader();
    let refused = cluster.send(leader, &["two"]);
    assert_eq!(cluster.answer(refused), Some(&Err(AppendError::StorageFull)));
    let tail = cluster.tail(leader);
    let trim = cluster.command(leader, Command::Trim { log_start: 1 });
    cluster.settle();
    assert_eq!(cluster.answer(tail), Some(&Ok(Answer::Tail(1))));
    assert_eq!(cluster.answer(trim), Some(&Ok(Answer::Done)));
    for node in 1..=3 {
        cluster.step(node, Input::DiskFull(false));
    }
    cluster.produce(leader, &["two"]);
    for _ in 0..5 {
        cluster.tick_all();
    }
    cluster.assert_everywhere(&["one", "two"]);
}

#[test]
fn a_node_crashing_at_any_write_of_a_rollback_comes_back_right() {
    let mut rollbacks_crashed = 0;
    for crash_at in 0.. {
        let mut cluster = Cluster::with_segments(3, 8192);
        cluster.elect(1);
        cluster.produce(1, &["one"]);
        cluster.isolate(1);
        for _ in 0..10 {
            cluster.send(1, &[&"x".repeat(900)]);
            cluster.settle();
        }
        cluster.elect(2);
        cluster.produce(2, &["two", "three"]);
        cluster.cut_power_after(1, crash_at);
        cluster.heal();
        for _ in 0..5 {
            cluster.tick_all();
        }
        let crashed = cluster.disk(1).is_down();
        cluster.crash(1, crash_at);
        cluster.start(1);
        for _ in 0..5 {
            cluster.tick_all();
        }
        cluster.assert_everywhere(&["one", "two", "three"]);
        cluster.elect(1);
        let token = cluster.send(1, &["four"]);
        cluster.settle();
        assert!(
            matches!(cluster.answer(token), Some(Ok(Answer::Appended(a))) if a.first_lsn == 4),
            "at {crash_at}"
        );
        if !crashed {
            break;
        }
        rollbacks_crashed += 1;
    }
    assert!(rollbacks_crashed > 5, "a rollback takes more than {rollbacks_crashed} operations");
}

#[test]
fn a_membership_change_survives_a_crash_of_everyone_right_after_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.add_node(4, &[1, 2, 3]);
    cluster.change_membership(1, vec![MembershipChange::AddLearner(4)]);
    for round in 0..3 {
        for node in 1..=4 {
            cluster.crash(node, round);
            cluster.start(node);
        }
        let leader = cluster.wait_for_leader();
        for _ in 0..5 {
            cluster.tick_all();
        }
        for node in 1..=4 {
            assert_eq!(cluster.describe(node).learners, [4], "node {node}, round {round}, led by {leader}");
        }
    }
}

#[test]
fn a_membership_entry_survives_the_rollback_of_what_came_after_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.add_node(4, &[1, 2, 3]);
    // The change reaches node 2 alone, which is slow to acknowledge it; then node 1, cut off, appends something else.
    cluster.isolate(3);
    cluster.hold_disk(2);
    cluster.change_membership(1, vec![MembershipChange::AddLearner(4)]);
    cluster.heal();
    cluster.isolate(1);
    cluster.send(1, &["lost"]);
    cluster.settle();
    cluster.release_disk(2);
    cluster.elect(2);
    cluster.produce(2, &["two"]);
    cluster.heal();
    for round in 0..2 {
        for _ in 0..5 {
            cluster.tick_all();
        }
        cluster.assert_everywhere(&["one", "two"]);
        for node in 1..=4 {
            assert_eq!(cluster.describe(node).learners, [4], "node {node}, round {round}");
        }
        cluster.crash(1, round);
        cluster.start(1);
    }
    assert!(cluster.events(1).iter().any(|event| matches!(event, Event::RolledBack { .. })));
}

#[test]
fn an_entry_that_was_changed_on_the_way_is_never_acknowledged() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    let token = cluster.send(1, &["one"]);
    cluster.damage_entries_on_their_way();
    cluster.settle();
    assert_eq!(cluster.answer(token), None, "no intact copy has reached a majority");
    assert!(cluster.events(2).iter().any(|event| matches!(event, Event::DamagedMessage { .. })));
    for _ in 0..5 {
        cluster.tick_all();
    }
    assert!(cluster.answer(token).is_some(), "Raft sends it again");
    cluster.heal();
    for _ in 0..5 {
        cluster.tick_all();
    }
    cluster.assert_everywhere(&["one"]);
}
