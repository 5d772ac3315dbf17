//! A cluster's directory: run by one `up`, found again after every kind of end, never formatted a second time.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    assert_says, ended,
    ledger::Ledger,
    processes::{LocalCluster, http_status, lockstep, succeeded},
    refused,
};

/// What `up` says of a node's state.
fn state(cluster: &LocalCluster, id: u64) -> String {
    let text = fs::read(cluster.directory().join("cluster.json")).expect("up keeps cluster.json");
    let file: Value = serde_json::from_slice(&text).expect("cluster.json is always whole");
    let nodes = file["nodes"].as_array().expect("cluster.json lists the nodes");
    let node = nodes.iter().find(|node| node["id"] == id).expect("the node is in cluster.json");
    node["state"].as_str().expect("a state").to_owned()
}

fn cluster_id(directory: &Path) -> String {
    let text = fs::read(directory.join("cluster.json")).expect("up keeps cluster.json");
    let file: Value = serde_json::from_slice(&text).expect("cluster.json is always whole");
    file["cluster"].as_str().expect("an id").to_owned()
}

#[test]
fn up_twice_on_one_directory_is_refused_and_the_first_runs_on() {
    let cluster = LocalCluster::start();
    let mut ledger = Ledger::new("twice");
    ledger.write(&cluster, 3);
    let before = cluster.nodes();
    let why = refused(&mut cluster.another_up(), 1);
    assert_says(&why, &["another `lockstep up` runs the cluster", "stop it", "--data"]);
    let pids = |nodes: &[crate::processes::Node]| nodes.iter().map(|node| node.pid).collect::<Vec<_>>();
    assert_eq!(pids(&cluster.nodes()), pids(&before), "no broker was touched");
    ledger.write(&cluster, 3);
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn after_ctrl_c_a_cluster_comes_back_with_its_data() {
    let mut cluster = LocalCluster::start();
    let id = cluster_id(&cluster.directory());
    let mut ledger = Ledger::new("interrupted");
    for _ in 0..3 {
        ledger.write(&cluster, 10);
        cluster.restart();
        ledger.is_whole_everywhere(&cluster);
    }
    assert_eq!(cluster_id(&cluster.directory()), id);
}

#[test]
fn after_every_process_was_killed_a_cluster_comes_back_with_its_data() {
    let mut cluster = LocalCluster::start();
    let id = cluster_id(&cluster.directory());
    let mut ledger = Ledger::new("killed");
    for _ in 0..3 {
        ledger.write(&cluster, 10);
        cluster.kill_everything();
        cluster.restart();
        ledger.is_whole_everywhere(&cluster);
    }
    assert_eq!(cluster_id(&cluster.directory()), id);
}

#[test]
fn a_node_whose_directory_is_deleted_stays_down_and_the_others_go_on() {
    let mut cluster = LocalCluster::start();
    let mut ledger = Ledger::new("deleted");
    ledger.write(&cluster, 10);
    let lost = cluster.leader("deleted");
    let directory = cluster.node_directory(lost.id);
    let data = directory.join("data");
    let others: Vec<_> = cluster.nodes().into_iter().filter(|node| node.id != lost.id).collect();

    fs::remove_dir_all(&directory).expect("a directory can be deleted");
    ledger.write(&cluster, 10);
    cluster.kill(&lost);
    cluster.wait_until("up gives the node up", || state(&cluster, lost.id) == "down");
    assert_says(&cluster.news(), &[&format!("node {} stays down", lost.id), "Put the directory back"]);
    ledger.write(&cluster, 10);
    others.iter().for_each(|node| ledger.is_whole_on(&cluster, node));
    assert!(!data.exists(), "formatted anew");

    // Not at the next start of all either, nor where somebody made an empty directory.
    fs::create_dir_all(&data).expect("a directory can be made");
    cluster.restart();
    assert_eq!(state(&cluster, lost.id), "down");
    ledger.write(&cluster, 10);
    others.iter().for_each(|node| ledger.is_whole_on(&cluster, node));
    assert_eq!(fs::read_dir(&data).expect("a directory").count(), 0, "formatted anew");
}

#[test]
fn a_node_that_was_formatted_anew_is_refused_by_its_peers_and_the_others_go_on() {
    let cluster = LocalCluster::start();
    let mut ledger = Ledger::new("replaced");
    ledger.write(&cluster, 10);
    let lost = cluster.leader("replaced");
    let others: Vec<_> = cluster.nodes().into_iter().filter(|node| node.id != lost.id).collect();
    let data = cluster.node_directory(lost.id).join("data");
    let data_text = data.to_str().expect("temporary directories have plain names");

    fs::remove_dir_all(&data).expect("a directory can be deleted");
    let (id, cluster_id) = (lost.id.to_string(), cluster_id(&cluster.directory()));
    let format = ["format", "--data", data_text, "--node", &id, "--cluster", &cluster_id];
    succeeded(&format, &ended(&mut lockstep(&format)));
    cluster.kill(&lost);
    for node in &others {
        let log = cluster.node_directory(node.id).join("log.txt");
        let refusal = ["its disk was replaced or emptied", "Bring the old directory back", "as a new node"];
        cluster.wait_until(&format!("node {} refuses the emptied one", node.id), || {
            let log = fs::read_to_string(&log).expect("brokers write logs");
            refusal.iter().all(|part| log.contains(part))
        });
    }
    ledger.write(&cluster, 10);
    others.iter().for_each(|node| ledger.is_whole_on(&cluster, node));
    assert_ne!(http_status(&cluster.node(lost.id).http, "/readyz"), Some(200), "it takes no part");
}
