//! Requests that cannot be carried out, through the command line: exit codes that scripts can trust, messages that
//! name the fix, and a cluster that goes on.

use std::time::{Duration, Instant};

use lockstep_client::{Client, ClientOptions, ProducerRecord};
use serde_json::Value;

use crate::{
    assert_says,
    ledger::Ledger,
    processes::{LocalCluster, free_port_base, lockstep},
    refused, said,
};

const MAX_RECORD_BYTES: usize = 4 << 20;

fn next_lsn(cluster: &LocalCluster, topic: &str) -> u64 {
    let tail: Value =
        serde_json::from_str(&cluster.run(&["partition", "tail", topic, "--json"])).expect("JSON");
    tail["next_lsn"].as_u64().expect("a number")
}

#[test]
fn places_outside_of_the_log_are_refused_by_name() {
    let cluster = LocalCluster::start();
    let mut ledger = Ledger::new("places");
    ledger.write(&cluster, 5);
    let consume = |topic: &str, from: &str, code| {
        refused(&mut cluster.lockstep(&["consume", topic, "--from", from, "--count", "1"]), code)
    };
    assert_says(&consume("places", "0", 2), &["numbered from 1"]);
    assert_says(&consume("places", "7", 1), &["LSN 7", "does not exist yet", "the next one is 6"]);
    assert_says(&consume("nowhere", "1", 1), &["\"nowhere\"", "create it, or correct the name"]);
    let unknown = refused(&mut cluster.lockstep(&["partition", "tail", "places", "--partition", "1"]), 1);
    assert_says(
        &unknown,
        &["\"places\" has partitions 0 to 0, not 1", "Correct the topic or the partition number"],
    );
    let beyond = refused(&mut cluster.lockstep(&["partition", "trim", "places", "7"]), 1);
    assert_says(&beyond, &["6"]);

    ledger.is_whole_everywhere(&cluster);
    cluster.run(&["partition", "trim", "places", "4"]);
    assert_says(&consume("places", "3", 1), &["LSN 3", "was removed", "read on from 4"]);
    let kept = cluster.run(&["consume", "places", "--from", "4", "--until-end", "--format", "%l\\n"]);
    assert_eq!(kept, "4\n5\n");
}

#[test]
fn no_records_are_no_error_and_store_nothing() {
    let cluster = LocalCluster::start();
    let mut ledger = Ledger::new("nothing");
    ledger.write(&cluster, 2);
    for arguments in [&["produce", "nothing"][..], &["produce", "nothing", "--batch", "10"]] {
        let output = cluster.run_with(arguments, "");
        assert_eq!(output.status.code(), Some(0));
        assert_says(&said(&output), &["0 of 0 records acknowledged"]);
    }
    assert_eq!(next_lsn(&cluster, "nothing"), 3);
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_record_above_the_limit_is_refused_and_those_before_it_stay() {
    let cluster = LocalCluster::start();
    let mut ledger = Ledger::new("limits");
    let huge = "x".repeat(MAX_RECORD_BYTES) + "\n";
    let output = cluster.run_with(&["produce", "limits"], &huge);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_says(&said(&output), &[&MAX_RECORD_BYTES.to_string(), "0 of"]);

    let output = cluster.run_with(&["produce", "limits"], &format!("before\n{huge}"));
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_says(&said(&output), &["only the first 1 records"]);
    ledger.note("before");
    ledger.write(&cluster, 3);
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn producing_to_a_dead_cluster_fails_and_says_how_to_start_it() {
    let nobody = format!("127.0.0.1:{}", free_port_base());
    let started = Instant::now();
    let why = refused(&mut lockstep(&["produce", "lost", "--brokers", &nobody]), 1);
    assert_says(&why, &["no broker answered", &nobody, "lockstep up"]);
    assert!(started.elapsed() < Duration::from_secs(10), "that is known at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_dies_under_a_producer_keeps_what_it_acknowledged() {
    let mut cluster = LocalCluster::start();
    let mut ledger = Ledger::new("dying");
    ledger.write(&cluster, 1);
    let options = ClientOptions::new().retry_budget(Duration::from_secs(1));
    let client = Client::connect_with(cluster.brokers().as_str(), options).await.expect("the brokers answer");
    let producer = client.producer().build().await.expect("a producer");
    let send = |value: &'static str| producer.send(ProducerRecord::new("dying", value));
    send("early").await.expect("an acknowledgement");
    cluster.kill_everything();
    let late = send("late").await;
    assert!(late.is_err(), "nobody is there to acknowledge it: {late:?}");

    ledger.note("early");
    cluster.restart();
    ledger.is_whole_everywhere(&cluster);
}
