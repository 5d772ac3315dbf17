//! Wishes that no cluster can fulfil, as real processes.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{
    assert_says,
    joining::listed,
    processes::{LocalCluster, lockstep},
    refused,
};

/// What a command prints as JSON, whatever its exit code: that of `cluster status` says that a partition has no leader, as it
/// may for a moment.
fn json(cluster: &LocalCluster, arguments: &[&str]) -> Value {
    let output = cluster.lockstep(arguments).arg("--json").stdin(Stdio::null()).output().expect("it runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn wishes_that_no_cluster_can_fulfil_are_refused_with_the_way_out() {
    let cluster = LocalCluster::start();
    cluster.run(&["topic", "create", "there", "--partitions", "3"]);
    let placed = || {
        let status = json(&cluster, &["cluster", "status"]);
        let partitions = status["partitions"].as_array().expect("a list").clone();
        let place = |partition: &Value| {
            let names = ["topic", "partition", "replicas", "moving_to"];
            names.map(|name| partition[name].to_string()).join(" ")
        };
        partitions.iter().map(place).collect::<Vec<_>>()
    };
    let before = placed();
    let wish = |arguments: &[&str], says: &[&str]| {
        assert_says(&refused(&mut cluster.lockstep(arguments), 1), says);
    };
    wish(&["topic", "create", "there"], &["\"there\" exists already", "choose another name"]);
    wish(
        &["topic", "create", "wide", "--replication", "4"],
        &["4 replicas need as many brokers, and 3 can take one", "ask for fewer"],
    );
    wish(&["topic", "alter", "there", "--partitions", "2"], &["cannot have fewer", "ask for more than 3"]);
    let to = |brokers| ["partition", "move", "there", "--partition", "0", "--to", brokers];
    wish(&to("1,2,9"), &["there is no broker 9", "lockstep broker list"]);
    wish(&to("1,2,2"), &["not a list of different brokers", "name each broker once"]);
    wish(&["broker", "drain", "9"], &["there is no broker 9", "lockstep broker list"]);
    let too_few = ["without broker 3, 2 brokers can hold replicas", "has 3", "lockstep serve --join"];
    wish(&["broker", "drain", "3"], &too_few);
    wish(&["broker", "decommission", "3"], &too_few);
    assert_eq!(placed(), before, "nothing came of any of them");
    assert_eq!(listed(&cluster), [(1, true), (2, true), (3, true)]);
}

#[test]
fn a_setting_out_of_range_is_refused_by_name_with_what_to_write_instead() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let serve = |variable: &str, value: &str| -> Command {
        let mut serve = lockstep(&["serve", "--data"]);
        serve.arg(data.path().join("data")).env(variable, value);
        serve
    };
    let moves = refused(&mut serve("LOCKSTEP_STORAGE_MOVE_BYTES_PER_SECOND", "5"), 2);
    assert_says(&moves, &["storage.move_bytes_per_second", "at 5", "at least 65536, or 0"]);
    let tick = refused(&mut serve("LOCKSTEP_RAFT_TICK_MS", "0"), 2);
    assert_says(&tick, &["raft.tick_ms", "0 is out of range", "give it 1 to 10000"]);
    let none = refused(&mut serve("LOCKSTEP_TOPICS_PARTITIONS", "0"), 2);
    assert_says(&none, &["topics.partitions", "0 is out of range"]);
    assert!(!data.path().join("data").exists(), "nothing was made");
}
