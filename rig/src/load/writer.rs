//! One writer: sends batches, each once as far as it knows, and records what it was told.

use std::collections::VecDeque;
use std::sync::Arc;

use lockstep_checker::{Append, AppendOutcome, RecordId};
use lockstep_client::{BatchAck, BatchDelivery, Client, ProduceError, Producer, Record};

use super::{Shared, TOPIC, rest};
use crate::random::Random;

/// Batches a pipelining writer has under way.
const IN_FLIGHT: usize = 4;
/// Records of a batch, at most.
const RECORDS_MAX: u64 = 12;
/// Above this a value is rare.
const SMALL_VALUE_BYTES: u64 = 512;

/// How a writer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Several batches under way, each stored once however often it is sent.
    Pipelined,
    /// One at a time, never sent twice: an answer that does not come leaves the outcome open.
    OneByOne,
    /// One at a time, each on the condition that it gets the LSN the writer expects.
    Conditional,
}

/// One writer.
pub(super) struct Writer {
    shared: Arc<Shared>,
    partition: u32,
    style: Style,
    random: Random,
}

/// A batch under way.
struct UnderWay {
    /// Its place in the history.
    place: usize,
    delivery: BatchDelivery,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, partition: u32, number: u32, random: Random) -> Self {
        // Among many writers a condition rarely holds; so the last partition has conditional ones alone.
        let alone = partition > 0 && partition + 1 == shared.plan.partitions;
        let style = match number % 4 {
            _ if alone => Style::Conditional,
            2 => Style::OneByOne,
            3 => Style::Conditional,
            _ => Style::Pipelined,
        };
        Self { shared, partition, style, random }
    }

    /// Writes until the load stops, under one name after another.
    pub(super) async fn run(mut self) {
        let Some(client) = self.shared.client().await else { return };
        while !self.shared.is_stopping() {
            let producer = client.producer().idempotent(self.style != Style::OneByOne).build().await;
            match producer {
                Ok(producer) if self.style == Style::Conditional => {
                    self.conditional(&client, &producer).await;
                }
                Ok(producer) => self.unconditional(&producer).await,
                Err(_) => rest(&mut self.random, std::time::Duration::from_millis(50)).await,
            }
        }
    }

    /// Keeps batches under way until one ends badly.
    async fn unconditional(&mut self, producer: &Producer) {
        let name = self.shared.new_writer();
        let room = if self.style == Style::Pipelined { IN_FLIGHT } else { 1 };
        let mut under_way: VecDeque<UnderWay> = VecDeque::new();
        let mut number = 0;
        let mut ended_badly = false;
        loop {
            while !ended_badly && under_way.len() < room && !self.shared.is_stopping() {
                number += 1;
                let records = self.records(name, number);
                let place = self.begin(name, number, &records, None);
                match producer.enqueue_batch(TOPIC, self.partition, &records).await {
                    Ok(delivery) => under_way.push_back(UnderWay { place, delivery }),
                    // It never left, but to call it unknown is never wrong.
                    Err(_) => ended_badly = true,
                }
            }
            let Some(front) = under_way.pop_front() else { return };
            let outcome = outcome(front.delivery.ack().await);
            ended_badly |= outcome == AppendOutcome::Unknown;
            self.shared.recorder.completed(self.partition, front.place, outcome);
            rest(&mut self.random, self.shared.plan.rest_max).await;
        }
    }

    /// Sends batches for the LSN it believes to be next, until an end it cannot know.
    async fn conditional(&mut self, client: &Client, producer: &Producer) {
        let name = self.shared.new_writer();
        let mut number = 0;
        while !self.shared.is_stopping() {
            let Ok(tail) = client.tail(TOPIC, self.partition, false).await else { continue };
            number += 1;
            let expected = tail.high_watermark + 1;
            let records = self.records(name, number);
            let place = self.begin(name, number, &records, Some(expected));
            let outcome = outcome(producer.send_batch_if(TOPIC, self.partition, records, expected).await);
            self.shared.recorder.completed(self.partition, place, outcome);
            if outcome == AppendOutcome::Unknown {
                return;
            }
            rest(&mut self.random, self.shared.plan.rest_max * 4).await;
        }
    }

    fn begin(&self, name: u64, number: u64, records: &[Record], expected_next_lsn: Option<u64>) -> usize {
        let records = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let append = Append::invoked(name, number, records, self.shared.recorder.now());
        self.shared.recorder.invoked(self.partition, Append { expected_next_lsn, ..append })
    }

    fn records(&mut self, client: u64, number: u64) -> Vec<Record> {
        let count = u32::try_from(self.random.between(1, RECORDS_MAX)).unwrap_or(1);
        let value = |index| {
            let large = self.random.percent(5);
            let limit =
                self.shared.plan.value_bytes_max.min(if large { u64::MAX } else { SMALL_VALUE_BYTES });
            let padding = usize::try_from(self.random.below(limit)).unwrap_or(0);
            Record::new(0, RecordId { client, number, index }.to_value(padding))
        };
        (0..count).map(value).collect()
    }
}

/// What an answer says for certain.
fn outcome(answer: Result<BatchAck, ProduceError>) -> AppendOutcome {
    match answer {
        Ok(BatchAck { first_lsn, last_lsn, duplicate, .. }) => {
            AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate }
        }
        Err(ProduceError::ConditionFailed { .. }) => AppendOutcome::CertainlyFailed,
        // A refusal may be the answer to the second sending of what the first one stored.
        Err(_) => AppendOutcome::Unknown,
    }
}
