//! `lockstep produce`: standard input becomes records.

mod input;
mod summary;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lockstep_client::producer::now_ms;
use lockstep_client::{BatchDelivery, Client, Delivery, ProduceError, Producer, ProducerRecord, Record};

use super::brokers::{BrokerArgs, block_on};
use super::exit::CliError;
use super::output::Output;
use input::{Chunks, Shape};
use summary::Summary;

/// Arguments of `produce`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line of standard input becomes a record. Without --batch, lines that arrive together share a batch.

Examples:
  echo hello | lockstep produce greetings
  lockstep produce invoices --key-separator : --partition 2 < invoices.txt
  lockstep produce samples --raw 64 --batch 1000 < samples.bin

Exit codes: 0 all acknowledged, 1 none acknowledged, 2 wrong usage, 3 partly acknowledged (says how far).")]
pub(crate) struct ProduceArgs {
    /// The topic; it is created if the cluster allows that.
    topic: String,
    /// Records of this many bytes each, instead of lines.
    #[arg(long, value_name = "BYTES", conflicts_with = "key_separator", value_parser = clap::value_parser!(u32).range(1..))]
    raw: Option<u32>,
    /// Commit this many records at a time: all of them or none.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// The partition; without it keys decide, or the partitions take turns.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// What separates key and value in a line; a line without it has no key.
    #[arg(long, value_name = "CHARACTER")]
    key_separator: Option<char>,
    /// Milliseconds a batch waits for more lines.
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger: u64,
    /// The fencing epoch to state with each batch.
    #[arg(long, value_name = "EPOCH")]
    fence: Option<u64>,
    #[command(flatten)]
    brokers: BrokerArgs,
}

pub(crate) fn run(args: ProduceArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let summary = block_on(async {
        let client = args.brokers.connect().await?;
        let mut run = Run::start(&args, &client).await?;
        let result = run.all_input(&args).await;
        let result = result.and(run.wait_for_all().await);
        run.progress.finish_and_clear();
        run.summary.stop(result);
        Ok(run.summary)
    })?;
    if output.is_json() {
        output.line(&summary.json().to_string())?;
    } else {
        eprintln!("{}", summary.text());
    }
    summary.result().map(|()| ExitCode::SUCCESS)
}

/// One run of the command.
struct Run {
    producer: Producer,
    topic: Arc<str>,
    partitions: u32,
    next_partition: u32,
    waiting: VecDeque<Waiting>,
    summary: Summary,
    progress: ProgressBar,
}

/// What is under way, in the order of the input.
enum Waiting {
    Record(Delivery),
    Batch(BatchDelivery),
}

impl Run {
    async fn start(args: &ProduceArgs, client: &Client) -> Result<Self, CliError> {
        let partitions = client.ensure_topic(&args.topic).await?;
        if args.batch.is_some() && args.key_separator.is_some() && args.partition.is_none() && partitions > 1
        {
            return Err(CliError::Usage(format!(
                "--batch commits all its records to one partition, but keys spread over the {partitions} of \
                 {}: name it with --partition",
                args.topic
            )));
        }
        let mut builder = client.producer().linger(Duration::from_millis(args.linger));
        if let Some(epoch) = args.fence {
            builder = builder.fence(epoch);
        }
        Ok(Self {
            producer: builder.build().await?,
            topic: Arc::from(args.topic.as_str()),
            partitions,
            next_partition: 0,
            waiting: VecDeque::new(),
            summary: Summary::start(&args.topic),
            progress: progress(),
        })
    }

    /// Sends all of standard input. Errors that concern a record are found when it is waited for.
    async fn all_input(&mut self, args: &ProduceArgs) -> Result<(), CliError> {
        let shape = Shape::new(args.raw, args.key_separator);
        let mut chunks = Chunks::of_stdin(shape)?;
        let mut batch = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let timestamp_ms = now_ms();
            for (key, value) in chunk? {
                let mut record = Record::new(timestamp_ms, value);
                record.key = key;
                match args.batch {
                    None => self.send(record, args.partition).await?,
                    Some(size) => {
                        batch.push(record);
                        if batch.len() == size as usize {
                            self.send_batch(std::mem::take(&mut batch), args.partition).await?;
                        }
                    }
                }
            }
            self.collect()?;
        }
        if !batch.is_empty() {
            self.send_batch(batch, args.partition).await?;
        }
        Ok(())
    }

    async fn send(&mut self, record: Record, partition: Option<u32>) -> Result<(), CliError> {
        let bytes = length(&record.key) + length(&record.value);
        self.summary.sent(1, bytes);
        let record = ProducerRecord { topic: Arc::clone(&self.topic), partition, record };
        let delivery = self.producer.enqueue(record).await?;
        self.waiting.push_back(Waiting::Record(delivery));
        Ok(())
    }

    async fn send_batch(&mut self, records: Vec<Record>, partition: Option<u32>) -> Result<(), CliError> {
        let bytes = records.iter().map(|record| length(&record.key) + length(&record.value)).sum();
        self.summary.sent(records.len() as u64, bytes);
        let partition = partition.unwrap_or(self.next_partition);
        self.next_partition = (self.next_partition + 1) % self.partitions.max(1);
        let delivery = self.producer.enqueue_batch(&self.topic, partition, &records).await?;
        self.waiting.push_back(Waiting::Batch(delivery));
        Ok(())
    }

    /// Takes in the acknowledgements that are there.
    fn collect(&mut self) -> Result<(), CliError> {
        while let Some(front) = self.waiting.front() {
            match front.outcome() {
                None => break,
                Some(outcome) => self.summary.acknowledged(outcome?),
            }
            self.waiting.pop_front();
        }
        self.progress.set_position(self.summary.bytes());
        Ok(())
    }

    /// Waits for everything that was sent. What lies behind a failure is still counted.
    async fn wait_for_all(&mut self) -> Result<(), CliError> {
        // Each failure is found again below, at its record.
        let _ = self.producer.flush().await;
        let mut result = Ok(());
        for waiting in self.waiting.drain(..) {
            match waiting.outcome() {
                Some(Ok(stored)) if result.is_ok() => self.summary.acknowledged(stored),
                Some(Ok(stored)) => self.summary.acknowledged_behind_failure(stored),
                Some(Err(error)) if result.is_ok() => result = Err(error.into()),
                Some(Err(_)) | None => {}
            }
        }
        result
    }
}

/// Where records were stored.
struct Stored {
    partition: u32,
    first_lsn: u64,
    last_lsn: u64,
}

impl Waiting {
    fn outcome(&self) -> Option<Result<Stored, ProduceError>> {
        match self {
            Self::Record(delivery) => delivery.try_ack().map(|outcome| {
                outcome.map(|ack| Stored { partition: ack.partition, first_lsn: ack.lsn, last_lsn: ack.lsn })
            }),
            Self::Batch(delivery) => delivery.try_ack().map(|outcome| {
                outcome.map(|ack| Stored {
                    partition: ack.partition,
                    first_lsn: ack.first_lsn,
                    last_lsn: ack.last_lsn,
                })
            }),
        }
    }
}

fn length(bytes: &Option<Bytes>) -> u64 {
    bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
}

/// Bytes and speed, on standard error, if a terminal watches.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bytes} read, {bytes_per_sec}, {elapsed}");
    let bar = ProgressBar::new_spinner();
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
