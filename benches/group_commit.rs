//! Group commit, visible: producers of single 2 KiB records on one partition, each with a connection of its own and one
//! record in flight. As producers are added, appends per sync grow, and appends per second must not fall.
//!
//! Run it with `cargo bench --bench group_commit`; a number after `--` sets the seconds per step.

mod support;

use std::time::{Duration, Instant};

use lockstep_client::{Client, Record};
use support::{growth, metrics, processes::LocalCluster, spread};

const RECORD_BYTES: usize = 2048;
const PRODUCERS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
const ROUNDS: usize = 3;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3);
    let cluster = LocalCluster::start();
    cluster.run(&["topic", "create", "bench"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let step = |producers| runtime.block_on(measure(&cluster, producers, Duration::from_secs(seconds)));
    step(8);

    let mut rounds: Vec<Vec<Step>> = PRODUCERS.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (steps, producers) in rounds.iter_mut().zip(PRODUCERS) {
            steps.push(step(producers));
        }
    }
    println!(
        "single {RECORD_BYTES}-byte records, one partition, three brokers, every append synced on a majority"
    );
    println!("{ROUNDS} interleaved rounds of {seconds} s a step; medians, and the spread of the rate\n");
    println!("producers  appends/s (min–max)        of running max  appends/sync  p50 ms  p99 ms");
    let mut running_max: f64 = 0.0;
    for (steps, producers) in rounds.iter().zip(PRODUCERS) {
        let median = |figure: fn(&Step) -> f64| spread(steps.iter().map(figure).collect()).1;
        let (low, rate, high) = spread(steps.iter().map(|step| step.rate).collect());
        running_max = running_max.max(rate);
        println!(
            "{producers:>9}  {rate:>9.0} ({low:.0}–{high:.0}){:>pad$}{:>13.2}  {:>12.1}  {:>6.2}  {:>6.2}",
            "",
            rate / running_max,
            median(|step| step.appends_per_sync),
            median(|step| step.p50_ms),
            median(|step| step.p99_ms),
            pad = 16_usize.saturating_sub(format!("({low:.0}–{high:.0})").chars().count()),
        );
    }
}

struct Step {
    rate: f64,
    appends_per_sync: f64,
    p50_ms: f64,
    p99_ms: f64,
}

async fn measure(cluster: &LocalCluster, producers: usize, time: Duration) -> Step {
    let leader = cluster.leader("bench");
    let mut connected = Vec::new();
    for _ in 0..producers {
        let client = Client::connect(cluster.brokers()).await.expect("the brokers run");
        connected.push(client.producer().build().await.expect("a producer id"));
    }
    let before = [metrics(&leader)];
    let started = Instant::now();
    let tasks: Vec<_> = connected
        .into_iter()
        .map(|producer| {
            tokio::spawn(async move {
                let mut latencies_ms = Vec::new();
                while started.elapsed() < time {
                    let sent = Instant::now();
                    let record = Record::new(0, vec![b'x'; RECORD_BYTES]);
                    producer.send_batch("bench", 0, vec![record]).await.expect("acknowledged");
                    latencies_ms.push(sent.elapsed().as_secs_f64() * 1e3);
                }
                latencies_ms
            })
        })
        .collect();
    let mut latencies_ms = Vec::new();
    for task in tasks {
        latencies_ms.extend(task.await.expect("a producer does not panic"));
    }
    let elapsed = started.elapsed().as_secs_f64();
    let after = [metrics(&leader)];
    latencies_ms.sort_by(f64::total_cmp);
    let at = |share: f64| latencies_ms[((latencies_ms.len() - 1) as f64 * share) as usize];
    let syncs = growth(&before, &after, "lockstep_log_syncs_total");
    Step {
        rate: latencies_ms.len() as f64 / elapsed,
        appends_per_sync: latencies_ms.len() as f64 / syncs.max(1.0),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
    }
}
