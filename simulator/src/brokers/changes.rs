//! Changes of the metadata, one at a time on the broker that leads it: the state confirmed to be current, decided, written
//! if nothing came between. And the questions by which others ask for one.

use lockstep::cluster::joining::{self, Joined, Newcomer};
use lockstep::cluster::{
    Cancelled, Command, MetadataState, NewTopic, Refusal, TopicRules, create_topic, fold, operator, planner,
};
use lockstep::engine::METADATA_SHARD;
use lockstep::shard::{Answer, AppendError, Input};

use super::Broker;
use crate::node::{Mail, Process};
use crate::queue::{Event, SECOND, Time};
use crate::server::TOPIC;
use crate::world::World;

/// How long a change may take.
const CHANGE_TIMEOUT: Time = 2 * SECOND;
/// How long an asker waits for an answer: it hears that a connection ended, here after a while.
const ANSWER_TIMEOUT: Time = SECOND;

/// What is to be decided.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Write these commands.
    Write(Vec<Command>),
    /// Begin the moves that are due.
    Moves,
    /// Begin the cluster with these.
    Found(Vec<u64>),
    /// Make the topic.
    Create(NewTopic),
    /// Take a broker in.
    Join(Newcomer),
    /// A broker gives its replicas away, or keeps them.
    Drain(u64, bool),
    /// A broker goes.
    Remove(u64),
    /// A partition's replicas go elsewhere.
    Move(u32, Vec<u64>),
    /// A partition's move is given up, or all are.
    Cancel(Option<u32>),
    /// Spread anew.
    Rebalance,
}

impl Decision {
    fn decide(&self, state: &MetadataState, founders: &[u64]) -> Result<Vec<Command>, Refusal> {
        match self {
            Self::Write(commands) => state.check_all(commands).map(|()| commands.clone()),
            Self::Moves => Ok(planner::next_moves(state)),
            Self::Found(_) if state.is_founded() => Ok(Vec::new()),
            Self::Found(replicas) => Ok(vec![Command::FoundCluster { replicas: replicas.clone() }]),
            Self::Create(topic) => {
                let rules = TopicRules {
                    founders: founders.to_vec(),
                    max_partitions: 100,
                    max_batch_bytes: 1 << 20,
                    default_partitions: 1,
                    default_replication: 0,
                };
                create_topic(topic, &rules, state).map(|command| vec![command])
            }
            Self::Join(newcomer) => joining::join(newcomer, state),
            Self::Drain(broker, true) => operator::drain(*broker, state),
            Self::Drain(broker, false) => operator::undrain(*broker, state),
            Self::Remove(broker) => joining::remove(*broker, state),
            Self::Move(partition, to) => operator::move_partition(TOPIC, *partition, to, state),
            Self::Cancel(None) => operator::cancel(Cancelled::All, state),
            Self::Cancel(Some(partition)) => {
                operator::cancel(Cancelled::Partition { topic: TOPIC, partition: *partition }, state)
            }
            Self::Rebalance => Ok(operator::rebalance(state)),
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A broker.
    Broker(u64),
    /// Somebody with a client, or a broker that is none yet.
    Person,
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// What its answer is known by.
    pub number: u64,
    /// Who asks.
    pub asker: Asker,
    /// For what.
    pub decision: Decision,
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It is so; and as what a newcomer has joined.
    Done(Option<Joined>),
    /// The metadata does not allow it.
    Refused(Refusal),
    /// Somebody else decides, or it is not known.
    NotNow,
}

/// A change that is under way, or waits for its turn.
pub struct Change {
    question: Question,
    until: Time,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Begun,
    /// The tail is being confirmed, or the commands are being written, under this token.
    Waits(u64),
    /// This LSN was the last one when the change was asked for.
    Confirmed(u64),
    /// The commands are committed, the last one at this LSN.
    Written(u64),
}

/// What is to be done about the change whose turn it is.
enum Next {
    Wait,
    GoOn,
    End(Question, Reply),
}

impl World {
    /// A broker asks whoever leads the metadata to write something for a shard, unless it is at that already.
    pub(super) fn submit(&mut self, id: u64, shard: u64, decision: Decision) {
        let now = self.queue.now();
        let number = self.next_question();
        let leader = self.with_broker(id, |process, broker| {
            let leader = process.hosted.get(&METADATA_SHARD)?.replica.view().leader?;
            if broker.writing.get(&shard).is_some_and(|(_, until)| now < *until) {
                return None;
            }
            broker.writing.insert(shard, (number, now + ANSWER_TIMEOUT));
            Some(leader)
        });
        if let Some(leader) = leader.flatten() {
            let question = Question { number, asker: Asker::Broker(id), decision };
            match leader == id {
                true => self.take_question(id, question),
                false => self.ask(id, leader, question),
            }
        }
    }

    /// A number for a question.
    pub(super) fn next_question(&mut self) -> u64 {
        self.brokers.questions += 1;
        self.brokers.questions
    }

    /// Sends a question; `from` is a broker, or the clients' side.
    pub(super) fn ask(&mut self, from: u64, to: u64, question: Question) {
        if self.network.is_open(from, to) {
            let after = self.network.latency(&mut self.stats);
            self.queue.after(after, Event::Question { to, question: Box::new(question) });
        }
    }

    /// A question arrives.
    pub(crate) fn take_question(&mut self, id: u64, question: Question) {
        if !self.nodes.get(&id).is_some_and(crate::node::Node::answers) {
            return;
        }
        let until = self.queue.now() + CHANGE_TIMEOUT;
        self.with_broker(id, |_, broker| {
            broker.changes.push_back(Change { question, until, stage: Stage::Begun });
        });
        self.go_on_with_changes(id);
    }

    /// The metadata shard answers what a change asked of it.
    pub(crate) fn metadata_answers(&mut self, id: u64, token: u64, answer: Result<Answer, AppendError>) {
        self.with_broker(id, |_, broker| {
            let Some(change) = broker.changes.front_mut() else { return };
            if !matches!(change.stage, Stage::Waits(waits) if waits == token) {
                return;
            }
            change.stage = match answer {
                Ok(Answer::Tail(lsn)) => Stage::Confirmed(lsn),
                Ok(Answer::Appended(appended)) => Stage::Written(appended.last_lsn),
                // Others wrote meanwhile: it is decided anew.
                Err(AppendError::ConditionFailed { .. }) => Stage::Begun,
                Ok(_) | Err(_) => {
                    change.until = 0;
                    Stage::Begun
                }
            };
        });
        self.go_on_with_changes(id);
    }

    /// Goes on with the change whose turn it is, as far as that is possible now.
    pub(super) fn go_on_with_changes(&mut self, id: u64) {
        let now = self.queue.now();
        while let Some(next) = self.with_broker(id, |process, broker| broker.next_change(process, now)) {
            match next {
                Next::Wait => break,
                Next::GoOn => {}
                Next::End(question, reply) => self.answer_question(id, &question, reply),
            }
        }
        self.wake_worker(id);
    }

    fn answer_question(&mut self, id: u64, question: &Question, reply: Reply) {
        let number = question.number;
        match question.asker {
            Asker::Broker(asker) if asker == id => self.hear_reply(id, number),
            asker => {
                let to = if let Asker::Broker(asker) = asker { asker } else { crate::network::CLIENTS };
                if self.network.is_open(id, to) {
                    let after = self.network.latency(&mut self.stats);
                    self.queue.after(after, Event::Reply { to, number, reply: Box::new(reply) });
                }
            }
        }
    }

    /// An answer arrives. A broker looks at the state for what became of it.
    pub(crate) fn take_reply(&mut self, to: u64, number: u64, reply: Reply) {
        match to {
            crate::network::CLIENTS => self.person_hears(number, reply),
            broker => self.hear_reply(broker, number),
        }
    }

    fn hear_reply(&mut self, id: u64, number: u64) {
        self.with_broker(id, |_, broker| broker.writing.retain(|_, (asked, _)| *asked != number));
    }
}

impl Broker {
    fn next_change(&mut self, process: &mut Process, now: Time) -> Next {
        let Some(change) = self.changes.front_mut() else { return Next::Wait };
        let leads = process.hosted.get(&METADATA_SHARD).is_some_and(|it| it.replica.view().is_leader);
        if now >= change.until || (matches!(change.stage, Stage::Begun) && !leads) {
            return self.end(Reply::NotNow);
        }
        match change.stage {
            Stage::Begun => {
                let token = process.token();
                change.stage = Stage::Waits(token);
                let tail = Input::Tail { token }.into();
                process.inbox.push_back(Mail::One(METADATA_SHARD, Box::new(tail)));
                Next::Wait
            }
            Stage::Waits(_) => Next::Wait,
            Stage::Confirmed(lsn) | Stage::Written(lsn) if self.state.applied_lsn() < lsn => Next::Wait,
            Stage::Written(_) => self.done(),
            Stage::Confirmed(_) => {
                match change.question.decision.decide(&self.state, &self.identity.founders) {
                    Err(refusal) => self.end(Reply::Refused(refusal)),
                    Ok(commands) if commands.is_empty() => self.done(),
                    Ok(commands) => {
                        let Ok(append) = fold::to_append(&commands, &self.state, 0) else {
                            return self.end(Reply::NotNow);
                        };
                        let token = process.token();
                        change.stage = Stage::Waits(token);
                        let append = Input::Append { token, append }.into();
                        process.inbox.push_back(Mail::One(METADATA_SHARD, Box::new(append)));
                        Next::Wait
                    }
                }
            }
        }
    }

    fn done(&mut self) -> Next {
        let joined = self.changes.front().and_then(|change| match &change.question.decision {
            Decision::Join(newcomer) => newcomer.joined(&self.state),
            _ => None,
        });
        self.end(Reply::Done(joined))
    }

    fn end(&mut self, reply: Reply) -> Next {
        match self.changes.pop_front() {
            Some(change) => Next::End(change.question, reply),
            None => Next::GoOn,
        }
    }
}
