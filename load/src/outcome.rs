//! What came of a load.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::audit::Checked;
use crate::plan::{Batching, Plan};
use crate::run::Found;
use crate::series::{Figures, Latencies};

/// The percentiles that are told.
pub const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// What came of a load.
#[derive(Debug)]
pub struct Outcome {
    /// What was to be done.
    pub plan: Plan,
    /// The topic it was done on.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// From when to when was measured, by the machine's clock.
    pub measured: Range<SystemTime>,
    /// The figures.
    pub found: Found,
    /// When the last reader had caught up, if that was the load, and if it had.
    pub caught_up: Option<Duration>,
    /// Whether the run was stopped before its time.
    pub stopped_early: bool,
    /// What the checker has found to be as it should.
    pub checked: Checked,
}

impl Outcome {
    /// The figures by name, in the order in which they matter.
    #[must_use]
    pub fn series(&self) -> Vec<(&'static str, &Figures)> {
        let Found { acknowledged, delivered, read } = &self.found;
        let all = [("acknowledged", acknowledged), ("delivered", delivered), ("read", read)];
        all.into_iter().filter_map(|(name, figures)| Some((name, figures.as_ref()?))).collect()
    }

    /// The part of the rate asked for that was reached; `None` without a rate.
    #[must_use]
    pub fn rate_reached(&self) -> Option<f64> {
        let asked = self.plan.rate?;
        Some(self.found.acknowledged.as_ref()?.records_per_second() / asked)
    }

    /// All of it. Times are in microseconds where their name ends so, else in seconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut json = json!({
            "load": self.plan.load.name(),
            "topic": self.topic,
            "partitions": self.partitions,
            "settings": settings(&self.plan),
            "stopped_early": self.stopped_early,
            "measured_from_unix_ms": unix_ms(self.measured.start),
            "measured_to_unix_ms": unix_ms(self.measured.end),
            // With one there is no outcome.
            "violations": 0,
            "checked": {
                "acknowledged_records": self.checked.acknowledged_records,
                "replica_records": self.checked.replica_records,
                "replicas": self.checked.replicas,
                "replicas_unread": self.checked.replicas_unread,
            },
        });
        for (name, figures) in self.series() {
            json[name] = figures_json(figures);
        }
        if let Some(at) = self.caught_up {
            json["caught_up_seconds"] = json!(at.as_secs_f64());
        }
        if let Some(reached) = self.rate_reached() {
            json["rate_reached"] = json!(reached);
        }
        json
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn settings(plan: &Plan) -> Value {
    let batching = match plan.batching {
        Batching::Client { batch_bytes, linger } => {
            json!({ "by": "client", "batch_bytes": batch_bytes, "linger_ms": linger.as_secs_f64() * 1e3 })
        }
        Batching::Records(records) => json!({ "by": "records", "records": records }),
    };
    json!({
        "connections": plan.connections,
        "record_bytes": plan.record_bytes,
        "batching": batching,
        "loop": if plan.rate.is_some() { "open" } else { "closed" },
        "rate": plan.rate,
        "in_flight": plan.in_flight,
        "subscribers": plan.subscribers,
        "subscriber_connections": plan.subscriber_connections,
        "replication": plan.replication,
        "readers": plan.readers,
        "fill_bytes": plan.fill_bytes,
        "warm_up_seconds": plan.warm_up.as_secs_f64(),
        "duration_seconds": plan.duration.as_secs_f64(),
    })
}

fn figures_json(figures: &Figures) -> Value {
    let slots = figures.slots.iter().map(|slot| {
        json!({
            "to": slot.to.as_secs_f64(),
            "records_per_second": slot.records_per_second(),
            "bytes_per_second": slot.bytes_per_second(),
            "p50_us": microseconds(slot.p50),
            "p99_us": microseconds(slot.p99),
            "max_us": microseconds(slot.max),
        })
    });
    json!({
        "records": figures.records,
        "bytes": figures.bytes,
        "seconds": figures.time.as_secs_f64(),
        "records_per_second": figures.records_per_second(),
        "bytes_per_second": figures.bytes_per_second(),
        "latency_us": latencies_json(&figures.latencies),
        "over_time": slots.collect::<Vec<_>>(),
        "histogram_us": figures.latencies.counts().map(|(time, count)| json!([time, count])).collect::<Vec<_>>(),
    })
}

fn latencies_json(latencies: &Latencies) -> Value {
    let mut json = json!({ "count": latencies.count(), "mean": microseconds(latencies.mean()) });
    for percent in PERCENTILES {
        json[percentile_name(percent)] = json!(microseconds(latencies.percentile(percent)));
    }
    json
}

/// `p50`, `p99.99`, or `max` for 100.
#[must_use]
pub fn percentile_name(percent: f64) -> String {
    if percent >= 100.0 { "max".to_owned() } else { format!("p{percent}") }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
