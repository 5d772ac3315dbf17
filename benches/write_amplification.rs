//! What a record costs each replica's disk: bytes at the block device per record byte, at several sizes of a sync.
//!
//! One producer keeps one batch in flight, so each batch is one sync. The device is that of the data directory, as the
//! kernel counts it, less what the machine wrote at rest. Everything counts: `prepared` is the part of it that filled segment
//! files ahead of their use. Where retention gives files back, as in every log that has run for a while, they are written over
//! and little is prepared; where everything is kept, each file is filled once.
//!
//! Run it with `cargo bench --bench write_amplification`; a path after `--` sets where the data goes.

mod support;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lockstep_client::{Client, Producer, Record};
use support::{all_metrics, growth, processes::LocalCluster};

/// Topics, by what becomes of their old segments.
const TOPICS: [(&str, &[&str]); 2] =
    [("retained", &["--retention-bytes", "268435456"]), ("everything-kept", &[])];
const REPLICAS: f64 = 3.0;
const SECTOR_BYTES: f64 = 512.0;
const STEP: Duration = Duration::from_secs(8);
const WARM_UP: Duration = Duration::from_secs(12);
/// Batch bytes per sync, and the records each batch is made of.
const SIZES: [(usize, usize); 6] =
    [(4 << 20, 4), (1 << 20, 4), (256 << 10, 4), (64 << 10, 4), (1 << 10, 1), (100, 1)];

fn main() {
    let cluster = LocalCluster::start();
    let device = device_of(&cluster.directory());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(cluster.brokers()).await.expect("the brokers run");
        let producer = client.producer().build().await.expect("a producer id");
        let idle = idle_bytes_per_second(&device);
        println!("bytes at the block device per record byte and replica ({})", device.display());
        println!("the machine at rest writes {:.0} KiB/s, which is taken off", idle / 1024.0);
        for (topic, settings) in TOPICS {
            cluster.run(&[&["topic", "create", topic], settings].concat());
            // Long enough that the segment files in use are ones written before.
            load(&producer, topic, 1 << 20, 4, WARM_UP).await;
            println!("\n{topic}\nbytes a sync  device ratio  of it prepared  frame ratio  batches  MB/s");
            for (bytes, records) in SIZES {
                step(&cluster, &producer, topic, (&device, idle), bytes, records).await;
            }
        }
    });
}

async fn step(
    cluster: &LocalCluster,
    producer: &Producer,
    topic: &str,
    (device, idle): (&Path, f64),
    bytes: usize,
    records: usize,
) {
    await_quiet(cluster);
    sync_all();
    let (before, written_before, started) = (all_metrics(cluster), written_bytes(device), Instant::now());
    let (batches, sent) = load(producer, topic, bytes, records, STEP).await;
    await_quiet(cluster);
    sync_all();
    let (elapsed, written) = (started.elapsed().as_secs_f64(), written_bytes(device) - written_before);
    let after = all_metrics(cluster);
    let record_bytes = sent * REPLICAS;
    let prepared = growth(&before, &after, "lockstep_log_prepared_bytes_total");
    let frames = growth(&before, &after, "lockstep_log_frame_bytes_total");
    println!(
        "{bytes:>12}  {:>12.3}  {:>14.3}  {:>11.3}  {batches:>7}  {:>4.0}",
        (written - idle * elapsed) / record_bytes,
        prepared / record_bytes,
        frames / record_bytes,
        sent / STEP.as_secs_f64() / 1e6,
    );
}

/// Sends batches one at a time; returns how many, and their bytes.
async fn load(producer: &Producer, topic: &str, bytes: usize, records: usize, time: Duration) -> (u64, f64) {
    let value = vec![b'x'; bytes / records - if bytes < 1024 { 0 } else { 24 }];
    let (started, mut batches, mut sent) = (Instant::now(), 0, 0.0);
    while started.elapsed() < time {
        let batch = (0..records).map(|_| Record::new(0, value.clone())).collect();
        producer.send_batch(topic, 0, batch).await.expect("acknowledged");
        batches += 1;
        sent += (value.len() * records) as f64;
    }
    (batches, sent)
}

/// Waits until no segment file is being written ahead any more.
fn await_quiet(cluster: &LocalCluster) {
    loop {
        let before = all_metrics(cluster);
        std::thread::sleep(Duration::from_secs(3));
        if growth(&before, &all_metrics(cluster), "lockstep_log_prepared_bytes_total") == 0.0 {
            return;
        }
    }
}

fn idle_bytes_per_second(device: &Path) -> f64 {
    sync_all();
    let (before, started) = (written_bytes(device), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    sync_all();
    (written_bytes(device) - before) / started.elapsed().as_secs_f64()
}

/// Where the kernel counts what the file system's device writes.
fn device_of(directory: &Path) -> PathBuf {
    let device = fs::metadata(directory).expect("the directory is there").dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"))
}

/// The seventh field: sectors written (kernel documentation, `block/stat`).
fn written_bytes(device: &Path) -> f64 {
    let stat = fs::read_to_string(device).expect("the file system is on a block device");
    let sectors = stat.split_whitespace().nth(6).and_then(|field| field.parse::<f64>().ok());
    sectors.expect("seven numbers") * SECTOR_BYTES
}

fn sync_all() {
    rustix::fs::sync();
}
