//! Writers: each appends batches whose records say whose they are, and records what it is told.
//!
//! What holds: a client id never outlives its producer. After a failure that leaves an outcome open the writer goes on
//! as a new client, since the old one's batches may still arrive behind the new one's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lockstep_checker::{Append, AppendOutcome, Operation, RecordId};
use lockstep_client::jitter::{Jitter, SplitMix};
use lockstep_client::producer::now_ms;
use lockstep_client::{BatchAck, BatchDelivery, Client, ProduceError, Producer, Record};
use tokio::time::Instant;

use super::recorder::Recorder;

/// Batches of one pipelining writer under way at once.
const PIPELINE_MAX: usize = 4;
/// Before a writer that failed goes on.
const PAUSE: Duration = Duration::from_millis(50);

/// How a writer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Several batches under way, retried under their sequence.
    Pipelined,
    /// One batch at a time, and no retry that could store it twice.
    OneByOne,
    /// One batch at a time, each only if it gets the LSN it expects.
    Conditional,
}

impl Kind {
    /// Of eight writers five pipeline, two go one by one, one states conditions.
    pub(super) fn of(writer: u32) -> Self {
        match writer % 8 {
            2 | 5 => Self::OneByOne,
            3 => Self::Conditional,
            _ => Self::Pipelined,
        }
    }
}

/// What all writers have in common.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) topic: String,
    pub(super) partition: u32,
    /// Most records of a batch.
    pub(super) batch_records: u32,
    /// Bytes of a value beyond the id in it.
    pub(super) padding: usize,
    /// Time from one batch of a writer to its next; zero for none.
    pub(super) interval: Duration,
}

/// One writer.
pub(super) struct Writer {
    pub(super) recorder: Arc<Recorder>,
    pub(super) client: Client,
    pub(super) kind: Kind,
    pub(super) load: Load,
    pub(super) random: SplitMix,
}

/// A producer and the client it is known as.
struct Life {
    producer: Producer,
    client: u64,
    number: u64,
    next_at: Instant,
}

impl Writer {
    /// Writes until everybody is to stop, whatever fails.
    pub(super) async fn run(mut self) {
        while !self.recorder.is_stopped() {
            let builder = self.client.producer().idempotent(self.kind != Kind::OneByOne);
            // It fails while nobody leads: that passes.
            if let Ok(producer) = builder.build().await {
                let client = self.recorder.new_client();
                let life = Life { producer, client, number: 0, next_at: Instant::now() };
                match self.kind {
                    Kind::Conditional => self.live_conditionally(life).await,
                    Kind::Pipelined => self.live(life, PIPELINE_MAX).await,
                    Kind::OneByOne => self.live(life, 1).await,
                }
            }
            self.pause().await;
        }
    }

    /// Keeps up to `pipeline` batches under way, until one fails or everybody is to stop; then waits for the rest.
    async fn live(&mut self, mut life: Life, pipeline: usize) {
        let mut waiting: VecDeque<(Append, BatchDelivery)> = VecDeque::new();
        let mut over = false;
        loop {
            over |= self.recorder.is_stopped();
            tokio::select! {
                biased;
                outcome = acknowledged(&waiting), if !waiting.is_empty() => {
                    if let Some((append, _)) = waiting.pop_front() {
                        over |= outcome.is_err();
                        self.record(append, meaning(&outcome));
                    }
                }
                () = tokio::time::sleep_until(life.next_at), if !over && waiting.len() < pipeline => {
                    let (append, records) = self.next_batch(&mut life);
                    match life.producer.enqueue_batch(&self.load.topic, self.load.partition, &records).await {
                        Ok(delivery) => waiting.push_back((append, delivery)),
                        Err(_) => {
                            self.record(append, AppendOutcome::Unknown);
                            over = true;
                        }
                    }
                }
                () = self.recorder.stopped(), if !over => {}
                else => break,
            }
        }
    }

    /// One batch after the other, each for the LSN that was next when it was last heard of.
    async fn live_conditionally(&mut self, mut life: Life) {
        let (topic, partition) = (self.load.topic.clone(), self.load.partition);
        let mut next_lsn = None;
        while !self.recorder.is_stopped() {
            tokio::time::sleep_until(life.next_at).await;
            let expected = match next_lsn {
                Some(lsn) => lsn,
                None => match self.client.tail(&topic, partition, false).await {
                    Ok(tail) => tail.next_lsn,
                    Err(_) => return,
                },
            };
            let (mut append, records) = self.next_batch(&mut life);
            append.expected_next_lsn = Some(expected);
            let outcome = life.producer.send_batch_if(&topic, partition, records, expected).await;
            next_lsn = match &outcome {
                Ok(ack) => Some(ack.last_lsn + 1),
                Err(ProduceError::ConditionFailed { next_lsn }) => Some(*next_lsn),
                Err(_) => None,
            };
            self.record(append, meaning(&outcome));
            if next_lsn.is_none() {
                return;
            }
        }
    }

    /// A batch of this client, asked for now.
    fn next_batch(&mut self, life: &mut Life) -> (Append, Vec<Record>) {
        life.number += 1;
        life.next_at = Instant::now().max(life.next_at + self.load.interval);
        let count = 1 + (self.random.next() % u64::from(self.load.batch_records.max(1))) as u32;
        let timestamp_ms = now_ms();
        let record = |index| {
            let value = RecordId::new(life.client, life.number, index).to_value(self.load.padding);
            Record::new(timestamp_ms, value)
        };
        let records = (0..count).map(record).collect();
        (Append::invoked(life.client, life.number, count, self.recorder.now()), records)
    }

    fn record(&self, append: Append, outcome: AppendOutcome) {
        let completed = self.recorder.now();
        self.recorder.record(Operation::Append(Append { completed, outcome, ..append }));
    }

    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = self.recorder.stopped() => {}
        }
    }
}

/// What an outcome says for certain. A batch behind a failed one may have been on its way already.
fn meaning(outcome: &Result<BatchAck, ProduceError>) -> AppendOutcome {
    match outcome {
        Ok(BatchAck { first_lsn, last_lsn, duplicate, .. }) => {
            AppendOutcome::Acknowledged { first_lsn: *first_lsn, last_lsn: *last_lsn, duplicate: *duplicate }
        }
        Err(ProduceError::ConditionFailed { .. } | ProduceError::TooLarge { .. } | ProduceError::Empty) => {
            AppendOutcome::CertainlyFailed
        }
        Err(_) => AppendOutcome::Unknown,
    }
}

/// The outcome of what was sent first. Cancel-safe; for ever if nothing was.
async fn acknowledged(waiting: &VecDeque<(Append, BatchDelivery)>) -> Result<BatchAck, ProduceError> {
    match waiting.front() {
        Some((_, delivery)) => delivery.ack().await,
        None => std::future::pending().await,
    }
}
