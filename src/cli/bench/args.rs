//! The arguments of the loads, and the plans they make.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lockstep_load::plan::Batching;
use lockstep_load::{Load, Plan};

use crate::cli::brokers::BrokerArgs;
use crate::cli::exit::CliError;

/// Megabytes to read, if nothing else is said.
const FILL_MB: u64 = 256;

/// What every load has.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    duration: f64,
    /// Seconds before them that do not count; without it 2. Catch-up has none.
    #[arg(long, value_name = "SECONDS")]
    warm_up: Option<f64>,
    /// The topic to use, which stays; without it one is made and removed again.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Partitions, if the topic is made.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    partitions: u32,
    /// Replicas of each partition, if the topic is made; without it the cluster's default.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    replication: u32,
    /// Keep the topic that is made.
    #[arg(long)]
    keep: bool,
    /// Bytes of each record's value.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,
    /// Write a page with plots.
    #[arg(long, value_name = "FILE.html")]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) brokers: BrokerArgs,
}

/// How records are written.
#[derive(Debug, Args)]
struct WriteArgs {
    /// Records a second, of all connections together; without it as many as are taken, or, where readers are
    /// measured too, 1000.
    #[arg(long, value_name = "RECORDS")]
    rate: Option<f64>,
    /// Connections that write.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    connections: u32,
    /// Commit this many records at a time; without it the client groups what is waiting.
    #[arg(long, value_name = "RECORDS", conflicts_with_all = ["batch_bytes", "linger"])]
    batch: Option<u32>,
    /// Bytes at which the client sends a batch.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    batch_bytes: usize,
    /// Milliseconds a batch waits for more records.
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    linger: f64,
    /// Sends without an answer, per connection and partition; without it 5 with --batch, else 32768 records. Brokers are sent
    /// 5 batches at once at the most: so many are told from earlier ones.
    #[arg(long, value_name = "COUNT")]
    in_flight: Option<u32>,
}

/// What there is to read.
#[derive(Debug, Args)]
struct ReadArgs {
    /// Megabytes written before anything is measured; without it 256, or, with --topic, none.
    #[arg(long, value_name = "MB")]
    fill: Option<u64>,
    /// Readers, each of everything.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    readers: u32,
}

/// Arguments of `produce`.
#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Arguments of `consume`.
#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Arguments of `end-to-end`.
#[derive(Debug, Args)]
pub(crate) struct EndToEndArgs {
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Arguments of `fan-out`.
#[derive(Debug, Args)]
pub(crate) struct FanOutArgs {
    /// Subscribers, each of which gets everything.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    subscribers: u32,
    /// Connections that the subscribers share; without it each has its own.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    subscriber_connections: u32,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Arguments of `catch-up`.
#[derive(Debug, Args)]
pub(crate) struct CatchUpArgs {
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Arguments of `mixed`.
#[derive(Debug, Args)]
pub(crate) struct MixedArgs {
    /// Subscribers, each of which gets everything that is written.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    subscribers: u32,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

impl ProduceArgs {
    pub(super) fn plan(&self) -> Result<Plan, CliError> {
        self.write.apply(self.run.plan(Load::Produce)?)
    }
}

impl ConsumeArgs {
    pub(super) fn plan(&self) -> Result<Plan, CliError> {
        self.read.apply(self.run.plan(Load::Consume)?)
    }
}

impl EndToEndArgs {
    pub(super) fn plan(&self) -> Result<Plan, CliError> {
        self.write.apply(self.run.plan(Load::EndToEnd)?)
    }
}

impl FanOutArgs {
    pub(super) fn plan(&self) -> Result<Plan, CliError> {
        let Self { subscribers, subscriber_connections, .. } = *self;
        let plan = Plan { subscribers, subscriber_connections, ..self.run.plan(Load::FanOut)? };
        self.write.apply(plan)
    }
}

impl CatchUpArgs {
    pub(super) fn plan(&self) -> Result<Plan, CliError> {
        self.write.apply(self.read.apply(self.run.plan(Load::CatchUp)?)?)
    }
}

impl MixedArgs {
    pub(super) fn plan(&self) -> Result<Plan, CliError> {
        let plan = Plan { subscribers: self.subscribers, ..self.run.plan(Load::Mixed)? };
        self.write.apply(self.read.apply(plan)?)
    }
}

impl RunArgs {
    fn plan(&self, load: Load) -> Result<Plan, CliError> {
        let mut plan = Plan::new(load);
        plan.duration = seconds("--duration", self.duration)?;
        if let Some(warm_up) = self.warm_up {
            plan.warm_up = seconds("--warm-up", warm_up)?;
        }
        plan.topic = self.topic.clone();
        plan.partitions = self.partitions;
        plan.replication = self.replication;
        plan.keep_topic = self.keep;
        plan.record_bytes = self.size;
        Ok(plan)
    }
}

impl WriteArgs {
    fn apply(&self, mut plan: Plan) -> Result<Plan, CliError> {
        plan.rate = self.rate.or(plan.rate);
        plan.connections = self.connections;
        plan.batching = match self.batch {
            Some(records) => Batching::Records(records),
            None => {
                let linger = seconds("--linger", self.linger / 1e3)?;
                Batching::Client { batch_bytes: self.batch_bytes, linger }
            }
        };
        plan.in_flight = self.in_flight.unwrap_or(if self.batch.is_some() { 5 } else { plan.in_flight });
        Ok(plan)
    }
}

impl ReadArgs {
    fn apply(&self, mut plan: Plan) -> Result<Plan, CliError> {
        let fill = self.fill.unwrap_or(if plan.topic.is_some() { 0 } else { FILL_MB });
        plan.fill_bytes = fill
            .checked_mul(1_000_000)
            .ok_or_else(|| CliError::Usage(format!("--fill {fill}: that is more than any disk holds")))?;
        plan.readers = self.readers;
        Ok(plan)
    }
}

pub(super) fn seconds(option: &str, seconds: f64) -> Result<Duration, CliError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| CliError::Usage(format!("{option}: {seconds} is no time; give a number from 0 on")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Produce {
        #[command(flatten)]
        args: ProduceArgs,
    }

    fn plan(words: &str) -> Result<Plan, String> {
        let words = std::iter::once("produce").chain(words.split_whitespace());
        let parsed = Produce::try_parse_from(words).map_err(|error| error.to_string())?;
        let plan = parsed.args.plan().map_err(|error| error.to_string())?;
        plan.check().map_err(|error| error.to_string())?;
        Ok(plan)
    }

    #[test]
    fn arguments_become_a_plan() {
        let made =
            plan("--rate 500 --batch 10 --size 2048 --connections 4 --partitions 3 --duration 1.5").unwrap();
        assert_eq!((made.rate, made.batching, made.in_flight), (Some(500.0), Batching::Records(10), 5));
        assert_eq!((made.record_bytes, made.connections, made.partitions, made.lanes()), (2048, 4, 3, 4));
        assert_eq!(made.duration, Duration::from_millis(1_500));
        let made = plan("--linger 2.5 --batch-bytes 4096").unwrap();
        let linger = Duration::from_micros(2_500);
        assert_eq!((made.rate, made.batching), (None, Batching::Client { batch_bytes: 4096, linger }));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_fix() {
        for (words, told) in [
            ("--duration -1", "from 0 on"),
            ("--duration=0", "at least 1"),
            ("--rate=0", "above 0"),
            ("--rate=-5", "above 0"),
            ("--connections 0", "at least 1"),
            ("--batch 0", "at least 1"),
            ("--batch 5 --linger 3", "cannot be used with"),
            ("--size 0", "at least 1"),
            ("--warm-up=nan", "from 0 on"),
        ] {
            let refused = plan(words).unwrap_err();
            assert!(refused.contains(told) || refused.contains("unexpected argument"), "{words}: {refused}");
        }
    }
}
