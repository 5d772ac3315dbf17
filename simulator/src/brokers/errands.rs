//! What people ask of the cluster, as often as it takes: topics made, brokers taken in, drained and removed, moves begun and
//! given up. And brokers that are lost for good, with all that is on them.

use std::collections::BTreeSet;

use lockstep::cluster::joining::{Joined, Newcomer};
use lockstep::cluster::{Duty, NewTopic, Refusal};
use lockstep::engine::METADATA_SHARD;
use lockstep::identity::DirectoryId;

use super::{Asker, Decision, Identity, Question, Reply};
use crate::kinds::{FaultKind, Target};
use crate::network::CLIENTS;
use crate::queue::{Event, MILLISECOND, SECOND, Time};
use crate::server::TOPIC;
use crate::world::World;

/// How often people look at what became of what they asked for.
const LOOK_EVERY: Time = 50 * MILLISECOND;
/// How long they wait for an answer before they ask again, somebody else perhaps.
const PATIENCE: Time = SECOND;
/// Replicas of each partition.
pub(super) const REPLICATION: usize = 3;

/// Something that somebody wants.
#[derive(Debug)]
pub(crate) struct Errand {
    task: Task,
    /// The question that is out, and when it is asked anew.
    asked: (u64, Time),
    /// Whether it is over.
    done: bool,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// The topic.
    Create,
    /// A new broker, of this directory.
    Join(DirectoryId),
    /// A broker drained, and removed once it holds nothing; asked for that at once, if in a hurry.
    Decommission { broker: u64, in_a_hurry: bool },
    /// A broker drained, or kept.
    Drain { broker: u64, draining: bool },
    /// Something that is asked for once.
    Once(Decision),
}

impl Task {
    /// What is to be asked for now, if anything; nothing more if that is `None`.
    fn next(&self, world: &World) -> Option<Option<Decision>> {
        let state = world.brokers.rules.newest();
        Some(match self {
            Self::Create if state.topic(TOPIC).is_some() => return None,
            // Whoever is lost is replaced before others go: there would be too few.
            Self::Drain { broker, draining: true } | Self::Decommission { broker, .. }
                if world.is_lost_member(|id| id != *broker) =>
            {
                None
            }
            // Fewer brokers would be too few for it.
            Self::Drain { .. } | Self::Decommission { .. } | Self::Once(_)
                if state.topic(TOPIC).is_none() =>
            {
                None
            }
            Self::Create => Some(Decision::Create(NewTopic {
                name: TOPIC.to_owned(),
                partitions: world.plan.shards,
                replication: REPLICATION as u32,
                ..NewTopic::default()
            })),
            Self::Join(directory) => Some(Decision::Join(newcomer(*directory))),
            Self::Drain { broker, draining } => match state.member(*broker)?.1 == Duty::Draining {
                drains if drains == *draining => return None,
                _ => Some(Decision::Drain(*broker, *draining)),
            },
            Self::Decommission { broker, in_a_hurry } => {
                let (_, duty) = state.member(*broker)?;
                let own = state.placement(METADATA_SHARD).into_iter();
                let holds = state.replicas_of(*broker) > 0
                    || own.flat_map(|metadata| metadata.hosts()).any(|host| host == *broker);
                match duty {
                    Duty::Active => Some(Decision::Drain(*broker, true)),
                    Duty::Draining if !holds || *in_a_hurry => Some(Decision::Remove(*broker)),
                    Duty::Draining => None,
                }
            }
            Self::Once(decision) => Some(decision.clone()),
        })
    }
}

fn newcomer(directory: DirectoryId) -> Newcomer {
    let Identity { member, .. } = Identity::of_founder(0, directory, Vec::new());
    Newcomer { directory, native: member.native, peer: member.peer, http: member.http, rack: None }
}

impl World {
    /// Somebody wants something.
    pub(crate) fn want(&mut self, task: Task) {
        self.brokers.errands.push(Errand { task, asked: (0, 0), done: false });
    }

    /// A directory id that no other machine has.
    pub(crate) fn draw_directory(&mut self) -> DirectoryId {
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        DirectoryId((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// People look at what became of what they asked for, and ask for what is next.
    pub(crate) fn look_at_errands(&mut self) {
        self.queue.after(LOOK_EVERY, Event::Errands);
        let now = self.queue.now();
        for at in 0..self.brokers.errands.len() {
            let errand = &self.brokers.errands[at];
            if errand.done {
                continue;
            }
            let next = errand.task.next(self);
            match next {
                None => self.errand_is_done(at),
                Some(Some(decision)) if now >= self.brokers.errands[at].asked.1 => {
                    let number = self.next_question();
                    self.brokers.errands[at].asked = (number, now + PATIENCE);
                    if let Some(to) = self.somebody() {
                        self.ask(CLIENTS, to, Question { number, asker: Asker::Person, decision });
                    }
                }
                Some(_) => {}
            }
        }
        self.brokers.errands.retain(|errand| !errand.done);
    }

    /// Whom to ask: whoever leads the metadata mostly, or a broker that may not know that it does not.
    fn somebody(&mut self) -> Option<u64> {
        let leader = self.leader(METADATA_SHARD).filter(|_| self.random.below(8) > 0);
        let running: Vec<u64> =
            self.nodes.values().filter(|node| node.answers()).map(|node| node.id).collect();
        leader.or_else(|| {
            let any = self.random.below(running.len().max(1) as u64) as usize;
            running.get(any).copied()
        })
    }

    fn errand_is_done(&mut self, at: usize) {
        self.brokers.errands[at].done = true;
        if let Task::Decommission { broker, .. } = self.brokers.errands[at].task
            && self.brokers.rules.newest().member(broker).is_none()
        {
            self.switch_off(broker);
        }
    }

    /// An answer comes.
    pub(super) fn person_hears(&mut self, number: u64, reply: Reply) {
        let asked = |errand: &Errand| errand.asked.0 == number && !errand.done;
        let Some(at) = self.brokers.errands.iter().position(asked) else { return };
        let now = self.queue.now();
        let errand = &mut self.brokers.errands[at];
        errand.asked = (0, now + LOOK_EVERY);
        match (&mut errand.task, reply) {
            (_, Reply::NotNow) => {}
            (Task::Join(directory), Reply::Done(Some(joined))) => {
                let directory = *directory;
                errand.done = true;
                self.is_born(directory, &joined);
            }
            (Task::Join(_), Reply::Refused(refusal)) if refusal != Refusal::NotFounded => {
                self.violate("newcomers-join", refusal.to_string());
            }
            (Task::Decommission { in_a_hurry, .. }, Reply::Refused(Refusal::BrokerInUse { .. })) => {
                *in_a_hurry = false;
                self.stats.fault("removal-refused");
            }
            // Enough others will be there again, if somebody joins.
            (Task::Decommission { broker, .. }, Reply::Refused(Refusal::TooFewBrokers { .. })) => {
                errand.done = self.faults_over && !self.nodes[broker].gone;
                self.stats.fault("drain-refused");
            }
            (Task::Drain { .. }, Reply::Refused(_)) => {
                errand.done = true;
                self.stats.fault("drain-refused");
            }
            (Task::Once(_), Reply::Done(_) | Reply::Refused(_)) => errand.done = true,
            (_, Reply::Done(_) | Reply::Refused(_)) => {}
        }
    }

    /// A newcomer has joined: its process begins under the id that it was given.
    fn is_born(&mut self, directory: DirectoryId, joined: &Joined) {
        let Some(node) = self.nodes.get_mut(&joined.id) else {
            return self.violate("broker-ids-once", format!("{joined:?} is not the next id"));
        };
        match &node.identity {
            Some(known) if known.member.directory != directory => {
                self.violate("broker-ids-once", format!("{joined:?}, and there is one already"));
            }
            Some(_) => {}
            None => {
                node.identity = Some(Identity::new(joined.id, directory, joined.founders.clone(), true));
                self.stats.fault("broker-joined");
                self.note(joined.id, "joins", [], || directory.to_string());
                self.start_later(joined.id, MILLISECOND);
            }
        }
    }

    /// A machine is gone for good, and its disk with it.
    pub(super) fn switch_off(&mut self, id: u64) {
        self.rolling.retain(|(node, _)| *node != id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let ran = node.process.is_some();
        node.gone = true;
        node.powered = false;
        if ran {
            node.disk.kill_process();
            self.bury(id, true);
            for other in self.nodes.keys().copied().filter(|other| *other != id).collect::<Vec<_>>() {
                self.disconnect(id, other);
            }
        }
        self.note(id, "gone", [], String::new);
    }

    // ---- The parts of a plan ----

    /// What happens to a cluster of brokers. Returns whether it has taken effect already.
    pub(crate) fn begin_broker_fault(&mut self, kind: FaultKind, node: u64, target: Target) -> bool {
        let is_member = self.brokers.rules.newest().member(node).is_some();
        match kind {
            FaultKind::Join => {
                let directory = self.draw_directory();
                self.want(Task::Join(directory));
                true
            }
            FaultKind::LoseBroker => self.lose_broker(node),
            FaultKind::Decommission | FaultKind::DrainAWhile if !is_member => false,
            FaultKind::Decommission => {
                let in_a_hurry = self.random.below(2) == 0;
                self.want(Task::Decommission { broker: node, in_a_hurry });
                true
            }
            FaultKind::DrainAWhile => {
                self.want(Task::Drain { broker: node, draining: true });
                true
            }
            FaultKind::MoveTo => self.want_move(target),
            FaultKind::CancelMoves => {
                let all = self.random.below(2) == 0;
                let partition = self.partition_of(target);
                self.want(Task::Once(Decision::Cancel((!all).then_some(partition))));
                true
            }
            FaultKind::Rebalance => {
                self.want(Task::Once(Decision::Rebalance));
                true
            }
            FaultKind::MetadataLeaderCrash => self.crash_metadata_leader(),
            _ => false,
        }
    }

    /// A broker that was drained for a while keeps its replicas again.
    pub(crate) fn end_broker_drain(&mut self, node: u64) {
        let mut errands = self.brokers.errands.iter();
        let goes =
            errands.any(|errand| matches!(errand.task, Task::Decommission { broker, .. } if broker == node));
        if !goes {
            self.want(Task::Drain { broker: node, draining: false });
        }
    }

    /// Whether a broker that is gone is still a member, of those that count.
    fn is_lost_member(&self, counts: impl Fn(u64) -> bool) -> bool {
        let state = self.brokers.rules.newest();
        self.nodes.values().any(|node| node.gone && counts(node.id) && state.member(node.id).is_some())
    }

    fn want_move(&mut self, target: Target) -> bool {
        let partition = self.partition_of(target);
        let mut able: Vec<u64> = self.brokers.rules.newest().members().map(|(member, _)| member.id).collect();
        crate::placement::shuffle(&mut able, &mut self.random);
        able.truncate(REPLICATION);
        if able.len() < REPLICATION {
            return false;
        }
        self.want(Task::Once(Decision::Move(partition, able)));
        true
    }

    /// The power of whoever leads the metadata goes, in the middle of a move.
    fn crash_metadata_leader(&mut self) -> bool {
        let moves = self.brokers.rules.newest().moving().next().is_some();
        let leader = self.leader(METADATA_SHARD).filter(|_| moves);
        let down = (20 + self.random.below(600)) * MILLISECOND;
        match (leader, self.random.below(2)) {
            (None, _) => false,
            (Some(leader), 0) => self.kill(leader, down),
            (Some(leader), _) => self.cut_power(leader, down),
        }
    }

    /// A broker is lost, and another takes its place.
    fn lose_broker(&mut self, id: u64) -> bool {
        if !self.may_lose(id) {
            return false;
        }
        self.switch_off(id);
        let directory = self.draw_directory();
        self.want(Task::Join(directory));
        self.want(Task::Decommission { broker: id, in_a_hurry: false });
        true
    }

    /// Whether all others together still have everything: one broker at a time, and no shard depends on it alone.
    fn may_lose(&self, id: u64) -> bool {
        let state = self.brokers.rules.newest();
        let is_member = state.member(id).is_some() && !self.nodes[&id].gone;
        if self.is_lost_member(|_| true) || !is_member || state.topic(TOPIC).is_none() {
            return false;
        }
        let is_gone = |node: &u64| self.nodes.get(node).is_none_or(|node| node.gone);
        let electorates = self.electorates_in_service();
        electorates.iter().all(|members| members.len() >= 3 && !members.iter().any(is_gone))
    }

    /// Whoever decides for a shard, as far as any machine knows that is still there.
    fn electorates_in_service(&self) -> Vec<BTreeSet<u64>> {
        let there = self.nodes.values().filter(|node| !node.gone);
        let hosted = there.flat_map(|node| match &node.process {
            Some(process) => process.hosted.values(),
            None => node.corpse.values(),
        });
        let halves = hosted.flat_map(|hosted| {
            let members = &hosted.membership;
            [members.voters.clone(), members.voters_outgoing.clone()]
        });
        halves.filter(|half| !half.is_empty()).map(BTreeSet::from_iter).collect()
    }
}
