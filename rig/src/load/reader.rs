//! Readers: they follow a partition from any place at any replica, and ask for its end.

use std::sync::Arc;
use std::time::Duration;

use lockstep_client::{Client, Start};
use tokio::time::{Instant, timeout_at};

use super::{Shared, TOPIC, rest};
use crate::random::Random;

/// How long one reader keeps to its place and replica.
const SESSION: Duration = Duration::from_secs(2);
/// Records after which a reader looks elsewhere.
const SESSION_RECORDS: u64 = 4_000;
/// Between two questions for the end.
const TAIL_PAUSE: Duration = Duration::from_millis(25);

/// Follows a partition, from another place and at another replica again and again.
pub(super) async fn follow(shared: Arc<Shared>, partition: u32, mut random: Random) {
    let Some(client) = shared.client().await else { return };
    let mut reader = u64::from(partition) << 32;
    while !shared.is_stopping() {
        reader += 1;
        session(&shared, &client, partition, reader, &mut random).await;
        rest(&mut random, Duration::from_millis(20)).await;
    }
}

async fn session(shared: &Shared, client: &Client, partition: u32, reader: u64, random: &mut Random) {
    let recorder = &shared.recorder;
    let Ok(tail) = client.tail(TOPIC, partition, false).await else { return };
    let from = random.between(tail.log_start.max(1), tail.high_watermark + 1);
    let session = recorder.session(reader, random.between(1, shared.plan.replication.into()));
    let builder =
        client.consumer(TOPIC).partition(partition).from(Start::Lsn(from)).only_from_node(session.node);
    let Ok(mut consumer) = builder.open().await else { return };
    let end = Instant::now() + random.time(SESSION);
    let mut records = 0;
    while records < SESSION_RECORDS && !shared.is_stopping() {
        let invoked = recorder.now();
        let Ok(Some(Ok(batch))) = timeout_at(end, consumer.next_batch()).await else { return };
        let Some(count) = recorder.read(partition, session, invoked, &batch) else { return };
        records += count;
    }
}

/// Asks for the end again and again, confirmed by a majority.
pub(super) async fn ask_for_tails(shared: Arc<Shared>, partition: u32) {
    let Some(client) = shared.client().await else { return };
    while !shared.is_stopping() {
        let invoked = shared.recorder.now();
        if let Ok(tail) = client.tail(TOPIC, partition, true).await {
            shared.recorder.tail(partition, invoked, tail.high_watermark);
        }
        tokio::time::sleep(TAIL_PAUSE).await;
    }
}
