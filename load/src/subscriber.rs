//! Subscribing: every record of the run is to arrive, once, soon after it was due.

use std::sync::Arc;
use std::time::Duration;

use lockstep_checker::{Read, RecordId};
use lockstep_client::{ConsumeError, ConsumedBatch, ConsumedRecord, Consumer};
use tokio::sync::watch;

use crate::error::LoadError;
use crate::key;
use crate::pace::{Clock, nanoseconds};
use crate::series::{Sample, Series};
use crate::writer;

/// How long the last records may take to arrive once all of them are acknowledged.
const PATIENCE: Duration = Duration::from_secs(30);

/// Batches that a subscriber keeps for the checker, at most.
const SHOWN_MAX: usize = 1 << 20;

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
    /// What it is shown, for the checker, if it keeps that.
    pub(crate) shown: Option<Shown>,
}

/// What one subscriber was shown, each batch with its partition.
pub(crate) type Shown = Vec<(u32, Read)>;

impl Subscriber {
    /// Takes records until it has all that were acknowledged.
    pub(crate) async fn run(mut self) -> Result<Shown, LoadError> {
        let mut delivered = 0;
        loop {
            let all = *self.acknowledged.borrow();
            match all {
                Some(all) if delivered == all => return Ok(self.shown.unwrap_or_default()),
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
                        return Ok(Shown::new());
                    }
                }
                () = tokio::time::sleep(PATIENCE), if all.is_some() => return Err(too_few(delivered, all)),
            }
        }
    }

    /// Counts a batch. All its records count from when its first was due: none of them was due before it.
    fn take(&mut self, batch: &ConsumedBatch) -> Result<u64, LoadError> {
        let first = batch.records().next().transpose()?;
        let value = first.and_then(|record| record.value).unwrap_or_default();
        let Some(began) = writer::began(&value, self.tag) else { return Ok(0) };
        let records = batch.last_lsn - batch.first_lsn + 1;
        let (bytes, ended) = (records * self.record_bytes, self.clock.now());
        self.series.record(self.number, &Sample { began, ended, records, bytes });
        self.keep(batch, ended);
        Ok(records)
    }

    fn keep(&mut self, batch: &ConsumedBatch, at: Duration) {
        let Some(shown) = self.shown.as_mut().filter(|shown| shown.len() < SHOWN_MAX) else { return };
        let tag = writer::short(self.tag);
        let id = |record: Result<ConsumedRecord, ConsumeError>| {
            let key = record.ok().and_then(|record| record.key);
            key::id(key.as_deref(), tag).unwrap_or(RecordId::FOREIGN)
        };
        let records = (batch.first_lsn..).zip(batch.records().map(id)).collect();
        let completed = nanoseconds(at);
        let (reader, node, from_lsn, invoked) = (self.number as u64, 0, batch.first_lsn, 0);
        // Whether it goes on from another is for whoever judges some of them.
        let (high_watermark, continues) = (None, false);
        let read = Read { reader, node, from_lsn, invoked, completed, high_watermark, records, continues };
        shown.push((batch.partition, read));
    }
}

fn too_few(delivered: u64, all: Option<u64>) -> LoadError {
    let all = all.map_or("all".to_owned(), |all| all.to_string());
    LoadError::Violation(format!("a subscriber got {delivered} of {all} acknowledged records"))
}

fn too_many(delivered: u64, all: u64) -> LoadError {
    LoadError::Violation(format!("a subscriber got {delivered} records, and only {all} were acknowledged"))
}
