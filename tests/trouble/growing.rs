//! A cluster that grows and shrinks while it is used, as real processes; and wishes that no cluster can fulfil.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{
    assert_says,
    joining::{Joiner, listed},
    processes::{LocalCluster, lockstep, succeeded},
    refused,
};

/// What a command prints as JSON, whatever its exit code: that of `cluster status` says that a partition has no leader, as it
/// may for a moment.
fn json(cluster: &LocalCluster, arguments: &[&str]) -> Value {
    let output = cluster.lockstep(arguments).arg("--json").stdin(Stdio::null()).output().expect("it runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Whether all replicas are where they shall be, and evenly spread.
fn is_at_rest(cluster: &LocalCluster) -> bool {
    let status = json(cluster, &["cluster", "status"]);
    let partitions = status["partitions"].as_array().expect("a list");
    let moves = partitions.iter().any(|partition| !partition["moving_to"].is_null());
    let plan = json(cluster, &["cluster", "rebalance"]);
    !moves && plan["moves"].as_array().is_some_and(Vec::is_empty)
}

#[test]
fn a_cluster_takes_a_broker_in_and_lets_another_go_under_a_recorded_load_and_keeps_every_promise() {
    let cluster = LocalCluster::start();
    let root = tempfile::tempdir().expect("a temporary directory");
    let history = root.path().join("history.jsonl");
    cluster.run(&["topic", "create", "moved", "--partitions", "4"]);
    let file = history.to_str().expect("text");
    let arguments =
        ["history", "record", "--topic", "moved", "--duration", "12", "--rate", "300", "--output", file];
    let record = cluster
        .lockstep(&arguments)
        .args(["--check", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lockstep runs");

    let _joiner = Joiner::start(root.path(), Some(&cluster.brokers()));
    cluster.wait_until("the joiner is listed", || listed(&cluster).contains(&(4, true)));
    cluster.run(&["cluster", "rebalance", "--yes"]);
    cluster.wait_until("the replicas are spread", || is_at_rest(&cluster));
    assert_eq!(json(&cluster, &["broker", "show", "4"])["replicas"], 3, "a quarter of twelve");
    cluster.run(&["broker", "decommission", "1"]);
    assert_eq!(listed(&cluster).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3, 4]);
    let holders = json(&cluster, &["cluster", "status"])["partitions"].clone();
    for partition in holders.as_array().expect("a list") {
        let replicas = partition["replicas"].as_array().expect("a list");
        let mut replicas: Vec<_> = replicas.iter().filter_map(Value::as_u64).collect();
        replicas.sort_unstable();
        assert_eq!(replicas, [2, 3, 4], "{partition}");
    }

    let output = record.wait_with_output().expect("record ends");
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(verdict["passed"], true, "{verdict:#}");
    succeeded(&arguments, &output);
    for (figure, least) in [("acknowledged", 1_000), ("reads", 100), ("replicas", 3)] {
        let count = verdict["checked"][figure].as_u64();
        assert!(count >= Some(least), "{figure}: only {count:?} were checked");
    }
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
