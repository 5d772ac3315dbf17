//! `lockstep bench` against real brokers: each load gives figures that add up, and a stall of the brokers is counted.

mod processes;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use processes::{LocalCluster, lockstep, succeeded};
use serde_json::Value;

const STALL: Duration = Duration::from_millis(1_000);

fn bench(cluster: &LocalCluster, words: &str) -> Value {
    let arguments: Vec<&str> =
        ["bench"].into_iter().chain(words.split_whitespace()).chain(["--json"]).collect();
    serde_json::from_str(&cluster.run(&arguments)).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The parts of a series agree with each other.
fn adds_up(outcome: &Value, series: &str) {
    let figures = &outcome[series];
    let latency = &figures["latency_us"];
    assert!(number(&figures["records"]) > 0.0, "{series}: {outcome}");
    let histogram = figures["histogram_us"].as_array().expect("a histogram");
    let counted: f64 = histogram.iter().map(|step| number(&step[1])).sum();
    assert_eq!(counted, number(&latency["count"]), "{series}");
    let rising = ["p50", "p90", "p99", "p99.9", "p99.99", "max"].map(|name| number(&latency[name]));
    assert!(rising.is_sorted() && rising[0] > 0.0, "{series}: {latency}");
    let rate = number(&figures["records"]) / number(&figures["seconds"]);
    assert!((rate / number(&figures["records_per_second"]) - 1.0).abs() < 0.01, "{series}");
}

#[test]
fn each_load_gives_figures_that_add_up_and_leaves_no_topic() {
    let cluster = LocalCluster::start();
    let short = "--duration 1 --warm-up 0.2";
    for (words, series) in [
        ("produce --batch 4 --connections 2 --partitions 3", &["acknowledged"][..]),
        ("consume --fill 2 --partitions 2 --readers 2", &["read"]),
        ("end-to-end --rate 200 --size 100", &["acknowledged", "delivered"]),
        ("fan-out --rate 50 --subscribers 10", &["acknowledged", "delivered"]),
        ("mixed --rate 100 --fill 2 --partitions 2", &["acknowledged", "delivered", "read"]),
    ] {
        let outcome = bench(&cluster, &format!("{words} {short}"));
        series.iter().for_each(|series| adds_up(&outcome, series));
    }
    // It ends when the readers have caught up, which may be before a slot is full.
    let caught_up = bench(&cluster, "catch-up --fill 20 --rate 100 --duration 30");
    assert!(number(&caught_up["caught_up_seconds"]) > 0.0, "{caught_up}");
    adds_up(&caught_up, "read");
    assert_eq!(cluster.run(&["topic", "list", "--json"]).trim(), r#"{"topics":[]}"#);
}

#[test]
fn fan_out_delivers_everything_to_everyone() {
    let cluster = LocalCluster::start();
    let outcome = bench(&cluster, "fan-out --rate 100 --subscribers 7 --duration 1 --warm-up 0");
    let count = |series: &str| number(&outcome[series]["latency_us"]["count"]);
    assert_eq!(count("delivered"), 7.0 * count("acknowledged"));
}

#[test]
fn a_stall_of_the_brokers_counts_for_every_record_it_delays() {
    let cluster = LocalCluster::start();
    cluster.run(&["topic", "create", "stalled"]);
    let arguments = "bench produce --topic stalled --rate 200 --batch 1 --duration 5 --warm-up 0 --json";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let child = cluster.lockstep(&arguments).stdout(Stdio::piped()).spawn().expect("lockstep runs");
    cluster.wait_until("the load runs", || {
        let tail: Value =
            serde_json::from_str(&cluster.run(&["partition", "tail", "stalled", "--json"])).expect("JSON");
        number(&tail["high_watermark"]) > 50.0
    });
    let stall = Instant::now();
    let all = |signal| {
        for node in cluster.nodes() {
            let pid = rustix::process::Pid::from_raw(node.pid).expect("the node runs");
            rustix::process::kill_process(pid, signal).expect("it is ours");
        }
    };
    all(rustix::process::Signal::STOP);
    // The planted fault itself: nobody waits for anything here.
    std::thread::sleep(STALL.saturating_sub(stall.elapsed()));
    all(rustix::process::Signal::CONT);
    let output = child.wait_with_output().expect("bench ends");
    succeeded(&arguments, &output);
    let outcome: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let latency = &outcome["acknowledged"]["latency_us"];
    assert_eq!(number(&latency["count"]), 1_000.0, "no send is left out: {latency}");
    // A fifth of the sends were due in the stall: a tenth waited for at least half of it.
    assert!(number(&latency["p90"]) >= 450_000.0, "{latency}");
}

#[test]
fn a_report_is_a_page_that_needs_nothing_else() {
    let cluster = LocalCluster::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("report.html");
    let words = "end-to-end --rate 100 --duration 1 --warm-up 0 --report";
    bench(&cluster, &format!("{words} {}", path.display()));
    let page = std::fs::read_to_string(path).expect("it was written");
    assert_eq!(page.matches("<svg").count(), 6, "three plots each for what was acknowledged and delivered");
    assert!(page.contains("</html>") && !page.contains("NaN"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
}

#[test]
fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
    for (words, told) in [
        ("end-to-end --size 8", "at least 16"),
        ("produce --rate 0", "above 0"),
        ("produce --batch 2 --linger 5", "cannot be used with"),
        ("catch-up --warm-up 1", "no warm-up"),
        ("consume --fill 0", "nothing to read"),
        ("fan-out --subscribers 0", "at least 1"),
        ("produce --report /nowhere/at/all.html", "No such file"),
    ] {
        let arguments: Vec<&str> = ["bench"].into_iter().chain(words.split_whitespace()).collect();
        let output = lockstep(&arguments).args(["--brokers", "127.0.0.1:1"]).output().expect("lockstep runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains(told), "{words}: {said}");
    }
}

#[test]
fn limits_are_printed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments = ["bench", "limits", "--seconds", "0.01", "--write", "8", "--json", "--dir"];
    let output = lockstep(&arguments).arg(directory.path()).output().expect("lockstep runs");
    succeeded(&arguments, &output);
    let limits: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(number(&limits["crc32c_bytes_per_second"]) > 0.0);
    assert_eq!(limits["syncs"].as_array().map(Vec::len), Some(12));
}
