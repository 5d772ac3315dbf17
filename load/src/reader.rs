//! Reading from the first record on: again and again, or until it has caught up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_client::{Client, ConsumedBatch, Start};

use crate::error::LoadError;
use crate::pace::Clock;
use crate::series::{Sample, Series};

/// A reader of all partitions.
pub(crate) struct Reader {
    pub(crate) number: usize,
    pub(crate) client: Client,
    pub(crate) topic: Arc<str>,
    pub(crate) partitions: u32,
    /// Records that are there from the beginning on.
    pub(crate) there: u64,
    pub(crate) clock: Arc<Clock>,
    pub(crate) series: Arc<Series>,
}

impl Reader {
    /// Reads to the end and begins anew, until the time is over.
    pub(crate) async fn again_and_again(self) -> Result<(), LoadError> {
        self.clock.begun().await;
        while self.clock.now() < self.clock.measured_to() {
            let mut consumer =
                self.client.consumer(&*self.topic).from(Start::Earliest).until_end().open().await?;
            let (mut read, mut asked) = (0, self.clock.now());
            loop {
                if asked >= self.clock.measured_to() {
                    return Ok(());
                }
                let Some(batch) = consumer.next_batch().await else { break };
                read += self.take(&batch?, &mut asked)?;
            }
            self.check_whole(read)?;
        }
        Ok(())
    }

    fn check_whole(&self, read: u64) -> Result<(), LoadError> {
        let there = self.there;
        if read >= there {
            return Ok(());
        }
        Err(LoadError::Violation(format!("a reader got {read} of {there} records")))
    }

    /// Reads until it is at the end of every partition; says when that was, `None` if time was over before.
    pub(crate) async fn catch_up(self) -> Result<Option<Duration>, LoadError> {
        self.clock.begun().await;
        let mut consumer = self.client.consumer(&*self.topic).from(Start::Earliest).open().await?;
        let (mut at_end, mut read) = (BTreeMap::new(), 0);
        let mut asked = self.clock.now();
        let mut wait = tokio::time::interval(Duration::from_millis(100));
        while self.clock.now() < self.clock.measured_to() {
            let batch = tokio::select! {
                biased;
                batch = consumer.next_batch() => batch,
                _ = wait.tick() => continue,
            };
            let Some(batch) = batch else { break };
            let batch = batch?;
            read += self.take(&batch, &mut asked)?;
            at_end.insert(batch.partition, batch.last_lsn >= batch.high_watermark);
            if at_end.len() == self.partitions as usize && at_end.values().all(|at_end| *at_end) {
                self.check_whole(read)?;
                return Ok(Some(self.clock.now()));
            }
        }
        Ok(None)
    }

    /// Counts a batch, record by record, as whoever reads them would. Its latency is how long the reader waited for it.
    fn take(&self, batch: &ConsumedBatch, asked: &mut Duration) -> Result<u64, LoadError> {
        let (mut records, mut bytes) = (0, 0);
        for record in batch.records() {
            records += 1;
            bytes += record?.value.map_or(0, |value| value.len() as u64);
        }
        let ended = self.clock.now();
        self.series.record(self.number, &Sample { began: *asked, ended, records, bytes });
        *asked = ended;
        Ok(records)
    }
}
