//! How replicas and leaders are spread over brokers: pure functions from the state to moves.
//!
//! What holds of every placement that is made here:
//! - The replicas of a partition are on different brokers, none of them draining.
//! - They are in as many racks as there are, up to one each. A broker without a rack counts as one of its own.
//! - Numbers of replicas, and of preferred leaders, differ by as little as that allows; and no replica moves that need
//!   not. A spread that is even already is left alone.
//! - The same state gives the same moves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_planted::{self as planted, Bug};

use super::member::Duty;
use super::state::MetadataState;
use crate::engine::ShardId;

/// A broker that may hold replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its id.
    pub broker: u64,
    /// What fails together with it.
    pub rack: Option<String>,
}

/// A change of a shard's replicas; only their order, if nothing but the preferred leader changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The shard.
    pub shard: ShardId,
    /// Where its replicas are, preferred leader first.
    pub from: Vec<u64>,
    /// Where they are to be.
    pub to: Vec<u64>,
}

impl Reassignment {
    /// The replicas that have to be made, and so the logs that have to be copied.
    pub fn added(&self) -> impl Iterator<Item = u64> {
        self.to.iter().copied().filter(|broker| !self.from.contains(broker))
    }
}

/// What one broker holds.
#[derive(Clone, Debug, Default)]
struct Held {
    rack: Option<String>,
    shards: BTreeSet<ShardId>,
    leads: usize,
}

/// Replicas and preferred leaders, per broker.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    sites: BTreeMap<u64, Held>,
    sets: BTreeMap<ShardId, Vec<u64>>,
}

impl Spread {
    /// Brokers that hold nothing.
    pub fn over(sites: impl IntoIterator<Item = Site>) -> Spread {
        let held = |site: Site| (site.broker, Held { rack: site.rack, ..Held::default() });
        Spread { sites: sites.into_iter().map(held).collect(), sets: BTreeMap::new() }
    }

    /// What the state says, with every move that is under way as done. Draining brokers are no sites; founders that have
    /// not registered yet are.
    pub fn of(state: &MetadataState) -> Spread {
        let active = state
            .members()
            .filter(|(_, duty)| *duty == Duty::Active || planted::is_active(Bug::PlaceOnDraining));
        let registered = active.map(|(member, _)| Site { broker: member.id, rack: member.rack.clone() });
        let awaited = state.founders().iter().filter(|founder| state.awaits(**founder));
        let mut spread = Spread::over(registered.chain(awaited.map(|id| Site { broker: *id, rack: None })));
        for (_, placement) in state.placements() {
            spread.add(placement.shard, placement.goal().to_vec());
        }
        spread
    }

    /// How many brokers may hold replicas.
    pub fn sites(&self) -> usize {
        self.sites.len()
    }

    /// The replicas of each new partition, preferred leader first; the first of them becomes `first_shard`. There
    /// must be as many sites as replicas.
    pub fn place(&mut self, partitions: u32, replication: u32, first_shard: ShardId) -> Vec<Vec<u64>> {
        let shards = first_shard..first_shard + u64::from(partitions);
        for shard in shards.clone() {
            let mut set = self.extend(Vec::new(), replication as usize);
            set.sort_by_key(|broker| (self.sites[broker].leads, *broker));
            self.add(shard, set);
        }
        self.even_leaders(first_shard);
        shards.map(|shard| self.sets[&shard].clone()).collect()
    }

    /// A set of brokers and those it gains most from, until it has `size`.
    pub fn extend(&self, mut set: Vec<u64>, size: usize) -> Vec<u64> {
        while set.len() < size
            && let Some(best) = self.best_for(&set)
        {
            set.push(best);
        }
        set
    }

    /// The moves that make the spread even: off brokers that are no sites, into more racks, onto emptier brokers, and
    /// leaders where there are fewer.
    pub fn rebalance(mut self) -> Vec<Reassignment> {
        let before = self.sets.clone();
        self.leave_other_brokers();
        self.use_more_racks();
        self.even_replicas();
        self.even_leaders(0);
        self.moves_from(&before)
    }

    /// The moves that take every replica off brokers that are no sites, and nothing else.
    pub fn evacuate(mut self) -> Vec<Reassignment> {
        let before = self.sets.clone();
        self.leave_other_brokers();
        self.moves_from(&before)
    }

    fn moves_from(&self, before: &BTreeMap<ShardId, Vec<u64>>) -> Vec<Reassignment> {
        let moved = self.sets.iter().filter(|(shard, to)| before[shard] != **to);
        moved
            .map(|(shard, to)| Reassignment { shard: *shard, from: before[shard].clone(), to: to.clone() })
            .collect()
    }

    fn leave_other_brokers(&mut self) {
        for shard in self.sets.keys().copied().collect::<Vec<_>>() {
            for leaving in self.sets[&shard].clone() {
                if !self.sites.contains_key(&leaving)
                    && let Some(best) = self.best_for(&without(&self.sets[&shard], leaving))
                {
                    self.replace(shard, leaving, best);
                }
            }
        }
    }

    fn use_more_racks(&mut self) {
        for shard in self.sets.keys().copied().collect::<Vec<_>>() {
            // As often as there are replicas at the most: each exchange adds a rack.
            for _ in 0..self.sets[&shard].len() {
                let set = &self.sets[&shard];
                let fuller = |broker: &u64| self.sites.get(broker).map_or(0, |held| held.shards.len());
                let doubled = set.iter().copied().filter(|broker| self.shares_rack(set, *broker));
                let Some(leaving) = doubled.max_by_key(|broker| (fuller(broker), *broker)) else { break };
                match self.best_for(&without(set, leaving)) {
                    Some(best) if self.racks(&exchanged(set, leaving, best)) > self.racks(set) => {
                        self.replace(shard, leaving, best);
                    }
                    _ => break,
                }
            }
        }
    }

    fn even_replicas(&mut self) {
        while let Some((shard, from, to)) = self.next_exchange() {
            self.replace(shard, from, to);
        }
    }

    /// A replica on a fuller broker that an emptier one can take, the fullest and emptiest first.
    fn next_exchange(&self) -> Option<(ShardId, u64, u64)> {
        let mut by_load: Vec<(usize, u64)> =
            self.sites.iter().map(|(broker, held)| (held.shards.len(), *broker)).collect();
        by_load.sort_unstable();
        for (full, from) in by_load.iter().rev() {
            for (empty, to) in &by_load {
                if empty + 2 > *full {
                    break;
                }
                let movable = self.sites[from].shards.difference(&self.sites[to].shards);
                let mut allowed = movable.copied().filter(|shard| {
                    let set = &self.sets[shard];
                    self.racks(&exchanged(set, *from, *to)) >= self.racks(set)
                });
                if let Some(shard) = allowed.next() {
                    return Some((shard, *from, *to));
                }
            }
        }
        None
    }

    /// Exchanges preferred leaders of shards from `first` on until no broker has two more than it could have.
    fn even_leaders(&mut self, first: ShardId) {
        while let Some(path) = self.leaders_to_pass_on(first) {
            for (shard, to) in path {
                let mut set = without(&self.sets[&shard], to);
                set.insert(0, to);
                self.remove(shard);
                self.add(shard, set);
            }
        }
    }

    /// The shortest way to pass leadership on, from a broker that leads more shards, from broker to broker, to one that
    /// leads at least two fewer: the shards and their new leaders.
    fn leaders_to_pass_on(&self, first: ShardId) -> Option<Vec<(ShardId, u64)>> {
        let mut led: BTreeMap<u64, Vec<ShardId>> = BTreeMap::new();
        for (shard, set) in self.sets.range(first..) {
            led.entry(set.first().copied().unwrap_or(0)).or_default().push(*shard);
        }
        let mut by_leads: Vec<(usize, u64)> =
            self.sites.iter().map(|(broker, held)| (held.leads, *broker)).collect();
        by_leads.sort_unstable();
        by_leads.iter().rev().find_map(|(leads, from)| self.path_to_fewer(*from, *leads, &led))
    }

    fn path_to_fewer(
        &self,
        from: u64,
        leads: usize,
        led: &BTreeMap<u64, Vec<ShardId>>,
    ) -> Option<Vec<(ShardId, u64)>> {
        let mut came_by: BTreeMap<u64, (u64, ShardId)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(broker) = queue.pop_front() {
            for shard in led.get(&broker).into_iter().flatten() {
                for to in self.sets[shard].iter().filter(|to| self.sites.contains_key(to)) {
                    if *to == from || came_by.contains_key(to) {
                        continue;
                    }
                    came_by.insert(*to, (broker, *shard));
                    if self.sites[to].leads + 2 <= leads {
                        return Some(trace_back(*to, from, &came_by));
                    }
                    queue.push_back(*to);
                }
            }
        }
        None
    }

    /// The site that a set gains most from: another rack, else the emptiest.
    fn best_for(&self, set: &[u64]) -> Option<u64> {
        let free = self.sites.iter().filter(|(broker, _)| !set.contains(broker));
        let cost = |(broker, held): &(&u64, &Held)| {
            let used =
                held.rack.is_some() && set.iter().any(|other| self.rack(*other) == held.rack.as_deref());
            (used, held.shards.len(), held.leads, **broker)
        };
        free.min_by_key(cost).map(|(broker, _)| *broker)
    }

    fn rack(&self, broker: u64) -> Option<&str> {
        self.sites.get(&broker)?.rack.as_deref()
    }

    fn shares_rack(&self, set: &[u64], broker: u64) -> bool {
        let rack = self.rack(broker);
        rack.is_some() && set.iter().any(|other| *other != broker && self.rack(*other) == rack)
    }

    /// In how many racks a set is.
    fn racks(&self, set: &[u64]) -> usize {
        let named: BTreeSet<&str> = set.iter().filter_map(|broker| self.rack(*broker)).collect();
        named.len() + set.iter().filter(|broker| self.rack(**broker).is_none()).count()
    }

    fn replace(&mut self, shard: ShardId, from: u64, to: u64) {
        let set = exchanged(&self.sets[&shard], from, to);
        self.remove(shard);
        self.add(shard, set);
    }

    fn add(&mut self, shard: ShardId, set: Vec<u64>) {
        for (place, broker) in set.iter().enumerate() {
            if let Some(held) = self.sites.get_mut(broker) {
                held.shards.insert(shard);
                held.leads += usize::from(place == 0);
            }
        }
        self.sets.insert(shard, set);
    }

    fn remove(&mut self, shard: ShardId) {
        for (place, broker) in self.sets.remove(&shard).into_iter().flatten().enumerate() {
            if let Some(held) = self.sites.get_mut(&broker) {
                held.shards.remove(&shard);
                held.leads -= usize::from(place == 0);
            }
        }
    }
}

fn trace_back(to: u64, from: u64, came_by: &BTreeMap<u64, (u64, ShardId)>) -> Vec<(ShardId, u64)> {
    let mut path = Vec::new();
    let mut broker = to;
    while broker != from {
        let (before, shard) = came_by[&broker];
        path.push((shard, broker));
        broker = before;
    }
    path
}

fn without(set: &[u64], broker: u64) -> Vec<u64> {
    set.iter().copied().filter(|other| *other != broker).collect()
}

fn exchanged(set: &[u64], from: u64, to: u64) -> Vec<u64> {
    set.iter().map(|broker| if *broker == from { to } else { *broker }).collect()
}

#[cfg(test)]
mod tests;
