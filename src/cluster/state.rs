//! What the metadata log amounts to: a pure fold over its commands.
//!
//! What holds:
//! - The state depends on the log alone: every broker that applied the same LSN has the same state.
//! - Topic ids, shard ids, broker ids and producer ids are given out in the order of the log and never again.
//! - A command that contradicts the state it meets changes nothing, on every broker alike.
//! - A broker that is removed holds no replica and is to hold none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_planted::{self as planted, Bug};

use super::command::Command;
use super::member::{Duty, Member};
use super::refusal::Refusal;
use super::topic::{Placement, Topic, TopicSettings};
use crate::engine::{METADATA_SHARD, ShardId};

/// Partitions of a whole cluster; each costs every broker a log.
pub const PARTITIONS_MAX: usize = 20_000;

/// Topics, brokers and placement, as of one LSN of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataState {
    applied_lsn: u64,
    topics: BTreeMap<String, Arc<Topic>>,
    /// The topic and the partition that each live shard serves.
    shards: BTreeMap<ShardId, (Arc<str>, usize)>,
    members: BTreeMap<u64, (Arc<Member>, Duty)>,
    /// Founders that never registered and shall not any more.
    given_up: BTreeSet<u64>,
    /// The metadata's own replicas; none before the cluster was founded.
    metadata: Placement,
    rebalancing: bool,
    next_topic: u32,
    next_shard: ShardId,
    next_producer: i64,
    next_broker: u64,
}

impl Default for MetadataState {
    fn default() -> Self {
        MetadataState {
            applied_lsn: 0,
            topics: BTreeMap::new(),
            shards: BTreeMap::new(),
            members: BTreeMap::new(),
            given_up: BTreeSet::new(),
            metadata: Placement::new(METADATA_SHARD, Vec::new()),
            rebalancing: false,
            next_topic: 1,
            next_shard: METADATA_SHARD + 1,
            next_producer: 1,
            next_broker: 1,
        }
    }
}

// What it says.
impl MetadataState {
    /// The last LSN that was applied.
    pub fn applied_lsn(&self) -> u64 {
        self.applied_lsn
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The shard id the next partition will get.
    pub fn next_shard(&self) -> ShardId {
        self.next_shard
    }

    /// The producer id the next reserved block begins with.
    pub fn next_producer(&self) -> i64 {
        self.next_producer
    }

    /// The id for the next broker that has none: above every one that was ever used.
    pub fn next_broker(&self) -> u64 {
        self.next_broker
    }

    /// Whether the cluster has begun: until then the configuration says who is in it.
    pub fn is_founded(&self) -> bool {
        !self.metadata.founders.is_empty()
    }

    /// The brokers that held the metadata when the cluster was founded: each copy of its log begins with these voters.
    pub fn founders(&self) -> &[u64] {
        &self.metadata.founders
    }

    /// Whether a founder of this id is still to register itself.
    pub fn awaits(&self, id: u64) -> bool {
        self.is_absent(id) && !self.given_up.contains(&id)
    }

    /// Whether a founder that has not registered was given up, and something is still placed on it.
    pub fn gives_up(&self, id: u64) -> bool {
        let is_placed = || self.metadata.hosts().any(|host| host == id) || self.replicas_of(id) > 0;
        self.given_up.contains(&id) && !self.members.contains_key(&id) && is_placed()
    }

    /// The founders that were given up and on which something is still placed.
    pub fn given_up(&self) -> impl Iterator<Item = u64> {
        self.given_up.iter().copied().filter(|id| self.gives_up(*id))
    }

    /// Whether a founder has not registered and is to hold the metadata.
    pub(super) fn is_absent(&self, id: u64) -> bool {
        !self.members.contains_key(&id) && self.metadata.hosts().any(|host| host == id)
    }

    /// Whether some broker is to hold nothing any more: one that drains, or a founder that was given up.
    pub fn is_leaving_some(&self) -> bool {
        self.given_up().next().is_some() || self.members.values().any(|(_, duty)| *duty == Duty::Draining)
    }

    /// Every live partition, with its topic.
    pub fn placements(&self) -> impl Iterator<Item = (&Arc<Topic>, &Placement)> {
        self.topics
            .values()
            .flat_map(|topic| topic.partitions.iter().map(move |placement| (topic, placement)))
    }

    /// Where a live shard's replicas are, those of the metadata included.
    pub fn placement(&self, shard: ShardId) -> Option<&Placement> {
        match shard {
            METADATA_SHARD => Some(&self.metadata),
            _ => {
                let (topic, partition) = self.shards.get(&shard)?;
                self.topics.get(&**topic)?.partitions.get(*partition)
            }
        }
    }

    /// The topic and the partition that a live shard serves; none for the metadata.
    pub fn partition_of(&self, shard: ShardId) -> Option<(&Arc<Topic>, u32)> {
        let (topic, partition) = self.shards.get(&shard)?;
        Some((self.topics.get(&**topic)?, u32::try_from(*partition).ok()?))
    }

    /// What people call a shard.
    pub fn called(&self, shard: ShardId) -> String {
        match self.partition_of(shard) {
            Some((topic, partition)) => format!("{}/{partition}", topic.name),
            None if shard == METADATA_SHARD => "the metadata".into(),
            None => format!("shard {shard}"),
        }
    }

    /// All brokers, by id, and what each is there for.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&Arc<Member>, Duty)> {
        self.members.values().map(|(member, duty)| (member, *duty))
    }

    /// The broker of this id, and what it is there for.
    pub fn member(&self, id: u64) -> Option<(&Arc<Member>, Duty)> {
        self.members.get(&id).map(|(member, duty)| (member, *duty))
    }

    /// How many replicas a broker holds or is to hold, the metadata's not counted.
    pub fn replicas_of(&self, broker: u64) -> usize {
        self.placements().filter(|(_, placement)| placement.hosts().any(|host| host == broker)).count()
    }

    /// Whether a broker is to hold nothing any more.
    pub fn is_leaving(&self, broker: u64) -> bool {
        matches!(self.members.get(&broker), Some((_, Duty::Draining))) || self.gives_up(broker)
    }

    /// Whether a shard's replicas may be sent elsewhere: it does not move, or moves to a broker that is to hold nothing. That
    /// one may be gone for good, and the move would never end.
    pub fn may_begin_move(&self, placement: &Placement) -> bool {
        placement.moving_to.is_none() || placement.goal().iter().any(|broker| self.is_leaving(*broker))
    }

    /// Every shard whose replicas move, the metadata included.
    pub fn moving(&self) -> impl Iterator<Item = &Placement> {
        let all = self.placements().map(|(_, placement)| placement).chain([&self.metadata]);
        all.filter(|placement| placement.moving_to.is_some())
    }

    /// Whether replicas are being spread evenly.
    pub fn is_rebalancing(&self) -> bool {
        self.rebalancing
    }

    /// Whether the shard served a topic that has been deleted. Ids rise with the log, so one that was given
    /// out and is not live is gone for ever.
    pub fn is_deleted(&self, shard: ShardId) -> bool {
        shard != METADATA_SHARD && shard < self.next_shard && !self.shards.contains_key(&shard)
    }
}

// What it allows.
impl MetadataState {
    /// Whether the command would have an effect on this state.
    ///
    /// # Errors
    /// Why it would have none.
    pub fn check(&self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::CreateTopic { name, replicas, .. } => {
                if self.topics.contains_key(name) {
                    return Err(Refusal::TopicExists(name.clone()));
                }
                self.check_room(replicas)
            }
            Command::AddPartitions { id, replicas } => {
                self.topic_of_id(*id)?;
                self.check_room(replicas)
            }
            Command::DeleteTopic { id } | Command::AlterTopic { id, .. } => self.topic_of_id(*id).map(|_| ()),
            Command::ReserveProducers { .. } => Ok(()),
            Command::FoundCluster { replicas } => match self.metadata.founders.is_empty() {
                true if replicas.is_empty() => Err(Refusal::InvalidReplicas(Vec::new())),
                true => Ok(()),
                false => Err(Refusal::FoundedAlready),
            },
            Command::RegisterBroker(member) => self.check_member(member),
            Command::DrainBroker { id, .. } if self.is_absent(*id) => Ok(()),
            Command::DrainBroker { id, .. } => self.check_broker(*id),
            Command::RemoveBroker { id } => self.check_removal(*id),
            Command::MoveReplicas { shard, to } => {
                let placement = self.placement_of(*shard)?;
                if !self.may_begin_move(placement) && !planted::is_active(Bug::BeginMoveOverMove) {
                    return Err(Refusal::MovingAlready(self.called(*shard)));
                }
                self.check_replicas(to)
            }
            Command::FinishMove { shard, replicas, membership_index } => {
                let placement = self.placement_of(*shard)?;
                // Of an earlier move otherwise, or written already.
                let is_its_own = placement.goal() == replicas || planted::is_active(Bug::FinishAnotherMove);
                match is_its_own && *membership_index > placement.membership_index {
                    true => Ok(()),
                    false => Err(Refusal::MoveIsOver(*shard)),
                }
            }
            Command::CancelMove { shard } => {
                let placement = self.placement_of(*shard)?;
                match placement.moving_to.is_some() && !placement.is_reverting() {
                    true => Ok(()),
                    false => Err(Refusal::NotMoving(*shard)),
                }
            }
            Command::Rebalance { .. } => Ok(()),
        }
    }

    /// Whether each command would have an effect after those before it.
    ///
    /// # Errors
    /// Why the first that would not has none.
    pub fn check_all(&self, commands: &[Command]) -> Result<(), Refusal> {
        match commands {
            [command] => self.check(command),
            _ => {
                let mut state = self.clone();
                commands.iter().try_for_each(|command| state.apply(command))
            }
        }
    }

    fn check_room(&self, more: &[Vec<u64>]) -> Result<(), Refusal> {
        let partitions = self.shards.len() + more.len();
        if partitions > PARTITIONS_MAX {
            return Err(Refusal::TooManyPartitions { partitions });
        }
        if !self.is_founded() {
            return Ok(());
        }
        more.iter().try_for_each(|replicas| self.check_replicas(replicas))
    }

    fn check_replicas(&self, replicas: &[u64]) -> Result<(), Refusal> {
        let different: BTreeSet<u64> = replicas.iter().copied().collect();
        if replicas.is_empty() || different.len() != replicas.len() {
            return Err(Refusal::InvalidReplicas(replicas.to_vec()));
        }
        let may_hold = |broker: &u64| match self.awaits(*broker) {
            true => Ok(()),
            false => self.check_broker(*broker),
        };
        replicas.iter().try_for_each(may_hold)
    }

    fn check_broker(&self, id: u64) -> Result<(), Refusal> {
        match self.members.contains_key(&id) {
            true => Ok(()),
            false => Err(Refusal::UnknownBroker(id)),
        }
    }

    fn check_member(&self, member: &Member) -> Result<(), Refusal> {
        let of_directory = self.members().find(|(other, _)| other.directory == member.directory);
        match (self.members.get(&member.id), of_directory) {
            _ if planted::is_active(Bug::GiveBrokerIdTwice) => Ok(()),
            (Some((known, _)), _) if known.directory != member.directory => {
                Err(Refusal::BrokerTaken(member.id))
            }
            (None, Some((other, _))) => Err(Refusal::DirectoryTaken(other.id)),
            // Founders register one by one, in any order: an id below the highest is not gone for that.
            (None, None) if member.id < self.next_broker && !self.awaits(member.id) => {
                Err(Refusal::BrokerRemoved(member.id))
            }
            _ => Ok(()),
        }
    }

    fn check_removal(&self, id: u64) -> Result<(), Refusal> {
        let own = usize::from(self.metadata.hosts().any(|host| host == id));
        match self.replicas_of(id) + own {
            // A founder that was given up and holds nothing is nobody any more.
            0 => self.check_broker(id),
            _ if planted::is_active(Bug::RemoveBrokerInUse) => Ok(()),
            replicas => Err(Refusal::BrokerInUse { broker: id, replicas }),
        }
    }

    fn placement_of(&self, shard: ShardId) -> Result<&Placement, Refusal> {
        self.placement(shard).ok_or(Refusal::UnknownShard(shard))
    }

    fn topic_of_id(&self, id: u32) -> Result<&Arc<Topic>, Refusal> {
        let found = self.topics.values().find(|topic| topic.id == id);
        found.ok_or_else(|| Refusal::UnknownTopic(format!("#{id}")))
    }
}

// What changes it.
impl MetadataState {
    /// Applies the command at the next LSN.
    ///
    /// # Errors
    /// Why it had no effect; the LSN counts as applied all the same.
    pub fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        self.applied_lsn += 1;
        self.check(command)?;
        match command {
            Command::CreateTopic { name, replicas, settings } => self.create(name, replicas, settings),
            Command::AlterTopic { id, settings } => {
                self.alter(*id, |topic| topic.settings.clone_from(settings));
            }
            Command::AddPartitions { id, replicas } => self.add_partitions(*id, replicas),
            Command::DeleteTopic { id } => {
                self.topics.retain(|_, topic| topic.id != *id);
                self.shards.retain(|_, (topic, _)| self.topics.contains_key(&**topic));
            }
            Command::ReserveProducers { count } => {
                self.next_producer = self.next_producer.saturating_add(i64::from(*count));
            }
            Command::FoundCluster { replicas } => {
                self.metadata.replicas.clone_from(replicas);
                self.metadata.founders.clone_from(replicas);
                self.next_broker = replicas.iter().fold(self.next_broker, |next, id| next.max(id + 1));
            }
            Command::RegisterBroker(member) => self.register(member),
            Command::DrainBroker { id, draining } if self.is_absent(*id) => match draining {
                true => drop(self.given_up.insert(*id)),
                false => drop(self.given_up.remove(id)),
            },
            Command::DrainBroker { id, draining } => {
                if let Some((_, duty)) = self.members.get_mut(id) {
                    *duty = if *draining { Duty::Draining } else { Duty::Active };
                }
            }
            Command::RemoveBroker { id } => drop(self.members.remove(id)),
            Command::MoveReplicas { shard, to } => {
                self.place(*shard, |placement| placement.begin_move(to));
            }
            Command::FinishMove { shard, membership_index, .. } => {
                self.place(*shard, |placement| placement.finish_move(*membership_index));
            }
            Command::CancelMove { shard } => self.place(*shard, Placement::cancel_move),
            Command::Rebalance { on } => self.rebalancing = *on,
        }
        Ok(())
    }

    fn create(&mut self, name: &str, replicas: &[Vec<u64>], settings: &TopicSettings) {
        let topic = Topic {
            id: self.next_topic,
            name: name.to_owned(),
            partitions: Vec::new(),
            settings: settings.clone(),
        };
        self.next_topic += 1;
        let id = topic.id;
        self.topics.insert(name.to_owned(), Arc::new(topic));
        self.add_partitions(id, replicas);
    }

    fn add_partitions(&mut self, id: u32, replicas: &[Vec<u64>]) {
        let first = self.next_shard;
        self.next_shard += replicas.len() as u64;
        let added = (first..).zip(replicas);
        let Some(topic) = self.topics.values_mut().find(|topic| topic.id == id).map(Arc::make_mut) else {
            return;
        };
        let name: Arc<str> = topic.name.as_str().into();
        for (shard, replicas) in added {
            self.shards.insert(shard, (Arc::clone(&name), topic.partitions.len()));
            topic.partitions.push(Placement::new(shard, replicas.clone()));
        }
    }

    fn alter(&mut self, id: u32, change: impl FnOnce(&mut Topic)) {
        if let Some(topic) = self.topics.values_mut().find(|topic| topic.id == id) {
            change(Arc::make_mut(topic));
        }
    }

    fn register(&mut self, member: &Member) {
        if !planted::is_active(Bug::GiveBrokerIdTwice) {
            self.next_broker = self.next_broker.max(member.id + 1);
        }
        let duty = self.members.get(&member.id).map(|(_, duty)| *duty).unwrap_or_default();
        self.members.insert(member.id, (Arc::new(member.clone()), duty));
    }

    fn place(&mut self, shard: ShardId, change: impl FnOnce(&mut Placement)) {
        if shard == METADATA_SHARD {
            return change(&mut self.metadata);
        }
        let Some((topic, partition)) = self.shards.get(&shard) else { return };
        let topic = self.topics.get_mut(&**topic).map(Arc::make_mut);
        if let Some(placement) = topic.and_then(|topic| topic.partitions.get_mut(*partition)) {
            change(placement);
        }
    }
}

#[cfg(test)]
mod tests;
