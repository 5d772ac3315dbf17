//! Readers and watchers: what each node shows, and how far it says the log goes.
//!
//! What holds: a read counts as asked for when its subscription was, since a broker may have sent it any time after. A
//! watcher marks where its node's process may have ended: whenever its connection was a new one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lockstep_checker::{Operation, Read, RecordId, Records, Restart, Tail};
use lockstep_client::jitter::{Jitter, SplitMix};
use lockstep_client::{Client, ConsumedBatch, Consumer, Start};

use super::recorder::Recorder;

/// Before a reader or watcher asks again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a reader stays with one subscription, at most.
const STAY_MAX_MS: u64 = 2_000;

/// Which partition, and who records it.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) recorder: Arc<Recorder>,
    pub(super) topic: String,
    pub(super) partition: u32,
}

impl Place {
    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = self.recorder.stopped() => {}
        }
    }
}

/// Reads from one node after the other, each time from anywhere in the log on.
pub(super) struct Reader {
    pub(super) place: Place,
    pub(super) client: Client,
    pub(super) id: u64,
    pub(super) nodes: Vec<u64>,
    pub(super) random: SplitMix,
}

impl Reader {
    /// Reads until everybody is to stop, whatever fails.
    pub(super) async fn run(mut self) {
        while !self.place.recorder.is_stopped() {
            let node = self.nodes[(self.random.next() % self.nodes.len() as u64) as usize];
            let known = self.place.recorder.counts.last_lsn.load(Ordering::Relaxed);
            let from_lsn = 1 + self.random.next() % (known + 1);
            let invoked = self.place.recorder.now();
            let builder = self.client.consumer(&self.place.topic).partition(self.place.partition);
            match builder.only_from_node(node).from(Start::Lsn(from_lsn)).open().await {
                Ok(consumer) => self.follow(consumer, node, from_lsn, invoked).await,
                Err(_) => self.place.pause().await,
            }
        }
    }

    async fn follow(&mut self, mut consumer: Consumer, node: u64, mut from_lsn: u64, invoked: u64) {
        let stay = Duration::from_millis(100 + self.random.next() % STAY_MAX_MS);
        let until = tokio::time::sleep(stay);
        tokio::pin!(until);
        let mut continues = false;
        loop {
            let batch = tokio::select! {
                batch = consumer.next_batch() => batch,
                () = &mut until => return,
                () = self.place.recorder.stopped() => return,
            };
            let Some(Ok(batch)) = batch else { return self.place.pause().await };
            let completed = self.place.recorder.now();
            let (reader, high_watermark) = (self.id, None);
            let records = ids(&batch).collect::<Records>();
            let read =
                Read { reader, node, from_lsn, invoked, completed, high_watermark, records, continues };
            (from_lsn, continues) = (batch.last_lsn + 1, true);
            self.place.recorder.record(Operation::Read(read));
        }
    }
}

/// Whose the records of a batch are, with their LSNs.
pub(super) fn ids(batch: &ConsumedBatch) -> impl Iterator<Item = (u64, RecordId)> {
    (batch.first_lsn..).zip(batch.records()).map(|(lsn, record)| {
        let value = record.ok().and_then(|record| record.value);
        (lsn, value.and_then(|value| RecordId::parse(&value)).unwrap_or(RecordId::FOREIGN))
    })
}

/// Asks one node again and again how far its log goes. Its client must never retry: an answer has to be of the
/// connection that the request began with, or of a new one.
pub(super) async fn watch_node(place: Place, client: Client, node: u64) {
    let mut connections = None;
    while !place.recorder.is_stopped() {
        let invoked = place.recorder.now();
        let answer = client.tail_of_node(node, &place.topic, place.partition).await;
        let completed = place.recorder.now();
        if let Ok(tail) = answer {
            let opened = client.connections_opened();
            if connections.replace(opened).is_some_and(|before| before != opened) {
                // The old process ended before the new connection was made, the one before or during this question.
                for at in [invoked, completed] {
                    place.recorder.record(Operation::Restart(Restart { node, at }));
                }
            }
            let high_watermark = tail.high_watermark;
            let tail = Tail { reader: 0, node, confirmed: false, invoked, completed, high_watermark };
            place.recorder.record(Operation::Tail(tail));
        }
        place.pause().await;
    }
}

/// Asks the leader again and again how far the log goes, confirmed by a majority.
pub(super) async fn watch_tail(place: Place, client: Client) {
    while !place.recorder.is_stopped() {
        let invoked = place.recorder.now();
        if let Ok(tail) = client.tail(&place.topic, place.partition, true).await {
            let (completed, high_watermark) = (place.recorder.now(), tail.high_watermark);
            let tail = Tail { reader: 0, node: 0, confirmed: true, invoked, completed, high_watermark };
            place.recorder.record(Operation::Tail(tail));
        }
        place.pause().await;
    }
}
