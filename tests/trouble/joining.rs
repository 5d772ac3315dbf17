//! Brokers that join a running cluster as real processes, and those that must not.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    assert_says,
    ledger::Ledger,
    processes::{LocalCluster, free_port_base, http_get, lockstep, wait_until},
    refused,
};

/// A broker beside those that `up` runs. Dropping it kills it.
pub(crate) struct Joiner {
    process: Child,
    native: String,
    http: String,
    log: PathBuf,
}

impl Joiner {
    /// Starts it on a data directory; it joins through `seeds` if there are any.
    pub(crate) fn start(root: &Path, seeds: Option<&str>) -> Joiner {
        Joiner::start_at(root, seeds, free_port_base())
    }

    fn start_at(root: &Path, seeds: Option<&str>, base: u16) -> Joiner {
        let log = root.join(format!("log-{base}.txt"));
        let mut command = serve(&root.join("data"), seeds, base);
        let process = command.stdin(Stdio::null()).stderr(File::create(&log).expect("a file can be made"));
        let process = process.spawn().expect("lockstep runs");
        let at = |offset: u16| format!("127.0.0.1:{}", base + offset);
        Joiner { process, native: at(0), http: at(2), log }
    }

    /// What a command says of the cluster that it belongs to.
    fn ask(&self, arguments: &[&str]) -> Value {
        let output =
            lockstep(arguments).args(["--json", "--brokers", &self.native]).output().expect("it runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        http_get(&self.http, "/readyz").is_some_and(|(status, _)| status == 200)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("its standard error goes to a file")
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- joiner ----\n{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(data: &Path, seeds: Option<&str>, base: u16) -> Command {
    let address = |offset: u16| format!("127.0.0.1:{}", base + offset);
    let mut command = lockstep(&["serve", "--data"]);
    command.arg(data).args(["--listen-native", &address(0), "--listen-peer", &address(1)]);
    command.args(["--listen-http", &address(2)]);
    if let Some(seeds) = seeds {
        command.args(["--join", seeds]);
    }
    command
}

/// The brokers as `broker list` shows them: id, and whether they answer.
pub(crate) fn listed(cluster: &LocalCluster) -> Vec<(u64, bool)> {
    let text = cluster.run(&["broker", "list", "--json"]);
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let brokers = list["brokers"].as_array().expect("a list");
    let id = |broker: &Value| broker["id"].as_u64().expect("an id");
    brokers.iter().map(|broker| (id(broker), broker["up"].as_bool().expect("yes or no"))).collect()
}

#[test]
fn a_broker_joins_comes_back_as_itself_and_is_told_when_it_is_removed() {
    let cluster = LocalCluster::start();
    let mut ledger = Ledger::new("joined");
    ledger.write(&cluster, 10);
    let root = tempfile::tempdir().expect("a temporary directory");
    // One that is not there and one that is: any one is enough.
    let seeds = format!("127.0.0.1:1,{}", cluster.node(2).native);
    let first = Joiner::start(root.path(), Some(&seeds));
    cluster.wait_until("the joiner is listed", || listed(&cluster).contains(&(4, true)));
    drop(first);
    cluster.wait_until("it is missed", || listed(&cluster).contains(&(4, false)));

    // Its directory says who it is and whom it knows.
    let again = Joiner::start(root.path(), None);
    cluster.wait_until("it is back", || listed(&cluster).contains(&(4, true)));
    let shown: Value = serde_json::from_str(&cluster.run(&["broker", "show", "4", "--json"])).expect("JSON");
    assert_eq!((shown["replicas"].as_u64(), shown["metadata"].as_bool()), (Some(0), Some(false)));

    cluster.run(&["broker", "remove", "4"]);
    cluster.wait_until("it says that it was removed", || {
        let answer = http_get(&again.http, "/readyz");
        answer.is_some_and(|(status, body)| status == 503 && body.contains("broker 4 was removed"))
    });
    assert_says(&again.log(), &["broker 4 was removed", "empty data directory"]);
    assert_eq!(listed(&cluster).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3]);
    ledger.write(&cluster, 10);
    ledger.is_whole_everywhere(&cluster);
}

#[test]
fn a_founder_that_was_alone_gets_its_metadata_back_from_those_that_joined_it() {
    let roots = [(); 3].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let base = free_port_base();
    let founder = Joiner::start_at(roots[0].path(), None, base);
    wait_until("the founder is ready", || founder.is_ready());
    let joiners = [1, 2].map(|at| Joiner::start(roots[at].path(), Some(&founder.native)));
    let holds = |id: &str| joiners[0].ask(&["broker", "show", id])["metadata"] == true;
    let applied = |kind: &str| joiners[0].log().matches(&format!("kind=\"{kind}\"")).count();
    wait_until("three vote on the metadata", || {
        let moved = applied("finish_move") > 0 && applied("finish_move") == applied("move_replicas");
        ["1", "2", "3"].iter().all(|id| holds(id)) && moved
    });
    wait_until("the founder knows them", || {
        let known = fs::read_to_string(roots[0].path().join("data/brokers.json")).unwrap_or_default();
        known.contains(&joiners[0].native) && known.contains(&joiners[1].native)
    });
    drop(founder);

    let directory = roots[0].path().join("data/shards/0");
    for entry in fs::read_dir(&directory).expect("it was here") {
        let path = entry.expect("readable").path();
        let mut bytes = fs::read(&path).expect("readable");
        bytes[40] ^= 1;
        fs::write(&path, bytes).expect("writable");
    }
    let again = Joiner::start_at(roots[0].path(), None, base);
    wait_until("it is ready again", || again.is_ready());
    assert_says(&again.log(), &["damaged", "shards/0"]);
    assert_eq!(again.ask(&["broker", "show", "1"])["metadata"], true);
}

#[test]
fn a_directory_of_another_cluster_cannot_join_and_a_formatted_stranger_stays_out() {
    let cluster = LocalCluster::start();
    let root = tempfile::tempdir().expect("a temporary directory");
    let data = root.path().join("data");
    let format = ["format", "--node", "4", "--data"];
    assert!(lockstep(&format).arg(&data).stdout(Stdio::null()).status().expect("it runs").success());
    let why = refused(&mut serve(&data, Some(&cluster.brokers()), free_port_base()), 1);
    assert_says(&why, &["cannot join", "belong to cluster", "give an empty directory to join"]);

    // With the right cluster's id it is still nobody: who is in the cluster is not said by a directory.
    let id = cluster_id(&cluster);
    fs::remove_dir_all(&data).expect("a directory can be deleted");
    let formatted = lockstep(&[&format[..3], &["--cluster", &id, "--data"]].concat())
        .arg(&data)
        .stdout(Stdio::null())
        .status();
    assert!(formatted.expect("it runs").success());
    let peers = settings_of_a_fourth(&cluster, root.path(), &data, &id);
    let mut stranger = lockstep(&["serve", "--config"]);
    let log = root.path().join("stranger.txt");
    let stderr = File::create(&log).expect("a file can be made");
    let process = stranger.arg(peers).stdin(Stdio::null()).stderr(stderr).spawn().expect("lockstep runs");
    let (native, http) = (String::new(), String::new());
    let _stranger = Joiner { process, native, http, log: log.clone() };
    cluster.wait_until("it is refused", || {
        let said = fs::read_to_string(&log).expect("its standard error goes to a file");
        said.contains("broker 4 is no member of the cluster") && said.contains("--join")
    });
    assert_eq!(listed(&cluster).len(), 3);
}

fn cluster_id(cluster: &LocalCluster) -> String {
    let text = fs::read_to_string(cluster.directory().join("cluster.json")).expect("up keeps cluster.json");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    file["cluster"].as_str().expect("an id").to_owned()
}

/// Settings of a node 4 that lists itself beside the three, as if that were how a cluster grows.
fn settings_of_a_fourth(cluster: &LocalCluster, root: &Path, data: &Path, id: &str) -> PathBuf {
    let base = free_port_base();
    let addresses = |base: u16| {
        let [native, peer, http] = [base, base + 1, base + 2].map(|port| format!("127.0.0.1:{port}"));
        format!("native = {native:?}\npeer = {peer:?}\nhttp = {http:?}\n")
    };
    let mut text = format!("node = 4\ndata = {data:?}\ncluster = {id:?}\n\n[listen]\n{}", addresses(base));
    for node in cluster.nodes() {
        let port = node.native.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        text.push_str(&format!("\n[[nodes]]\nid = {}\n{}", node.id, addresses(port)));
    }
    text.push_str(&format!("\n[[nodes]]\nid = 4\n{}", addresses(base)));
    let file = root.join("fourth.toml");
    fs::write(&file, text).expect("a file can be written");
    file
}

#[test]
fn joining_through_nobody_and_removing_what_is_needed_are_refused_with_the_way_out() {
    let cluster = LocalCluster::start();
    Ledger::new("needed").write(&cluster, 1);
    let why = refused(&mut cluster.lockstep(&["broker", "remove", "3"]), 1);
    assert_says(&why, &["broker 3 still holds", "lockstep broker drain 3"]);
    let why = refused(&mut cluster.lockstep(&["broker", "remove", "9"]), 1);
    assert_says(&why, &["there is no broker 9", "lockstep broker list"]);
    let why = refused(&mut cluster.lockstep(&["broker", "show", "9"]), 1);
    assert_says(&why, &["there is no broker 9"]);

    let root = tempfile::tempdir().expect("a temporary directory");
    let data = root.path().join("data");
    let why = refused(&mut serve(&data, Some("nowhere"), free_port_base()), 2);
    assert_says(&why, &["join", "host:port"]);
    let why = refused(&mut serve(&data, Some("127.0.0.1:1"), free_port_base()), 1);
    assert_says(&why, &["cannot join the cluster of 127.0.0.1:1", "no broker answered"]);
    assert!(!data.join("identity.json").exists(), "nothing became of it");
}
