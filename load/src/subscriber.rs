//! Subscribing: every record of the run is to arrive, once, soon after it was due.

use std::sync::Arc;
use std::time::Duration;

use lockstep_client::{ConsumedBatch, Consumer};
use tokio::sync::watch;

use crate::error::LoadError;
use crate::pace::Clock;
use crate::series::{Sample, Series};
use crate::writer;

/// How long the last records may take to arrive once all of them are acknowledged.
const PATIENCE: Duration = Duration::from_secs(30);

/// A subscriber to all partitions.
pub(crate) struct Subscriber {
    pub(crate) number: usize,
    pub(crate) consumer: Consumer,
    pub(crate) tag: u64,
    pub(crate) record_bytes: u64,
    pub(crate) clock: Arc<Clock>,
    pub(crate) series: Arc<Series>,
    /// How many records were acknowledged in all, once that is known.
    pub(crate) acknowledged: watch::Receiver<Option<u64>>,
}

impl Subscriber {
    /// Takes records until it has all that were acknowledged.
    pub(crate) async fn run(mut self) -> Result<(), LoadError> {
        let mut delivered = 0;
        loop {
            let all = *self.acknowledged.borrow();
            match all {
                Some(all) if delivered == all => return Ok(()),
                Some(all) if delivered > all => return Err(too_many(delivered, all)),
                _ => {}
            }
            tokio::select! {
                biased;
                batch = self.consumer.next_batch() => match batch {
                    Some(batch) => delivered += self.take(&batch?)?,
                    None => return Err(too_few(delivered, all)),
                },
                changed = self.acknowledged.changed(), if all.is_none() => {
                    // The writers failed: they say why.
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(PATIENCE), if all.is_some() => return Err(too_few(delivered, all)),
            }
        }
    }

    /// Counts a batch. All its records count from when its first was due: none of them was due before it.
    fn take(&self, batch: &ConsumedBatch) -> Result<u64, LoadError> {
        let first = batch.records().next().transpose()?;
        let value = first.and_then(|record| record.value).unwrap_or_default();
        let Some(began) = writer::began(&value, self.tag) else { return Ok(0) };
        let records = batch.last_lsn - batch.first_lsn + 1;
        let bytes = records * self.record_bytes;
        self.series.record(self.number, &Sample { began, ended: self.clock.now(), records, bytes });
        Ok(records)
    }
}

fn too_few(delivered: u64, all: Option<u64>) -> LoadError {
    let all = all.map_or("all".to_owned(), |all| all.to_string());
    LoadError::Violation(format!("a subscriber got {delivered} of {all} acknowledged records"))
}

fn too_many(delivered: u64, all: u64) -> LoadError {
    LoadError::Violation(format!("a subscriber got {delivered} records, and only {all} were acknowledged"))
}
