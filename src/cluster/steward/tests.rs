//! What a shard's leader is told to do, step by step.

use super::*;
use crate::cluster::{Member, TopicSettings};
use crate::identity::DirectoryId;
use crate::raft::MembershipChange::{AddLearner, AddVoter, Remove};
use crate::raft::ReplicaProgress;

const SHARD: ShardId = 1;

fn register(id: u64) -> Command {
    let at = |port: u64| format!("127.0.0.1:{}", 7000 + 10 * id + port);
    let directory = DirectoryId([id as u8; 16]);
    Command::RegisterBroker(Member { id, directory, native: at(0), peer: at(1), http: at(2), rack: None })
}

/// Brokers 1 to 5, the first three of them founders, and a topic with one partition on those.
fn state(commands: &[Command]) -> MetadataState {
    let mut state = MetadataState::default();
    let mut log = vec![Command::FoundCluster { replicas: vec![1, 2, 3] }];
    log.extend((1..=5).map(register));
    let (name, replicas) = ("a".to_owned(), vec![vec![1, 2, 3]]);
    log.push(Command::CreateTopic { name, replicas, settings: TopicSettings::default() });
    log.extend_from_slice(commands);
    log.iter().for_each(|command| state.apply(command).unwrap());
    state
}

fn move_to(to: &[u64]) -> Command {
    Command::MoveReplicas { shard: SHARD, to: to.to_vec() }
}

/// A leader of these members, all of whom are caught up.
fn leader(node: u64, voters: &[u64], learners: &[u64]) -> ShardDescription {
    let progress = |node: &u64| ReplicaProgress {
        lag_bytes: 0,
        node: *node,
        matched_index: 10,
        next_index: 11,
        lag_entries: 0,
        state: "replicate",
        recent_active: true,
    };
    ShardDescription {
        view: ShardView { is_leader: true, leader: Some(node), term: 1, ..ShardView::default() },
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        membership_index: 7,
        last_index: 10,
        replicas: voters.iter().chain(learners).map(progress).collect(),
        ..ShardDescription::default()
    }
}

fn next(steward: &mut Steward, state: &MetadataState, leader: &ShardDescription, now_ms: u64) -> Option<Act> {
    steward.next(state, state.placement(SHARD).unwrap(), leader, now_ms)
}

#[test]
fn a_new_replica_that_lacks_nothing_gets_its_vote_even_if_nothing_is_written_any_more() {
    let state = state(&[move_to(&[1, 2, 3, 4])]);
    let mut leader = leader(1, &[1, 2, 3], &[4]);
    // Consensus goes on probing a follower that refused something once, until it takes one more entry.
    let newcomer = leader.replicas.iter_mut().find(|replica| replica.node == 4).unwrap();
    newcomer.state = "probe";
    let votes = Some(Act::Propose(vec![AddVoter(4)], 7));
    assert_eq!(next(&mut Steward::new(1), &state, &leader, 0), votes);
    leader.replicas.iter_mut().for_each(|replica| replica.lag_entries = u64::from(replica.node == 4));
    assert_eq!(next(&mut Steward::new(1), &state, &leader, 0), None, "it lacks one");
}

#[test]
fn a_leader_that_moves_away_hands_over_before_it_goes_and_three_times_at_the_most() {
    let state = state(&[move_to(&[2, 3, 4])]);
    let mut steward = Steward::new(1);
    let learns = Some(Act::Propose(vec![AddLearner(4)], 7));
    assert_eq!(next(&mut steward, &state, &leader(1, &[1, 2, 3], &[]), 0), learns);
    let ready = leader(1, &[1, 2, 3], &[4]);
    for attempt in 0..3 {
        let now_ms = 10_000 * attempt;
        assert!(matches!(next(&mut steward, &state, &ready, now_ms), Some(Act::HandOver(2 | 3))));
        assert_eq!(next(&mut steward, &state, &ready, now_ms + 1), None, "it takes a moment");
    }
    let goes = Some(Act::Propose(vec![AddVoter(4), Remove(1)], 7));
    assert_eq!(next(&mut steward, &state, &ready, 40_000), goes);
}

#[test]
fn where_all_go_the_new_ones_vote_before_the_old_ones_leave() {
    let state = state(&[move_to(&[4, 5])]);
    let mut steward = Steward::new(1);
    let votes = Some(Act::Propose(vec![AddVoter(4), AddVoter(5)], 7));
    assert_eq!(next(&mut steward, &state, &leader(1, &[1, 2, 3], &[4, 5]), 0), votes);
    let all_vote = leader(1, &[1, 2, 3, 4, 5], &[]);
    assert!(matches!(next(&mut steward, &state, &all_vote, 0), Some(Act::HandOver(4 | 5))));
    let gone = Some(Act::Propose(vec![Remove(1), Remove(2), Remove(3)], 7));
    assert_eq!(next(&mut Steward::new(4), &state, &leader(4, &[1, 2, 3, 4, 5], &[]), 0), gone);
}

#[test]
fn a_move_is_over_once_a_majority_know_for_good_who_the_members_are() {
    for (commands, goal) in [
        (vec![move_to(&[2, 3, 4])], vec![2, 3, 4]),
        (vec![move_to(&[2, 3, 4, 5])], vec![2, 3, 4, 5]),
        (vec![move_to(&[2, 3, 4]), Command::CancelMove { shard: SHARD }], vec![1, 2, 3]),
    ] {
        let state = state(&commands);
        let (mut steward, there) = (Steward::new(2), leader(2, &goal, &[]));
        match next(&mut steward, &state, &there, 0) {
            Some(Act::Propose(changes, 7)) => assert_eq!(changes.len(), 1, "one that changes nothing"),
            other => panic!("{other:?}"),
        }
        let confirmed = ShardDescription { membership_confirmed: true, membership_index: 8, ..there };
        let finish = Command::FinishMove { shard: SHARD, replicas: goal, membership_index: 8 };
        assert_eq!(next(&mut steward, &state, &confirmed, 0), Some(Act::Write(finish.clone())));
        let mut after = state.clone();
        after.apply(&finish).unwrap();
        assert_eq!(next(&mut steward, &after, &confirmed, 0), None);
        assert!(after.placement(SHARD).unwrap().moving_to.is_none());
    }
}

#[test]
fn a_move_that_is_cancelled_before_it_changed_anything_ends_too() {
    let finish = |replicas: &[u64]| Command::FinishMove {
        shard: SHARD,
        replicas: replicas.into(),
        membership_index: 7,
    };
    let cancel = Command::CancelMove { shard: SHARD };
    let mut state = state(&[move_to(&[2, 3, 4]), finish(&[2, 3, 4]), move_to(&[3, 4, 5]), cancel]);
    let mut steward = Steward::new(2);
    let confirmed = |membership_index| ShardDescription {
        membership_confirmed: true,
        membership_index,
        ..leader(2, &[2, 3, 4], &[])
    };
    let same = Some(Act::Propose(vec![AddVoter(2)], 7));
    assert_eq!(next(&mut steward, &state, &confirmed(7), 0), same);
    let Some(Act::Write(end)) = next(&mut steward, &state, &confirmed(8), 0) else { panic!("it never ends") };
    state.apply(&end).unwrap();
    assert_eq!(state.moving().count(), 0);
}

#[test]
fn what_a_leader_that_lagged_behind_has_changed_is_taken_back() {
    let state = state(&[]);
    let mut steward = Steward::new(1);
    assert_eq!(
        next(&mut steward, &state, &leader(1, &[1, 2, 3], &[5]), 0),
        Some(Act::Propose(vec![Remove(5)], 7))
    );
    let back = ShardDescription { membership_confirmed: true, ..leader(1, &[1, 2, 3], &[]) };
    assert!(matches!(next(&mut steward, &state, &back, 0), Some(Act::Write(Command::FinishMove { .. }))));
}

#[test]
fn a_settled_shard_is_looked_at_once_in_a_term() {
    let state = state(&[]);
    let placement = state.placement(SHARD).unwrap();
    let mut steward = Steward::new(1);
    let settled = ShardDescription { membership_index: 0, ..leader(1, &[1, 2, 3], &[]) };
    assert!(steward.cares_for(&state, placement, &settled.view));
    assert_eq!(steward.next(&state, placement, &settled, 0), None);
    assert!(!steward.cares_for(&state, placement, &settled.view));
    assert!(steward.cares_for(&state, placement, &ShardView { term: 2, ..settled.view.clone() }));
    assert!(!steward.cares_for(&state, placement, &ShardView { is_leader: false, ..settled.view }));
}

#[test]
fn the_preferred_leader_leads_once_it_has_been_there_for_a_while_and_is_not_about_to_go() {
    let settled = ShardDescription { membership_index: 0, ..leader(2, &[1, 2, 3], &[]) };
    let mut away = settled.clone();
    away.replicas[0].recent_active = false;
    let here = state(&[]);
    let mut steward = Steward::new(2);
    for (now_ms, leader, expected) in [
        (0, &settled, None),
        (4_000, &away, None),
        (5_000, &settled, None),
        (9_999, &settled, None),
        (10_000, &settled, Some(Act::HandOver(1))),
        (10_001, &settled, None),
    ] {
        assert_eq!(next(&mut steward, &here, leader, now_ms), expected, "at {now_ms}");
    }
    let drained = state(&[Command::DrainBroker { id: 1, draining: true }]);
    let mut steward = Steward::new(2);
    for now_ms in [0, 60_000] {
        assert_eq!(next(&mut steward, &drained, &settled, now_ms), None);
    }
}

#[test]
fn brokers_without_a_vote_on_the_metadata_follow_it_until_they_are_removed() {
    let of_metadata = |state: &MetadataState, leader: &ShardDescription| {
        Steward::new(1).next(state, state.placement(METADATA_SHARD).unwrap(), leader, 0)
    };
    let five = state(&[]);
    assert_eq!(of_metadata(&five, &leader(1, &[1, 2, 3], &[])), Some(Act::Propose(vec![AddLearner(4)], 7)));
    assert_eq!(of_metadata(&five, &leader(1, &[1, 2, 3], &[4])), Some(Act::Propose(vec![AddLearner(5)], 7)));
    assert_eq!(of_metadata(&five, &leader(1, &[1, 2, 3], &[4, 5])), None);
    let four = state(&[Command::RemoveBroker { id: 5 }]);
    assert_eq!(of_metadata(&four, &leader(1, &[1, 2, 3], &[4, 5])), Some(Act::Propose(vec![Remove(5)], 7)));
    let moving = state(&[Command::MoveReplicas { shard: METADATA_SHARD, to: vec![1, 2, 4] }]);
    let exchanged = Some(Act::Propose(vec![AddVoter(4), AddLearner(3)], 7));
    assert_eq!(of_metadata(&moving, &leader(1, &[1, 2, 3], &[4, 5])), exchanged);
    let blank = MetadataState::default();
    assert_eq!(of_metadata(&blank, &leader(1, &[1, 2, 3], &[])), None);
}
