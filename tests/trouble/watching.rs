//! `cluster status --watch` while brokers come and go.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    joining::Joiner,
    processes::{LocalCluster, lockstep},
};

/// More looks than anything here may take, at ten a second.
const LOOKS_MAX: usize = 600;

#[test]
fn a_watch_sees_a_broker_come_and_go_and_ends_quietly() {
    let cluster = LocalCluster::start();
    let mut watch = lockstep(&["cluster", "status", "--watch", "--interval", "0.1", "--json", "--brokers"])
        .arg(cluster.brokers())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lockstep runs");
    let mut looks = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    let mut see = |what: &str, seen: &dyn Fn(&Value) -> bool| {
        let look = |line: Result<String, _>| -> Value {
            serde_json::from_str(&line.expect("a line")).expect("one JSON value a line")
        };
        assert!(looks.by_ref().take(LOOKS_MAX).map(look).any(|look| seen(&look)), "never seen: {what}");
    };
    let brokers = |look: &Value| look["brokers"].as_array().map_or(0, Vec::len);
    see("three healthy brokers", &|look| look["healthy"] == true && brokers(look) == 3);

    let root = tempfile::tempdir().expect("a temporary directory");
    let fourth = Joiner::start(root.path(), Some(&cluster.brokers()));
    see("the fourth", &|look| look["healthy"] == true && brokers(look) == 4);
    drop(fourth);
    see("that it does not answer", &|look| {
        look["healthy"] == false
            && look["summary"].as_str().is_some_and(|text| text.contains("broker 4 does not"))
    });
    // Once, without a watch, this is an exit code.
    let once =
        lockstep(&["cluster", "status", "--brokers"]).arg(cluster.brokers()).output().expect("it runs");
    assert_eq!(once.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&once.stdout).starts_with("NOT HEALTHY: broker 4 does not answer"));

    kill_process(Pid::from_child(&watch), Signal::INT).expect("it runs");
    assert!(watch.wait().expect("it ends").success());
    let mut said = String::new();
    watch.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert_eq!(said, "");
}

#[test]
fn a_status_needs_no_answer_of_the_first_broker() {
    let cluster = LocalCluster::start();
    let first = Pid::from_raw(cluster.node(1).pid).expect("a process");
    kill_process(first, Signal::STOP).expect("it runs");
    let status =
        lockstep(&["cluster", "status", "--brokers"]).arg(cluster.brokers()).output().expect("it runs");
    kill_process(first, Signal::CONT).expect("it stands still");
    let [said, error] = [&status.stdout, &status.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(said.starts_with("NOT HEALTHY: broker 1 does not answer"), "{said}{error}");
}
