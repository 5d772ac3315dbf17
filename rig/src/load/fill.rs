//! The log that is there before a load begins: large batches, as fast as they are taken.

use std::sync::Arc;

use lockstep_checker::{Append, AppendOutcome, RecordId};
use lockstep_client::{BatchAck, BatchDelivery, Producer, Record};

use super::{Shared, TOPIC, connect};
use crate::error::RigError;

const BATCH_RECORDS: u32 = 16;
const VALUE_BYTES: usize = 16 << 10;
/// Batches of one partition under way at once.
const UNDER_WAY_MAX: usize = 4;

/// Writes as much to every partition as the plan says, all of it acknowledged when this returns.
///
/// # Errors
/// A batch is not acknowledged.
pub(super) async fn fill(shared: &Arc<Shared>) -> Result<(), RigError> {
    if shared.plan.log_mib == 0 {
        return Ok(());
    }
    let client = connect(&shared.bootstrap).await.map_err(refused)?;
    let producer = Arc::new(client.producer().build().await.map_err(refused)?);
    let partitions: Vec<_> = (0..shared.plan.partitions)
        .map(|partition| tokio::spawn(fill_partition(Arc::clone(shared), Arc::clone(&producer), partition)))
        .collect();
    for partition in partitions {
        partition.await.map_err(refused)??;
    }
    Ok(())
}

fn refused(error: impl ToString) -> RigError {
    RigError::Refused { what: "a batch of the log to begin with", said: error.to_string() }
}

async fn fill_partition(
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    partition: u32,
) -> Result<(), RigError> {
    let name = shared.new_writer();
    let batches = (shared.plan.log_mib << 20) / (u64::from(BATCH_RECORDS) * VALUE_BYTES as u64);
    let mut under_way = std::collections::VecDeque::new();
    for number in 1..=batches {
        if under_way.len() >= UNDER_WAY_MAX
            && let Some(oldest) = under_way.pop_front()
        {
            settle(&shared, partition, oldest).await?;
        }
        let record = |index| Record::new(0, RecordId { client: name, number, index }.to_value(VALUE_BYTES));
        let records: Vec<Record> = (0..BATCH_RECORDS).map(record).collect();
        let append = Append::invoked(name, number, BATCH_RECORDS, shared.recorder.now());
        let place = shared.recorder.invoked(partition, append);
        let delivery = producer.enqueue_batch(TOPIC, partition, &records).await.map_err(refused)?;
        under_way.push_back((place, delivery));
    }
    for left in under_way {
        settle(&shared, partition, left).await?;
    }
    Ok(())
}

async fn settle(
    shared: &Shared,
    partition: u32,
    (place, delivery): (usize, BatchDelivery),
) -> Result<(), RigError> {
    let BatchAck { first_lsn, last_lsn, duplicate, .. } = delivery.ack().await.map_err(refused)?;
    let outcome = AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate };
    shared.recorder.completed(partition, place, outcome);
    Ok(())
}
