//! An open loop: sends come at a fixed rate, whatever the cluster does, and are timed from when they were due.
//!
//! What holds:
//! - A send that waits behind a stall counts with the whole wait: nothing is left out because the cluster was slow.
//! - Every operation that ends in an error is counted as failed, with the first few in words: users would see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_checker::{Append, AppendOutcome, RecordId};
use lockstep_client::{BatchAck, BatchDelivery, Client, Producer, Record, Start};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Shared, TOPIC};

/// Between two questions for the end.
const TAIL_PAUSE: Duration = Duration::from_millis(25);
/// How often a consumer that waits looks whether the load stops.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// What a record holds beside its name, in bytes.
const PADDING_BYTES: usize = 100;

/// One acknowledged send, in microseconds since the load began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// When it was due.
    pub due: u64,
    /// When its acknowledgement came.
    pub acknowledged: u64,
}

/// One batch under way.
struct UnderWay {
    place: usize,
    due: u64,
    delivery: BatchDelivery,
}

/// Sends one record in a batch of its own every `period`, the first one at `offset`, until the load stops.
pub(super) async fn send(shared: Arc<Shared>, partition: u32, period: Duration, offset: Duration) {
    let Some(client) = shared.client().await else { return };
    let Some(producer) = producer(&shared, &client).await else { return };
    let name = shared.new_writer();
    let (under_way, acknowledgements) = mpsc::unbounded_channel();
    let settling = tokio::spawn(settle(Arc::clone(&shared), partition, acknowledgements));
    let begun = Instant::now() + offset;
    let begun_us = shared.recorder.now() + as_micros(offset);
    for number in 1_u32.. {
        let since = period * (number - 1);
        tokio::time::sleep_until(begun + since).await;
        if shared.is_stopping() {
            break;
        }
        let number = u64::from(number);
        let record = Record::new(0, RecordId { client: name, number, index: 0 }.to_value(PADDING_BYTES));
        let append = Append::invoked(name, number, 1, shared.recorder.now());
        let place = shared.recorder.invoked(partition, append);
        match producer.enqueue_batch(TOPIC, partition, &[record]).await {
            Ok(delivery) => {
                let _ = under_way.send(UnderWay { place, due: begun_us + as_micros(since), delivery });
            }
            Err(error) => {
                shared.recorder.completed(partition, place, AppendOutcome::Unknown);
                shared.failures.add(format!("a send: {error}"));
                break;
            }
        }
    }
    drop(under_way);
    let _ = settling.await;
}

async fn producer(shared: &Shared, client: &Client) -> Option<Producer> {
    while !shared.is_stopping() {
        if let Ok(producer) = client.producer().build().await {
            return Some(producer);
        }
    }
    None
}

/// Waits for what was sent, in order.
async fn settle(shared: Arc<Shared>, partition: u32, mut sent: mpsc::UnboundedReceiver<UnderWay>) {
    while let Some(UnderWay { place, due, delivery }) = sent.recv().await {
        let outcome = match delivery.ack().await {
            Ok(BatchAck { first_lsn, last_lsn, duplicate, .. }) => {
                shared.recorder.timed(Timing { due, acknowledged: shared.recorder.now() });
                shared.last_lsn.fetch_max(last_lsn, Ordering::Relaxed);
                AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate }
            }
            Err(error) => {
                shared.failures.add(format!("a send: {error}"));
                AppendOutcome::Unknown
            }
        };
        shared.recorder.completed(partition, place, outcome);
    }
}

/// Asks for the confirmed end again and again, at whoever leads.
pub(super) async fn ask_for_tails(shared: Arc<Shared>, partition: u32) {
    let Some(client) = shared.client().await else { return };
    while !shared.is_stopping() {
        let invoked = shared.recorder.now();
        match client.tail(TOPIC, partition, true).await {
            Ok(tail) => shared.recorder.tail(partition, invoked, tail.high_watermark),
            Err(error) => shared.failures.add(format!("a tail: {error}")),
        }
        tokio::time::sleep(TAIL_PAUSE).await;
    }
}

/// Consumes from the beginning, wherever the client finds a replica.
pub(super) async fn consume(shared: Arc<Shared>, partition: u32) {
    let Some(client) = shared.client().await else { return };
    let opened = client.consumer(TOPIC).partition(partition).from(Start::Earliest).open().await;
    let mut consumer = match opened {
        Ok(consumer) => consumer,
        Err(error) => return shared.failures.add(format!("opening a consumer: {error}")),
    };
    while !shared.is_stopping() {
        match timeout(LOOK_PAUSE, consumer.next_batch()).await {
            Err(_) => {}
            Ok(Some(Ok(batch))) => {
                shared.consumed.fetch_max(batch.last_lsn, Ordering::Relaxed);
            }
            Ok(Some(Err(error))) => return shared.failures.add(format!("a read: {error}")),
            Ok(None) => return shared.failures.add("a consumer ended by itself".to_owned()),
        }
    }
}

fn as_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Operations that ended in an error.
#[derive(Debug, Default)]
pub(super) struct Failures(AtomicU64);

impl Failures {
    /// How many are told in words.
    const TOLD_MAX: u64 = 5;

    fn add(&self, what: String) {
        if self.0.fetch_add(1, Ordering::Relaxed) < Self::TOLD_MAX {
            println!("FAILED {what}");
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
