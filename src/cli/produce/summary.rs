//! What a run of `produce` achieved.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::Stored;
use crate::cli::exit::CliError;

/// Counts what was sent and what was acknowledged.
pub(super) struct Summary {
    topic: String,
    started: Instant,
    records_sent: u64,
    bytes_sent: u64,
    /// From the first record on, without a hole.
    records_acknowledged: u64,
    /// Behind the first failure.
    records_behind_failure: u64,
    /// Acknowledged LSNs: first and last per partition.
    lsns: BTreeMap<u32, (u64, u64)>,
    seconds: f64,
    failure: Option<CliError>,
}

impl Summary {
    pub(super) fn start(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            started: Instant::now(),
            records_sent: 0,
            bytes_sent: 0,
            records_acknowledged: 0,
            records_behind_failure: 0,
            lsns: BTreeMap::new(),
            seconds: 0.0,
            failure: None,
        }
    }

    pub(super) fn sent(&mut self, records: u64, bytes: u64) {
        self.records_sent += records;
        self.bytes_sent += bytes;
    }

    /// Bytes sent so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_sent
    }

    pub(super) fn acknowledged(&mut self, stored: Stored) {
        self.records_acknowledged += self.stored(stored);
    }

    pub(super) fn acknowledged_behind_failure(&mut self, stored: Stored) {
        self.records_behind_failure += self.stored(stored);
    }

    fn stored(&mut self, stored: Stored) -> u64 {
        let Stored { partition, first_lsn, last_lsn } = stored;
        let range = self.lsns.entry(partition).or_insert((first_lsn, last_lsn));
        *range = (range.0.min(first_lsn), range.1.max(last_lsn));
        last_lsn - first_lsn + 1
    }

    /// The clock stops; `result` says how it ended.
    pub(super) fn stop(&mut self, result: Result<(), CliError>) {
        self.seconds = self.started.elapsed().as_secs_f64();
        self.failure = result.err();
    }

    /// The end, as an exit code knows it.
    pub(super) fn result(self) -> Result<(), CliError> {
        let Some(failure) = self.failure else { return Ok(()) };
        if self.records_acknowledged + self.records_behind_failure == 0 {
            return Err(failure);
        }
        let behind = match self.records_behind_failure {
            0 => String::new(),
            count => format!(" (and {count} further on, in other partitions)"),
        };
        // With all that was sent acknowledged, the failure lies in the input behind it.
        let open = if self.records_acknowledged < self.records_sent {
            "whether the next ones are stored is unknown"
        } else {
            "nothing behind them was sent"
        };
        Err(CliError::Partly(format!(
            "only the first {} records of the input are acknowledged{behind}; {open}. {failure}",
            self.records_acknowledged
        )))
    }

    pub(super) fn json(&self) -> Value {
        let partitions = self.lsns.iter().map(|(partition, (first, last))| {
            json!({ "partition": partition, "first_lsn": first, "last_lsn": last })
        });
        json!({
            "topic": self.topic,
            "records": self.records_sent,
            "acknowledged": self.records_acknowledged + self.records_behind_failure,
            "acknowledged_prefix": self.records_acknowledged,
            "bytes": self.bytes_sent,
            "seconds": self.seconds,
            "partitions": partitions.collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let megabytes = self.bytes_sent as f64 / 1e6;
        let lsns: Vec<String> = self
            .lsns
            .iter()
            .map(|(partition, (first, last))| format!("{}/{partition} LSN {first}–{last}", self.topic))
            .collect();
        let lsns = if lsns.is_empty() { String::new() } else { format!(": {}", lsns.join(", ")) };
        format!(
            "{} of {} records acknowledged, {} bytes, {:.3} s, {:.1} MB/s{lsns}",
            self.records_acknowledged + self.records_behind_failure,
            self.records_sent,
            self.bytes_sent,
            self.seconds,
            megabytes / self.seconds.max(1e-9)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(first_lsn: u64, last_lsn: u64) -> Stored {
        Stored { partition: 0, first_lsn, last_lsn }
    }

    fn failed() -> Result<(), CliError> {
        Err(CliError::Failed("the disk is full".to_owned()))
    }

    #[test]
    fn a_failure_without_any_acknowledgement_is_the_failure_itself() {
        let mut summary = Summary::start("t");
        summary.sent(5, 50);
        summary.stop(failed());
        assert!(matches!(summary.result(), Err(CliError::Failed(_))));
    }

    #[test]
    fn a_failure_behind_acknowledged_records_says_how_far_it_came() {
        let mut summary = Summary::start("t");
        summary.sent(5, 50);
        summary.acknowledged(stored(7, 9));
        summary.stop(failed());
        let error = summary.result().unwrap_err();
        assert!(
            matches!(&error, CliError::Partly(text) if text.contains("first 3 records") && text.contains("full"))
        );
        assert!(error.to_string().contains("is unknown"), "two were sent and not acknowledged: {error}");
    }

    #[test]
    fn what_was_not_sent_is_not_called_unknown() {
        let mut summary = Summary::start("t");
        summary.sent(3, 12);
        summary.acknowledged(stored(1, 3));
        summary.stop(Err(CliError::Failed("the input ends inside a record".to_owned())));
        let text = summary.result().unwrap_err().to_string();
        assert!(text.contains("nothing behind them was sent") && !text.contains("unknown"), "{text}");
    }

    #[test]
    fn lsn_ranges_are_kept_per_partition() {
        let mut summary = Summary::start("t");
        summary.acknowledged(stored(1, 2));
        summary.acknowledged(stored(5, 5));
        summary.acknowledged(Stored { partition: 1, first_lsn: 9, last_lsn: 9 });
        let json = summary.json();
        assert_eq!(json["acknowledged"], 4);
        assert_eq!(json["partitions"][0]["last_lsn"], 5);
        assert_eq!(json["partitions"][1]["first_lsn"], 9);
    }
}
