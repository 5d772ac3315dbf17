//! The batches of one partition, in order: what is open, queued and in flight. No IO, no clock.
//!
//! ```text
//!  push ─▶ open ─▶ queued ─▶ in flight ─▶ settled
//!          grows   waits     has bytes    told
//! ```
//!
//! What holds:
//!
//! - Batches leave in the order they were pushed; a batch's sequence is given when it first leaves and stays.
//! - Settled is only the front of what is in flight: acknowledgements are told in order.
//! - After a failed attempt everything in flight is sent again, from the front. The broker takes each sequence
//!   once, so that nothing is stored twice or out of order.
//! - A batch with a condition on the next LSN is in flight alone: its refusal consumes no sequence, and the
//!   next batch gets it. Unless an earlier attempt, still unread somewhere, could yet be stored under that
//!   sequence: the next batch would then pass for its repetition. The outcome is open, and the lane ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::native::{InitProducerRequest, PositionCommit, Produced};
use lockstep_protocol::{BatchBuilder, ProducerSequence, Record};
use tokio::sync::Semaphore;

use super::delivery::{BatchAck, BatchDelivery, Delivery, Ticket};
use crate::attempt::Target;
use crate::client::Client;
use crate::error::{ProduceError, RequestError};
use crate::retry::Repeat;

/// Batches without an answer beside which one that is not full may leave: one that is being synced and one on its way to be.
/// More make the brokers busier with each record, and all of them later.
const PARTIAL_IN_FLIGHT_MAX: usize = 2;

/// The producer's id and epoch, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Given out by the cluster, never negative.
    pub id: i64,
    /// A greater one shuts out the smaller.
    pub epoch: i16,
}

impl Identity {
    /// Retries are not recognised.
    pub const NONE: Self = Self { id: ProducerSequence::NONE.id, epoch: ProducerSequence::NONE.epoch };

    /// A new one from the cluster.
    pub(crate) async fn ask(client: &Client) -> Result<Self, ProduceError> {
        let answer = client.core.call(Target::Controller, &InitProducerRequest {}, Repeat::Harmless).await?;
        Ok(Self { id: answer.producer_id, epoch: answer.epoch })
    }

    /// Whether a retry is recognised.
    pub(crate) fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// What an append depends on, and what is committed with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The LSN the batch's first record must get.
    pub expected_next_lsn: Option<u64>,
    /// The fencing epoch of the writer.
    pub fence: Option<u64>,
    /// How far its group has come with it.
    pub position: Option<PositionCommit>,
}

/// How a lane batches.
#[derive(Debug, Clone, Copy)]
pub struct LaneSettings {
    /// The partition.
    pub partition: u32,
    /// How long an open batch waits for more while fewer than [`PARTIAL_IN_FLIGHT_MAX`] are in flight.
    pub linger: Duration,
    /// Bytes from which on a batch is closed.
    pub batch_bytes: usize,
    /// Batches without an answer, at the most.
    pub in_flight_max: usize,
    /// The fencing epoch of batches that are collected from records.
    pub fence: Option<u64>,
    /// Whose sequences the batches carry.
    pub identity: Identity,
}

/// One partition's batches.
#[derive(Debug)]
pub struct Lane {
    settings: LaneSettings,
    budget: Arc<Semaphore>,
    open: Option<Open>,
    queued: VecDeque<Queued>,
    in_flight: VecDeque<Sent>,
    /// How many of `in_flight`, from the front, have left since the last failed attempt.
    left: usize,
    next_sequence: i32,
    poison: Option<Arc<ProduceError>>,
}

#[derive(Debug)]
struct Open {
    builder: BatchBuilder,
    ticket: Arc<Ticket>,
    since: Duration,
}

#[derive(Debug)]
struct Queued {
    builder: BatchBuilder,
    conditions: Conditions,
    ticket: Arc<Ticket>,
}

#[derive(Debug)]
struct Sent {
    dispatch: Dispatch,
    base_sequence: i32,
    ticket: Arc<Ticket>,
    /// An attempt ended without an answer: a broker may read it later.
    attempt_open: bool,
}

impl Sent {
    /// Whether no attempt can be stored any more once the condition failed with this next LSN. LSNs only grow:
    /// a next LSN beyond the expected one refuses every earlier attempt too.
    fn is_settled_at(&self, next_lsn: u64) -> bool {
        let passed = self.dispatch.conditions.expected_next_lsn.is_some_and(|expected| next_lsn > expected);
        passed || !self.attempt_open
    }
}

/// A batch to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// The bytes, the same at every attempt.
    pub batch: Bytes,
    /// What they are to be sent with.
    pub conditions: Conditions,
}

impl Lane {
    /// An empty lane whose records take room in `budget`.
    pub(crate) fn new(settings: LaneSettings, budget: Arc<Semaphore>) -> Self {
        Self {
            settings,
            budget,
            open: None,
            queued: VecDeque::new(),
            in_flight: VecDeque::new(),
            left: 0,
            next_sequence: 0,
            poison: None,
        }
    }

    /// An empty lane without a limit on what waits: its host bounds that.
    #[must_use]
    pub fn without_budget(settings: LaneSettings) -> Self {
        Self::new(settings, Arc::new(Semaphore::new(0)))
    }

    /// Appends a record to the open batch, holding `permits` of the buffer. The second value says
    /// whether the sender should look now.
    pub(crate) fn push(
        &mut self,
        record: &Record,
        permits: usize,
        now: Duration,
    ) -> Result<(Delivery, bool), ProduceError> {
        self.check_poison()?;
        let full = |open: &Open| open.builder.size_bytes_with(record) > self.settings.batch_bytes;
        let mut wake = self.open.as_ref().is_some_and(full);
        if wake {
            self.seal();
        }
        let budget = &self.budget;
        let open = self.open.get_or_insert_with(|| {
            wake = true;
            Open { builder: BatchBuilder::new(), ticket: Ticket::new(Arc::clone(budget)), since: now }
        });
        let index = open.builder.records();
        open.builder.push(record).map_err(|error| super::too_large("batch", &error))?;
        open.ticket.hold(permits);
        wake |= open.builder.size_bytes() >= self.settings.batch_bytes;
        Ok((Delivery { ticket: Arc::clone(&open.ticket), index }, wake))
    }

    /// Appends a batch of its own.
    ///
    /// # Errors
    /// The lane has ended: an earlier batch failed for good.
    pub fn push_batch(
        &mut self,
        builder: BatchBuilder,
        conditions: Conditions,
        permits: usize,
    ) -> Result<BatchDelivery, ProduceError> {
        self.check_poison()?;
        self.seal();
        let ticket = Ticket::new(Arc::clone(&self.budget));
        ticket.hold(permits);
        self.queued.push_back(Queued { builder, conditions, ticket: Arc::clone(&ticket) });
        Ok(BatchDelivery { ticket })
    }

    /// Closes the open batch; returns the tickets of all that is not settled.
    pub(crate) fn flush(&mut self) -> Vec<Arc<Ticket>> {
        self.seal();
        let in_flight = self.in_flight.iter().map(|sent| &sent.ticket);
        in_flight.chain(self.queued.iter().map(|queued| &queued.ticket)).map(Arc::clone).collect()
    }

    /// The next batch that may leave now.
    pub fn next_dispatch(&mut self, now: Duration) -> Option<Dispatch> {
        if let Some(again) = self.in_flight.get(self.left) {
            self.left += 1;
            return Some(again.dispatch.clone());
        }
        if self.in_flight.len() >= self.settings.in_flight_max {
            return None;
        }
        if self.queued.is_empty() && self.open_is_due(now) {
            self.seal();
        }
        let conditional = |conditions: &Conditions| conditions.expected_next_lsn.is_some();
        let next_stands_alone = self.queued.front().is_some_and(|next| conditional(&next.conditions));
        let alone_in_flight =
            self.in_flight.back().is_some_and(|sent| conditional(&sent.dispatch.conditions));
        if alone_in_flight || (next_stands_alone && !self.in_flight.is_empty()) {
            return None;
        }
        let queued = self.queued.pop_front()?;
        Some(self.launch(queued))
    }

    /// Gives a batch its sequence and bytes.
    fn launch(&mut self, queued: Queued) -> Dispatch {
        let records = queued.builder.records();
        let base_sequence = self.next_sequence;
        let Identity { id, epoch } = self.settings.identity;
        let sequence = if self.settings.identity.is_some() {
            self.next_sequence = add_to_sequence(base_sequence, records);
            ProducerSequence { id, epoch, base_sequence }
        } else {
            ProducerSequence::NONE
        };
        let batch = queued.builder.build(sequence).expect("only batches with records are queued");
        let dispatch = Dispatch { batch, conditions: queued.conditions };
        let ticket = queued.ticket;
        self.in_flight.push_back(Sent {
            dispatch: dispatch.clone(),
            base_sequence,
            ticket,
            attempt_open: false,
        });
        self.left += 1;
        dispatch
    }

    /// When the open batch must leave even if nothing is added; `None` if none waits for that alone.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let open = self.open.as_ref()?;
        let may_leave = self.partial_may_leave() && self.queued.is_empty();
        may_leave.then(|| open.since.saturating_add(self.settings.linger))
    }

    /// The front is stored.
    pub fn front_stored(&mut self, produced: &Produced) {
        if let Some(front) = self.take_front() {
            front.ticket.settle(Ok(BatchAck {
                partition: self.settings.partition,
                first_lsn: produced.first_lsn,
                last_lsn: produced.last_lsn,
                duplicate: produced.duplicate,
            }));
        }
    }

    /// The front failed for good: tells it, and poisons the lane unless the failure consumed nothing.
    pub fn front_failed(&mut self, mut error: ProduceError) {
        let Some(front) = self.take_front() else { return };
        if let ProduceError::ConditionFailed { next_lsn } = error {
            let settled =
                front.is_settled_at(next_lsn) || planted::is_active(Bug::ReuseSequenceOfOpenAttempt);
            if settled && self.in_flight.is_empty() {
                self.next_sequence = front.base_sequence;
                front.ticket.settle(Err(error));
                return;
            }
            let last = format!(
                "the next LSN is {next_lsn}, not the expected one, but an earlier attempt is unanswered and may be \
                 stored yet"
            );
            error = RequestError::OutcomeUnknown { last }.into();
        }
        // Stored is stored: the sequence stands, and what follows is in order.
        if matches!(error, ProduceError::StoredLongAgo) {
            front.ticket.settle(Err(error));
            return;
        }
        let cause = Arc::new(error.clone());
        self.poison = Some(Arc::clone(&cause));
        front.ticket.settle(Err(error));
        self.settle_rest(|| ProduceError::Poisoned { cause: Arc::clone(&cause) });
    }

    /// An attempt failed: everything in flight is to be sent again. `outcome_open` if it may yet be stored.
    pub fn resend(&mut self, outcome_open: bool) {
        self.in_flight.iter_mut().take(self.left).for_each(|sent| sent.attempt_open |= outcome_open);
        self.left = 0;
        if planted::is_active(Bug::ResendOnlyTheLast) {
            self.left = self.in_flight.len().saturating_sub(1);
        }
    }

    /// Gives up on everything.
    pub fn abandon(&mut self) {
        self.settle_rest(|| ProduceError::Closed);
        self.poison = Some(Arc::new(ProduceError::Closed));
    }

    /// Whether nothing is left to be done.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.queued.is_empty() && self.in_flight.is_empty()
    }

    fn settle_rest(&mut self, error: impl Fn() -> ProduceError) {
        self.seal();
        let left = std::mem::take(&mut self.left);
        for (place, sent) in self.in_flight.drain(..).enumerate() {
            // What has left and is not answered may be stored.
            let unanswered = place < left || sent.attempt_open;
            sent.ticket.settle(Err(if unanswered { unanswered_behind() } else { error() }));
        }
        self.queued.drain(..).for_each(|queued| queued.ticket.settle(Err(error())));
    }

    fn take_front(&mut self) -> Option<Sent> {
        let another = self.in_flight.len() > 1 && planted::is_active(Bug::TakeAnotherBatchsAnswer);
        let front = if another { self.in_flight.pop_back() } else { self.in_flight.pop_front() }?;
        self.left = self.left.saturating_sub(1);
        Some(front)
    }

    fn check_poison(&self) -> Result<(), ProduceError> {
        match &self.poison {
            None => Ok(()),
            Some(cause) if matches!(**cause, ProduceError::Closed) => Err(ProduceError::Closed),
            Some(cause) => Err(ProduceError::Poisoned { cause: Arc::clone(cause) }),
        }
    }

    fn open_is_due(&self, now: Duration) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let full = open.builder.size_bytes() >= self.settings.batch_bytes;
            full || (self.partial_may_leave() && now >= open.since.saturating_add(self.settings.linger))
        })
    }

    /// Whether a batch that is not full may leave: while others are on their way it had better grow.
    fn partial_may_leave(&self) -> bool {
        self.in_flight.len() < self.settings.in_flight_max.min(PARTIAL_IN_FLIGHT_MAX)
    }

    fn seal(&mut self) {
        if let Some(Open { builder, ticket, .. }) = self.open.take() {
            let conditions = Conditions { fence: self.settings.fence, ..Conditions::default() };
            self.queued.push_back(Queued { builder, conditions, ticket });
        }
    }
}

/// The sequence `records` later; after `i32::MAX` comes 0 (KIP-98).
fn unanswered_behind() -> ProduceError {
    let last = "the partition's lane ended before it was answered".into();
    RequestError::OutcomeUnknown { last }.into()
}

fn add_to_sequence(sequence: i32, records: u32) -> i32 {
    let wrapped = (i64::from(sequence) + i64::from(records)) & i64::from(i32::MAX);
    i32::try_from(wrapped).expect("the mask leaves 31 bits")
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
