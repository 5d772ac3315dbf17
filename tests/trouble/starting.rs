//! Starts that must fail: each says why and what to do, and leaves everything as it was.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    assert_says, ended,
    ledger::Ledger,
    processes::{LocalCluster, free_port_base, in_mount_namespace, lockstep, succeeded},
    refused, said,
};

const CLUSTER: &str = "4f0c33a1b2c3d4e5f60718293a4b5c6d";
const OTHER_CLUSTER: &str = "00000000000000000000000000000bad";

/// A data directory of a node, made with `lockstep format`.
fn format(data: &Path, cluster: &str, node: &str) {
    let data = data.to_str().expect("temporary directories have plain names");
    let arguments = ["format", "--data", data, "--node", node, "--cluster", cluster];
    succeeded(&arguments, &ended(&mut lockstep(&arguments)));
}

/// Settings of node 1 of three, on ports nobody has.
fn settings(root: &Path, data: &Path) -> PathBuf {
    let base = free_port_base();
    let address = |node: u16, port: u16| format!("127.0.0.1:{}", base + 10 * (node - 1) + port);
    let addresses = |node| {
        format!(
            "native = \"{}\"\npeer = \"{}\"\nhttp = \"{}\"\n",
            address(node, 0),
            address(node, 1),
            address(node, 2)
        )
    };
    let mut text =
        format!("node = 1\ndata = {data:?}\ncluster = \"{CLUSTER}\"\n\n[listen]\n{}", addresses(1));
    for node in 1..=3 {
        text.push_str(&format!("\n[[nodes]]\nid = {node}\n{}", addresses(node)));
    }
    let file = root.join("broker.toml");
    std::fs::write(&file, text).expect("a file can be written");
    file
}

fn serve(settings: &Path) -> Command {
    let mut serve = lockstep(&["serve", "--config"]);
    serve.arg(settings);
    serve
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    found
}

#[test]
fn a_port_in_use_is_named_with_the_way_out_by_serve_and_by_up() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let data = root.path().join("data");
    format(&data, CLUSTER, "1");
    let before = files(&data);
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("an address").to_string();
    let why = refused(serve(&settings(root.path(), &data)).args(["--listen-peer", &taken]), 1);
    assert_says(&why, &[&taken, "listen.peer", "stop whoever has the port"]);
    assert_eq!(files(&data), before, "nothing is written before the ports are bound");

    let base = free_port_base();
    let _holder = TcpListener::bind(("127.0.0.1", base + 11)).expect("the port is free");
    let cluster = root.path().join("cluster");
    let why = refused(lockstep(&["up", "--port-base", &base.to_string(), "--data"]).arg(&cluster), 1);
    assert_says(&why, &["node 2", &format!("127.0.0.1:{}", base + 11), "--port-base"]);
    assert!(!cluster.join("cluster.json").exists(), "no cluster is made that cannot run");
}

#[test]
fn a_second_broker_on_a_directory_is_refused_and_the_first_serves_on() {
    let cluster = LocalCluster::start();
    let mut ledger = Ledger::new("locked");
    ledger.write(&cluster, 3);
    let base = free_port_base();
    let address = |port: u16| format!("127.0.0.1:{}", base + port);
    let mut second = serve(&cluster.node_directory(1).join("config.toml"));
    second.args(["--listen-native", &address(0)]);
    second.args(["--listen-peer", &address(1), "--listen-http", &address(2)]);
    let why = refused(&mut second, 1);
    assert_says(&why, &["in use by another broker", "stop that one", "a directory of its own"]);
    ledger.write(&cluster, 3);
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_directory_of_another_cluster_or_node_is_refused_and_left_alone() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let (of_cluster, of_node) = (root.path().join("of-cluster"), root.path().join("of-node"));
    format(&of_cluster, OTHER_CLUSTER, "1");
    format(&of_node, CLUSTER, "2");
    let before = (files(&of_cluster), files(&of_node));

    let why = refused(&mut serve(&settings(root.path(), &of_cluster)), 1);
    assert_says(&why, &["belongs to cluster", OTHER_CLUSTER, CLUSTER, "correct `cluster` or `data`"]);
    let why = refused(&mut serve(&settings(root.path(), &of_node)), 1);
    assert_says(&why, &["belongs to node 2", "this is node 1", "correct `node` or `data`"]);
    assert_eq!((files(&of_cluster), files(&of_node)), before);
}

#[test]
fn a_missing_directory_is_refused_and_not_made() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let missing = root.path().join("missing");
    let why = refused(&mut serve(&settings(root.path(), &missing)), 1);
    assert_says(&why, &["missing", "lockstep format", "put the disk back"]);
    assert!(!missing.exists());

    std::fs::create_dir(&missing).expect("a directory can be made");
    let why = refused(&mut serve(&settings(root.path(), &missing)), 1);
    assert_says(&why, &["lockstep format"]);
    assert!(files(&missing).is_empty(), "an empty directory is not formatted either");
}

#[test]
fn a_read_only_directory_is_refused_by_serve_and_by_up() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let data = root.path().join("data");
    format(&data, CLUSTER, "1");
    let settings = settings(root.path(), &data);
    let script = "mount --bind \"$DATA\" \"$DATA\"; mount -o remount,bind,ro \"$DATA\"; exec \"$@\"";
    // Permissions would not do: they do not bind the superuser, who runs the tests in containers.
    let Some(mut read_only) = in_mount_namespace(script) else { return };
    let inner = serve(&settings);
    read_only.arg("sh").env("DATA", &data).arg(inner.get_program()).args(inner.get_args());
    let why = refused(&mut read_only, 1);
    assert_says(&why, &["cannot be written", "make it writable", "`data`"]);

    let Some(mut read_only) = in_mount_namespace(script) else { return };
    let mut inner = lockstep(&["up", "--port-base", &free_port_base().to_string(), "--data"]);
    inner.arg(&data);
    read_only.arg("sh").env("DATA", &data).arg(inner.get_program()).args(inner.get_args());
    assert_says(&refused(&mut read_only, 1), &["cannot use", "--data"]);
}

#[test]
fn up_shows_why_a_broker_with_a_foreign_directory_does_not_start() {
    let mut cluster = LocalCluster::start();
    let mut ledger = Ledger::new("swapped");
    ledger.write(&cluster, 3);
    cluster.stop();
    let swap = || {
        let [one, two] = [1, 2].map(|id| cluster.node_directory(id).join("data"));
        let aside = cluster.directory().join("aside");
        for (from, to) in [(&one, &aside), (&two, &one), (&aside, &two)] {
            std::fs::rename(from, to).expect("a directory can be renamed");
        }
    };
    swap();
    let output = ended(&mut cluster.another_up());
    assert_eq!(output.status.code(), Some(1));
    assert_says(&said(&output), &["does not start", "belongs to node", "correct `node` or `data`"]);
    swap();
    cluster.restart();
    ledger.write(&cluster, 3);
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_shard_that_cannot_be_written_down_as_here_is_not_opened() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let data = root.path().join("data");
    format(&data, CLUSTER, "1");
    let settings = settings(root.path(), &data);
    // In the way of the file that would replace the list.
    std::fs::create_dir(data.join("shards.json.new")).expect("a directory can be made");
    let why = refused(&mut serve(&settings), 1);
    assert_says(&why, &["cannot write down that it is here", "shards.json"]);
    assert!(!why.contains("shard recovered"), "{why}");
}
