//! A client that appends: production's lane, retries and routes, driven as its async task drives them.

use std::collections::VecDeque;

use lockstep::random::Random;
use lockstep_checker::{Append, AppendOutcome, RecordId};
use lockstep_client::retry::{Failure, Repeat, Retry};
use lockstep_client::sans_io::{Conditions, Dispatch, Identity, Lane, LaneSettings, Target, judge};
use lockstep_client::{BatchAck, BatchDelivery, ProduceError};
use lockstep_protocol::native::{PositionCommit, ProduceItem, ProduceRequest, ProduceResponse, Produced};
use lockstep_protocol::{BatchBuilder, Frame, Outcome, Record, Wire};

use super::core::{Connected, Core, News};
use super::{Surroundings, Told};
use crate::ledger::Ledger;
use crate::plan::LoadSettings;
use crate::queue::{MICROSECOND, MILLISECOND, Time};
use crate::server::TOPIC;

/// How a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterKind {
    /// With a producer id, several batches under way.
    Pipelined,
    /// Without one: what may have been stored is not sent again.
    Plain,
    /// Stating the LSN it expects.
    Conditional,
    /// Stating a fencing epoch.
    Fenced,
    /// Without a producer id, and yet sent again: each batch comes with a position that the next one expects, as of a
    /// group that makes one batch of each that it reads.
    Positioned,
}

/// A batch whose fate is not known yet.
struct Open {
    delivery: BatchDelivery,
    place: usize,
    client: u64,
}

/// An attempt whose answer has not been looked at.
struct Pending {
    correlation: u32,
    deadline: Time,
    answer: Option<Result<Produced, Failure>>,
}

/// The writer.
pub struct Writer {
    core: Core,
    kind: WriterKind,
    partition: u32,
    random: Random,
    lane: Lane,
    /// The logical client: a new one for each lane.
    client: u64,
    number: u64,
    open: VecDeque<Open>,
    pending: VecDeque<Pending>,
    retry: Option<Retry>,
    broker: Option<Connected>,
    held: Option<Dispatch>,
    resume_at: Option<Time>,
    next_batch_at: Time,
    expected_lsn: u64,
    epoch: u64,
    group: String,
    /// How far its group has come, as it believes.
    position: u64,
    /// The lane has ended, and the next begins when all of this one's batches are settled.
    ended: bool,
    /// When it was last told of a batch's fate.
    answered_at: Time,
}

impl Writer {
    /// A writer of one partition.
    pub fn new(
        kind: WriterKind,
        partition: u32,
        nodes: u64,
        load: LoadSettings,
        mut random: Random,
        ledger: &mut Ledger,
    ) -> Self {
        let core = Core::new(nodes, load, random.next_u64());
        let lane = Lane::without_budget(settings(kind, partition, &core.load, Identity::NONE, 0));
        let client = ledger.client();
        let next_batch_at = 50 * MILLISECOND + random.below(50) * MILLISECOND;
        Self {
            core,
            kind,
            partition,
            random,
            lane,
            client,
            number: 0,
            open: VecDeque::new(),
            pending: VecDeque::new(),
            retry: None,
            broker: None,
            held: None,
            resume_at: None,
            next_batch_at,
            expected_lsn: 1,
            epoch: 0,
            group: format!("writer-{client}"),
            position: 0,
            ended: true,
            answered_at: 0,
        }
    }

    /// Whether every batch's fate is known.
    pub fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// What it is waiting for, for people.
    pub fn state(&self) -> String {
        let Self { kind, ended, resume_at, next_batch_at, broker, .. } = self;
        format!(
            "{kind:?}: {} open, {} pending, holds a batch: {}, ended: {ended}, resumes at {resume_at:?}, next at \
             {next_batch_at}, broker {broker:?}, {}",
            self.open.len(),
            self.pending.len(),
            self.held.is_some(),
            self.core.state()
        )
    }

    /// When it was last told of a batch's fate, from the cluster.
    pub fn answered_at(&self) -> Time {
        self.answered_at
    }

    /// Takes news in and does what can be done now.
    pub fn act(&mut self, told: Told, around: &mut Surroundings<'_>) {
        match self.core.hear(told, around) {
            News::Answer(frame) => self.answered(&frame),
            News::Lost(connection) => {
                if self.broker.is_some_and(|(_, open)| open == connection) {
                    let lost = |pending: &mut Pending| {
                        pending.answer.get_or_insert(Err(Failure::ConnectionLost));
                    };
                    self.pending.iter_mut().for_each(lost);
                    if self.pending.is_empty() {
                        self.broker = None;
                    }
                }
            }
            News::Nothing => {}
        }
        self.go_on(around);
    }

    fn answered(&mut self, frame: &Frame) {
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.correlation == frame.correlation)
        else {
            return;
        };
        let answer = match Outcome::<ProduceResponse>::decode(&frame.meta) {
            Ok(Ok(mut response)) if response.results.len() == 1 => {
                response.results.remove(0).map_err(Failure::Refused)
            }
            Ok(Ok(_)) => Err(Failure::Garbled("not one answer".to_owned())),
            Ok(Err(refusal)) => Err(Failure::Refused(refusal)),
            Err(error) => Err(Failure::Garbled(error.to_string())),
        };
        pending.answer.get_or_insert(answer);
    }

    fn go_on(&mut self, around: &mut Surroundings<'_>) {
        loop {
            self.settle(around);
            if let Some(resume_at) = self.resume_at {
                if around.now < resume_at {
                    return self.core.wake_at(resume_at, around);
                }
                self.resume_at = None;
            }
            let looked = self.look_at_front(around);
            self.begin_batches(around);
            if !self.send_what_may_leave(around) && !looked {
                break;
            }
        }
        let deadline = self.pending.front().map_or(Time::MAX, |front| front.deadline);
        let next_batch = if around.working && self.has_room() { self.next_batch_at } else { Time::MAX };
        let wake = deadline.min(next_batch);
        if wake < Time::MAX {
            self.core.wake_at(wake.max(around.now + MICROSECOND), around);
        }
    }

    /// Looks at the oldest attempt; returns whether anything came of it.
    fn look_at_front(&mut self, around: &mut Surroundings<'_>) -> bool {
        let Some(front) = self.pending.front_mut() else { return false };
        let answer = match front.answer.take() {
            Some(answer) => answer,
            None if around.now >= front.deadline => Err(Failure::TimedOut),
            None => return false,
        };
        match answer {
            Ok(produced) => {
                self.pending.pop_front();
                self.retry = None;
                self.lane.front_stored(&produced);
            }
            Err(failure) => {
                let node = self.broker.take().map(|(node, _)| node);
                self.attempt_failed(node, failure, around);
            }
        }
        true
    }

    fn attempt_failed(&mut self, node: Option<u64>, failure: Failure, around: &mut Surroundings<'_>) {
        self.pending.clear();
        self.held = None;
        let outcome_open = failure.leaves_outcome_open();
        self.judge(node, failure, around);
        self.lane.resend(outcome_open);
    }

    fn judge(&mut self, node: Option<u64>, failure: Failure, around: &mut Surroundings<'_>) {
        let repeat = if self.kind == WriterKind::Plain { Repeat::Harmful } else { Repeat::Harmless };
        let mut retry = self.retry.take().unwrap_or_else(|| self.core.retry(repeat, around.now));
        let target = Target::Leader(TOPIC, self.partition);
        let now = Core::clock(around.now);
        match judge(&mut retry, &mut self.core.routing, target, node, failure, now, &mut self.core.jitter) {
            Ok(wait) => {
                self.retry = Some(retry);
                self.resume_at = Some(around.now + wait.as_nanos() as Time);
            }
            Err(error) => self.lane.front_failed(error.into()),
        }
    }

    fn send_what_may_leave(&mut self, around: &mut Surroundings<'_>) -> bool {
        let mut sent = false;
        while self.resume_at.is_none() {
            let Some(dispatch) =
                self.held.take().or_else(|| self.lane.next_dispatch(Core::clock(around.now)))
            else {
                break;
            };
            let connection = match self.broker {
                Some((_, connection)) => connection,
                None => {
                    let attempt = self.retry.as_ref().map_or(0, Retry::failures);
                    let target = Target::Leader(TOPIC, self.partition);
                    match self.core.route(target, attempt, around) {
                        Some(Ok(connected)) => {
                            self.broker = Some(connected);
                            connected.1
                        }
                        Some(Err((node, failure))) => {
                            self.attempt_failed(node, failure, around);
                            return true;
                        }
                        None => {
                            self.held = Some(dispatch);
                            break;
                        }
                    }
                }
            };
            let item = ProduceItem {
                topic: TOPIC.to_owned(),
                partition: self.partition,
                expected_next_lsn: dispatch.conditions.expected_next_lsn,
                fence: dispatch.conditions.fence,
                position: dispatch.conditions.position,
                batch_length: dispatch.batch.len() as u32,
            };
            let timeout_ms = self.core.load.request_timeout_ms as u32;
            let request = ProduceRequest { timeout_ms, batches: vec![item] };
            let correlation = self.core.send(connection, &request, vec![dispatch.batch], around);
            let deadline = around.now + self.core.request_timeout();
            self.pending.push_back(Pending { correlation, deadline, answer: None });
            sent = true;
        }
        sent
    }

    /// Tells the ledger what is settled.
    fn settle(&mut self, around: &mut Surroundings<'_>) {
        while let Some(outcome) = self.open.front().and_then(|open| open.delivery.try_ack()) {
            let Some(Open { place, client, .. }) = self.open.pop_front() else { break };
            let known = self.outcome_of(&outcome, client);
            if let Some(known) = known {
                self.answered_at = around.now;
                around.ledger.appended(self.partition, place, around.now, known);
            }
        }
    }

    fn outcome_of(&mut self, outcome: &Result<BatchAck, ProduceError>, client: u64) -> Option<AppendOutcome> {
        match outcome {
            Ok(BatchAck { first_lsn, last_lsn, duplicate, .. }) => {
                self.position += 1;
                self.expected_lsn = self.expected_lsn.max(last_lsn + 1);
                let (first_lsn, last_lsn, duplicate) = (*first_lsn, *last_lsn, *duplicate);
                Some(AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate })
            }
            Err(ProduceError::ConditionFailed { next_lsn }) => {
                self.expected_lsn = *next_lsn;
                Some(AppendOutcome::CertainlyFailed)
            }
            // Perhaps because an earlier attempt was carried out: the outcome is not known.
            Err(ProduceError::PositionConflict { next_lsn }) => {
                self.position = *next_lsn;
                self.ended |= client == self.client;
                None
            }
            Err(ProduceError::Fenced { epoch }) => {
                self.epoch = *epoch;
                self.ended |= client == self.client;
                None
            }
            Err(_) => {
                self.ended |= client == self.client;
                None
            }
        }
    }

    fn begin_batches(&mut self, around: &mut Surroundings<'_>) {
        if !around.working || around.now < self.next_batch_at {
            return;
        }
        if self.ended && self.open.is_empty() {
            self.begin_lane(around);
        }
        while self.has_room() && around.now >= self.next_batch_at {
            self.begin_batch(around);
            let pause = self.core.load.pause_us * MICROSECOND;
            self.next_batch_at = around.now + self.random.below(2 * pause + 1);
        }
    }

    /// Whether another batch may begin: else something has to be settled first.
    fn has_room(&self) -> bool {
        let at_once = if self.kind == WriterKind::Pipelined { 2 * self.core.load.in_flight } else { 1 };
        if self.ended { self.open.is_empty() } else { self.open.len() < at_once }
    }

    /// What was in the old lane may still arrive; the new one is another client.
    fn begin_lane(&mut self, around: &mut Surroundings<'_>) {
        let identity = match self.kind {
            WriterKind::Plain | WriterKind::Positioned => Identity::NONE,
            _ => {
                *around.producer_ids += 1;
                Identity { id: *around.producer_ids, epoch: 0 }
            }
        };
        let settings = settings(self.kind, self.partition, &self.core.load, identity, self.epoch);
        self.lane = Lane::without_budget(settings);
        self.client = around.ledger.client();
        self.number = 0;
        self.pending.clear();
        (self.held, self.retry, self.broker, self.ended) = (None, None, None, false);
    }

    /// One further than its group has come.
    fn next_position(&self) -> PositionCommit {
        PositionCommit {
            group: self.group.clone(),
            topic: TOPIC.to_owned(),
            partition: self.partition,
            next_lsn: self.position + 1,
            generation: 0,
            metadata: String::new(),
            expected_next_lsn: Some(self.position),
            expected_generation: None,
        }
    }

    fn begin_batch(&mut self, around: &mut Surroundings<'_>) {
        self.number += 1;
        let records = 1 + self.random.below(self.core.load.records.into()) as u32;
        let mut builder = BatchBuilder::new();
        for index in 0..records {
            let padding = self.random.below(self.core.load.padding as u64 + 1) as usize;
            let value = RecordId::new(self.client, self.number, index).to_value(padding);
            builder
                .push(&Record::new((around.now / MILLISECOND) as i64, value))
                .expect("a small record fits");
        }
        let conditional = self.kind == WriterKind::Conditional;
        let conditions = Conditions {
            expected_next_lsn: conditional.then_some(self.expected_lsn),
            fence: (self.kind == WriterKind::Fenced).then_some(self.epoch),
            position: (self.kind == WriterKind::Positioned).then(|| self.next_position()),
        };
        let mut append = Append::invoked(self.client, self.number, records, around.now);
        append.expected_next_lsn = conditions.expected_next_lsn;
        let place = around.ledger.appends(self.partition, append);
        match self.lane.push_batch(builder, conditions, 0) {
            Ok(delivery) => self.open.push_back(Open { delivery, place, client: self.client }),
            Err(_) => self.ended = true,
        }
    }
}

fn settings(
    kind: WriterKind,
    partition: u32,
    load: &LoadSettings,
    identity: Identity,
    epoch: u64,
) -> LaneSettings {
    LaneSettings {
        partition,
        linger: std::time::Duration::ZERO,
        batch_bytes: 1 << 20,
        in_flight_max: if identity == Identity::NONE { 1 } else { load.in_flight },
        fence: (kind == WriterKind::Fenced).then_some(epoch),
        identity,
    }
}
