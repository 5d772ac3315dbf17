//! What operators ask for: brokers drained, partitions moved, the load spread anew. Pure functions from the state to commands.
//!
//! What holds:
//! - To ask for what is so already, or is on its way, gives no command: whoever lost the answer asks again.
//! - Nothing is begun that cannot end: before a broker is drained, the brokers that stay must be enough for every
//!   partition's replicas. The metadata makes do with whoever stays, if anybody does.
//! - A shard that moves is left to its move.

use std::collections::BTreeMap;

use super::command::Command;
use super::member::Duty;
use super::refusal::Refusal;
use super::spread::Spread;
use super::state::MetadataState;
use super::topic::Placement;
use crate::engine::METADATA_SHARD;

/// Most moves that one plan shows.
pub const REBALANCE_MOVES_MAX: usize = 1000;

/// Which moves to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled<'a> {
    /// All but those off brokers that are draining: they would begin anew at once.
    All,
    /// Those of one partition.
    Partition {
        /// The topic's name.
        topic: &'a str,
        /// The partition's number in it.
        partition: u32,
    },
}

/// How the load would be spread anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebalancePlan {
    /// What each broker holds and would hold, by id.
    pub brokers: Vec<BrokerShare>,
    /// What would move, by shard.
    pub moves: Vec<PlannedMove>,
    /// How many more would move, which are not shown.
    pub moves_left: usize,
    /// How many partitions move at this moment.
    pub moving: usize,
    /// Whether it was begun before, and goes on.
    pub under_way: bool,
}

/// What one broker holds and would hold. Moves that are under way count as done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerShare {
    /// The broker.
    pub broker: u64,
    /// Whether it gives its replicas away.
    pub draining: bool,
    /// Partitions that it holds a replica of.
    pub replicas_before: usize,
    /// Partitions that it would hold a replica of.
    pub replicas_after: usize,
    /// Partitions that it is the preferred leader of.
    pub leaders_before: usize,
    /// Partitions that it would be the preferred leader of.
    pub leaders_after: usize,
}

/// A partition whose replicas, or preferred leader, would be others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// The topic's name.
    pub topic: String,
    /// The partition's number in it.
    pub partition: u32,
    /// What moves it.
    pub reassignment: super::Reassignment,
}

/// The command by which replicas and preferred leaders are spread evenly, a few moves at a time, until they are; none if
/// they are, or it is under way.
pub fn rebalance(state: &MetadataState) -> Vec<Command> {
    let is_even = Spread::of(state).rebalance().is_empty();
    if is_even || state.is_rebalancing() { Vec::new() } else { vec![Command::Rebalance { on: true }] }
}

/// The commands by which a broker gives its replicas away and gets no new ones. A founder that never started is given up so:
/// once it holds nothing it is nobody, and cannot come any more.
///
/// # Errors
/// There is no such broker, or those that stay are too few for some shard.
pub fn drain(broker: u64, state: &MetadataState) -> Result<Vec<Command>, Refusal> {
    match state.member(broker) {
        None if state.awaits(broker) => {}
        None if state.gives_up(broker) => return Ok(Vec::new()),
        None => return Err(Refusal::UnknownBroker(broker)),
        Some((_, Duty::Draining)) => return Ok(Vec::new()),
        Some((_, Duty::Active)) => {}
    }
    let staying = Spread::of(state).sites() - 1;
    let too_few = |held: String, replicas| Refusal::TooFewBrokers { broker, staying, held, replicas };
    if staying == 0 {
        return Err(too_few("the metadata".into(), 1));
    }
    if state.is_absent(broker)
        && let Some((_, placement)) = state.placements().find(|(_, placement)| is_stuck(placement, state))
    {
        return Err(Refusal::BrokerNeeded { broker, held: state.called(placement.shard) });
    }
    let impossible = |(_, placement): &(_, &Placement)| placement.goal().len() > staying;
    if let Some((_, placement)) = state.placements().find(impossible) {
        return Err(too_few(state.called(placement.shard), placement.goal().len()));
    }
    Ok(vec![Command::DrainBroker { id: broker, draining: true }])
}

/// Whether what a broker gives away would be taken: it goes to any that stays, so each of them has to be there. One that is
/// not itself may drain all the same, for that is how the others get rid of it.
///
/// # Errors
/// One that stays cannot be reached.
pub fn check_answering(
    broker: u64,
    state: &MetadataState,
    is_reached: impl Fn(u64) -> bool,
) -> Result<(), Refusal> {
    if !is_reached(broker) {
        return Ok(());
    }
    let active = state.members().filter(|(_, duty)| *duty == Duty::Active).map(|(member, _)| member.id);
    let awaited = state.founders().iter().copied().filter(|id| state.awaits(*id));
    match active.chain(awaited).find(|id| *id != broker && !is_reached(*id)) {
        Some(silent) => Err(Refusal::BrokerSilent { broker, silent }),
        None => Ok(()),
    }
}

/// The commands by which a broker keeps its replicas and gets new ones again. What has left it stays where it went; what
/// is on its way off it stays.
///
/// # Errors
/// There is no such broker.
pub fn undrain(broker: u64, state: &MetadataState) -> Result<Vec<Command>, Refusal> {
    match state.member(broker) {
        None if state.awaits(broker) => return Ok(Vec::new()),
        None if state.gives_up(broker) && state.is_absent(broker) => {}
        None => return Err(Refusal::UnknownBroker(broker)),
        Some((_, Duty::Active)) => return Ok(Vec::new()),
        Some((_, Duty::Draining)) => {}
    }
    let metadata = state.placement(METADATA_SHARD).into_iter();
    let all = metadata.chain(state.placements().map(|(_, placement)| placement));
    let kept = all.filter(|placement| leaves(placement, broker));
    let cancel = kept.map(|placement| Command::CancelMove { shard: placement.shard });
    Ok(std::iter::once(Command::DrainBroker { id: broker, draining: false }).chain(cancel).collect())
}

/// The commands that bring a partition's replicas to these brokers, preferred leader first.
///
/// # Errors
/// There is no such partition, it moves elsewhere already, or these brokers cannot hold it.
pub fn move_partition(
    topic: &str,
    partition: u32,
    to: &[u64],
    state: &MetadataState,
) -> Result<Vec<Command>, Refusal> {
    let placement = placement_of(topic, partition, state)?;
    if placement.goal() == to {
        return Ok(Vec::new());
    }
    let command = Command::MoveReplicas { shard: placement.shard, to: to.to_vec() };
    state.check(&command)?;
    let draining = |broker: &&u64| matches!(state.member(**broker), Some((_, Duty::Draining)));
    match to.iter().find(draining) {
        Some(broker) => Err(Refusal::BrokerDraining(*broker)),
        None => Ok(vec![command]),
    }
}

/// The commands that give moves up; no more of a rebalance begin either, if all are given up. There is no way back to a
/// founder that was given up.
///
/// # Errors
/// There is no such partition.
pub fn cancel(which: Cancelled<'_>, state: &MetadataState) -> Result<Vec<Command>, Refusal> {
    let draining = |broker: u64| matches!(state.member(broker), Some((_, Duty::Draining)));
    let gone = |broker: u64| state.gives_up(broker);
    let flees = |placement: &Placement, whom: &dyn Fn(u64) -> bool| {
        placement.replicas.iter().any(|broker| whom(*broker) && leaves(placement, *broker))
    };
    let chosen: Vec<&Placement> = match which {
        Cancelled::Partition { topic, partition } => vec![placement_of(topic, partition, state)?],
        Cancelled::All => {
            let all = state.placements().map(|(_, placement)| placement);
            all.filter(|placement| !flees(placement, &draining)).collect()
        }
    };
    let moving = chosen.into_iter().filter(|placement| {
        placement.moving_to.is_some() && !placement.is_reverting() && !flees(placement, &gone)
    });
    let cancelled = moving.map(|placement| Command::CancelMove { shard: placement.shard });
    let stopped =
        (which == Cancelled::All && state.is_rebalancing()).then_some(Command::Rebalance { on: false });
    Ok(stopped.into_iter().chain(cancelled).collect())
}

/// How replicas and preferred leaders would be spread evenly, by moves of shards that do not move already.
pub fn plan_rebalance(state: &MetadataState) -> RebalancePlan {
    let mut wanted: BTreeMap<_, _> =
        Spread::of(state).rebalance().into_iter().map(|wanted| (wanted.shard, wanted)).collect();
    let mut moves = Vec::new();
    let mut shares: BTreeMap<u64, BrokerShare> = BTreeMap::new();
    for (member, duty) in state.members() {
        let share = BrokerShare { broker: member.id, draining: duty == Duty::Draining, ..Default::default() };
        shares.insert(member.id, share);
    }
    let mut moves_left = 0;
    for topic in state.topics() {
        for (partition, placement) in (0..).zip(&topic.partitions) {
            let reassignment = wanted.remove(&placement.shard).filter(|_| placement.moving_to.is_none());
            let reassignment = match reassignment {
                Some(_) if moves.len() >= REBALANCE_MOVES_MAX => {
                    moves_left += 1;
                    None
                }
                chosen => chosen,
            };
            let after = reassignment.as_ref().map_or(placement.goal(), |chosen| &chosen.to);
            count(&mut shares, placement.goal(), |share| {
                (&mut share.replicas_before, &mut share.leaders_before)
            });
            count(&mut shares, after, |share| (&mut share.replicas_after, &mut share.leaders_after));
            let planned = |reassignment| PlannedMove { topic: topic.name.clone(), partition, reassignment };
            moves.extend(reassignment.map(planned));
        }
    }
    let moving = state.placements().filter(|(_, placement)| placement.moving_to.is_some()).count();
    let brokers = shares.into_values().collect();
    RebalancePlan { brokers, moves, moves_left, moving, under_way: state.is_rebalancing() }
}

fn count(
    shares: &mut BTreeMap<u64, BrokerShare>,
    set: &[u64],
    fields: impl Fn(&mut BrokerShare) -> (&mut usize, &mut usize),
) {
    for (place, broker) in set.iter().enumerate() {
        let share =
            shares.entry(*broker).or_insert_with(|| BrokerShare { broker: *broker, ..Default::default() });
        let (replicas, leaders) = fields(share);
        *replicas += 1;
        *leaders += usize::from(place == 0);
    }
}

/// Whether too few of its replicas are on brokers that ever came: it has no leader then, and nobody can take it elsewhere.
fn is_stuck(placement: &Placement, state: &MetadataState) -> bool {
    let there = placement.replicas.iter().filter(|broker| state.member(**broker).is_some()).count();
    there <= placement.replicas.len() / 2
}

fn leaves(placement: &Placement, broker: u64) -> bool {
    placement.moving_to.is_some()
        && placement.replicas.contains(&broker)
        && !placement.goal().contains(&broker)
}

fn placement_of<'a>(topic: &str, partition: u32, state: &'a MetadataState) -> Result<&'a Placement, Refusal> {
    let found = state.topic(topic).ok_or_else(|| Refusal::UnknownTopic(topic.to_owned()))?;
    let unknown = || Refusal::UnknownPartition {
        topic: topic.to_owned(),
        partition,
        partitions: found.partitions.len(),
    };
    found.partitions.get(partition as usize).ok_or_else(unknown)
}

#[cfg(test)]
mod tests;
