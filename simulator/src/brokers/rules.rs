//! What the observer of the metadata log checks: each command as it is committed, and what brokers make of it.
//!
//! | rule | says |
//! |---|---|
//! | `metadata-agrees` | one log makes one state, on every broker, and a state never goes back |
//! | `placement-forward` | the membership that a placement knows of never goes back |
//! | `one-move-at-a-time` | no move begins while its shard moves, but to a broker that is to hold nothing |
//! | `draining-gets-nothing` | no replica is to go to a broker that gives its own away |
//! | `move-ends-as-committed` | a move ends with a committed membership of those alone who were to hold replicas |
//! | `move-ends-confirmed` | that membership is known for good: no restart forgets it |
//! | `dropped-when-out` | files go only where the metadata has no replica, and where none votes |
//! | `broker-ids-once` | an id belongs to one data directory, for ever |
//! | `removed-holds-nothing` | a broker that is removed holds no replica |
//! | `founded-once` | a cluster begins once |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep::cluster::{Command, Duty, MetadataState};
use lockstep::engine::METADATA_SHARD;
use lockstep::identity::DirectoryId;

use crate::invariants::{Checked, Invariants, breach};

/// What is known of the metadata log.
pub struct Rules {
    /// The state as of each LSN.
    states: Vec<Arc<MetadataState>>,
    /// Whose id it is, or was.
    directories: BTreeMap<u64, DirectoryId>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { states: vec![Arc::default()], directories: BTreeMap::new() }
    }
}

impl Rules {
    /// The state as of the last command that was committed, as far as any broker has applied it.
    pub fn newest(&self) -> &Arc<MetadataState> {
        &self.states[self.states.len() - 1]
    }

    /// Takes the next committed command; returns what it counts as, if it had an effect.
    pub fn apply(&mut self, command: &Command, invariants: &Invariants) -> (Checked, Option<&'static str>) {
        let before = Arc::clone(self.newest());
        let mut after = (*before).clone();
        let has_effect = after.apply(command).is_ok();
        let after = Arc::new(after);
        self.states.push(Arc::clone(&after));
        if !has_effect {
            return (Ok(()), None);
        }
        let checked =
            self.check(command, &before, &after, invariants).and_then(|()| check_forward(&before, &after));
        (checked, Some(counted(command)))
    }

    fn check(
        &mut self,
        command: &Command,
        before: &MetadataState,
        after: &MetadataState,
        invariants: &Invariants,
    ) -> Checked {
        match command {
            Command::FoundCluster { .. } if before.is_founded() => {
                breach("founded-once", format!("{command:?}"))
            }
            Command::RegisterBroker(member) => match self.directories.insert(member.id, member.directory) {
                Some(other) if other != member.directory => breach(
                    "broker-ids-once",
                    format!("broker {} was {other}, and is {} now", member.id, member.directory),
                ),
                _ => Ok(()),
            },
            Command::RemoveBroker { id } => {
                let metadata = before.placement(METADATA_SHARD).into_iter();
                let all = metadata.chain(before.placements().map(|(_, placement)| placement));
                let held: Vec<u64> = all
                    .filter(|placement| placement.hosts().any(|host| host == *id))
                    .map(|placement| placement.shard)
                    .collect();
                match held.is_empty() {
                    true => Ok(()),
                    false => breach("removed-holds-nothing", format!("broker {id} holds {held:?}")),
                }
            }
            Command::MoveReplicas { shard, to } => check_begin(*shard, to, before),
            Command::FinishMove { shard, membership_index, .. } => {
                check_end(*shard, *membership_index, before, after, invariants)
            }
            _ => Ok(()),
        }
    }

    /// A broker has applied the log from one LSN on to this state.
    pub fn agrees(&self, node: u64, from_lsn: u64, state: &MetadataState) -> Checked {
        let lsn = state.applied_lsn();
        if lsn < from_lsn || self.states.get(lsn as usize).is_none_or(|known| **known != *state) {
            return breach("metadata-agrees", format!("node {node} went from LSN {from_lsn} to {state:?}"));
        }
        Ok(())
    }

    /// A broker that has applied the log through this LSN is about to drop a replica.
    pub fn may_drop(&self, node: u64, shard: u64, applied_lsn: u64, invariants: &Invariants) -> Checked {
        let state = self.states.get(applied_lsn as usize).unwrap_or(self.newest());
        let is_host = state.placement(shard).is_none_or(|it| it.hosts().any(|host| host == node));
        let newest = invariants.memberships(shard).and_then(|all| all.last_key_value());
        let votes = newest.is_some_and(|(_, members)| members.votes(node));
        match is_host || votes {
            false => Ok(()),
            true => breach(
                "dropped-when-out",
                format!(
                    "node {node} drops shard {shard}, whose members are {newest:?}, by {:?}",
                    state.placement(shard)
                ),
            ),
        }
    }
}

fn counted(command: &Command) -> &'static str {
    match command {
        Command::MoveReplicas { .. } => "move-begun",
        Command::FinishMove { .. } => "move-finished",
        Command::CancelMove { .. } => "move-cancelled",
        Command::RegisterBroker(_) => "broker-registered",
        Command::DrainBroker { draining: true, .. } => "broker-drained",
        Command::DrainBroker { draining: false, .. } => "broker-kept",
        Command::RemoveBroker { .. } => "broker-removed",
        Command::Rebalance { on: true } => "rebalance-begun",
        _ => "metadata-command",
    }
}

fn check_begin(shard: u64, to: &[u64], before: &MetadataState) -> Checked {
    let Some(placement) = before.placement(shard) else { return Ok(()) };
    let drains = |broker: &&u64| matches!(before.member(**broker), Some((_, Duty::Draining)));
    if placement.moving_to.is_some() && !placement.goal().iter().any(|broker| drains(&broker)) {
        return breach("one-move-at-a-time", format!("shard {shard} is to go to {to:?} from {placement:?}"));
    }
    let is_new = |broker: &&u64| !placement.hosts().any(|host| host == **broker);
    match to.iter().filter(is_new).find(drains) {
        None => Ok(()),
        Some(broker) => breach(
            "draining-gets-nothing",
            format!("shard {shard} is to go to {to:?}, and broker {broker} is draining"),
        ),
    }
}

fn check_end(
    shard: u64,
    index: u64,
    before: &MetadataState,
    after: &MetadataState,
    invariants: &Invariants,
) -> Checked {
    let (Some(before), Some(after)) = (before.placement(shard), after.placement(shard)) else {
        return Ok(());
    };
    let goal: BTreeSet<u64> = before.goal().iter().copied().collect();
    let members = invariants.memberships(shard).and_then(|all| all.get(&index));
    let as_committed = members.is_some_and(|members| {
        let voters: BTreeSet<u64> = members.voters.iter().copied().collect();
        // Whoever does not hold the metadata follows it.
        let followed = shard == METADATA_SHARD || members.learners.is_empty();
        voters == goal && members.voters_outgoing.is_empty() && followed
    });
    let remembered = after.membership_index == index && after.moving_to.is_none();
    match as_committed && remembered {
        true => Ok(()),
        false => breach(
            "move-ends-as-committed",
            format!("shard {shard} from {before:?} to {after:?}; entry {index} made {members:?}"),
        ),
    }
}

fn check_forward(before: &MetadataState, after: &MetadataState) -> Checked {
    for (_, placement) in before.placements() {
        let now = after.placement(placement.shard);
        if now.is_some_and(|now| now.membership_index < placement.membership_index) {
            return breach("placement-forward", format!("from {placement:?} to {now:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is broken by the last of these commands; the others break nothing.
    fn broken(commands: &[Command]) -> Option<&'static str> {
        let (mut rules, invariants) = (Rules::default(), Invariants::default());
        let mut checked: Vec<Checked> =
            commands.iter().map(|command| rules.apply(command, &invariants).0).collect();
        let last = checked.pop().expect("there are commands");
        assert!(checked.iter().all(Result::is_ok), "{checked:?}");
        last.err().map(|violation| violation.rule)
    }

    fn begin() -> Vec<Command> {
        let topic = Command::CreateTopic {
            name: "log".into(),
            replicas: vec![vec![1, 2, 3]],
            settings: Default::default(),
        };
        vec![Command::FoundCluster { replicas: vec![1, 2, 3, 4] }, topic]
    }

    fn member(id: u64, directory: u8) -> Command {
        let identity = super::super::Identity::of_founder(id, DirectoryId([directory; 16]), Vec::new());
        Command::RegisterBroker(identity.member)
    }

    #[test]
    fn a_move_that_ends_with_no_such_membership_is_a_breach() {
        let moves = Command::MoveReplicas { shard: 1, to: vec![1, 2, 4] };
        let ends = Command::FinishMove { shard: 1, replicas: vec![1, 2, 4], membership_index: 9 };
        assert_eq!(broken(&[begin(), vec![moves.clone()]].concat()), None);
        assert_eq!(broken(&[begin(), vec![moves, ends]].concat()), Some("move-ends-as-committed"));
    }

    #[test]
    fn a_replica_for_a_draining_broker_is_a_breach() {
        let drains = vec![member(4, 4), Command::DrainBroker { id: 4, draining: true }];
        let moves = vec![Command::MoveReplicas { shard: 1, to: vec![1, 2, 4] }];
        assert_eq!(broken(&[begin(), drains, moves].concat()), Some("draining-gets-nothing"));
    }

    #[test]
    fn a_state_that_another_broker_does_not_have_is_a_breach() {
        let mut rules = Rules::default();
        for command in begin() {
            assert!(rules.apply(&command, &Invariants::default()).0.is_ok());
        }
        let newest = Arc::clone(rules.newest());
        assert!(rules.agrees(1, 0, &newest).is_ok());
        assert!(rules.agrees(1, 3, &newest).is_err(), "it went back");
        let mut other = MetadataState::default();
        let founded = Command::FoundCluster { replicas: vec![1, 2, 3] };
        [founded, begin().remove(1)].iter().for_each(|command| drop(other.apply(command)));
        assert_eq!(rules.agrees(1, 0, &other).expect_err("another state").rule, "metadata-agrees");
    }

    #[test]
    fn files_of_a_host_must_not_go() {
        let mut rules = Rules::default();
        for command in begin() {
            assert!(rules.apply(&command, &Invariants::default()).0.is_ok());
        }
        let drops = |node| rules.may_drop(node, 1, 2, &Invariants::default());
        assert!(drops(4).is_ok());
        assert_eq!(drops(3).expect_err("it is a host").rule, "dropped-when-out");
    }
}
