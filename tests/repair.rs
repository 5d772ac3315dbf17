//! A replica that lost what it once acknowledged takes no part until its peers have given it back, proven.

mod cluster;

use std::sync::Arc;

use cluster::{Cluster, ELECTION_TICKS};
use lockstep::{
    random::Random,
    replica,
    shard::{AppendError, Command, Health},
};
use lockstep_storage::{
    Checkpoint, Finding, Log, LogOptions, inspect,
    io::{Disk, FakeDisk, OpenMode},
};

const RECORDS: usize = 60;

fn value(number: usize) -> String {
    format!("record {number:03} of a log with several segments")
}

fn values() -> Vec<String> {
    (1..=RECORDS).map(value).collect()
}

/// Three replicas with the same sixty records in several sealed segments, all stopped cleanly.
fn stopped_cluster() -> Cluster {
    let mut cluster = Cluster::with_segments(3, 4096 + 2048);
    cluster.elect(1);
    for value in values() {
        cluster.produce(1, &[&value]);
    }
    cluster.let_them_seal();
    for node in 1..=3 {
        cluster.crash(node, 0);
    }
    cluster
}

/// Starts everyone and waits until nobody is faulty any more.
fn heal(cluster: &mut Cluster) {
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.settle();
    cluster.wait_until("everyone is well", |cluster| (1..=3).all(|node| cluster.health(node) == Health::Ok));
    cluster.wait_for_leader();
}

fn assert_all_records(cluster: &mut Cluster) {
    let leader = cluster.wait_for_leader();
    cluster.produce(leader, &["one more"]);
    // Followers hear of the commit with the next heartbeat.
    cluster.tick_all();
    let mut expected = values();
    expected.push("one more".into());
    cluster.assert_everywhere(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Where a record's bytes stand in a node's files.
fn find(cluster: &Cluster, node: u64, text: &str) -> (String, u64) {
    let disk = cluster.disk(node);
    for path in cluster.segments(node) {
        let file = disk.open(&path, lockstep_storage::io::OpenMode::Read).expect("a segment opens");
        let bytes = file.read_at(1 << 20, 0).expect("a segment reads");
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            return (path, at as u64);
        }
    }
    panic!("{text:?} is not on node {node}");
}

fn rot(cluster: &Cluster, node: u64, number: usize) {
    let (path, position) = find(cluster, node, &value(number));
    cluster.disk(node).flip_bit(&path, position + 5, 3);
}

#[test]
fn a_hole_in_the_last_segment_is_filled_from_a_peer() {
    let mut cluster = stopped_cluster();
    rot(&cluster, 3, RECORDS - 1);
    cluster.start(3);
    assert!(matches!(cluster.health(3), Health::Faulty(_)), "{:?}", cluster.health(3));
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
    assert!(matches!(cluster.health(3), Health::Faulty(_)), "{:?}", cluster.health(3));
    cluster.wait_until("node 3 is well", |cluster| cluster.health(3) == Health::Ok);
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
    cluster.wait_until("node 3 is well", |cluster| cluster.health(3) == Health::Ok);
    assert_all_records(&mut cluster);
}

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

#[test]
fn what_was_lost_at_the_end_of_a_running_log_is_remembered_through_a_restart() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for value in values() {
        cluster.produce(1, &[&value]);
    }
    cluster.tick_all();
    // Nothing behind it is left that could say that it had been there: afterwards it looks like a tear.
    let (path, position) = find(&cluster, 3, &value(RECORDS - 1));
    let length =
        cluster.disk(3).open(&path, OpenMode::Read).and_then(|file| file.len()).expect("it is there");
    let zeros = vec![0; (length - position) as usize];
    cluster.disk(3).corrupt(&path, position, &zeros).expect("it is there");
    cluster.isolate(3);
    cluster.step(3, replica::Input::Damaged("a reader found it".into()));
    cluster.settle();
    cluster.crash(3, 1);
    cluster.start(3);
    for _ in 0..20 * ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(matches!(cluster.health(3), Health::Faulty(_)), "it would vote without what it acknowledged");
    cluster.heal();
    cluster.wait_until("node 3 is well", |cluster| cluster.health(3) == Health::Ok);
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
    cluster.wait_until("node 3 is well", |cluster| cluster.health(3) == Health::Ok);
    cluster.start(1);
    assert_all_records(&mut cluster);
}

#[test]
fn a_log_whose_newest_segment_is_gone_comes_back_whole() {
    let mut cluster = stopped_cluster();
    let newest = cluster.segments(3).pop().expect("there are segments");
    cluster.disk(3).remove_file(&newest).expect("a healthy disk");
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

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
    cluster.wait_until("node 3 is well", |cluster| cluster.health(3) == Health::Ok);
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

#[test]
fn a_replica_whose_directory_is_gone_is_rebuilt_from_its_peers() {
    let mut cluster = stopped_cluster();
    cluster.delete_directory(3);
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn a_power_cut_at_any_moment_of_a_repair_leaves_a_replica_that_is_repaired_later() {
    let mut cuts = 0;
    for after in 1.. {
        let mut cluster = stopped_cluster();
        rot(&cluster, 3, RECORDS - 1);
        cluster.start(1);
        cluster.start(2);
        cluster.wait_for_leader();
        cluster.cut_power_after(3, after);
        let started = cluster.try_start(3).is_ok();
        for _ in 0..100 {
            if started && !cluster.disk(3).is_down() {
                cluster.tick_all();
            }
        }
        let cut = cluster.disk(3).is_down();
        cuts += u64::from(cut);
        cluster.crash(3, after);
        cluster.start(3);
        cluster.wait_until("node 3 is well", |cluster| cluster.health(3) == Health::Ok);
        assert_all_records(&mut cluster);
        if !cut {
            break;
        }
    }
    assert!(cuts > 5, "only {cuts} cuts: was anything written?");
}

#[test]
fn a_log_that_failed_is_opened_again_and_the_high_watermark_never_goes_back() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.tick_all();
    let before = cluster.describe(3).view.high_watermark;
    cluster.fail_next_sync(3);
    cluster.produce(1, &["two"]);
    assert!(matches!(cluster.health(3), Health::Failed(_)), "{:?}", cluster.health(3));
    assert!(cluster.describe(3).view.high_watermark >= before);
    cluster.wait_until("node 3 is well", |cluster| cluster.health(3) == Health::Ok);
    cluster.produce(1, &["three"]);
    cluster.tick_all();
    cluster.assert_everywhere(&["one", "two", "three"]);
}
