//! `lockstep history record`: a workload of writers and readers that goes on through failures.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lockstep_checker::{Operation, Trim};
use lockstep_client::jitter::SplitMix;
use lockstep_client::{Client, ClientOptions};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::check;
use super::readers::{self, Place, Reader};
use super::recorder::{Counts, Recorder};
use super::writers::{Kind, Load, Writer};
use crate::cli::brokers::{BrokerArgs, block_on};
use crate::cli::exit::CliError;
use crate::cli::output::Output;

pub(super) const EXAMPLES: &str = "\
Each record's value says whose it is, so that a check can tell what became of it. Use a topic of its own: records of
others would be taken for invented. Brokers may be killed meanwhile; writers and readers go on. Ctrl-C ends it early.

Examples:
  lockstep history record --topic proof --duration 30 --output proof.jsonl --check
  lockstep history record --topic proof --writers 16 --rate 2000 --output proof.jsonl";

/// Time for one answer, so that a writer soon finds a dead broker out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a writer or reader tries before it calls an outcome unknown and begins anew.
const RETRY_BUDGET: Duration = Duration::from_secs(5);
/// Between two looks at the counters.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);

/// Arguments of `record`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The topic; it is created if the cluster allows that.
    #[arg(long)]
    topic: String,
    /// The partition.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    partition: u32,
    /// How many write: of eight, five pipeline, two go one by one without retries, one states the LSN it expects.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    writers: u32,
    /// How many read, each from one broker after the other.
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    readers: u32,
    /// Seconds until everybody stops.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    duration: f64,
    /// Batches per second of all writers together; without it as many as they can.
    #[arg(long, value_name = "COUNT")]
    rate: Option<f64>,
    /// Most records of a batch; each batch has from 1 to this many.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    batch_records: u32,
    /// Bytes of each value beyond what names its record.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    padding: usize,
    /// Where the history goes.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Check it when it is recorded.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
}

pub(crate) fn run(args: &RecordArgs, output: &mut Output) -> Result<ExitCode, CliError> {
    let duration = Duration::try_from_secs_f64(args.duration)
        .map_err(|_| CliError::Usage(format!("--duration {}: give seconds from 0 on", args.duration)))?;
    let interval = interval(args)?;
    let counts = block_on(record(args, duration, interval))?;
    if !args.check {
        output.answer(&counts.json(args), || counts.text(args))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !output.is_json() {
        output.line(&counts.text(args))?;
    }
    check::check_file(&args.output, &args.brokers, output)
}

/// The time from one batch of a writer to its next.
fn interval(args: &RecordArgs) -> Result<Duration, CliError> {
    let Some(rate) = args.rate else { return Ok(Duration::ZERO) };
    Duration::try_from_secs_f64(f64::from(args.writers) / rate)
        .map_err(|_| CliError::Usage(format!("--rate {rate}: give batches per second, more than 0")))
}

async fn record(args: &RecordArgs, duration: Duration, interval: Duration) -> Result<Counts, CliError> {
    let client = args.brokers.connect().await?;
    let partitions = client.ensure_topic(&args.topic).await?;
    if args.partition >= partitions {
        let (topic, partition) = (&args.topic, args.partition);
        return Err(CliError::Usage(format!(
            "topic {topic} has {partitions} partitions, and no partition {partition}"
        )));
    }
    let earlier = client.tail(&args.topic, args.partition, true).await?.high_watermark;
    if earlier > 0 {
        eprintln!(
            "lockstep: {}/{} holds {earlier} records already: check this history together with theirs, or they are \
             taken for invented",
            args.topic, args.partition
        );
    }
    let shown = args.output.display();
    let unwritable = |error| CliError::Failed(format!("cannot write the history to {shown}: {error}"));
    let recorder = Recorder::create(&args.output, &args.topic, args.partition).map_err(unwritable)?;
    let recorder = Arc::new(recorder);
    let mut crowd = start(args, &client, interval, &recorder).await?;

    let progress = progress();
    let over = tokio::time::sleep(duration);
    tokio::pin!(over);
    loop {
        progress.set_message(recorder.counts.line());
        tokio::select! {
            () = tokio::time::sleep(PROGRESS_PAUSE) => {}
            () = &mut over, if !recorder.is_stopped() => recorder.stop(),
            _ = tokio::signal::ctrl_c(), if !recorder.is_stopped() => recorder.stop(),
            ended = crowd.join_next() => match ended {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(CliError::Failed(format!("a part of the workload failed: {error}"))),
                None => break,
            },
        }
    }
    progress.finish_and_clear();
    recorder.finish().map_err(unwritable)?;
    let recorder = Arc::into_inner(recorder).expect("everybody who shared it has ended");
    Ok(recorder.counts)
}

/// Sets everybody to work, each over connections of its own.
async fn start(
    args: &RecordArgs,
    client: &Client,
    interval: Duration,
    recorder: &Arc<Recorder>,
) -> Result<JoinSet<()>, CliError> {
    let topic = client.describe_topic(&args.topic).await?.topic;
    if topic.config.retention_bytes.is_some() || topic.config.retention_ms.is_some() {
        // The brokers may forget anything, and nobody is told when.
        recorder.record(Operation::Trim(Trim { invoked: recorder.now(), before_lsn: u64::MAX }));
    }
    let route = topic.partitions.into_iter().nth(args.partition as usize);
    let nodes = route.map(|route| route.replicas).unwrap_or_default();
    let place =
        Place { recorder: Arc::clone(recorder), topic: args.topic.clone(), partition: args.partition };
    let own_client = |budget| {
        let options = ClientOptions::new().request_timeout(REQUEST_TIMEOUT).retry_budget(budget);
        args.brokers.connect_with(options)
    };
    let mut crowd = JoinSet::new();
    for number in 0..args.writers {
        let load = Load {
            topic: args.topic.clone(),
            partition: args.partition,
            batch_records: args.batch_records,
            padding: args.padding,
            interval,
        };
        let (recorder, client) = (Arc::clone(recorder), own_client(RETRY_BUDGET).await?);
        let random = SplitMix::from_process_keys();
        crowd.spawn(Writer { recorder, client, kind: Kind::of(number), load, random }.run());
    }
    for id in 0..args.readers {
        let (place, client, random) =
            (place.clone(), own_client(RETRY_BUDGET).await?, SplitMix::from_process_keys());
        crowd.spawn(Reader { place, client, id: id.into(), nodes: nodes.clone(), random }.run());
    }
    for node in nodes {
        crowd.spawn(readers::watch_node(place.clone(), own_client(Duration::ZERO).await?, node));
    }
    crowd.spawn(readers::watch_tail(place, own_client(RETRY_BUDGET).await?));
    Ok(crowd)
}

impl Counts {
    fn figures(&self) -> [(&'static str, &AtomicU64); 8] {
        [
            ("acknowledged", &self.acknowledged),
            ("records_acknowledged", &self.records_acknowledged),
            ("failed", &self.failed),
            ("unknown", &self.unknown),
            ("reads", &self.reads),
            ("records_read", &self.records_read),
            ("tails", &self.tails),
            ("reconnections", &self.restarts),
        ]
    }

    fn line(&self) -> String {
        let text = |(name, count): (&str, &AtomicU64)| format!("{name} {}", count.load(Ordering::Relaxed));
        self.figures().map(text).join(", ").replace('_', " ")
    }

    fn text(&self, args: &RecordArgs) -> String {
        format!("{}: {}", args.output.display(), self.line())
    }

    fn json(&self, args: &RecordArgs) -> Value {
        let figures =
            self.figures().map(|(name, count)| (name.to_owned(), json!(count.load(Ordering::Relaxed))));
        json!({
            "output": args.output.display().to_string(),
            "topic": args.topic,
            "partition": args.partition,
            "counts": serde_json::Map::from_iter(figures),
        })
    }
}

/// What was counted so far, on standard error, if a terminal watches.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    match ProgressStyle::with_template("{spinner} {elapsed}: {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
