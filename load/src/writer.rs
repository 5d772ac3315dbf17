//! Writing: what a lane sends, by the client.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_client::producer::now_ms;
use lockstep_client::{BatchDelivery, Client, Delivery, Producer, ProducerRecord, Record};

use crate::error::LoadError;
use crate::key;
use crate::lane::Append;
use crate::pace::nanoseconds;
use crate::plan::{Batching, Plan, STAMP_BYTES};
use crate::topic::{Topic, client_batching};

/// Batches in flight per partition where the client groups records: the client's own default.
const CLIENT_BATCHES_IN_FLIGHT: usize = 5;

/// Sends records to one partition.
pub(crate) struct Writer {
    producer: Producer,
    topic: Arc<str>,
    partition: u32,
    batching: Batching,
    /// A value without a stamp.
    filler: Bytes,
    /// The run's tag, and the lane's number: a part of each key.
    tag: u64,
    lane: u32,
    is_stamped: bool,
}

/// A send that is not acknowledged yet.
pub(crate) enum Pending {
    Record(Delivery),
    Batch(BatchDelivery),
}

/// A producer as the plan wants it.
pub(crate) async fn producer(client: &Client, plan: &Plan) -> Result<Producer, LoadError> {
    let (batch_bytes, linger) = client_batching(plan.batching);
    let in_flight = match plan.batching {
        Batching::Client { .. } => CLIENT_BATCHES_IN_FLIGHT,
        Batching::Records(_) => plan.in_flight as usize,
    };
    let builder = client.producer().batch_bytes(batch_bytes).linger(linger).max_in_flight(in_flight);
    Ok(builder.build().await?)
}

impl Writer {
    pub(crate) fn new(producer: Producer, topic: &Topic, lane: u32, plan: &Plan, tag: u64) -> Self {
        let filler = Bytes::from(filler(plan.record_bytes));
        let (name, partition) = (Arc::clone(&topic.name), lane % topic.partitions);
        let is_stamped = plan.is_stamped();
        Self { producer, topic: name, partition, batching: plan.batching, filler, tag, lane, is_stamped }
    }

    fn record(&self, number: u64, index: u32, value: Bytes) -> Record {
        // A lane would have to send for weeks to have no number left.
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let key = key::of(short(self.tag), self.lane, number, index);
        Record::new(now_ms(), value).with_key(key)
    }

    fn value(&self, began: Duration) -> Bytes {
        if !self.is_stamped {
            return self.filler.clone();
        }
        let mut value = BytesMut::with_capacity(self.filler.len());
        value.put_u64(self.tag);
        value.put_u64(nanoseconds(began));
        value.put_slice(&self.filler[STAMP_BYTES..]);
        value.freeze()
    }
}

/// A run's tag, as its keys have it.
pub(crate) fn short(tag: u64) -> u32 {
    tag as u32
}

impl Append for Writer {
    type Pending = Pending;

    async fn append(&self, number: u64, began: Duration) -> Result<Pending, LoadError> {
        let value = self.value(began);
        match self.batching {
            Batching::Client { .. } => {
                let (topic, partition) = (Arc::clone(&self.topic), Some(self.partition));
                let record = self.record(number, 0, value);
                let record = ProducerRecord { topic, partition, record };
                Ok(Pending::Record(self.producer.enqueue(record).await?))
            }
            Batching::Records(count) => {
                let records: Vec<_> =
                    (0..count).map(|index| self.record(number, index, value.clone())).collect();
                let delivery = self.producer.enqueue_batch(&self.topic, self.partition, &records).await?;
                Ok(Pending::Batch(delivery))
            }
        }
    }

    async fn acknowledged(pending: Pending) -> Result<u64, LoadError> {
        Ok(match pending {
            Pending::Record(delivery) => delivery.ack().await?.lsn,
            Pending::Batch(delivery) => delivery.ack().await?.first_lsn,
        })
    }

    fn records(&self) -> u64 {
        match self.batching {
            Batching::Client { .. } => 1,
            Batching::Records(count) => u64::from(count),
        }
    }

    fn bytes(&self) -> u64 {
        self.records() * self.filler.len() as u64
    }
}

/// Bytes that do not compress, the same at every run.
pub(crate) fn filler(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut filler = Vec::with_capacity(bytes + 8);
    while filler.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        filler.extend_from_slice(&state.to_le_bytes());
    }
    filler.truncate(bytes);
    filler
}

/// When a value of this run was due; `None` for anybody else's.
pub(crate) fn began(value: &[u8], tag: u64) -> Option<Duration> {
    let stamp = value.first_chunk::<STAMP_BYTES>()?;
    let (theirs, began) = stamp.split_at(8);
    (theirs == tag.to_be_bytes()).then(|| {
        let nanoseconds = began.try_into().map_or(0, u64::from_be_bytes);
        Duration::from_nanos(nanoseconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fillers_have_the_length_asked_for() {
        for bytes in [0, 1, 7, 8, 9, 1000] {
            assert_eq!(filler(bytes).len(), bytes);
        }
    }

    #[test]
    fn a_stamp_is_read_back_and_a_strangers_is_not() {
        let mut value = 7_u64.to_be_bytes().to_vec();
        value.extend(1_234_u64.to_be_bytes());
        value.extend(b"rest");
        assert_eq!(began(&value, 7), Some(Duration::from_nanos(1_234)));
        assert_eq!(began(&value, 8), None);
        assert_eq!(began(&value[..15], 7), None);
    }
}
