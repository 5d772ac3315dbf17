//! Refused in time, done once, shown before it is done.

use super::*;
use crate::cluster::{Member, TopicSettings};
use crate::identity::DirectoryId;

fn member(id: u64) -> Member {
    let at = |port: u64| format!("127.0.0.1:{}", 7000 + 10 * id + port);
    let directory = DirectoryId([u8::try_from(id).unwrap(); 16]);
    Member { id, directory, native: at(0), peer: at(1), http: at(2), rack: None }
}

fn create(name: &str, replicas: &[&[u64]]) -> Command {
    let replicas = replicas.iter().map(|set| set.to_vec()).collect();
    Command::CreateTopic { name: name.into(), replicas, settings: TopicSettings::default() }
}

/// Metadata on brokers 1 to 3, and as many brokers in all.
fn cluster(brokers: u64, topics: &[Command]) -> MetadataState {
    let mut state = MetadataState::default();
    let founded = Command::FoundCluster { replicas: (1..=brokers.min(3)).collect() };
    let registered = (1..=brokers).map(|id| Command::RegisterBroker(member(id)));
    std::iter::once(founded).chain(registered).for_each(|command| state.apply(&command).unwrap());
    apply(&mut state, topics);
    state
}

fn moves_of(plan: &RebalancePlan) -> Vec<Command> {
    let command = |planned: &PlannedMove| moves(planned.reassignment.shard, &planned.reassignment.to);
    plan.moves.iter().map(command).collect()
}

fn apply(state: &mut MetadataState, commands: &[Command]) {
    commands.iter().for_each(|command| state.apply(command).unwrap());
}

fn moves(shard: u64, to: &[u64]) -> Command {
    Command::MoveReplicas { shard, to: to.to_vec() }
}

#[test]
fn a_broker_drains_if_enough_stay_and_is_asked_once() {
    let mut state = cluster(4, &[create("orders", &[&[1, 2, 3], &[2, 3, 4]])]);
    let commands = drain(2, &state).unwrap();
    assert_eq!(commands, [Command::DrainBroker { id: 2, draining: true }]);
    apply(&mut state, &commands);
    assert_eq!(drain(2, &state), Ok(Vec::new()));
    assert_eq!(drain(9, &state), Err(Refusal::UnknownBroker(9)));
    // Three would be one too few for it to be a second one.
    let refused = drain(3, &state).unwrap_err();
    assert_eq!(
        refused,
        Refusal::TooFewBrokers { broker: 3, staying: 2, held: "orders/0".into(), replicas: 3 }
    );
    assert!(refused.to_string().contains("--join"), "{refused}");
}

#[test]
fn a_broker_does_not_drain_if_a_partition_would_have_too_few() {
    let mut state = cluster(5, &[create("small", &[&[4]]), create("wide", &[&[4], &[1, 2, 3, 4, 5]])]);
    let too_few = Refusal::TooFewBrokers { broker: 5, staying: 4, held: "wide/1".into(), replicas: 5 };
    assert_eq!(drain(5, &state), Err(too_few));
    apply(&mut state, &[moves(3, &[1, 2, 3])]);
    assert!(drain(5, &state).is_ok(), "it is to have fewer");
}

/// Founder 3 never came; a topic is placed on it.
fn with_an_absent_founder(replicas: &[&[u64]]) -> MetadataState {
    let mut state = MetadataState::default();
    let mut log = vec![Command::FoundCluster { replicas: vec![1, 2, 3] }, create("orders", replicas)];
    log.extend([1, 2, 4].map(|id| Command::RegisterBroker(member(id))));
    apply(&mut state, &log);
    state
}

#[test]
fn a_founder_that_never_came_is_not_given_up_while_a_partition_needs_it() {
    for stuck in [[3].as_slice(), &[1, 3]] {
        let state = with_an_absent_founder(&[&[1, 2, 3], stuck]);
        let refused = drain(3, &state).unwrap_err();
        assert_eq!(refused, Refusal::BrokerNeeded { broker: 3, held: "orders/1".into() });
        assert!(refused.to_string().contains("start broker 3"), "{refused}");
    }
    assert!(drain(3, &with_an_absent_founder(&[&[1, 2, 3], &[2]])).is_ok());
}

#[test]
fn a_founder_that_was_given_up_is_known_until_nothing_is_placed_on_it_and_no_move_goes_back_to_it() {
    let mut state = with_an_absent_founder(&[&[1, 2, 3]]);
    let given_up = drain(3, &state).unwrap();
    apply(&mut state, &given_up);
    apply(&mut state, &[moves(0, &[1, 2, 4]), moves(1, &[1, 2, 4])]);
    apply(&mut state, &[Command::FinishMove { shard: 0, replicas: vec![1, 2, 4], membership_index: 9 }]);
    assert_eq!(drain(3, &state), Ok(Vec::new()), "asked again, it is under way");
    assert_eq!(state.given_up().collect::<Vec<_>>(), [3]);
    assert_eq!(undrain(3, &state), Err(Refusal::UnknownBroker(3)), "it cannot come any more");
    assert_eq!(cancel(Cancelled::All, &state), Ok(Vec::new()));
    assert_eq!(cancel(Cancelled::Partition { topic: "orders", partition: 0 }, &state), Ok(Vec::new()));
    apply(&mut state, &[Command::FinishMove { shard: 1, replicas: vec![1, 2, 4], membership_index: 9 }]);
    assert_eq!((state.given_up().count(), state.is_leaving_some()), (0, false));
    assert_eq!(drain(3, &state), Err(Refusal::UnknownBroker(3)));
}

#[test]
fn a_broker_does_not_drain_where_its_replicas_would_wait_for_one_that_is_not_there() {
    let state = with_an_absent_founder(&[&[1, 2]]);
    let check = |broker, reached: &[u64]| check_answering(broker, &state, |id| reached.contains(&id));
    assert_eq!(check(1, &[1, 2, 4]), Err(Refusal::BrokerSilent { broker: 1, silent: 3 }), "it never started");
    assert_eq!(check(3, &[1, 2, 4]), Ok(()), "the one that is not there is given up");
    assert_eq!(check(3, &[1]), Ok(()), "of two that are not there, either may go first");
    assert_eq!(check(1, &[1, 2, 3, 4]), Ok(()));
    assert_eq!(check(1, &[1, 3, 4]), Err(Refusal::BrokerSilent { broker: 1, silent: 2 }));
    let refused = Refusal::BrokerSilent { broker: 1, silent: 3 }.to_string();
    assert!(refused.contains("lockstep broker drain 3"), "{refused}");
}

#[test]
fn the_only_broker_does_not_drain() {
    let state = cluster(1, &[]);
    assert!(matches!(drain(1, &state), Err(Refusal::TooFewBrokers { staying: 0, .. })));
}

#[test]
fn a_broker_that_is_kept_keeps_what_is_on_its_way_off_it() {
    let mut state = cluster(4, &[create("orders", &[&[1, 2, 3], &[2, 3, 4], &[1, 3, 4]])]);
    assert_eq!(undrain(2, &state), Ok(Vec::new()));
    assert_eq!(undrain(9, &state), Err(Refusal::UnknownBroker(9)));
    let commands = drain(2, &state).unwrap();
    apply(&mut state, &commands);
    // One leaves it, one only passes leadership on, and one has nothing to do with it.
    apply(
        &mut state,
        &[moves(1, &[1, 3, 4]), moves(2, &[3, 2, 4]), moves(3, &[4, 3, 1]), moves(0, &[1, 3, 4])],
    );
    let commands = undrain(2, &state).unwrap();
    let expected = [
        Command::DrainBroker { id: 2, draining: false },
        Command::CancelMove { shard: 0 },
        Command::CancelMove { shard: 1 },
    ];
    assert_eq!(commands, expected);
    apply(&mut state, &commands);
    assert_eq!(undrain(2, &state), Ok(Vec::new()));
}

#[test]
fn a_partition_moves_where_it_can_be() {
    let mut state = cluster(5, &[create("orders", &[&[1, 2, 3]])]);
    let to = |to: &[u64], state: &MetadataState| move_partition("orders", 0, to, state);
    assert_eq!(to(&[4, 2, 3], &state), Ok(vec![moves(1, &[4, 2, 3])]));
    assert_eq!(to(&[1, 2, 3], &state), Ok(Vec::new()));
    assert_eq!(to(&[2, 1, 3], &state), Ok(vec![moves(1, &[2, 1, 3])]), "another leader is preferred");
    assert_eq!(to(&[1, 2, 9], &state), Err(Refusal::UnknownBroker(9)));
    assert_eq!(to(&[1, 2, 2], &state), Err(Refusal::InvalidReplicas(vec![1, 2, 2])));
    assert_eq!(to(&[], &state), Err(Refusal::InvalidReplicas(Vec::new())));
    let unknown = Refusal::UnknownPartition { topic: "orders".into(), partition: 1, partitions: 1 };
    assert_eq!(move_partition("orders", 1, &[1], &state), Err(unknown));
    assert_eq!(move_partition("o", 0, &[1], &state), Err(Refusal::UnknownTopic("o".into())));
    let commands = drain(5, &state).unwrap();
    apply(&mut state, &commands);
    assert_eq!(to(&[1, 2, 5], &state), Err(Refusal::BrokerDraining(5)));
    apply(&mut state, &[moves(1, &[4, 2, 3])]);
    assert_eq!(to(&[4, 2, 3], &state), Ok(Vec::new()), "asked again");
    assert_eq!(to(&[1, 2, 4], &state), Err(Refusal::MovingAlready(state.called(1))));
}

#[test]
fn moves_are_cancelled_but_not_those_that_would_begin_anew() {
    let mut state = cluster(4, &[create("orders", &[&[1, 2, 3], &[2, 3, 4], &[1, 3, 4]])]);
    assert_eq!(cancel(Cancelled::All, &state), Ok(Vec::new()));
    let commands = drain(2, &state).unwrap();
    apply(&mut state, &commands);
    apply(&mut state, &[moves(1, &[1, 3, 4]), moves(3, &[4, 3])]);
    assert_eq!(cancel(Cancelled::All, &state), Ok(vec![Command::CancelMove { shard: 3 }]));
    let one = |partition| cancel(Cancelled::Partition { topic: "orders", partition }, &state);
    assert_eq!(one(0), Ok(vec![Command::CancelMove { shard: 1 }]));
    assert_eq!(one(1), Ok(Vec::new()));
    assert!(matches!(one(7), Err(Refusal::UnknownPartition { partitions: 3, .. })));
}

#[test]
fn a_plan_says_what_each_broker_gets_and_its_moves_bring_that_about() {
    let mut state = cluster(4, &[create("orders", &[&[1, 2, 3][..]; 8])]);
    let plan = plan_rebalance(&state);
    let held = |share: &BrokerShare| {
        (share.broker, share.replicas_before, share.replicas_after, share.leaders_before, share.leaders_after)
    };
    let shares: Vec<_> = plan.brokers.iter().map(held).collect();
    assert_eq!(shares, [(1, 8, 6, 8, 2), (2, 8, 6, 0, 2), (3, 8, 6, 0, 2), (4, 0, 6, 0, 2)]);
    assert_eq!(plan.moves_left, 0);
    apply(&mut state, &moves_of(&plan));
    for share in &plan.brokers {
        assert_eq!(state.placements().filter(|(_, at)| at.goal().contains(&share.broker)).count(), 6);
    }
    let again = plan_rebalance(&state);
    assert_eq!(again.moves, [], "all of it is on its way");
    assert_eq!(again.brokers[3].replicas_before, 6);
}

#[test]
fn an_uneven_spread_is_evened_once_and_stopped_with_all_moves() {
    let mut state = cluster(4, &[create("orders", &[&[1, 2, 3][..]; 8])]);
    assert_eq!(rebalance(&state), [Command::Rebalance { on: true }]);
    apply(&mut state, &[Command::Rebalance { on: true }, moves(1, &[4, 2, 3])]);
    assert_eq!(rebalance(&state), [], "it is under way");
    let stop = cancel(Cancelled::All, &state).unwrap();
    assert_eq!(stop, [Command::Rebalance { on: false }, Command::CancelMove { shard: 1 }]);
    apply(&mut state, &stop);
    assert_eq!(
        cancel(Cancelled::All, &state),
        Ok(Vec::new()),
        "a move on its way back is not cancelled again"
    );
    assert_eq!(rebalance(&cluster(3, &[create("even", &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]])])), []);
}

#[test]
fn a_plan_leaves_shards_that_move_and_empties_brokers_that_drain() {
    let mut state = cluster(4, &[create("orders", &[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]])]);
    let commands = drain(1, &state).unwrap();
    apply(&mut state, &commands);
    apply(&mut state, &[moves(2, &[4, 2, 3])]);
    let plan = plan_rebalance(&state);
    assert_eq!(plan.moves.iter().map(|planned| planned.partition).collect::<Vec<_>>(), [0, 2]);
    assert!(plan.brokers[0].draining && plan.brokers[0].replicas_after == 0, "{plan:?}");
}

#[test]
fn a_plan_is_bounded_and_the_rest_is_for_another_time() {
    let partitions = REBALANCE_MOVES_MAX + 500;
    let mut state = cluster(2, &[create("many", &vec![&[1][..]; partitions * 2])]);
    let plan = plan_rebalance(&state);
    assert_eq!((plan.moves.len(), plan.moves_left), (REBALANCE_MOVES_MAX, 500));
    assert_eq!(plan.brokers[1].replicas_after, REBALANCE_MOVES_MAX);
    apply(&mut state, &moves_of(&plan));
    let rest = plan_rebalance(&state);
    assert_eq!((rest.moves.len(), rest.moves_left), (500, 0));
    assert_eq!(rest.brokers[1].replicas_after, partitions);
}
