//! Which moves begin, and that they come to an end.

use super::*;
use crate::cluster::{Member, TopicSettings};
use crate::identity::DirectoryId;

fn register(id: u64) -> Command {
    let at = |port: u64| format!("127.0.0.1:{}", 7000 + 10 * id + port);
    let directory = DirectoryId([id as u8; 16]);
    Command::RegisterBroker(Member { id, directory, native: at(0), peer: at(1), http: at(2), rack: None })
}

/// Founders, other brokers, and a topic of so many partitions with three replicas on the founders.
fn state(founders: u64, others: u64, partitions: usize) -> MetadataState {
    let mut state = MetadataState::default();
    let founding: Vec<u64> = (1..=founders).collect();
    let mut log = vec![Command::FoundCluster { replicas: founding.clone() }];
    log.extend((1..=founders + others).map(register));
    if partitions > 0 {
        let (name, replicas) = ("a".to_owned(), vec![founding[..3].to_vec(); partitions]);
        log.push(Command::CreateTopic { name, replicas, settings: TopicSettings::default() });
    }
    log.iter().for_each(|command| state.apply(command).unwrap());
    state
}

fn drain(state: &mut MetadataState, id: u64) {
    state.apply(&Command::DrainBroker { id, draining: true }).unwrap();
}

/// Lets everything that begins come to its end; returns how many moves there were, and how many at once.
fn run(state: &mut MetadataState) -> (usize, usize) {
    let (mut moves, mut at_once, mut index) = (0, 0, 1);
    loop {
        let commands = next_moves(state);
        commands.iter().for_each(|command| state.apply(command).unwrap());
        let moving: Vec<_> = state.moving().map(|p| (p.shard, p.goal().to_vec())).collect();
        if moving.is_empty() && commands.is_empty() {
            return (moves, at_once);
        }
        (moves, at_once) = (moves + moving.len(), at_once.max(moving.len()));
        for (shard, replicas) in moving {
            index += 1;
            state.apply(&Command::FinishMove { shard, replicas, membership_index: index }).unwrap();
        }
        assert!(moves < 10_000, "it does not end");
    }
}

#[test]
fn a_move_to_a_broker_that_is_drained_goes_elsewhere_even_one_that_leads_back() {
    let mut state = state(3, 2, 1);
    let mut moves = |commands: &[Command]| {
        commands.iter().for_each(|command| state.apply(command).unwrap());
        let due = next_moves(&state);
        due.iter().for_each(|command| state.apply(command).unwrap());
        let placement = state.placement(1).unwrap().clone();
        (placement.goal().to_vec(), placement.hosts().collect::<Vec<u64>>(), placement.replicas)
    };
    let to_four = Command::MoveReplicas { shard: 1, to: vec![1, 2, 4] };
    // Broker 4 dies and is given up: its replica stays on 3, and 4 may still have files.
    let (goal, hosts, replicas) = moves(&[to_four, Command::DrainBroker { id: 4, draining: true }]);
    assert_eq!((goal, hosts, replicas), (vec![1, 2, 3], vec![1, 2, 3, 4], vec![1, 2, 3]));
    // So does broker 3, whose replica may have left already.
    let (goal, hosts, replicas) = moves(&[Command::DrainBroker { id: 3, draining: true }]);
    assert_eq!((goal, hosts, replicas), (vec![1, 2, 5], vec![1, 2, 3, 5, 4], vec![1, 2, 3]));
    assert!(state.check(&Command::MoveReplicas { shard: 1, to: vec![2, 1, 5] }).is_err(), "it can end");
}

#[test]
fn a_drained_broker_gives_all_away_a_few_at_a_time_and_the_metadata_too() {
    let mut state = state(3, 1, 100);
    drain(&mut state, 3);
    let (moves, at_once) = run(&mut state);
    assert_eq!(moves, 101);
    assert!(at_once <= 9, "{at_once} replicas at once on one broker");
    assert_eq!(state.replicas_of(3), 0);
    assert_eq!(state.placement(METADATA_SHARD).unwrap().replicas, [1, 2, 4]);
    state.apply(&Command::RemoveBroker { id: 3 }).unwrap();
}

#[test]
fn the_metadata_gets_three_voters_and_five_and_none_goes_that_need_not() {
    for (founders, others, voters) in [
        (1, 0, vec![1]),
        (1, 1, vec![1, 2]),
        (1, 2, vec![1, 2, 3]),
        (3, 1, vec![1, 2, 3]),
        (4, 0, vec![1, 2, 3, 4]),
        (3, 3, vec![1, 2, 3, 4, 5]),
    ] {
        let mut state = state(founders, others, 0);
        run(&mut state);
        assert_eq!(state.placement(METADATA_SHARD).unwrap().replicas, voters);
    }
}

#[test]
fn a_rebalance_spreads_a_thousand_partitions_in_steps_and_then_ends() {
    let mut state = state(3, 1, 1000);
    assert!(next_moves(&state).is_empty(), "nobody asked for it");
    state.apply(&Command::Rebalance { on: true }).unwrap();
    let (_, at_once) = run(&mut state);
    assert!(at_once <= MOVES_MAX && !state.is_rebalancing());
    for broker in 1..=4 {
        assert_eq!(state.replicas_of(broker), 750);
    }
}

#[test]
fn a_rebalance_that_is_called_off_begins_no_more() {
    let mut state = state(3, 1, 100);
    state.apply(&Command::Rebalance { on: true }).unwrap();
    next_moves(&state).iter().for_each(|command| state.apply(command).unwrap());
    assert!(state.moving().count() > 0);
    state.apply(&Command::Rebalance { on: false }).unwrap();
    let (moves, at_once) = run(&mut state);
    assert_eq!(moves, at_once, "those under way end");
}

#[test]
fn each_broker_that_takes_replicas_up_has_as_many_senders_as_lead_them() {
    let mut state = state(3, 2, 4);
    assert_eq!(senders(&state), BTreeMap::new());
    let shards: Vec<_> = state.placements().map(|(_, placement)| placement.shard).collect();
    for (shard, to) in [(0, vec![1, 2, 4]), (1, vec![1, 4, 5])] {
        state.apply(&Command::MoveReplicas { shard: shards[shard], to }).unwrap();
    }
    assert_eq!(senders(&state), BTreeMap::from([(4, 1), (5, 1)]), "both are led by broker 1");
    let to = vec![4, 3, 1];
    state.apply(&Command::MoveReplicas { shard: METADATA_SHARD, to }).unwrap();
    assert_eq!(senders(&state)[&4], 1, "the metadata does not wait for anybody");
}

#[test]
fn a_founder_that_never_came_is_given_up_and_cannot_come_any_more() {
    let mut state = MetadataState::default();
    let replicas = vec![vec![1, 2, 3]; 4];
    let topic = Command::CreateTopic { name: "a".into(), replicas, settings: TopicSettings::default() };
    let log =
        [Command::FoundCluster { replicas: vec![1, 2, 3] }, register(1), register(2), topic, register(4)];
    log.iter().for_each(|command| state.apply(command).unwrap());
    let in_use = state.check(&Command::RemoveBroker { id: 3 }).unwrap_err();
    assert!(matches!(in_use, crate::cluster::Refusal::BrokerInUse { broker: 3, replicas: 5 }), "{in_use}");
    for command in crate::cluster::operator::drain(3, &state).unwrap() {
        state.apply(&command).unwrap();
    }
    assert_eq!(crate::cluster::operator::drain(3, &state), Ok(Vec::new()), "asked again, it is so already");
    run(&mut state);
    assert_eq!((state.replicas_of(3), state.replicas_of(4)), (0, 4));
    assert_eq!(state.placement(METADATA_SHARD).unwrap().replicas, [1, 2, 4]);
    let gone = crate::cluster::Refusal::UnknownBroker(3);
    assert_eq!(state.check(&Command::RemoveBroker { id: 3 }), Err(gone));
    assert_eq!(state.check(&register(3)), Err(crate::cluster::Refusal::BrokerRemoved(3)));
}

#[test]
fn a_founder_that_was_given_up_too_early_is_awaited_again() {
    let mut state = MetadataState::default();
    let log = [Command::FoundCluster { replicas: vec![1, 2, 3] }, register(1), register(2), register(4)];
    log.iter().for_each(|command| state.apply(command).unwrap());
    drain(&mut state, 3);
    assert!(!state.awaits(3));
    state.apply(&Command::DrainBroker { id: 3, draining: false }).unwrap();
    assert_eq!(next_moves(&state), []);
    state.apply(&register(3)).unwrap();
}
