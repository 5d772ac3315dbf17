//! Even, apart, and no more moves than needed.

use super::*;
use crate::random::Random;

fn sites(count: u64) -> impl Iterator<Item = Site> {
    (1..=count).map(|broker| Site { broker, rack: None })
}

/// Brokers 1, 2, 3 … in racks a, b, c, a, b, c …
fn racked(count: u64, racks: u64) -> impl Iterator<Item = Site> {
    (0..count).map(move |n| Site { broker: n + 1, rack: Some(format!("r{}", n % racks)) })
}

/// Carries moves out: the spread that they lead to.
fn after(mut spread: Spread, moves: &[Reassignment]) -> Spread {
    for Reassignment { shard, from, to } in moves {
        assert_eq!(spread.sets[shard], *from);
        spread.remove(*shard);
        spread.add(*shard, to.clone());
    }
    spread
}

fn range(counts: impl Iterator<Item = usize> + Clone) -> usize {
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
}

fn assert_sound(spread: &Spread, replication: usize) {
    for (shard, set) in &spread.sets {
        let different: BTreeSet<&u64> = set.iter().collect();
        assert_eq!((different.len(), set.len()), (replication, replication), "shard {shard} is on {set:?}");
        assert!(set.iter().all(|broker| spread.sites.contains_key(broker)), "shard {shard} is on {set:?}");
    }
}

fn assert_even(spread: &Spread) {
    let held = || spread.sites.values();
    assert!(range(held().map(|held| held.shards.len())) <= 1, "{spread:?}");
    assert!(range(held().map(|held| held.leads)) <= 1, "{spread:?}");
}

#[test]
fn new_partitions_spread_replicas_and_leaders_evenly() {
    for brokers in 3..=7 {
        for partitions in [1, 3, 8, 50] {
            let mut spread = Spread::over(sites(brokers));
            spread.place(partitions, 3, 1);
            assert_sound(&spread, 3);
            assert_even(&spread);
        }
    }
}

#[test]
fn topics_of_one_partition_do_not_all_lead_on_the_same_broker() {
    let mut spread = Spread::over(sites(3));
    let leaders: BTreeSet<u64> = (1..=3).map(|shard| spread.place(1, 3, shard)[0][0]).collect();
    assert_eq!(leaders.len(), 3);
}

#[test]
fn replicas_go_to_as_many_racks_as_there_are() {
    let mut spread = Spread::over(racked(6, 3));
    spread.place(40, 3, 1);
    assert!(spread.sets.values().all(|set| spread.racks(set) == 3));
    assert_even(&spread);
    let mut spread = Spread::over(racked(6, 2));
    spread.place(40, 3, 1);
    assert!(spread.sets.values().all(|set| spread.racks(set) == 2));
}

#[test]
fn an_even_spread_is_left_alone() {
    let mut spread = Spread::over(racked(7, 3));
    spread.place(33, 3, 1);
    let moves = spread.clone().rebalance();
    let again = after(spread, &moves);
    assert_eq!(again.rebalance(), []);
}

#[test]
fn a_new_broker_gets_its_share_and_nothing_else_moves() {
    let mut spread = Spread::over(sites(3));
    spread.place(40, 3, 1);
    spread.sites.insert(4, Held::default());
    let moves = spread.clone().rebalance();
    let copies: Vec<u64> = moves.iter().flat_map(Reassignment::added).collect();
    assert_eq!(copies.len(), 30, "120 replicas over four brokers");
    assert!(copies.iter().all(|broker| *broker == 4));
    let spread = after(spread, &moves);
    assert_sound(&spread, 3);
    assert_even(&spread);
}

#[test]
fn what_a_leaving_broker_held_goes_to_the_others_and_nothing_else_moves() {
    let mut spread = Spread::over(sites(5));
    spread.place(50, 3, 1);
    let held = spread.sites.remove(&2).map_or(0, |held| held.shards.len());
    let moves = spread.clone().evacuate();
    assert_eq!(moves.iter().flat_map(Reassignment::added).count(), held);
    let spread = after(spread, &moves);
    assert_sound(&spread, 3);
    assert!(range(spread.sites.values().map(|held| held.shards.len())) <= 1);
}

#[test]
fn where_no_site_is_left_for_a_replica_it_stays() {
    let mut spread = Spread::over(sites(3));
    spread.place(4, 3, 1);
    spread.sites.remove(&2);
    assert_eq!(spread.evacuate(), []);
}

#[test]
fn a_rack_that_comes_later_is_made_use_of() {
    let mut spread = Spread::over(racked(4, 2));
    spread.place(12, 3, 1);
    spread.sites.insert(5, Held { rack: Some("r2".into()), ..Held::default() });
    spread.sites.insert(6, Held { rack: Some("r2".into()), ..Held::default() });
    let moves = spread.clone().rebalance();
    let spread = after(spread, &moves);
    assert!(spread.sets.values().all(|set| spread.racks(set) == 3));
    assert_even(&spread);
}

#[test]
fn whatever_the_spread_rebalancing_ends_and_makes_it_sound_and_no_less_even() {
    let seed = std::env::var("LOCKSTEP_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    println!("LOCKSTEP_SEED={seed}");
    let mut random = Random::new(seed);
    for round in 0..200 {
        let (brokers, racks) = (3 + random.below(6), 1 + random.below(4));
        let replication = 1 + random.below(3) as usize;
        let mut spread = Spread::over(racked(brokers, racks));
        for shard in 1..=random.below(40) {
            let mut set: Vec<u64> = (1..=brokers + 1).collect();
            while set.len() > replication {
                set.remove(random.below(set.len() as u64) as usize);
            }
            spread.add(shard, set);
        }
        let racks = |spread: &Spread| -> usize {
            let sited =
                |set: &Vec<u64>| set.iter().copied().filter(|b| spread.sites.contains_key(b)).collect();
            spread
                .sets
                .values()
                .map(|set: &Vec<u64>| -> Vec<u64> { sited(set) })
                .map(|set| spread.racks(&set))
                .sum()
        };
        let racks_before = racks(&spread);
        let moves = spread.clone().rebalance();
        let spread = after(spread, &moves);
        assert_sound(&spread, replication);
        assert!(racks(&spread) >= racks_before, "round {round}");
        assert_eq!(spread.clone().rebalance(), [], "round {round}: a second look finds nothing");
    }
}
