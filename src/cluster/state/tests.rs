//! What the fold gives out, refuses and keeps.

use super::*;
use crate::identity::DirectoryId;

fn create(name: &str, partitions: usize) -> Command {
    Command::CreateTopic {
        name: name.into(),
        replicas: vec![vec![1, 2, 3]; partitions],
        settings: TopicSettings::default(),
    }
}

#[test]
fn ids_are_given_out_in_the_order_of_the_log_and_never_again() {
    let mut state = MetadataState::default();
    state.apply(&create("a", 2)).unwrap();
    state.apply(&create("b", 1)).unwrap();
    let first = state.topic("a").unwrap().clone();
    assert_eq!((first.id, first.partitions[0].shard, first.partitions[1].shard), (1, 1, 2));
    state.apply(&Command::DeleteTopic { id: first.id }).unwrap();
    state.apply(&create("a", 1)).unwrap();
    let second = state.topic("a").unwrap();
    assert_eq!((second.id, second.partitions[0].shard), (3, 4));
    assert!(state.is_deleted(1) && state.is_deleted(2));
    assert!(!state.is_deleted(3) && !state.is_deleted(4) && !state.is_deleted(5));
    assert!(!state.is_deleted(METADATA_SHARD));
}

#[test]
fn a_refused_command_takes_its_lsn_and_changes_nothing_else() {
    let mut state = MetadataState::default();
    state.apply(&create("a", 1)).unwrap();
    let before = state.clone();
    assert_eq!(state.apply(&create("a", 1)), Err(Refusal::TopicExists("a".into())));
    assert!(state.apply(&Command::DeleteTopic { id: 9 }).is_err());
    assert_eq!(state.applied_lsn(), 3);
    assert_eq!(MetadataState { applied_lsn: before.applied_lsn, ..state }, before);
}

#[test]
fn blocks_of_producer_ids_do_not_overlap() {
    let mut state = MetadataState::default();
    let first = state.next_producer();
    state.apply(&Command::ReserveProducers { count: 1000 }).unwrap();
    assert_eq!(state.next_producer(), first + 1000);
}

#[test]
fn the_same_log_yields_the_same_state() {
    let log = [create("a", 3), Command::ReserveProducers { count: 5 }, create("a", 1), create("b", 2)];
    let fold = || {
        let mut state = MetadataState::default();
        for command in &log {
            let _ = state.apply(command);
        }
        state
    };
    assert_eq!(fold(), fold());
    assert_eq!(fold().topics().len(), 2);
}

fn member(id: u64) -> Member {
    let at = |port: u64| format!("127.0.0.1:{}", 7000 + 10 * id + port);
    Member { id, directory: DirectoryId([id as u8; 16]), native: at(0), peer: at(1), http: at(2), rack: None }
}

/// A cluster of three founders, and a topic of two partitions.
fn founded() -> MetadataState {
    let mut state = MetadataState::default();
    state.apply(&Command::FoundCluster { replicas: vec![1, 2, 3] }).unwrap();
    for id in [3, 1, 2] {
        state.apply(&Command::RegisterBroker(member(id))).unwrap();
    }
    state.apply(&create("a", 2)).unwrap();
    state
}

#[test]
fn a_cluster_is_founded_once() {
    let again = Command::FoundCluster { replicas: vec![1] };
    assert_eq!(founded().apply(&again), Err(Refusal::FoundedAlready));
    assert_eq!(founded().placement(METADATA_SHARD).unwrap().replicas, [1, 2, 3]);
}

#[test]
fn a_broker_keeps_its_id_and_its_directory_and_may_change_its_addresses() {
    let mut state = founded();
    let moved = Member { native: "elsewhere:1".into(), ..member(2) };
    state.apply(&Command::RegisterBroker(moved.clone())).unwrap();
    assert_eq!(**state.member(2).unwrap().0, moved);
    let foreign = Member { directory: DirectoryId([9; 16]), ..member(2) };
    assert_eq!(state.apply(&Command::RegisterBroker(foreign)), Err(Refusal::BrokerTaken(2)));
    let twice = Member { id: 7, ..member(2) };
    assert_eq!(state.apply(&Command::RegisterBroker(twice)), Err(Refusal::DirectoryTaken(2)));
}

#[test]
fn a_broker_goes_only_when_it_holds_nothing_and_its_id_never_comes_back() {
    let mut state = founded();
    state.apply(&Command::RegisterBroker(member(4))).unwrap();
    assert_eq!(
        state.apply(&Command::RemoveBroker { id: 3 }),
        Err(Refusal::BrokerInUse { broker: 3, replicas: 3 })
    );
    for shard in [METADATA_SHARD, 1, 2] {
        state.apply(&Command::MoveReplicas { shard, to: vec![1, 2, 4] }).unwrap();
        assert!(state.apply(&Command::RemoveBroker { id: 3 }).is_err(), "it still holds what moves away");
        state.apply(&finish(shard, &[1, 2, 4], 9)).unwrap();
    }
    state.apply(&Command::RemoveBroker { id: 3 }).unwrap();
    assert_eq!(state.apply(&Command::RegisterBroker(member(3))), Err(Refusal::BrokerRemoved(3)));
    assert_eq!(state.next_broker(), 5);
}

#[test]
fn a_shard_moves_to_one_goal_at_a_time() {
    let mut state = founded();
    state.apply(&Command::RegisterBroker(member(4))).unwrap();
    let to = |to: &[u64]| Command::MoveReplicas { shard: 1, to: to.to_vec() };
    assert_eq!(state.apply(&to(&[1, 2, 9])), Err(Refusal::UnknownBroker(9)));
    assert_eq!(state.apply(&to(&[1, 1])), Err(Refusal::InvalidReplicas(vec![1, 1])));
    assert_eq!(state.apply(&to(&[])), Err(Refusal::InvalidReplicas(vec![])));
    state.apply(&to(&[1, 2, 4])).unwrap();
    assert_eq!(state.apply(&to(&[1, 3, 4])), Err(Refusal::MovingAlready(state.called(1))));
    let hosts: Vec<u64> = state.placement(1).unwrap().hosts().collect();
    assert_eq!(hosts, [1, 2, 3, 4], "both sets hold it while it moves");
    assert_eq!(state.apply(&finish(1, &[1, 3, 4], 9)), Err(Refusal::MoveIsOver(1)));
    state.apply(&finish(1, &[1, 2, 4], 9)).unwrap();
    assert_eq!(state.placement(1).unwrap().replicas, [1, 2, 4]);
    assert_eq!(state.apply(&Command::CancelMove { shard: 1 }), Err(Refusal::NotMoving(1)));
    assert_eq!(state.apply(&Command::CancelMove { shard: 77 }), Err(Refusal::UnknownShard(77)));
}

#[test]
fn a_move_that_is_taken_back_is_over_once_the_replicas_are_known_to_be_where_they_were() {
    let mut state = founded();
    state.apply(&Command::RegisterBroker(member(4))).unwrap();
    state.apply(&Command::MoveReplicas { shard: 1, to: vec![4] }).unwrap();
    state.apply(&Command::CancelMove { shard: 1 }).unwrap();
    let placement = state.placement(1).unwrap().clone();
    assert_eq!((placement.goal(), placement.hosts().collect()), (&[1, 2, 3][..], vec![1, 2, 3, 4]));
    assert_eq!(state.apply(&Command::CancelMove { shard: 1 }), Err(Refusal::NotMoving(1)));
    assert!(state.apply(&Command::MoveReplicas { shard: 1, to: vec![2] }).is_err(), "it still moves");
    assert_eq!(
        state.apply(&finish(1, &[4], 9)),
        Err(Refusal::MoveIsOver(1)),
        "of the move that was taken back"
    );
    state.apply(&finish(1, &[1, 2, 3], 9)).unwrap();
    assert_eq!(state.placement(1).unwrap().hosts().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_move_of_long_ago_finishes_no_later_one_to_the_same_brokers() {
    let mut state = founded();
    state.apply(&Command::RegisterBroker(member(4))).unwrap();
    for (to, membership_index) in [(vec![1, 2, 4], 9), (vec![1, 2, 3], 20)] {
        state.apply(&Command::MoveReplicas { shard: 1, to: to.clone() }).unwrap();
        state.apply(&finish(1, &to, membership_index)).unwrap();
    }
    state.apply(&Command::MoveReplicas { shard: 1, to: vec![1, 2, 4] }).unwrap();
    for late in [9, 12, 20] {
        assert_eq!(state.apply(&finish(1, &[1, 2, 4], late)), Err(Refusal::MoveIsOver(1)));
    }
}

#[test]
fn another_preferred_leader_moves_nothing_and_the_first_voters_stay_known() {
    let mut state = founded();
    state.apply(&Command::MoveReplicas { shard: 1, to: vec![3, 1, 2] }).unwrap();
    let placement = state.placement(1).unwrap();
    assert_eq!((&placement.replicas[..], &placement.moving_to), (&[3, 1, 2][..], &None));
    assert_eq!(placement.founders, [1, 2, 3]);
}

fn finish(shard: ShardId, replicas: &[u64], membership_index: u64) -> Command {
    Command::FinishMove { shard, replicas: replicas.to_vec(), membership_index }
}

#[test]
fn added_partitions_get_the_next_shards_and_old_ones_stay() {
    let mut state = founded();
    state.apply(&create("b", 1)).unwrap();
    let id = state.topic("a").unwrap().id;
    state.apply(&Command::AddPartitions { id, replicas: vec![vec![2, 3, 1]] }).unwrap();
    let shards: Vec<ShardId> = state.topic("a").unwrap().partitions.iter().map(|p| p.shard).collect();
    assert_eq!(shards, [1, 2, 4]);
    assert_eq!(state.placement(4).unwrap().replicas, [2, 3, 1]);
    state.apply(&Command::DeleteTopic { id }).unwrap();
    assert!([1, 2, 4].iter().all(|shard| state.is_deleted(*shard)) && !state.is_deleted(3));
}

#[test]
fn altered_settings_are_in_force_at_once() {
    let mut state = founded();
    let id = state.topic("a").unwrap().id;
    let settings = TopicSettings { retention_ms: Some(5), ..TopicSettings::default() };
    state.apply(&Command::AlterTopic { id, settings: settings.clone() }).unwrap();
    assert_eq!(state.topic("a").unwrap().settings, settings);
}
