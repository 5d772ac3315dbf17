//! Partitions that are added to a topic while it is read.

use tokio::task::JoinSet;

use super::builder::{Batches, ConsumerBuilder, Start};
use crate::error::ConsumeError;

/// Reads each partition from `known` on of the topic of this id, once it is there, from its beginning: all that is in it came
/// after the consumer was opened.
pub(super) async fn read(builder: ConsumerBuilder, id: u32, mut known: u32, batches: Batches) {
    let mut readers = JoinSet::new();
    loop {
        tokio::time::sleep(builder.look_every).await;
        let count = builder.count(id).await.unwrap_or(known);
        while known < count {
            match builder.reader(id, known, Start::Earliest, &batches).await {
                Ok(reader) => readers.spawn(reader.run()),
                Err(error @ ConsumeError::NotThere { .. }) => {
                    // Whoever listens no more needs no error either.
                    let _ = batches.send(Err(error)).await;
                    return std::future::pending().await;
                }
                // Its first leader may not be there yet.
                Err(_) => break,
            };
            known += 1;
        }
    }
}
